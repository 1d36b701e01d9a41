"""The embedded store's reading side: one read-only connection a thread, each answer from one snapshot."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from otel_ttf.journey.definition import Journey, carried
from otel_ttf.journey.labels import LABEL_VALUES, OTHER, label_name
from otel_ttf.journey.rollup import overdue_cells, scalars
from otel_ttf.journey.state import UNSET, State
from otel_ttf.journey.times import unpack_times
from otel_ttf.sqlite_disk import trouble
from otel_ttf.store.base import (
    MINUTE_BOUNDS,
    SCORE_BOUNDS,
    UNKNOWN,
    Cohort,
    CounterRow,
    HistogramRow,
    JourneyRow,
    NotReady,
    SeenName,
    StoreUnreadable,
    StuckRow,
    Version,
)
from otel_ttf.store.sqlite_file import connect
from otel_ttf.store.sqlite_rows import subject_hash, unpack_segments
from otel_ttf.units import MINUTE

_DEFINITION = (
    "SELECT id, journey, version, canonical, first_started, complete_since, current, recounting, carrying"
    " FROM definition WHERE journey = ? ORDER BY current DESC, id DESC"
)


Question = ParamSpec("Question")
Answer = TypeVar("Answer")


def _told(method: Callable[Question, Answer]) -> Callable[Question, Answer]:
    """What the file cannot tell is StoreUnreadable, to whoever asks."""

    @wraps(method)
    def asked(*arguments: Question.args, **named: Question.kwargs) -> Answer:
        try:
            return method(*arguments, **named)
        except sqlite3.DatabaseError as error:
            raise StoreUnreadable(f"store.db cannot be read: {trouble(error)}: see /ready") from error

    return asked


class SqliteReader:
    """Implements store.base.Reader."""

    def __init__(self, path: Path, journeys: Mapping[str, Journey]) -> None:
        self._path = path
        self._journeys = journeys
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, writer=False)
            self._opened.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    @_told
    def _begin(self) -> bool:
        """Whether it is ours to end."""
        if self._db.in_transaction:
            return False
        self._db.execute("BEGIN")
        return True

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        ours = self._begin()
        try:
            yield
        finally:
            if ours:
                self._db.execute("ROLLBACK")

    def _definition(self, journey: str, version: str | None) -> tuple[int, str, int | None] | None:
        """(id, version, how far counting anew or carrying over is: None when done) of a stored version."""
        for row in self._db.execute(_DEFINITION, (journey,)).fetchall():
            if row[2] == version or (version is None and row[6]):
                return row[0], row[2], row[7] if row[7] is not None else row[8]
        return None

    @_told
    def versions(self, journey: str) -> list[Version]:
        return [
            Version(row[1], row[2], json.loads(row[3]), row[4], row[5], bool(row[6]))
            for row in self._db.execute(_DEFINITION, (journey,))
        ]

    @_told
    def find(self, journey: str, subjects: Sequence[str], version: str | None = None) -> list[JourneyRow]:
        definition = self._definition(journey, version)
        if definition is None:
            return []
        found = self._rows(definition, journey, subjects)
        if definition[2] is not None:
            found = self._with_others(definition, journey, subjects, found)
        # Without a milestone a row is only a place where segments wait.
        return [row for row in found if any(time != UNSET for time in row.state.reached)]

    def _rows(
        self, definition: tuple[int, str, int | None], journey: str, subjects: Sequence[str]
    ) -> list[JourneyRow]:
        names = [segment.attribute for segment in self._journeys[journey].segments]
        found = []
        for id_, subject, key, reached, segments, told, recorded, weight in self._db.execute(
            "SELECT id, subject, key, reached, segments, told, recorded, weight FROM journey"
            " WHERE definition = ? AND subject_hash IN (SELECT value FROM json_each(?))",
            (definition[0], json.dumps([subject_hash(subject) for subject in subjects])),
        ):
            if subject in subjects:
                state = State(unpack_times(reached), unpack_segments(names, segments))
                parts = tuple(json.loads(key)) if key else ()
                found.append(
                    JourneyRow(id_, journey, definition[1], subject, parts, state, told, recorded, weight)
                )
        return found

    def _with_others(
        self,
        definition: tuple[int, str, int | None],
        journey: str,
        subjects: Sequence[str],
        found: list[JourneyRow],
    ) -> list[JourneyRow]:
        """While other versions are still being joined in: these subjects' rows with that already done."""
        joined = {(row.subject, row.key): row for row in found}
        rows = self._db.execute(_DEFINITION, (journey,)).fetchall()
        own = next(json.loads(row[3]) for row in rows if row[0] == definition[0])
        for row in rows:
            indices = carried(json.loads(row[3]), own) if row[0] != definition[0] else None
            if indices is None:
                continue
            for other in self._rows((row[0], definition[1], None), journey, subjects):
                reached = tuple(UNSET if i is None else other.state.reached[i] for i in indices)
                state = State(reached, other.state.segments)
                known = joined.get((other.subject, other.key))
                joined[other.subject, other.key] = (
                    replace(known, state=known.state.join(state)) if known else replace(other, state=state)
                )
        return list(joined.values())

    def _ready(self, journey: str, version: str | None) -> int:
        """Id of a version whose figures can be read; -1 if there is none. Raises NotReady."""
        definition = self._definition(journey, version)
        if definition is None:
            return -1
        if definition[2] is not None:
            (last,) = self._db.execute("SELECT max(id) FROM journey").fetchone()
            raise NotReady(min(1.0, definition[2] / max(1, last or 0)))
        return definition[0]

    def _where(self, definition: int, cohort: Cohort) -> tuple[str, list[object]]:
        """SQL that keeps a cohort's rows, for tables with `day` and `combo`."""
        parts: list[str] = []
        values: list[object] = []
        if cohort.first_day is not None:
            parts.append("day >= ?")
            values.append(cohort.first_day)
        if cohort.last_day is not None:
            parts.append("day < ?")
            values.append(cohort.last_day)
        if cohort.segments:
            combos = [
                id_
                for id_, text in self._db.execute(
                    "SELECT id, segments FROM combo WHERE definition = ?", (definition,)
                )
                if _fits(json.loads(text), cohort.segments)
            ]
            parts.append("combo IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(combos))
        return "".join(f" AND {part}" for part in parts), values

    @_told
    def shares(self, journey: str, cohort: Cohort, version: str | None = None) -> list[bytes]:
        definition = self._ready(journey, version)
        where, values = self._where(definition, cohort)
        rows = self._db.execute(
            f"SELECT cells FROM rollup WHERE definition = ?{where}", [definition, *values]
        )
        return [cells for (cells,) in rows]

    @_told
    def unswept(
        self,
        journey: str,
        cohort: Cohort,
        *,
        started_until: int,
        recorded_until: int,
        version: str | None = None,
    ) -> int:
        definition = self._ready(journey, version)
        where, values = self._where(definition, cohort)
        # Whatever has expired is due by then: at a deadline, or `settle` after it was recorded.
        due = max(started_until + self._journeys[journey].give_up_after, recorded_until) + MINUTE
        due += self._journeys[journey].settle
        (count,) = self._db.execute(
            "SELECT count(*) FROM journey INDEXED BY journey_due"
            f" WHERE definition = ? AND due <= ? AND state = 1 AND started <= ?{where}",
            [definition, due, started_until, *values],
        ).fetchone()
        return int(count)

    @_told
    def young(
        self, journey: str, cohort: Cohort, *, touched_after: int, version: str | None = None
    ) -> list[bytes]:
        definition = self._ready(journey, version)
        where, values = self._where(definition, cohort)
        rows = self._db.execute(
            # The inner list comes in order of id: the rows are read page by page, not here and there.
            "SELECT reached FROM journey WHERE id IN (SELECT id FROM journey INDEXED BY journey_touched"
            f" WHERE definition = ? AND touched > ? AND state > 0){where}",
            [definition, touched_after, *values],
        )
        return [reached for (reached,) in rows]

    @_told
    def stuck(
        self,
        journey: str,
        milestone: int,
        *,
        opened_until: int,
        started_after: int,
        after: tuple[int, int] | None,
        limit: int,
    ) -> list[StuckRow]:
        definition = self._ready(journey, None)
        opened, id_ = after or (-(2**63), 0)
        rows = self._db.execute(
            "SELECT id, subject, key, waiting, started, opened FROM journey INDEXED BY journey_waiting"
            " WHERE definition = ? AND state = 1 AND waiting = ? AND opened <= ? AND opened >= ?"
            " AND (opened, id) > (?, ?) AND started > ? ORDER BY opened, id LIMIT ?",
            (definition, milestone, opened_until, opened, opened, id_, started_after, limit),
        )
        return [
            StuckRow(row[0], row[1], tuple(json.loads(row[2])) if row[2] else (), row[3], row[4], row[5])
            for row in rows
        ]

    @_told
    def names(self, limit: int = 1000) -> list[SeenName]:
        rows = self._db.execute(
            "SELECT kind, name, count, last_seen, matched FROM seen ORDER BY count DESC, name LIMIT ?",
            (limit,),
        )
        return [
            SeenName(kind, name, count, last, tuple(json.loads(matched)))
            for kind, name, count, last, matched in rows
        ]

    @_told
    def counters(self) -> list[CounterRow]:
        rows = self._db.execute("SELECT metric, labels, sum(value) FROM counter GROUP BY metric, labels")
        return [CounterRow(metric, json.loads(labels), value) for metric, labels, value in rows]

    @_told
    def histograms(self) -> list[HistogramRow]:
        summed: dict[tuple[str, str], tuple[list[int], int]] = {}
        for metric, labels, text, total in self._db.execute(
            "SELECT metric, labels, counts, total FROM histogram"
        ):
            counts = json.loads(text)
            known = summed.get((metric, labels))
            if known is not None:
                counts, total = [a + b for a, b in zip(known[0], counts, strict=True)], total + known[1]
            summed[metric, labels] = counts, total
        return [
            HistogramRow(
                metric,
                json.loads(labels),
                SCORE_BOUNDS if metric == "ttf_efficiency_score" else MINUTE_BOUNDS,
                counts,
                total / (1_000_000 if metric == "ttf_efficiency_score" else MINUTE),
            )
            for (metric, labels), (counts, total) in summed.items()
        ]

    @_told
    def gauges(self, now: int) -> list[CounterRow]:
        rows: list[CounterRow] = []
        kept = {
            (journey, segment, value)
            for journey, segment, value in self._db.execute(
                "SELECT journey, segment, value FROM label WHERE place < ?", (LABEL_VALUES,)
            )
        }
        for name, journey in self._journeys.items():
            try:
                definition = self._ready(name, None)
            except NotReady:
                continue
            by_combo: dict[int, list[bytes]] = {}
            for combo, cells in self._db.execute(
                "SELECT combo, cells FROM rollup WHERE definition = ?", (definition,)
            ):
                by_combo.setdefault(combo, []).append(cells)
            values: dict[tuple[str, str], int] = {}
            for combo, text in self._db.execute(
                "SELECT id, segments FROM combo WHERE definition = ?", (definition,)
            ).fetchall():
                labels = {"journey": name}
                for segment, value in json.loads(text).items():
                    shown = UNKNOWN if value is None else value
                    if value is not None and value != OTHER and (name, segment, value) not in kept:
                        shown = OTHER
                    labels[label_name(segment)] = shown
                counts = scalars(by_combo.get(combo, []))
                measured = {
                    ("ttf_in_flight", ""): counts.started - counts.completed - counts.expired,
                    ("ttf_entered_late", ""): counts.entered_late,
                } | {
                    ("ttf_overdue", level): count
                    for level, count in overdue_cells(by_combo.get(combo, [])).items()
                    if level in journey.overdue
                }
                for (metric, level), value in measured.items():
                    shown_labels = labels | {"level": level} if level else labels
                    key = (metric, json.dumps(shown_labels, sort_keys=True))
                    values[key] = values.get(key, 0) + value
            rows += [
                CounterRow(metric, json.loads(labels), value) for (metric, labels), value in values.items()
            ]
        return rows


def _fits(combo: Mapping[str, str | None], wanted: Mapping[str, str]) -> bool:
    return all((combo.get(name) or UNKNOWN) == value for name, value in wanted.items())
