"""What is found in texts: secrets first, then personal data.

Each detector has a pattern for the one scan, which hits whatever the detector could find, and the exact rule. All
take time linear in the text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from otel_ttf.pii import scanner, secrets
from otel_ttf.pii.pseudonym import TOKEN

Span = tuple[int, int]
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Detector:
    """name         in the configuration
    group           bit of the one scan
    supersets       expressions of the one scan
    placeholder     what takes the place of a finding; never found itself, nor part of a finding
    find            where texts hold it: (start, end), in order, without overlaps
    """

    name: str
    group: int
    supersets: tuple[str, ...]
    placeholder: str
    find: Callable[[str], Iterator[Span]]


def masked(text: str, detectors: Sequence[Detector]) -> str:
    """The text with all findings replaced; subject tokens in it are left alone. Again, it changes nothing."""
    if "u1_" in text and TOKEN.search(text):
        parts = []
        end = 0
        for token in TOKEN.finditer(text):
            parts += [masked(text[end : token.start()], detectors), token.group()]
            end = token.end()
        return "".join(parts) + masked(text[end:], detectors)
    # What a placeholder stands beside may be a finding now; more than two rounds are hard to come by.
    for _ in range(_ROUNDS):
        new = _once(text, detectors)
        if new == text:
            break
        text = new
    return text


def _once(text: str, detectors: Sequence[Detector]) -> str:
    for detector in detectors:
        end = 0
        parts = []
        for start, stop in detector.find(text):
            parts += [text[end:start], detector.placeholder]
            end = stop
        if end:
            text = "".join(parts) + text[end:]
    return text


# E-mail addresses.

_LOCAL = frozenset(".%+-_'")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,12}([^\W\d_]{2,24})(?![^\W\d_])")
# img@2x.png is a file.
_FILES = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "ico",
        "avif",
        "bmp",
        "css",
        "scss",
        "map",
        "woff",
        "ttf",
        "mp3",
        "mp4",
        "webm",
        "pdf",
    ]
)


def _emails(text: str) -> Iterator[Span]:
    floor = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None and domain[1].lower() not in _FILES:
            start = at
            while start > floor and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
                start -= 1
            while start < at and not text[start].isalnum() and text[start] != "_":
                start += 1
            if start < at:
                yield start, domain.end()
                floor = domain.end()
        at = text.find("@", max(at + 1, floor))


# Payment cards.

# First digits (from, to) and lengths of the numbers that issuers give out.
_ISSUERS = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (6011, 6011, (16, 19)),  # Discover
    (644, 649, (16, 19)),
    (65, 65, (16, 19)),
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (300, 305, (14, 16)),  # Diners Club
    (3095, 3095, (14, 16)),
    (36, 36, (14, 16)),
    (38, 39, (14, 16)),
    (2200, 2204, (16, 17, 18, 19)),  # Mir
    (5018, 5018, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (5020, 5020, (13, 14, 15, 16, 17, 18, 19)),
    (5038, 5038, (13, 14, 15, 16, 17, 18, 19)),
    (5893, 5893, (13, 14, 15, 16, 17, 18, 19)),
    (6304, 6304, (13, 14, 15, 16, 17, 18, 19)),
    (6759, 6759, (13, 14, 15, 16, 17, 18, 19)),
    (6761, 6763, (13, 14, 15, 16, 17, 18, 19)),
)
# How long numbers are written in groups.
_LAYOUTS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (4, 5, 6)}
_BEGINNINGS = {layout[:size] for layout in _LAYOUTS for size in range(1, len(layout) + 1)}
_MOST = 19
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")
_GROUP = re.compile(r"[0-9]+")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def is_card(digits: str) -> bool:
    """Whether ASCII digits are a card number: issuer, length, and check digit (ISO/IEC 7812-1, Luhn)."""
    size = len(digits)
    if not 13 <= size <= _MOST or digits[0] not in "23456":
        return False
    if not any(
        size in sizes and first <= int(digits[: len(str(first))]) <= last for first, last, sizes in _ISSUERS
    ):
        return False
    total = sum(map(int, digits[-1::-2])) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0


def _cards(text: str) -> Iterator[Span]:
    for run in _DIGITS.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
            else:
                yield groups[first][0], groups[last][1]
                first = last + 1


def _card_from(text: str, groups: list[Span], first: int) -> int | None:
    """The last group of the longest card number that begins with group `first`."""
    found = None
    digits = ""
    sizes: tuple[int, ...] = ()
    for last in range(first, len(groups)):
        start, end = groups[last]
        digits += text[start:end]
        sizes += (end - start,)
        if len(digits) > _MOST or (first > 0 and sizes not in _BEGINNINGS and last > first):
            break
        whole = first == 0 and last == len(groups) - 1
        if (last == first or whole or sizes in _LAYOUTS) and is_card(digits):
            around = _in_decimal if last == first else _in_dashes
            if not around(text, groups[first][0], end):
                found = last
    return found


def _in_decimal(text: str, start: int, end: int) -> bool:
    """Whether the digits are one side of a decimal point."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] == "." and before[:1].isdigit()) or (after[:1] == "." and after[1:].isdigit())


def _in_dashes(text: str, start: int, end: int) -> bool:
    """Whether the groups go on to either side, as in a UUID."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] == "-" and before[:1].isalnum()) or (after[:1] == "-" and after[1:].isalnum())


# JSON web tokens.

_PARTS = re.compile(r"[A-Za-z0-9_.-]+")
_MOST_HEADER = 8192
_TRIES = 4


def _jwts(text: str) -> Iterator[Span]:
    if "eyJ" not in text:
        return
    for run in _PARTS.finditer(text):
        start, end = run.span()
        while (dot := text.find(".", start, end - 1)) >= 0:
            header = _header(text, start, dot)
            if header is not None:
                yield header, end
                break
            start = dot + 1


def _header(text: str, start: int, dot: int) -> int | None:
    """Where a header begins that ends before the dot; what stands before it may be anything."""
    for _ in range(_TRIES):
        start = text.find("eyJ", start, dot)
        if start < 0:
            return None
        if dot - start <= _MOST_HEADER and _is_header(text[start:dot]):
            return start
        start += 1
    return None


def _is_header(text: str) -> bool:
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))), dict)
    except (ValueError, RecursionError):
        return False


# Bearer and basic tokens.

_SCHEME = re.compile(r"\b(bearer|basic)([ \t\r\n]{1,8})([A-Za-z0-9._~+/-]{8,}=*)", re.IGNORECASE | re.ASCII)
# Words that follow in sentences.
_WORDS = frozenset(
    [
        "authentication",
        "authorization",
        "authorisation",
        "certificate",
        "certificates",
        "instrument",
        "instruments",
        "credentials",
        "required",
        "requests",
        "security",
    ]
)


def _authorizations(text: str) -> Iterator[Span]:
    for match in _SCHEME.finditer(text):
        scheme, _, token = match.groups()
        if scheme.lower() == "basic":
            bare = token.rstrip("=").translate(_URL_SAFE)
            try:
                told = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
            except binascii.Error:
                continue
            if b":" not in told:
                continue
        elif token.rstrip(".").lower() in _WORDS:
            continue
        yield match.span(3)


_URL_SAFE = str.maketrans("-_", "+/")

# In this order: an address that a URL logs in with is found before the e-mail address in it.
DETECTORS = (
    Detector(
        "private_key",
        scanner.PRIVATE_KEY,
        secrets.PRIVATE_KEY_PATTERNS,
        "[PRIVATE_KEY]",
        secrets.private_keys,
    ),
    Detector("url", scanner.URL, secrets.URL_PATTERNS, secrets.REDACTED, secrets.urls),
    Detector("token", scanner.VENDOR, secrets.TOKEN_PATTERNS, "[TOKEN]", secrets.tokens),
    Detector(
        "email",
        scanner.EMAIL,
        (r"[A-Za-z0-9_.%+'\-\x80-\xff]@[A-Za-z0-9_.\-\x80-\xff]*\.[A-Za-z\x80-\xff]{2}",),
        "[EMAIL]",
        _emails,
    ),
    Detector("jwt", scanner.JWT, (r"eyJ[A-Za-z0-9_\-]",), "[TOKEN]", _jwts),
    Detector(
        "bearer",
        scanner.BEARER,
        (r"(?:bearer|basic)[ \t\r\n]{1,8}[A-Za-z0-9._~+/\-]{8}",),
        "[TOKEN]",
        _authorizations,
    ),
    # The second one: an int_value of 13 digits or more, a varint. The third one: the same behind a tag that is longer
    # than it has to be; as one expression they cost Hyperscan a quarter more.
    Detector(
        "card",
        scanner.CARD,
        (
            r"[2-6](?:[ \-]?[0-9]){12}",
            r"\x18[\x80-\xff]{5,9}[\x00-\x7f]",
            r"\x98\x80{0,3}\x00[\x80-\xff]{5,9}[\x00-\x7f]",
        ),
        "[CARD]",
        _cards,
    ),
)
