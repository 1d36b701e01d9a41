"""The embedded store's reading side: one read-only connection a thread, each answer from one snapshot."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.journey.definition import Journey, carried
from otel_ttf.journey.labels import LABEL_VALUES, OTHER, label_name
from otel_ttf.journey.rollup import overdue_cells, scalars
from otel_ttf.journey.state import UNSET, State
from otel_ttf.journey.times import unpack_times
from otel_ttf.otlp.events import Event
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import RowDamaged, trouble
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
from otel_ttf.store.sqlite_rows import (
    READERS,
    reading,
    subject_hash,
    unpack_canonical,
    unpack_counts,
    unpack_key,
    unpack_labels,
    unpack_names,
    unpack_segments,
    unpack_texts,
)
from otel_ttf.store.stored import stored
from otel_ttf.units import MINUTE

_DEFINITION = (
    "SELECT id, journey, version, canonical, first_started, complete_since, current, recounting, carrying"
    " FROM definition WHERE journey = ? ORDER BY current DESC, id DESC"
)
EVENTS_AT = 1000


Question = ParamSpec("Question")
Answer = TypeVar("Answer")


def _told(
    method: Callable[Concatenate[SqliteReader, Question], Answer],
) -> Callable[Concatenate[SqliteReader, Question], Answer]:
    """What the file cannot tell is StoreUnreadable, to whoever asks."""

    @wraps(method)
    def asked(self: SqliteReader, /, *arguments: Question.args, **named: Question.kwargs) -> Answer:
        try:
            return method(self, *arguments, **named)
        except sqlite3.DatabaseError as error:
            raise self.unreadable(error) from error

    return asked


class SqliteReader:
    """Implements store.base.Reader.

    given  the server's options, for what an operator is told
    """

    def __init__(self, path: Path, journeys: Mapping[str, Journey], given: Given = NOTHING_GIVEN) -> None:
        self._found: list[str] = []
        self._given = given
        self._path = path
        self._journeys = journeys
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._files: list[None] = []  # as many as there were files that took the place of another

    def of(self, journeys: Mapping[str, Journey]) -> SqliteReader:
        """The same file read with other journeys; closed with this one."""
        other = SqliteReader(self._path, journeys, self._given)
        other._local, other._opened, other._found = self._local, self._opened, self._found
        other._files = self._files
        return other

    def renew(self) -> None:
        """The store has another file: each thread opens it with its next question. For any thread."""
        self._files.append(None)

    @property
    def damaged(self) -> str | None:
        """What was found in the file that nobody wrote there, the last time; None: nothing yet."""
        return self._found[-1] if self._found else None

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        files = len(self._files)
        if connection is not None and (self._local.files == files or connection.in_transaction):
            return connection
        made = connect(self._path, writer=False)
        self._opened.append(made)
        self._local.connection, self._local.files = made, files
        if connection is not None:
            self._opened.remove(connection)
            connection.close()
        return made

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def unreadable(self, error: sqlite3.DatabaseError) -> StoreUnreadable:
        """What is told of it."""
        if not (isinstance(error, RowDamaged) or is_damage(error)):
            return StoreUnreadable(f"store.db cannot be read: {trouble(error)}: see /ready")
        # The tracker may not come to it for long.
        told = (
            f"{self._path} is damaged ({trouble(error)}): `{self._given.command('check-data')}` finds all of it. Stop "
            f"the server; then `{self._given.command('restore FILE')}` takes a copy, "
            f"`{self._given.command('salvage')}` keeps what is readable"
        )
        self._found[:] = [told]
        return StoreUnreadable(told)

    @contextmanager
    def unpacking(self, table: str) -> Iterator[None]:
        try:
            yield
        except ValueError:
            raise self.unreadable(RowDamaged(table)) from None

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
        """(id, version, how far counting anew or carrying over is: None when done) of a stored version.

        version  None: the one that is configured here, though another may be followed by now
        """
        rows = self._db.execute(_DEFINITION, (journey,)).fetchall()
        wanted = version or self._journeys[journey].version
        for row in rows:
            if row[2] == wanted or (version is None and row[6] and all(one[2] != wanted for one in rows)):
                return row[0], row[2], row[7] if row[7] is not None else row[8]
        return None

    @_told
    def versions(self, journey: str) -> list[Version]:
        found = []
        for row in self._db.execute(_DEFINITION, (journey,)):
            with reading("definition", row[0]):
                canonical = unpack_canonical(row[3])
            found.append(Version(row[1], row[2], canonical, row[4], row[5], bool(row[6])))
        return found

    @_told
    def find(self, journey: str, subjects: Sequence[str], version: str | None = None) -> list[JourneyRow]:
        definition = self._definition(journey, version)
        if definition is None:
            return []
        found = self._rows(definition, journey, subjects)
        if definition[2] is not None:
            found = self._with_others(definition, journey, subjects, found)
        # Without a milestone a row is only a place where segments wait, without the whole key no journey.
        return [
            row for row in found if "" not in row.key and any(time != UNSET for time in row.state.reached)
        ]

    @_told
    def events_at(self, subjects: Sequence[str], times: Collection[int]) -> list[Event]:
        found: list[Event] = []
        for subject in subjects:
            rows = self._db.execute(
                "SELECT event_id, kind, name, span_kind, status, at, arrival, flags, attributes, resource.bytes"
                " FROM event JOIN resource ON resource.id = event.resource WHERE subject_hash = ? AND subject = ?"
                " AND at IN (SELECT value FROM json_each(?))"
                " AND NOT EXISTS (SELECT 1 FROM excluded WHERE excluded.event_id = event.event_id) LIMIT ?",
                (subject_hash(subject), subject, json.dumps(list(times)), EVENTS_AT),
            )
            found += stored(subject, rows)
        return found

    def _rows(
        self, definition: tuple[int, str, int | None], journey: str, subjects: Sequence[str]
    ) -> list[JourneyRow]:
        names = [segment.attribute for segment in self._journeys[journey].segments]
        found = []
        for id_, subject, key, reached, segments, told, recorded in self._db.execute(
            "SELECT id, subject, key, reached, segments, told, recorded FROM journey"
            " WHERE definition = ? AND subject_hash IN (SELECT value FROM json_each(?))",
            (definition[0], json.dumps([subject_hash(subject) for subject in subjects])),
        ):
            if subject in subjects:
                with reading("journey", id_):
                    state = State(unpack_times(reached), unpack_segments(names, segments))
                    parts = unpack_key(key)
                found.append(JourneyRow(id_, journey, definition[1], subject, parts, state, told, recorded))
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
        canonical = {}
        for row in rows:
            with reading("definition", row[0]):
                canonical[row[0]] = unpack_canonical(row[3])
        for row in rows:
            own = canonical[definition[0]]
            indices = carried(canonical[row[0]], own) if row[0] != definition[0] else None
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
            combos = [id_ for id_, segments in self._combos(definition) if _fits(segments, cohort.segments)]
            parts.append("combo IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(combos))
        return "".join(f" AND {part}" for part in parts), values

    def _combos(self, definition: int) -> list[tuple[int, dict[str, str | None]]]:
        """Ids of combinations of segments, and their values."""
        found = []
        for id_, text in self._db.execute(
            "SELECT id, segments FROM combo WHERE definition = ?", (definition,)
        ):
            with reading("combo", id_):
                found.append((id_, unpack_texts(text)))
        return found

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
        from_, after_id = after or (-(2**63), 0)
        rows = self._db.execute(
            "SELECT id, subject, key, waiting, started, opened, recorded FROM journey INDEXED BY journey_waiting"
            " WHERE definition = ? AND state = 1 AND waiting = ? AND opened <= ? AND opened >= ?"
            " AND (opened, id) > (?, ?) AND started > ? ORDER BY opened, id LIMIT ?",
            (definition, milestone, opened_until, from_, from_, after_id, started_after, limit),
        )
        found = []
        for id_, subject, key, waiting, started, opened, recorded in rows:
            with reading("journey", id_):
                found.append(StuckRow(id_, subject, unpack_key(key), waiting, started, opened, recorded))
        return found

    @_told
    def names(self, limit: int = 1000) -> list[SeenName]:
        rows = self._db.execute(
            "SELECT kind, name, count, last_seen, matched FROM seen ORDER BY count DESC, name LIMIT ?",
            (limit,),
        )
        found = []
        for kind, name, count, last, matched in rows:
            with reading("seen", kind):
                found.append(SeenName(kind, name, count, last, tuple(sorted(unpack_names(matched)))))
        return found

    @_told
    def counters(self) -> list[CounterRow]:
        rows = self._db.execute("SELECT metric, labels, sum(value) FROM counter GROUP BY metric, labels")
        return [CounterRow(metric, _labels("counter", metric, text), value) for metric, text, value in rows]

    @_told
    def histograms(self) -> list[HistogramRow]:
        summed: dict[tuple[str, str], tuple[list[int], int]] = {}
        for metric, labels, text, total in self._db.execute(
            "SELECT metric, labels, counts, total FROM histogram"
        ):
            with reading("histogram", metric):
                counts = unpack_counts(text, len(_bounds(metric)) + 1)
            known = summed.get((metric, labels))
            if known is not None:
                counts, total = [a + b for a, b in zip(known[0], counts, strict=True)], total + known[1]
            summed[metric, labels] = counts, total
        return [
            HistogramRow(
                metric,
                _labels("histogram", metric, labels),
                _bounds(metric),
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
            for combo, segments in self._combos(definition):
                labels = {"journey": name}
                for segment, text in segments.items():
                    shown = UNKNOWN if text is None else text
                    if text is not None and text != OTHER and (name, segment, text) not in kept:
                        shown = OTHER
                    labels[label_name(segment)] = shown
                with reading("rollup", f"of combination {combo}"):
                    counts = scalars(by_combo.get(combo, []))
                    overdue = overdue_cells(by_combo.get(combo, []))
                measured = {
                    ("ttf_in_flight", ""): counts.started - counts.completed - counts.expired,
                    ("ttf_entered_late", ""): counts.entered_late,
                } | {
                    ("ttf_overdue", level): count
                    for level, count in overdue.items()
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


def _bounds(metric: str) -> Sequence[float]:
    return SCORE_BOUNDS if metric == "ttf_efficiency_score" else MINUTE_BOUNDS


def _labels(table: str, metric: str, text: str) -> dict[str, str]:
    with reading(table, metric):
        READERS[table]["metric"](metric)
        return unpack_labels(text)
