"""Detectors of secrets, in the order in which they look."""

from __future__ import annotations

from otel_ttf.pii.detect.aws import Aws
from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.bearer import Bearer
from otel_ttf.pii.detect.jwt import Jwt
from otel_ttf.pii.detect.pair import Pair
from otel_ttf.pii.detect.private_key import PrivateKey
from otel_ttf.pii.detect.url import Url
from otel_ttf.pii.detect.vendor import Vendor

SECRETS: tuple[Detector, ...] = (PrivateKey(), Url(), Aws(), Vendor(), Jwt(), Bearer(), Pair())
