"""Event log -> journey -> store: the required consumer."""

from otel_ttf.tracker.loop import Tracker

__all__ = ["Tracker"]
