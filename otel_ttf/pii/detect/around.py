"""What stands around a run of digits or letters: what runs into it, and the words that lead up to it."""

from __future__ import annotations

import re


def listed(text: str) -> tuple[str, ...]:
    """The words of a table."""
    return tuple(text.split())


# Written as \n in source code and JSON, the letter is no part of what follows it.
_ESCAPES = frozenset("bfnrt")
# What a group of digits goes on with.
_CONTINUES = frozenset("-.+")
_ROW_BEFORE = re.compile(r"(?<![\w.])(?=[a-f]*[0-9])[0-9a-f]{1,12} $", re.IGNORECASE)
_ROW_AFTER = re.compile(r" (?=[a-f]*[0-9])[0-9a-f]{1,12}(?![\w.])", re.IGNORECASE)
# How far back words are looked for, and how much punctuation may stand between a word and what it is about.
_REACH = 48
_GAP = 6
# Between two things that have nothing to do with each other.
_APART = frozenset(",;|\n\t")
_WORD = re.compile(
    r"(?P<shut>\[[A-Z_]+\]|\d+)|(?P<word>#|[A-Z]?[a-zß-öø-ÿ]+|[A-ZÀ-ÖØ-Þ]+(?![a-zß-öø-ÿ])|[^\W\d_a-zA-ZÀ-ÿ]+|[A-Z])"
)

# The words for a number or a name of something: what it is of stands before or within it.
NUMBERS = frozenset(
    listed("# id ids ident identifier no nr num number numbers nummer numero número numéro ref")
)
# What is counted, built or sent around has numbers of its own.
THINGS = frozenset(
    listed("""
    order invoice tracking request trace span session ticket shipment parcel package txn reference receipt sku
    part serial model lot batch job task build revision version release commit sha md5 digest hash checksum crc
    etag fingerprint nonce seed sequence seq offset cursor correlation uuid guid isbn ean upc imei imsi barcode
    gtin asin guild snowflake shard lease checkpoint partition
    epoch timestamp time ts bestellung auftrag rechnung sendung commande facture pedido factura ordine fattura
    zamówienie
    """)
)


def before(text: str, start: int) -> tuple[str, str]:
    """The character before `start` and the one before that; empty where there is none."""
    return text[start - 1 : start] if start else "", text[start - 2 : start - 1] if start > 1 else ""


def free_before(text: str, start: int) -> bool:
    """Whether no letter and no digit runs into `start`."""
    if start == 0 or not text[start - 1].isalnum():
        return True
    return start > 1 and text[start - 2] == "\\" and text[start - 1] in _ESCAPES


def free_after(text: str, end: int) -> bool:
    """Whether no letter and no digit follows directly."""
    return end == len(text) or not text[end].isalnum()


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether digits in groups go on to neither side, with a dash or a point."""
    one, further = before(text, start)
    after, next_one = text[end : end + 1], text[end + 1 : end + 2]
    return (
        free_before(text, start)
        and free_after(text, end)
        and not (one in _CONTINUES and further.isalnum())
        and not (after in _CONTINUES and next_one.isalnum())
        # 274708428689903_9353486754613491353_n.jpg
        and not (one == "_" and further.isdigit())
        and not (after == "_" and next_one.isdigit())
    )


def in_a_row(text: str, start: int, end: int) -> bool:
    """Whether digits with a space between them go on to either side: a table, a dump, a longer number."""
    return (text[start].isdigit() and _ROW_BEFORE.search(text, max(0, start - 14), start) is not None) or (
        text[end - 1].isdigit() and _ROW_AFTER.match(text, end) is not None
    )


def words_before(text: str, start: int) -> list[str]:
    """Words that lead up to `start`, in lower case, the nearest first; `camelCase` is two.

    None when a comma, digits or a placeholder stand between, or more punctuation than `label: "` has: what is
    found does not depend on what was found, and masked, before.
    """
    if _cut_off(text, start):
        return []
    leading = text[max(0, start - _REACH) : start]
    words: list[str] = []
    end = 0
    for match in _WORD.finditer(leading):
        if match.lastgroup == "shut":
            words = []
        # The first one may have lost its beginning.
        elif match.start() > 0 or start <= _REACH:
            words.append(match[0].lower())
        end = match.end()
    gap = leading[end:]
    if not words or len(gap) > _GAP or not _APART.isdisjoint(gap):
        return []
    return words[::-1]


def _cut_off(text: str, start: int) -> bool:
    """Whether what stands right before leads up to nothing: seen at once, since texts may be full of numbers."""
    for place in range(start - 1, max(-1, start - _GAP - 2), -1):
        one = text[place]
        if one in _APART or one.isdecimal():
            return True
        if one.isalnum() or one in "#]":  # of a word, or of a placeholder
            return False
    return start > _GAP


def thing_of(words: list[str]) -> str:
    """What has the number that the words announce: `order` of order, order no and orderId; empty without any."""
    return next((word for word in words if word not in NUMBERS), "")


def is_thing(words: list[str]) -> bool:
    """Whether the nearest word says that the number of a thing follows: `order`, `trace id`, `number`, `#`."""
    if not words:
        return False
    word = words[0]
    return (
        word in NUMBERS
        or word in THINGS
        or (word[-1:] == "s" and word[:-1] in THINGS)
        or word.endswith("nummer")
    )
