"""Detectors of personal data, in the order in which they look."""

from __future__ import annotations

from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.card import Card
from otel_ttf.pii.detect.device import Imei, Mac
from otel_ttf.pii.detect.email import Email
from otel_ttf.pii.detect.iban import Iban
from otel_ttf.pii.detect.ip import Ip
from otel_ttf.pii.detect.national import PACKS
from otel_ttf.pii.detect.path import Path
from otel_ttf.pii.detect.phone import Phone
from otel_ttf.pii.detect.ssn import UsSsn

# What has the most to say about its digits comes first.
PERSONAL: tuple[Detector, ...] = (
    Email(),
    Iban(),
    Card(),
    UsSsn(),
    *PACKS,
    Imei(),
    Mac(),
    Ip(),
    Phone(),
    Path(),
)
