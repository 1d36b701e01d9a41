"""Detectors of personal data, in the order in which they look."""

from __future__ import annotations

from otel_ttf.pii.detect.base import Detector

PERSONAL: tuple[Detector, ...] = ()
