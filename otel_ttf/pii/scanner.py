"""The one scan: which pieces of a request may hold something of interest, by groups of patterns.

Patterns are supersets: in protobuf the neighbours of a string are length bytes, so they ask nothing of them. What
a hit really is, the exact rules say, on the decoded strings. Engines are interchangeable: the same patterns, the
same answers, except that a match across the border of two pieces may add a hit.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

from otel_ttf.pii import kept

Engine = Literal["hyperscan", "re2", "re"]
ENGINES: tuple[Engine, ...] = ("hyperscan", "re2", "re")

# Groups, as bits.
SUBJECT = 1  # the key of an attribute that names the subject
NAME = 2  # the key of an attribute that names an event
KEY = 4  # a key whose value is masked
CONSENT = 8  # the key of an attribute, or the name of an event, that tells about consent
SOURCE = 16  # the key of an attribute from which another one is derived
ENCODED = 32  # something may be hidden by an encoding: what it hid is scanned, too
FIRST_DETECTOR = 64  # every detector has a bit of its own from here on
CONTENT = -32  # an encoding, or any detector
EVERYTHING = -1

# Bytes that are joined for one pass; a larger piece is looked at alone, without a copy.
_TOGETHER = 4 << 20
# Databases of so many patterns take longer to make than to read from a file.
_WORTH_KEEPING = 100
_RE2_MEMORY = 128 << 20  # at most; what is not needed is not taken


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression over bytes, in ASCII, that all engines understand; the case of ASCII letters never
    counts. No assertions, no back-references, and no unbounded run before something that runs over the same."""

    group: int
    expression: str


def literal(text: str) -> str:
    """An expression for a text as it is, in UTF-8."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


class _Finder(Protocol):
    def __call__(self, data: bytes, pieces: Sequence[bytes], first: int, found: dict[int, int]) -> None:
        """Adds the groups of the pieces that `data` is made of; the first of them has this number."""


class Scanner:
    """Finds the groups of each piece. Threads may share one.

    engine  by default the fastest that is installed
    """

    def __init__(self, patterns: Iterable[Pattern], engine: Engine | None = None) -> None:
        groups: dict[str, int] = {}
        for pattern in patterns:
            groups[pattern.expression] = groups.get(pattern.expression, 0) | pattern.group
        unique = [Pattern(group, expression) for expression, group in groups.items()]
        self.engine: Engine = engine if engine is not None else next(filter(_installed, ENGINES))
        self._find: _Finder | None = None
        if unique:
            self._find = _Hyperscan(unique) if self.engine == "hyperscan" else _Searches(unique, self.engine)

    def hits(self, pieces: Sequence[bytes]) -> dict[int, int]:
        """Number of a piece -> bits of its groups; pieces without a hit are left out."""
        found: dict[int, int] = {}
        if self._find is not None:
            for first, some in _portions(pieces):
                self._find(some[0] if len(some) == 1 else b"".join(some), some, first, found)
        return found


def _portions(pieces: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """(number of the first, pieces) with not much more than _TOGETHER bytes each."""
    first = size = 0
    if sum(map(len, pieces)) <= _TOGETHER:
        if pieces:
            yield 0, pieces
        return
    for place, piece in enumerate(pieces):
        if place > first and size + len(piece) > _TOGETHER:
            yield first, pieces[first:place]
            first, size = place, 0
        size += len(piece)
    yield first, pieces[first:]


class _Hyperscan:
    """All patterns in one pass; every end of a match is told."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        # In one order, whatever sets they came from: the next start is to find what was kept.
        ordered = sorted(patterns, key=lambda pattern: pattern.expression)
        self._groups = [pattern.group for pattern in ordered]
        self._hyperscan, self._database = _database(tuple(pattern.expression for pattern in ordered))
        self._own = threading.local()

    def __call__(self, data: bytes, pieces: Sequence[bytes], first: int, found: dict[int, int]) -> None:
        scratch = getattr(self._own, "scratch", None)
        if scratch is None:  # one is for one scan at a time
            scratch = self._own.scratch = self._hyperscan.Scratch(self._database)
        groups = self._groups
        ends = list(accumulate(map(len, pieces)))
        # Where the piece ends in which each pattern was last found: further finds there tell nothing new, and
        # a text may be made of nothing but finds.
        told = [0] * len(groups)

        def matched(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            if end > told[number]:
                place = bisect_left(ends, end)
                told[number] = ends[place]
                found[first + place] = found.get(first + place, 0) | groups[number]

        self._database.scan(data, matched, scratch=scratch)


@lru_cache(maxsize=16)
def _database(expressions: tuple[str, ...]) -> tuple[Any, Any]:
    """(the module, its database): many take a second to make, and the pipelines of all signals share one."""
    hyperscan = import_module("hyperscan")
    flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_DOTALL
    encoded = [expression.encode() for expression in expressions]

    def made() -> Any:
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=encoded,
            ids=list(range(len(encoded))),
            elements=len(encoded),
            flags=[flags] * len(encoded),
        )
        return database

    if len(expressions) < _WORTH_KEEPING:
        return hyperscan, made()
    name = kept.name_of([_build(hyperscan), str(flags).encode(), *encoded])
    held = kept.read(name)
    if held is not None:
        # Hyperscan refuses what is of another version or for another CPU, which the name should have told.
        with suppress(hyperscan.HyperscanError):
            return hyperscan, hyperscan.loadb(held, hyperscan.HS_MODE_BLOCK)
    database = made()
    kept.write(name, hyperscan.dumpb(database))
    return hyperscan, database


def _build(hyperscan: Any) -> bytes:
    """What tells builds of the module apart, those of one version too."""
    file = Path(hyperscan.dumpb.__self__.__file__).stat()
    return f"{hyperscan.__version__} {file.st_size} {file.st_mtime_ns}".encode()


class _Searches:
    """One search for any pattern over everything; then by group, but only in the pieces that it touched."""

    def __init__(self, patterns: Sequence[Pattern], engine: Engine) -> None:
        by_group: dict[int, list[str]] = {}
        for pattern in patterns:
            by_group.setdefault(pattern.group, []).append(pattern.expression)
        self._any = _compiled(tuple(pattern.expression for pattern in patterns), engine).finditer
        self._groups = [(group, _compiled(tuple(some), engine).search) for group, some in by_group.items()]

    def __call__(self, data: bytes, pieces: Sequence[bytes], first: int, found: dict[int, int]) -> None:
        ends = list(accumulate(map(len, pieces)))
        # A match that is not told overlaps one that is, so all pieces which that one touches are looked at.
        touched: set[int] = set()
        for match in self._any(data):
            touched.update(range(bisect_left(ends, match.start() + 1), bisect_left(ends, match.end()) + 1))
        for place in touched:
            groups = 0
            for group, search in self._groups:
                if search(pieces[place]):
                    groups |= group
            if groups:
                found[first + place] = groups


@lru_cache(maxsize=256)
def _compiled(expressions: tuple[str, ...], engine: Engine) -> Any:
    either = "|".join(f"(?:{expression})" for expression in expressions).encode()
    if engine == "re":
        return re.compile(either, re.IGNORECASE | re.DOTALL)
    re2 = import_module("re2")
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = False
    options.dot_nl = True
    # With less its automaton does not fit, and it walks every byte a thousand times slower.
    options.max_mem = _RE2_MEMORY
    return re2.compile(either, options)


def _installed(engine: Engine) -> bool:
    try:
        import_module(engine)
    except ImportError:
        return False
    return True
