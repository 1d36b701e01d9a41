"""Numbers of payment cards."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from string import digits
from typing import ClassVar

from otel_ttf.pii.detect.around import (
    NUMBERS,
    before,
    free_after,
    free_before,
    is_thing,
    thing_of,
    words_before,
)
from otel_ttf.pii.detect.base import Detector, Span

# First digits (from, to) and lengths of the numbers that issuers give out.
_ISSUERS: tuple[tuple[int, int, tuple[int, ...] | range], ...] = (
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (6011, 6011, (16,)),  # Discover
    (644, 649, (16,)),
    (65, 65, (16,)),
    (62, 62, (16, 19)),  # UnionPay
    (3528, 3589, (16,)),  # JCB
    (35, 35, (16,)),  # not all are given out, but generators of test data use them
    (1800, 1800, (15,)),
    (2131, 2131, (15,)),
    (300, 305, (14, 16)),  # Diners Club
    (3095, 3095, (14, 16)),
    (36, 36, (14, 16)),
    (38, 39, (14, 16)),
    (2200, 2204, (16,)),  # Mir
    (5018, 5018, range(12, 20)),  # Maestro
    (5020, 5020, range(12, 20)),
    (5038, 5038, range(12, 20)),
    (5893, 5893, range(12, 20)),
    (6304, 6304, range(12, 20)),
    (6390, 6390, range(12, 20)),
    (6759, 6759, range(12, 20)),
    (6761, 6763, range(12, 20)),
)
# So wide, or so much like other numbers, that a word must say that it is a card.
_NAMED_ISSUERS: tuple[tuple[int, int, tuple[int, ...] | range], ...] = (
    (22, 22, range(16, 20)),  # Mir
    (35, 35, range(16, 20)),  # JCB
    (50, 50, range(12, 20)),  # Maestro
    (56, 58, range(12, 20)),
    (60, 69, range(12, 20)),
)


def _by_prefix(issuers: tuple[tuple[int, int, tuple[int, ...] | range], ...]) -> dict[str, set[int]]:
    table: dict[str, set[int]] = {}
    for first, last, sizes in issuers:
        for prefix in range(first, last + 1):
            table.setdefault(str(prefix), set()).update(sizes)
    return table


# First digits -> lengths.
_SIZES = _by_prefix(_ISSUERS)
_NAMED_SIZES = _by_prefix(_NAMED_ISSUERS)
_PREFIX = 4
# How long numbers are written in groups.
_LAYOUTS = frozenset(
    [
        (4, 4, 4, 4),
        (4, 6, 5),
        (4, 6, 4),
        (4, 4, 4),
        (4, 4, 4, 1),
        (4, 4, 4, 3),
        (4, 4, 4, 4, 3),
        (4, 4, 4, 4, 2),
        (4, 4, 4, 4, 1),
        (6, 13),
        (8, 8),
    ]
)
_FEWEST, _USUAL, _MOST, _GROUPS = 12, 16, 19, 5
_ARTICLE = 13
_NUMBER = frozenset(["number", "nummer", "numero", "número", "numéro"])
# The first group of one of these, and groups from there.
_BEGIN = re.compile(
    r"(?<![0-9])(?=[2-6]|1800)(?:[0-9]{12,19}"
    r"|[0-9]{4}(?=[ -][0-9]{4}[ -][0-9]{4}(?![0-9])|[ -][0-9]{6}[ -][0-9]{4,5}(?![0-9]))"
    r"|[0-9]{6}(?=[ -][0-9]{13}(?![0-9]))|[0-9]{8}(?=[ -][0-9]{8}(?![0-9])))(?![0-9])"
)
_FOLLOWING = re.compile(rf"(?:[ -][0-9]{{1,13}}(?![0-9])){{0,{_GROUPS - 1}}}")
_GROUP = re.compile(r"[0-9]+")
_DOUBLED = str.maketrans("0123456789", "0246813579")
_ZERO = ord("0")
_CARD_WORDS = re.compile(
    r"(?:(?:credit|debit|bank)?card|cards|cc|ccn|ccnum|pan|visa|master|mastercard|maestro|amex|american|express|diners"
    r"|discover|jcb|unionpay|karte|kreditkarte|kartennummer|kreditkartennummer|kortnummer|carte|cb|tarjeta|carta"
    r"|cartão|cartao|kaart|karta|karty|kort|kart|карта|карты|カード|卡)"
)
# Of a dump: an offset, or four hexadecimal digits that are not all decimal nor all letters.
_DUMPED = r"(?=[a-f]{0,3}[0-9])(?=[0-9]{0,3}[a-f])[0-9a-f]{4}"
_DUMP_BEFORE = re.compile(
    rf"(?:(?<![^\W_])[0-9a-f]{{6,16}}:|(?<![^\W_]){_DUMPED}|(?<![\w.])[0-9]{{4}})[ -]$", re.I
)
_DUMP_AFTER = re.compile(rf"[ -](?:{_DUMPED}|[0-9]{{4}}[ -][0-9]{{4}})(?![^\W_])", re.I)

# Of a row of numbers, as counts are written.
_ROW_BEFORE = re.compile(r"(?<![\w.])[0-9]{1,12} [0-9]{1,12} $")
_ROW_AFTER = re.compile(r"(?: [0-9]{1,12}){3}(?![\w.])")


def is_card(digits: str, *, named: bool = False) -> bool:
    """Whether ASCII digits are a card number: issuer, length, and check digit (ISO/IEC 7812-1, Luhn).

    named  a word beside it says that it is one
    """
    return (_issued(digits, _SIZES) or (named and _issued(digits, _NAMED_SIZES))) and luhn(digits)


def _issued(digits: str, sizes: Mapping[str, Container[int]]) -> bool:
    # A loop is far quicker here than any().
    for length in range(1, _PREFIX + 1):  # noqa: SIM110
        if len(digits) in sizes.get(digits[:length], ()):
            return True
    return False


def luhn(digits: str) -> bool:
    """Whether the last of ASCII digits is their check digit."""
    told = digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)
    return (sum(told.encode()) - len(told) * _ZERO) % 10 == 0


class Card(Detector):
    """Issuer, length, check digit, and nothing beside it that makes it a part of something else.

    One in 40 random numbers of 16 digits passes all that, so a word before it may say that it is something else.
    """

    name: ClassVar[str] = "card"
    secret: ClassVar[bool] = False
    label: ClassVar[str] = "CARD"
    shaped: ClassVar[bool] = True
    # One for each two digits that a number begins with: they cost half of what one for all costs.
    supersets: ClassVar[tuple[str, ...]] = (
        *(rf"{first}[ \-]?{second}(?:[ \-]?[0-9]){{10}}" for first in "23456" for second in digits),
        r"1800[0-9]{6}",
    )

    def find(self, text: str) -> Iterator[Span]:
        begin = _BEGIN.search(text)
        while begin is not None:
            end = _card_end(text, begin)
            if end is not None:
                yield begin.start(), end
            begin = _BEGIN.search(text, end or begin.end())

    def canonical(self, found: str) -> str:
        return "".join(filter(str.isdigit, found))


def _card_end(text: str, begin: re.Match[str]) -> int | None:
    """Where the longest card number ends whose first group is this."""
    start = begin.start()
    pieces, ends = [begin[0]], [begin.end()]
    if (following := _FOLLOWING.match(text, begin.end())) is not None:
        for group in _GROUP.finditer(text, begin.end(), following.end()):
            pieces.append(group[0])
            ends.append(group.end())
    sizes = tuple(map(len, pieces))
    for count in range(len(pieces), 1, -1):
        if sizes[:count] in _LAYOUTS and _is_grouped(text, start, ends[count - 1], "".join(pieces[:count])):
            return ends[count - 1]
    return ends[0] if len(pieces[0]) >= _FEWEST and _is_alone(text, start, ends[0], pieces[0]) else None


def _is_alone(text: str, start: int, end: int, digits: str) -> bool:
    """Digits without a gap."""
    if not is_card(digits, named=True) or not _ends(text, end):
        return False
    words = words_before(text, start)
    named = _is_named(words)
    if not named and not _issued(digits, _SIZES):
        return False
    one, further = before(text, start)
    if not free_before(text, start):
        # Track 1 of a magnetic stripe.
        return text[max(0, start - 2) : start] == "%B"
    if one == "+" or (one and one in "-_." and further.isalnum()):
        # A sentence's end without a space behind it, but no part of a name or a version.
        ends = one == "." and text[max(0, start - 3) : start - 1].isalpha() and not is_thing(words)
        return (named or ends) and not further.isdigit()
    # arn:aws:iam::123456789012:role
    if one == ":" and text[end : end + 1] == ":" and not named:
        return False
    # instances/4977963424833840590: hardly any card has so many digits, and ids of resources have.
    if one == "/" and further.isalnum() and len(digits) > _USUAL:
        return named
    # A Visa card of old, or the number of an article: of those there are more.
    if len(digits) == _ARTICLE and not named and _is_article(digits):
        return False
    return named or not is_thing(words) or (words[0] in _NUMBER and not thing_of(words))


def _is_article(digits: str) -> bool:
    """Whether the check digit is that of an EAN-13 (GS1)."""
    return (sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))) % 10 == 0


def _is_grouped(text: str, start: int, end: int, digits: str) -> bool:
    """Digits in the groups that cards are printed in, all with the same gap."""
    if (
        not is_card(digits, named=True)
        or (" " in text[start:end] and "-" in text[start:end])
        or not _ends(text, end)
    ):
        return False
    one, further = before(text, start)
    if not free_before(text, start) or (one and one in "-.+_" and further.isalnum()):
        return False
    words = words_before(text, start)
    named = _is_named(words)
    if not named and (len(digits) < 13 or not _issued(digits, _SIZES)):
        return False
    if one in " -" and (further.isalnum() or further == ":"):
        if not named and further.isdigit() and _ROW_BEFORE.search(text, max(0, start - 27), start):
            return False
        # A search that ends here tries each place before it: only where it may find something.
        if _DUMP_BEFORE.search(text[max(0, start - 20) : start]):
            return False
    return (named or _ROW_AFTER.match(text, end) is None) and _DUMP_AFTER.match(text, end) is None


def _ends(text: str, end: int) -> bool:
    after = text[end : end + 2]
    if not free_after(text, end):
        return False
    # 4111111111111111_receipt.pdf
    if after[:1] == "_" and text[end + 1 : end + 4].isalpha() and end + 4 <= len(text):
        return True
    return not (after[:1] in "-.+_" and after[1:].isalnum())


def _is_named(words: list[str]) -> bool:
    """Whether the words before say that a card's number follows: `card`, `card no`, `cardNumber`."""
    for word in words[:4]:
        if _CARD_WORDS.fullmatch(word):
            return True
        if word not in NUMBERS and word not in _BETWEEN:
            return False
    return False


_BETWEEN = frozenset(
    ["is", "value", "was", "the", "with", "de", "ending", "numer", "express", "club", "full", "raw"]
)
