"""JSON web tokens (RFC 7519), signed, encrypted and unsecured."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.base import Detector, Span

_PARTS = re.compile(r"[A-Za-z0-9_.-]+")
_MOST_HEADER = 8192
_TRIES = 4


class Jwt(Detector):
    """A header that is JSON with `alg`, and what follows it."""

    name: ClassVar[str] = "jwt"
    secret: ClassVar[bool] = True
    label: ClassVar[str] = "TOKEN"
    # {"alg, {"typ, {"kid ... and {"<space> or a line break, in base64
    supersets: ClassVar[tuple[str, ...]] = (r"(?:eyJ|eyA|ewo|ew0)[A-Za-z0-9_\-]{8}",)

    def find(self, text: str) -> Iterator[Span]:
        if _START.search(text) is None:
            return
        for run in _PARTS.finditer(text):
            start, end = run.span()
            while (dot := text.find(".", start, end - 1)) >= 0:
                header = _header(text, start, dot)
                if header is not None:
                    # A full stop behind a signature is the sentence's.
                    dotted = text[end - 1] == "." and text.count(".", dot, end) > 2
                    yield header, end - dotted
                    break
                start = dot + 1


_START = re.compile(r"eyJ|eyA|ewo|ew0")


def _header(text: str, start: int, dot: int) -> int | None:
    """Where a header begins that ends before the dot; what stands before it may be anything."""
    if dot - start < 11:
        return None
    for _ in range(_TRIES):
        begin = _START.search(text, start, dot)
        if begin is None:
            return None
        start = begin.start()
        if dot - start <= _MOST_HEADER and dot - start >= 11 and _is_header(text[start:dot]):
            return start
        start += 1
    return None


def _is_header(text: str) -> bool:
    try:
        told = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and isinstance(told.get("alg"), str)
