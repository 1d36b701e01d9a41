"""Access keys of AWS: ids by their prefix, secrets by the word in front of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.vendor import BOUNDARY, is_varied

_PREFIXES = ("AKIA", "ASIA", "ABIA", "ACCA")
_ID = re.compile(rf"{BOUNDARY}(?:{'|'.join(_PREFIXES)})[A-Z2-7]{{16}}(?![A-Za-z0-9_\-])")
_SECRET = re.compile(
    r"(?:secret[_ .\-]?(?:access[_ .\-]?)?key|aws[_ .\-]?secret)(?:[ \t\"'\\:=>,]|is ){1,12}"
    r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    re.IGNORECASE | re.ASCII,
)
# Those of AWS's own manuals end with it; nobody has them.
_EXAMPLES = ("EXAMPLE", "EXAMPLEKEY")


class Aws(Detector):
    """Key ids, and secret keys behind a word that says so: alone, 40 characters of base64 are a SHA-1, too."""

    name: ClassVar[str] = "aws"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "TOKEN"
    supersets: ClassVar[tuple[str, ...]] = (
        rf"(?:{'|'.join(_PREFIXES)})[A-Z2-7]{{16}}",
        r"(?:key|aws[_ .\-]?secret)(?:[ \t\x22'\\:=>,]|is ){1,12}[A-Za-z0-9/+]{40}",
    )

    def find(self, text: str) -> Iterator[Span]:
        found = []
        if any(prefix in text for prefix in _PREFIXES):
            found += [match.span() for match in _ID.finditer(text)]
        if "secret" in text.lower():
            found += [match.span(1) for match in _SECRET.finditer(text)]
        end = 0
        for start, stop in sorted(found):
            if start >= end and is_varied(text[start:stop]) and not text.endswith(_EXAMPLES, start, stop):
                yield start, stop
                end = stop
