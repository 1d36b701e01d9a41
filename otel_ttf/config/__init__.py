"""The configuration: typed, loaded from YAML, and every error at once with its place."""

from otel_ttf.config.load import Loaded, load
from otel_ttf.config.model import Config
from otel_ttf.config.problems import CannotStart, ConfigError, Problem

__all__ = ["CannotStart", "Config", "ConfigError", "Loaded", "Problem", "load"]
