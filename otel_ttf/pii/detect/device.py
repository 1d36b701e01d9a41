"""What names a device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.action import Action
from otel_ttf.pii.detect.around import words_before
from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.card import luhn

_MAC = re.compile(
    r"(?<![\w:.-])(?:[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2})"
    r"(?!\w|[.:-]\w)"
)
_HEX = re.compile(r"[0-9A-Fa-f]+")
_GROUP_BIT = 1  # of the first octet: for many


class Mac(Detector):
    """EUI-48 of one device, in the notations of IEEE 802 and Cisco."""

    name: ClassVar[str] = "mac"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "MAC"
    default: ClassVar[Action] = "keep"
    supersets: ClassVar[tuple[str, ...]] = (
        r"[0-9a-f]{2}:(?:[0-9a-f]{2}:){4}[0-9a-f]{2}",
        r"[0-9a-f]{2}-(?:[0-9a-f]{2}-){4}[0-9a-f]{2}",
        r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}",
    )

    def find(self, text: str) -> Iterator[Span]:
        for match in _MAC.finditer(text):
            octets = self.canonical(match[0])
            # 12-31-23-59-59-00 is a time; no maker of devices and no bit of its own for 00:00:00.
            written = match[0]
            if (
                int(octets[:2], 16) & _GROUP_BIT
                or set(octets) <= {"0"}
                or ("-" in written and octets.isdigit())
            ):
                continue
            if "." in written and octets.isdigit():
                continue
            yield match.span()

    def canonical(self, found: str) -> str:
        return "".join(_HEX.findall(found)).lower()


_IMEI = re.compile(r"(?<![\w.+-])[0-9]{2}([ -]?)[0-9]{6}\1[0-9]{6}\1[0-9](?![\w-]|\.\w)")
_IMEI_WORDS = frozenset(["imei", "meid", "device", "handset", "gerät", "imeisv"])


class Imei(Detector):
    """IMEI of a telephone: 15 digits with a check digit, where a word says what they are."""

    name: ClassVar[str] = "imei"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "IMEI"
    default: ClassVar[Action] = "keep"
    shaped: ClassVar[bool] = True
    supersets: ClassVar[tuple[str, ...]] = (r"[0-9]{2}[ \-]?[0-9]{6}[ \-]?[0-9]{6}[ \-]?[0-9]",)

    def find(self, text: str) -> Iterator[Span]:
        for match in _IMEI.finditer(text):
            if luhn(self.canonical(match[0])) and _IMEI_WORDS.intersection(
                words_before(text, match.start())[:3]
            ):
                yield match.span()

    def canonical(self, found: str) -> str:
        return "".join(filter(str.isdigit, found))
