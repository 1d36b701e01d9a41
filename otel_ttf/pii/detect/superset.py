"""From a user's pattern (RE2) to one for the one scan: over bytes, without assertions, matching at least as much."""

from __future__ import annotations

import re

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
# RE2 takes no more, also of repetitions in one another.
_MOST_REPEATED = 1000
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


def widest(pattern: str) -> int | None:
    """At most so many characters are in whatever the pattern matches; None: there is no limit."""
    most = 1
    for token in _TOKEN.finditer(pattern):
        if token.lastgroup == "repeat" and token[0][0] != "?":
            upper = re.search(r"(\d+)\}", token[0])
            if upper is None:
                return None
            most *= max(1, int(upper[1]))
    return len(pattern) * min(most, _MOST_REPEATED)


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
