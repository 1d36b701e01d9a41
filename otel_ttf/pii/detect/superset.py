"""From a user's pattern (RE2) to one for the one scan: over bytes, without assertions, matching at least as much."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

# A character of UTF-8, of whatever length.
_ANY = r"(?:[\x00-\x7f]|[\xc0-\xff][\x80-\xbf]{1,3})"
_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|$)"
    r"|\\x\{(?P<wide>[0-9A-Fa-f]{1,6})\}|\\x(?P<hex>[0-9A-Fa-f]{2})|\\(?P<octal>[0-7]{1,3})"
    r"|\\[pP](?:\{[^}]*\}|.)(?#property)"
    r"|\\(?P<escaped>.)"
    r"|(?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\[pPx]\{[^}]*\}|\\.|[^\]\\])*\])"
    r"|\(\?(?P<flags>[imsU-]+)\)"
    r"|(?P<open>\((?:\?(?:P?<\w+>|[imsU-]*:))?)"
    r"|(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?)"
    r"|(?P<plain>.)",
    re.DOTALL,
)
# Case does not count in the scan; beyond ASCII these two letters have other forms (Kelvin, long s).
_FOLDED = {"k": r"\xe2\x84\xaa", "s": r"\xc5\xbf"}
_POSITIONS = frozenset("bBAzZ")
_NEGATED = frozenset("DWSC")
_CLASSES = frozenset("dws")
_CONTROLS = frozenset("afnrtv")


def superset(pattern: str) -> str:
    """An expression (scanner.Pattern) that matches the UTF-8 bytes of whatever the pattern matches, upper or lower."""
    tokens = list(_TOKEN.finditer(pattern))
    parts = [_translated(token) for token in tokens]
    if tokens and tokens[-1].lastgroup == "repeat":
        # Where a match may end sooner it has been found: each further end would only be told again.
        parts[-1] = _shortest(parts[-1])
    return "".join(parts)


class Reach(NamedTuple):
    """How far a pattern may look.

    most     characters outside of its endless repeats, at most
    endless  RE2 pattern for one character of an endless repeat; None: there is none
    """

    most: int
    endless: str | None


def reach(pattern: str) -> Reach:
    """Whatever the pattern reads, it takes at most `most` characters that `endless` does not match."""
    tokens = list(_TOKEN.finditer(pattern))
    flags: set[str] = set()
    endless: list[str] = []
    groups = [_Group()]
    for token in tokens:
        kind, group = token.lastgroup, groups[-1]
        if kind == "repeat":
            endless += group.repeat(token[0])
        elif kind in ("flags", "open"):
            flags |= set(token["flags"] or token[0].partition("(?")[2].partition(":")[0]) & set("imsU")
            if kind == "open":
                groups.append(_Group())
        elif token[0] == ")":
            groups.pop()
            groups[-1].put(max(group.widest, group.width), group.read)
        elif token[0] == "|":
            group.branch()
        else:
            for one in _characters(token):
                group.put(1, [one])
    most = max(groups[0].widest, groups[0].width)
    if not endless or _ends_at_once(tokens):
        return Reach(most, None)
    either = "|".join(dict.fromkeys(endless))
    return Reach(most, f"(?:{either}|(?is:{either}))" if flags else f"(?:{either})")


@dataclass
class _Group:
    """What was read of a group. width: of this branch; last: the width of what a repeat would repeat."""

    widest: int = 0
    width: int = 0
    last: int = 0
    read: list[str] = field(default_factory=list)
    last_read: list[str] = field(default_factory=list)

    def put(self, width: int, read: list[str]) -> None:
        self.width += width
        self.last, self.last_read = width, read
        self.read += read

    def branch(self) -> None:
        self.widest, self.width = max(self.widest, self.width), 0

    def repeat(self, times: str) -> list[str]:
        """What is now repeated without an end."""
        upper = re.search(r"(\d+)\}", times)
        without_end = upper is None and times[0] != "?"
        factor = 0 if without_end else int(upper[1]) if upper else 1
        self.width += self.last * (factor - 1)
        self.last *= factor
        return self.last_read if without_end else []


def _characters(token: re.Match[str]) -> list[str]:
    """RE2 patterns of the characters that it stands for, one by one."""
    if token.lastgroup == "quoted":
        return [re.escape(character) for character in token["quoted"]]
    if token.lastgroup == "escaped":
        character = token["escaped"]
        return [] if character in _POSITIONS else [r"(?s:.)" if character == "C" else token[0]]
    if token.lastgroup == "plain" and token[0] != ".":
        return [] if token[0] in "^$" else [re.escape(token[0])]
    return [token[0]]


def _ends_at_once(tokens: list[re.Match[str]]) -> bool:
    """As `x.*?y` does: the first end is taken, and what began further in front would have taken it, too."""
    plain = not any(token.lastgroup in ("open", "flags") or token[0] == "|" for token in tokens)
    repeats = [token[0] for token in tokens if token.lastgroup == "repeat"]
    open_ones = [each for each in repeats if not re.fullmatch(r"\{\d+\}\??", each)]
    return plain and len(open_ones) == 1 and len(open_ones[0]) > 1 and open_ones[0].endswith("?")


def _shortest(repeat: str) -> str:
    if repeat in ("*", "?"):
        return "?"
    return "" if repeat == "+" else re.sub(r",\d*", "", repeat)


def _translated(token: re.Match[str]) -> str:
    kind = token.lastgroup
    text = token[0]
    match kind:
        case "quoted":
            return "".join(map(_literal, token["quoted"]))
        case "wide" | "hex":
            return _literal(chr(int(token[kind], 16)))
        case "octal":
            return _literal(chr(int(token["octal"], 8)))
        case "escaped":
            return _escaped(token["escaped"])
        case "set":
            return _set(text)
        case "flags":
            return ""
        case "open":
            return "(?:"
        case "repeat":
            return text.rstrip("+?") if len(text) > 1 else text
        case "plain":
            return _plain(text)
        case _:  # a Unicode property
            return _ANY


def _escaped(character: str) -> str:
    if character in _POSITIONS:
        return ""
    if character in _NEGATED:
        return _ANY
    if character in _CLASSES or character in _CONTROLS:
        return f"\\{character}"
    return _literal(character)


def _plain(character: str) -> str:
    if character in "^$":
        return ""
    if character == ".":
        return _ANY
    return character if character in "|)" else _literal(character)


def _set(text: str) -> str:
    odd = text.startswith("[^") or "[:" in text or re.search(r"\\[pPxDWSQ0-7]", text) is not None
    if odd or not text.isascii():
        return _ANY
    ranges = [range(ord(a), ord(b) + 1) for a, b in re.findall(r"([A-Za-z])-([A-Za-z])", text.lower())]
    folded = [
        form
        for letter, form in _FOLDED.items()
        if letter in text.lower() or any(ord(letter) in r for r in ranges)
    ]
    return f"(?:{'|'.join([text, *folded])})" if folded else text


def _literal(character: str) -> str:
    lower = character.lower()
    if lower in _FOLDED:
        return f"(?:{lower}|{_FOLDED[lower]})"
    return f"\\x{ord(character):02x}" if character.isascii() else _ANY
