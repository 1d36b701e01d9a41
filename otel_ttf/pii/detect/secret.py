"""Detectors of secrets, in the order in which they look."""

from __future__ import annotations

from otel_ttf.pii.detect.base import Detector

SECRETS: tuple[Detector, ...] = ()
