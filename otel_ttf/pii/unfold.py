"""What encodings hide: a shadow of a text with its escapes resolved, and the way back from it.

Percent-encoding, HTML entities, escapes of JSON and JavaScript, full-width letters, decimal digits of other
scripts, characters that take no room; one in the other, up to three times. A text is unfolded only if what an
escape stands for can take part in a finding: most URLs with %20 are left as they are.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

from otel_ttf.pii.detect.base import Span

ROUNDS = 3

# Full-width forms, small ones, dots of East Asian host names, spaces and dashes of printed numbers.
_WIDE = {
    **{0xFEE0 + point: chr(point) for point in range(0x21, 0x7F)},
    0xFE6B: "@",
    0xFE52: ".",
    0xFF61: ".",
    0x3002: ".",
    0x3000: " ",
    0xA0: " ",
    0x202F: " ",
    **dict.fromkeys(range(0x2000, 0x200B), " "),
    **dict.fromkeys(range(0x2010, 0x2014), "-"),
}
# Characters that take no room, and those that only turn the writing.
_NONE = [
    0xAD,
    0x34F,
    0x61C,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x206A),
    0xFEFF,
]
_DIGITS = {
    point: str(unicodedata.decimal(chr(point)))
    for point in range(0x80, 0x1FC00)
    if unicodedata.category(chr(point)) == "Nd" and point not in _WIDE
}
_TABLE: dict[int, str] = _WIDE | _DIGITS | dict.fromkeys(_NONE, "")
# Names of HTML for what is looked for.
_ENTITIES = {
    "amp": "&", "apos": "'", "ast": "*", "bsol": "\\", "colon": ":", "comma": ",", "commat": "@", "dollar": "$",
    "equals": "=", "gt": ">", "hyphen": "-", "lbrace": "{", "lbrack": "[", "lowbar": "_", "lpar": "(", "lsqb": "[",
    "lt": "<", "nbsp": " ", "num": "#", "percnt": "%", "period": ".", "plus": "+", "quest": "?", "quot": '"',
    "rbrace": "}", "rbrack": "]", "rpar": ")", "rsqb": "]", "semi": ";", "shy": "", "sol": "/", "zwj": "", "zwnj": "",
}  # fmt: skip
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "/": "/", "\\": "\\", "'": "'"}


def _digits(*, short: bool) -> str:
    """An expression for the UTF-8 of decimal digits beyond ASCII and full width, of two bytes or of more."""
    last: dict[bytes, bytes] = {}
    for point in _DIGITS:
        data = chr(point).encode()
        if (len(data) == 2) is short:
            last[data[:-1]] = last.get(data[:-1], b"") + data[-1:]
    return "|".join(f"{_bytes(begin)}[\\x{ends[0]:02x}-\\x{ends[-1]:02x}]" for begin, ends in last.items())


def _bytes(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


_DIGIT = f"(?:{_digits(short=True)})"
# What an escape may stand before: a number, an e-mail address, an IBAN, a scheme, a key.
_AHEAD = r"(?:[0-9][0-9.]|[+(][0-9]|[A-Za-z0-9._+\-]{0,64}@|[A-Za-z]{2}[0-9]{2}|bearer|basic|negotiate|ntlm|eyJ|curl)"
_ASCII = (
    # Percent: letters, digits and marks of addresses, keys and URLs; others where they part or precede something.
    r"%(?:2[236de]|3[0-9abcdf]|4[0-9a-f]|5[0-9af]|6[0-9a-f]|7[0-9a])",
    r"%(?:2f%2f|25[0-9a-f]{2}|2b[0-9]|5d(?:=|%)|u00[2-7])",
    r"%(?:ef%b[cd9]|e2%80%[89a]|e2%81%a|c2%a[0d]|d9%a|db%b|e0%a5%[ab])",
    rf"%[0-9a-f]{{2}}{_AHEAD}",
    r"[0-9]%20[0-9]",
    # Paths to homes; other slashes are left alone, since URLs are full of them.
    r"(?:%2f|%5c|\\/)(?:(?:export|var)/)?(?:home|users|documents)[/\\%+]",
    r"(?:home|users|settings)(?:%2f|%5c|\\/)",
    r"%[0-9a-f]{2}/(?:(?:export|var)/)?(?:home|users)/",
    r"@[A-Za-z0-9.\-]{0,64}(?:%[c-f]|\\u[0-9a-f]{4})",
    r"(?:bearer|basic|negotiate|ntlm|digest|BEGIN|PRIVATE|PRIVATE KEY-----)(?:%[02][0-9a-f]|\\u00)",
    # HTML
    r"&(?:#x?[0-9a-f]{2}|amp;[#a-z]|commat;|period;|colon;|equals;|quot;|plus;|hyphen;|lowbar;|num;|percnt;|lt;|sol;"
    r"|shy;|zwj;|zwnj;|bsol;)",
    r"[0-9]&nbsp;[0-9]",
    # JSON and JavaScript
    r"\\(?:u00[2-7][0-9a-f]|x[2-7][0-9a-f]|u\{0{0,4}[0-9a-f]{2}|u000000[2-7]|u00a[0d]|uf[fe][0-9a-f]{2}|u20[0-6]|u06[6f])",
    rf"\\(?:u[0-9a-f]{{4}}|x[0-9a-f]{{2}}|[nrt]){_AHEAD}",
    r":\\{1,4}/\\{1,4}/",
    # Forms: spaces as +
    r"[0-9]\+[0-9]{3,6}\+[0-9]",
    r"(?:bearer|basic)\+[A-Za-z0-9]{8}",
)
_BEYOND = (
    # Full width; what is common in East Asian texts, only beside ASCII
    r"\xef\xbc[\x8b\x8d\x8e\x90-\x99\x9d\xa0-\xba\xbf]|\xef\xbd[\x81-\x9a]|\xef\xb9[\x92\xab]",
    r"[!-~](?:\xef\xbc\x9a|\xe3\x80\x82[A-Za-z0-9]|\xef\xbd\xa1[A-Za-z0-9])",
    r"[0-9](?:\xe3\x80\x80|\xc2\xa0|\xe2\x80[\x80-\x8a\x90-\x93\xaf])[0-9(]",
    # Digits of other scripts; those of two bytes only beside another digit: bytes of an id look the same
    rf"{_DIGIT}(?:[0-9]|{_DIGIT})|[0-9]{_DIGIT}",
    _digits(short=False),
    # What takes no room; see _HIDES. Asked beside what, the scan costs three times as much.
    "|".join(_bytes(chr(point).encode()) for point in _NONE),
)
# It hides something only beside ASCII: scripts that join their letters, and emoji, need it.
_NOTHING = f"(?:{_BEYOND[-1]})"
_HIDES = rf"[!-~]{_NOTHING}|{_NOTHING}[!-~]"
# For the one scan: they match the UTF-8 of every text that `unfold` has something to tell about, and of JSON in which
# letters of words may be escaped that names and detectors know in UTF-8: contrase\u00f1a.
PATTERNS: tuple[str, ...] = (*_ASCII, *_BEYOND, r"\\u[0-9a-f]{4}")


def _any(patterns: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile("|".join(f"(?:{one})" for one in patterns).encode(), re.IGNORECASE | re.DOTALL)


# The same patterns, or narrower ones, tell whether there is something: so the scan cannot miss it.
_MATTERS, _MATTERS_IN_ASCII = _any((*_ASCII, *_BEYOND[:-1], _HIDES)), _any(_ASCII)
_QUICK = re.compile(r"[%&\\+]")
_ONE = "".join(re.escape(chr(point)) for point in sorted(_TABLE))
_BEGIN = re.compile(rf"[%&\\+{_ONE}]")
_HEX = "[0-9A-Fa-f]"
_ESCAPE = re.compile(
    rf"(?P<percent>(?:%{_HEX}{{2}})++)"
    rf"|%u(?P<u>{_HEX}{{4}})|\\u(?P<j>{_HEX}{{4}})|\\U(?P<p>{_HEX}{{8}})|\\u\{{(?P<e>{_HEX}{{1,6}})\}}|\\x(?P<x>{_HEX}{{2}})"
    rf"|&#[xX](?P<h>{_HEX}{{1,6}});?|&#(?P<d>[0-9]{{1,7}});?|&(?P<name>{'|'.join(_ENTITIES)});"
    r"|\\(?P<simple>[nrtbf\"/\\'])"
    rf"|(?P<one>[{_ONE}])"
    r"|(?P<plus>(?<=[0-9])\+(?=[0-9(])|(?<=[Bb]earer)\+|(?<=[Bb]asic)\+)"
)
_HIGHEST = 0x10FFFF


class _Layer:
    """One round: places of the shadow where pieces begin, and where they come from."""

    __slots__ = ("_ends", "_places", "_starts", "text")

    def __init__(self, text: str) -> None:
        self._places: list[int] = []
        self._starts: list[int] = []
        # Of an escape, its end; -1: of a piece that stands as it is.
        self._ends: list[int] = []
        parts: list[str] = []
        size = end = 0
        for new, start, stop in _resolved(text):
            if start > end:
                self._add(size, end, -1)
                parts.append(text[end:start])
                size += start - end
            if new:
                self._add(size, start, stop)
                parts.append(new)
                size += len(new)
            end = stop
        if end < len(text):
            self._add(size, end, -1)
            parts.append(text[end:])
        self.text = "".join(parts)

    def _add(self, place: int, start: int, end: int) -> None:
        self._places.append(place)
        self._starts.append(start)
        self._ends.append(end)

    def span(self, start: int, end: int) -> Span:
        first = bisect_right(self._places, start) - 1
        last = bisect_right(self._places, end - 1) - 1
        begin = self._starts[first] + (start - self._places[first] if self._ends[first] < 0 else 0)
        stop = self._ends[last]
        return begin, stop if stop >= 0 else self._starts[last] + end - self._places[last]


class Unfolded:
    """text: what the encodings hide. Made by `unfold`."""

    __slots__ = ("_layers", "text")

    def __init__(self, layers: list[_Layer]) -> None:
        self._layers = layers
        self.text = layers[-1].text

    def span(self, start: int, end: int) -> Span:
        """Where a part of `text`, start < end, is in the original; of an escape, the whole of it."""
        for layer in reversed(self._layers):
            start, end = layer.span(start, end)
        return start, end


def unfold(text: str) -> Unfolded | None:
    """The shadow of a text; None if it hides nothing that could be found. Takes time linear in the text."""
    in_ascii = text.isascii()
    if in_ascii and _QUICK.search(text) is None:
        return None
    matters = _MATTERS_IN_ASCII if in_ascii else _MATTERS
    if matters.search(text.encode("utf-8", "surrogatepass")) is None:
        return None
    layers: list[_Layer] = []
    for _ in range(ROUNDS):
        layer = _Layer(text)
        if layer.text == text:
            break
        layers.append(layer)
        text = layer.text
    return Unfolded(layers) if layers and text else None


def _escapes(text: str) -> Iterator[re.Match[str]]:
    # One of a few characters is found fast; what escape it may begin is asked where it stands.
    begin = (_QUICK if text.isascii() else _BEGIN).search
    found = begin(text)
    while found is not None:
        match = _ESCAPE.match(text, found.start())
        if match is not None:
            yield match
        found = begin(text, found.end() if match is None else match.end())


def _resolved(text: str) -> Iterator[tuple[str, int, int]]:
    """(what it stands for, start, end) of each escape, in order."""
    for match in _escapes(text):
        kind, (start, end) = match.lastgroup, match.span()
        if kind == "percent":
            yield from _percent(match[0], start)
        elif kind == "one":
            yield _TABLE[ord(match[0])], start, end
        elif kind == "name":
            yield _ENTITIES[match["name"]], start, end
        elif kind == "simple":
            yield _SIMPLE[match["simple"]], start, end
        elif kind == "plus":
            yield " ", start, end
        elif kind is not None:
            point = int(match[kind], 10 if kind == "d" else 16)
            # Half of a pair is no character.
            if point <= _HIGHEST and not 0xD800 <= point < 0xE000:
                yield chr(point), start, end


def _percent(run: str, start: int) -> Iterator[tuple[str, int, int]]:
    data = bytes.fromhex(run.replace("%", ""))
    place = 0
    while place < len(data):
        lead = data[place]
        size = 1 if lead < 0x80 else 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4
        try:
            character = data[place : place + size].decode()
        except UnicodeDecodeError:
            place += 1  # no UTF-8: it stays as it is written
            continue
        yield character, start + 3 * place, start + 3 * (place + size)
        place += size
