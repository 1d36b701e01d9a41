"""Rows of subjects that have none yet, and of whom one milestone is all that came: see patterns.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ttf.journey.rollup import cohort_day
from otel_ttf.journey.state import UNSET
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import pack_touches, subject_hash, to_json, touch_pieces
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.patterns import Pattern
from otel_ttf.tracker.touches import Touch
from otel_ttf.units import DAY


@dataclass(slots=True)
class _Group:
    """Rows that differ in their subject and their time alone."""

    combo: int
    segments: str
    pieces: list[str]
    count: int = 0


@dataclass(slots=True)
class _Rows:
    """Rows of one pattern, for SqliteStore.insert_firsts."""

    pattern: Pattern
    rows: list[tuple[object, ...]] = field(default_factory=list)


class Firsts:
    """Gathers first milestones of one journey; the rest of a transaction's changes are `Writes`."""

    def __init__(self, store: SqliteStore, counts: Counts, followed: Followed, now: int) -> None:
        self._store = store
        self._counts = counts
        self._journey = followed.journey
        self._definition = followed.definition
        self._now = now
        self._names = followed.segments
        self._patterns = followed.patterns
        self._places = [None if pattern is None else _Rows(pattern) for pattern in followed.patterns]
        self._utc = followed.journey.timezone == "UTC"
        self._groups: dict[tuple[int, int, tuple[str | None, ...]], _Group] = {}
        self._told: list[tuple[object, ...]] = []

    def take(self, subject: str, touch: Touch) -> bool:
        """Whether that is all that it is; then it is in the queue. There must be no row of the subject."""
        reached, segments = touch.reached, touch.segments
        if reached.count(UNSET) != len(reached) - 1:
            return False
        at = min(reached)
        place = reached.index(at)
        rows = self._places[place]
        if rows is None:
            return False
        day = at // DAY if self._utc else cohort_day(at, self._journey.timezone)
        values = tuple([None if first is None else first[1] for first in segments])
        group = self._groups.get((place, day, values))
        if group is None:
            group = self._groups[place, day, values] = self._group(values)
        group.count += 1
        pattern = rows.pattern
        touched = str(at).join(group.pieces)
        for first in segments:
            if first is not None and first[0] != at:
                touched = pack_touches(self._names, segments)
        row: tuple[object, ...] = (
            subject_hash(subject),
            subject,
            # The sqlite3 module asks for an adapter of bytes, and of None, each time: a third of a row's cost.
            bytearray(pattern.head + at.to_bytes(8, "big") + pattern.tail),
            touched,
            at,
            day,
            group.combo,
        )
        if pattern.due_after is not None:
            row = (*row, at, at, max(at + pattern.due_after, self._now + self._journey.settle), self._now)
        rows.rows.append(row)
        self._told.append(
            (
                bytearray(pattern.digest(subject)),
                self._journey.name,
                self._journey.version,
                subject,
                pattern.kind,
                pattern.name,
                at,
                self._now,
                group.segments,
            )
        )
        return True

    def _group(self, values: tuple[str | None, ...]) -> _Group:
        named = {name: value for name, value in zip(self._names, values, strict=True) if value is not None}
        combo = self._counts.combo(self._definition.id, self._journey, values)
        return _Group(combo, to_json(named), touch_pieces(self._names, values))

    def write(self) -> None:
        """Everything queued, into the open transaction."""
        definition = self._definition
        for rows in self._places:
            if rows is not None and rows.rows:
                self._store.insert_firsts(definition, rows.pattern, rows.rows)
        if self._told:
            self._store.add_firsts(self._told)
        for (place, day, values), group in self._groups.items():
            pattern = self._patterns[place]
            assert pattern is not None
            where = definition.id, day, group.combo
            self._counts.firsts(self._journey, pattern.kind, where, pattern.cells, values, group.count)
