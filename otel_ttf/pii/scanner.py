"""The one scan: which pieces of a request can hold anything of interest, by groups of patterns.

Patterns are supersets: in protobuf the neighbours of a string are length bytes, so they ask nothing of them. What
a hit really is, the exact rules say, on the decoded strings. Engines are interchangeable: the same patterns, the
same answers, except that a match across the border of two pieces may add a hit.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

# Groups, as bits.
SUBJECT = 1  # a subject attribute's key
NAME = 2  # an attribute's key that names an event
KEY = 4  # a key whose value is masked
CONTENT = 8  # something that a detector may find
EVENT_ID = 16  # a record that brings its own event id
EVERYTHING = SUBJECT | NAME | KEY | CONTENT | EVENT_ID

Patterns = Mapping[int, Sequence[str]]


class Scanner(Protocol):
    """Says which groups each piece may hold."""

    def hits(self, pieces: Sequence[bytes]) -> dict[int, int]:
        """piece -> groups; pieces without a hit are left out."""


class HyperscanScanner:
    """All patterns in one pass over the joined pieces."""

    def __init__(self, patterns: Patterns) -> None:
        import hyperscan

        expressions = [(group, pattern) for group, many in patterns.items() for pattern in many]
        self._groups = [group for group, _ in expressions]
        self._database = hyperscan.Database()
        flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_DOTALL
        self._database.compile(
            expressions=[pattern.encode() for _, pattern in expressions],
            ids=list(range(len(expressions))),
            flags=[flags] * len(expressions),
        )
        self._scratch = hyperscan.Scratch(self._database)
        self._local = threading.local()

    def hits(self, pieces: Sequence[bytes]) -> dict[int, int]:
        matches: list[tuple[int, int]] = []
        collect = matches.append

        def matched(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            collect((number, end))

        # A scratch is for one scan at a time, and requests are prepared in several threads.
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = self._scratch.clone()
        self._database.scan(b"".join(pieces), match_event_handler=matched, scratch=scratch)
        if not matches:
            return {}
        ends = list(accumulate(map(len, pieces)))
        groups = self._groups
        found: dict[int, int] = {}
        for number, end in matches:
            piece = bisect_left(ends, end)
            found[piece] = found.get(piece, 0) | groups[number]
        return found


class SearchScanner:
    """One search a piece and group; for google-re2, or `re` where there is nothing better."""

    def __init__(self, patterns: Patterns, engine: Any) -> None:
        self._searches = [
            (group, engine.compile("(?is)" + "|".join(f"(?:{pattern})" for pattern in many)).search)
            for group, many in patterns.items()
            if many
        ]

    def hits(self, pieces: Sequence[bytes]) -> dict[int, int]:
        found: dict[int, int] = {}
        for place, piece in enumerate(pieces):
            text = piece.decode("latin-1")
            groups = 0
            for group, search in self._searches:
                if search(text):
                    groups |= group
            if groups:
                found[place] = groups
        return found


def scanner(patterns: Patterns) -> Scanner:
    """The fastest engine that is installed."""
    try:
        return HyperscanScanner(patterns)
    except ImportError:
        pass
    try:
        import re2
    except ImportError:
        return SearchScanner(patterns, re)
    return SearchScanner(patterns, re2)


def literal(text: str) -> str:
    """A pattern for a text as it is."""
    return re.sub(r"([^A-Za-z0-9_])", r"\\\1", text)
