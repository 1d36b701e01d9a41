"""What is found in texts: e-mail addresses, card numbers, JWTs, bearer and basic tokens."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import re2

EMAIL, CARD, TOKEN = "[EMAIL]", "[CARD]", "[TOKEN]"

Span = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Detector:
    """name: in the configuration. superset: pattern of the one scan. hint: a text without it holds nothing."""

    name: str
    superset: str
    hint: Callable[[str], object]
    find: Callable[[str], list[Span]]


# Both sides bounded: the time is linear in the text.
_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24})(?![\w@])"
)


def _emails(text: str) -> list[Span]:
    spans = []
    for match in _EMAIL.finditer(text):
        # Quotes and separators of the text around an address are allowed characters of one.
        local = match.group().partition("@")[0].rpartition("=")[2]
        local = local.rpartition("/")[2].lstrip(".!#$%&'*+/=?^`{|}~-")
        if local:
            start = match.start(1) - 1 - len(local)
            spans.append((start, match.end(), EMAIL))
    return spans


_DIGITS = re.compile(r"(?<![0-9A-Za-z_.])\d(?:[ -]?\d){11,22}(?![0-9A-Za-z_])")
# First digits (from, to) and lengths of the numbers that issuers give out.
_ISSUERS = (
    (4, 4, {13, 16, 19}),  # Visa
    (51, 55, {16}),  # Mastercard
    (2221, 2720, {16}),
    (34, 34, {15}),  # American Express
    (37, 37, {15}),
    (6011, 6011, {16, 17, 18, 19}),  # Discover
    (644, 649, {16, 17, 18, 19}),
    (65, 65, {16, 17, 18, 19}),
    (300, 305, {14}),  # Diners Club
    (36, 36, {14}),
    (38, 39, {14}),
    (3528, 3589, {16, 17, 18, 19}),  # JCB
    (62, 62, {16, 17, 18, 19}),  # UnionPay
    (50, 50, {16, 17, 18, 19}),  # Maestro
    (56, 58, {16, 17, 18, 19}),
    (67, 67, {16, 17, 18, 19}),
)


def is_card(digits: str) -> bool:
    """Whether digits are a card number: issuer, length, and check digit (ISO/IEC 7812, Luhn)."""
    if not any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last
        for first, last, lengths in _ISSUERS
    ):
        return False
    if len(set(digits)) == 1:
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def _cards(text: str) -> list[Span]:
    spans: list[Span] = []
    for match in _DIGITS.finditer(text):
        # Numbers written next to each other: any run of whole groups may be the card.
        groups = [
            (g.start() + match.start(), g.end() + match.start()) for g in re.finditer(r"\d+", match.group())
        ]
        first = 0
        while first < len(groups):
            for last in range(len(groups), first, -1):
                digits = "".join(text[a:b] for a, b in groups[first:last])
                if 13 <= len(digits) <= 19 and is_card(digits):
                    spans.append((groups[first][0], groups[last - 1][1], CARD))
                    first = last - 1
                    break
            first += 1
    return spans


_JWT = re2.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*")


def _jwts(text: str) -> list[Span]:
    spans = []
    for match in _JWT.finditer(text):
        header = match.group().partition(".")[0][:4096]
        try:
            told = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict):
            spans.append((match.start(), match.end(), TOKEN))
    return spans


_SCHEME = re2.compile(r"(?i)\b(bearer|basic|token)[ \t:=]+([A-Za-z0-9._~+/-]{8,}=*)")


def _authorizations(text: str) -> list[Span]:
    spans = []
    for match in _SCHEME.finditer(text):
        scheme, token = match.group(1).lower(), match.group(2)
        if scheme == "basic":
            try:
                is_secret = b":" in base64.b64decode(token.rstrip("=") + "=" * (-len(token.rstrip("=")) % 4))
            except binascii.Error:
                is_secret = False
        else:
            # A word is none: "bearer instruments".
            is_secret = any(char.isdigit() for char in token) or len(token) >= 24
        if is_secret:
            spans.append((match.start(2), match.end(2), TOKEN))
    return spans


# In protobuf `@` is also the length 64: alone it would hit nearly every record.
_EMAIL_SUPERSET = r"[\w.!#$%&'*+/=?^`{|}~\-\x80-\xff]@[a-z0-9\x80-\xff][\w\-\x80-\xff]*\."

DETECTORS = (
    Detector("email", _EMAIL_SUPERSET, lambda text: "@" in text, _emails),
    Detector("jwt", "eyJ", lambda text: "eyJ" in text, _jwts),
    Detector(
        "bearer",
        r"(?:bearer|basic|token)[ \t:=]",
        re.compile(r"(?i)bearer|basic|token").search,
        _authorizations,
    ),
    Detector("card", r"\d(?:[ -]?\d){12}", re.compile(r"\d(?:[ -]?\d){12}").search, _cards),
)


def masked(text: str, detectors: tuple[Detector, ...]) -> str:
    """The text with everything that is found replaced. Masking a masked text changes nothing."""
    for detector in detectors:
        if not detector.hint(text):
            continue
        spans = detector.find(text)
        if spans:
            parts = []
            end = 0
            for start, stop, placeholder in spans:
                if start >= end:
                    parts += [text[end:start], placeholder]
                    end = stop
            text = "".join(parts) + text[end:]
    return text
