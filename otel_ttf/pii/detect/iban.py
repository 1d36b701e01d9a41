"""International bank account numbers (ISO 13616)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from otel_ttf.pii.detect.around import free_after, free_before, words_before
from otel_ttf.pii.detect.base import Detector, Span

# What follows country and check digits, as in the registry: n digits, a letters, c both.
_COUNTRIES = """
AD8n12c AE19n AL8n16c AT16n AZ4a20c BA16n BE12n BG4a6n8c BH4a14c BI23n BR23n1a1c BY4c4n16c CH5n12c CR18n CY8n16c CZ20n
DE18n DJ23n DK14n DO4c20n EE16n EG25n ES20n FI14n FK2a12n FO14n FR10n11c2n GB4a14n GE2a16n GI4a15c GL14n GR7n16c
GT4c20c HN4a20n HR17n HU24n IE4a14n IL19n IQ4a15n IS22n IT1a10n12c JO4a4n18c KW4a22c KZ3n13c LB4n20c LC4a24c LI5n12c
LT16n LU3n13c LV4a13c LY21n MC10n11c2n MD2c18c ME18n MK3n10c2n MN16n MR23n MT4a5n18c MU4a19n3a NI4a20n NL4a10n NO11n
OM3n16c PK4a16c PL24n PS4a21c PT21n QA4a21c RO4a16c RS18n RU14n15c SA2n18c SC4a20n3a SD14n SE20n SI15n SK20n
SM1a10n12c SO19n ST21n SV4a20n TL19n TN20n TR6n16c UA6n19c VA18n VG4a16n XK16n YE4a4n18c
"""
_CLASSES = {"n": "[0-9]", "a": "[A-Z]", "c": "[0-9A-Z]"}
_PART = re.compile(r"(\d+)([nac])")


def _formats() -> dict[str, tuple[int, re.Pattern[str]]]:
    formats = {}
    for entry in _COUNTRIES.split():
        parts = _PART.findall(entry[2:])
        body = "".join(f"{_CLASSES[kind]}{{{size}}}" for size, kind in parts)
        formats[entry[:2]] = (
            4 + sum(int(size) for size, _ in parts),
            re.compile(rf"[A-Z]{{2}}[0-9]{{2}}{body}"),
        )
    return formats


# Country -> (length, what it looks like without spaces, in upper case).
FORMATS = _formats()
_HEAD = re.compile(r"[A-Za-z]{2}[0-9]{2}(?=[ -]?[0-9A-Za-z])")
_GROUPS = re.compile(r"[0-9A-Za-z]+")
_GROUP = 4


def is_iban(compact: str) -> bool:
    """Whether a text without spaces, in upper case, is an IBAN: country, its format, check digits (mod 97)."""
    known = FORMATS.get(compact[:2])
    if known is None or len(compact) != known[0] or not known[1].fullmatch(compact):
        return False
    # Such check digits are never computed.
    if compact[2:4] in ("00", "01", "99"):
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


class Iban(Detector):
    """In upper case, also in groups of four with dashes; in groups with spaces, or behind its name, in either."""

    name: ClassVar[str] = "iban"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "IBAN"
    # Letters in the one scan are of either case, and hexadecimal ids are full of countries: hence upper case only.
    supersets: ClassVar[tuple[str, ...]] = (
        # One a country, which cost nothing together; as one expression a fifth of the scan.
        *(rf"(?-i:{country}[0-9]{{2}}[0-9A-Z]{{11}})" for country in FORMATS),
        *(rf"(?-i:{country}[0-9]{{2}}-[0-9A-Z]{{4}}-[0-9A-Z]{{4}}-)" for country in FORMATS),
        r"iban[^A-Za-z0-9]{0,24}[a-z]{2}[0-9]{2}[0-9a-z]{11}",
        r"[A-Z]{2}[0-9]{2} [0-9A-Z]{4} [0-9A-Z]{4} ",
    )

    def find(self, text: str) -> Iterator[Span]:
        floor = 0
        for head in _HEAD.finditer(text):
            start = head.start()
            known = FORMATS.get(head[0][:2].upper())
            if known is not None and start >= floor and free_before(text, start):
                end = _end(text, start, known[0])
                if end is not None and is_iban(self.canonical(text[start:end])):
                    yield start, end
                    floor = end

    def canonical(self, found: str) -> str:
        return "".join(_GROUPS.findall(found)).upper()


def _end(text: str, start: int, size: int) -> int | None:
    """Where `size` letters and digits end that begin at `start`, in one group of upper case or in groups of four."""
    whole = text[start : start + size]
    if whole.isalnum() and len(whole) == size:
        one_case = whole.isupper() or (whole.islower() and words_before(text, start)[:1] == ["iban"])
        return start + size if one_case and free_after(text, start + size) else None
    end = start + size + (size - 1) // _GROUP
    gaps = text[start + _GROUP : end : _GROUP + 1]
    if len(text) < end or not free_after(text, end):
        return None
    if gaps.strip(" ") and (gaps.strip("-") or not text[start:end].isupper()):
        return None
    return end
