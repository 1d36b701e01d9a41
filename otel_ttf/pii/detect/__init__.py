"""What is looked for in texts: one small class each, secrets first."""

from __future__ import annotations

from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.personal import PERSONAL
from otel_ttf.pii.detect.secret import SECRETS

# In this order: what a URL logs in with is found before the e-mail address in it.
DETECTORS: tuple[Detector, ...] = (*SECRETS, *PERSONAL)
