"""The embedded store's writing side: keys, and the tracker's one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from otel_ttf.journey.definition import Journey, canonical
from otel_ttf.journey.transitions import Transition
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import DiskUse, disk_use, empty_wal, moved, nodes, remedy, trouble, vacuum
from otel_ttf.store.base import StoreDamaged, StoreRefused
from otel_ttf.store.losses import losses
from otel_ttf.store.quarantine import Quarantine
from otel_ttf.store.sqlite_file import CHECKPOINT_PAGES, connect
from otel_ttf.store.sqlite_rows import (
    Definition,
    Kept,
    Rebuild,
    definition_from,
    kept_from,
    pack_key,
    reading,
    subject_hash,
    to_json,
    unpack_counts,
    unpack_names,
)
from otel_ttf.store.tasks import Tasks
from otel_ttf.swap import write_again
from otel_ttf.units import DAY

# How many ids are passed for each row that is wanted of a walk: versions lie mixed in one table.
WALK_SPAN = 50
SEEN_CHARACTERS = 256
OTHER_NAMES = "(other)"
# More gain nothing, and older SQLite takes 999 values a statement.
ROWS_TOGETHER = 50
EVENT_BLOCK = 4096  # events; resources are marked by them
EVENT_BYTES = 150  # that an event takes beside its attributes, in its row and in indexes

# Of a definition, or of rows beside one: never one that was in use and may have rows left.
_NEW_ID = (
    "SELECT 1 + max(coalesce((SELECT max(id) FROM definition), 0),"
    " coalesce((SELECT max(max(definition, beside)) FROM rebuild), 0))"
)
_LINE = "kind, name, span_kind, status, at, arrival, flags, attributes, resource"
_EVENT = f"event_id, subject_hash, subject, {_LINE}"
_STORED = (
    "SELECT event_id, kind, name, span_kind, status, at, arrival, flags, attributes, resource.bytes"
    " FROM event JOIN resource ON resource.id = event.resource WHERE"
)


SCHEMA = resources.files("otel_ttf.store") / "schema"


def tables() -> list[str]:
    """Names of the store's tables."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, Path(":memory:"), SCHEMA)
        return [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


class FirstColumns(Protocol):
    """What is the same in all rows that one milestone alone makes; see SqliteStore.insert_firsts."""

    @property
    def told(self) -> int: ...

    @property
    def stage(self) -> int: ...

    @property
    def waiting(self) -> int | None: ...


def why_refused(path: Path, error: sqlite3.Error) -> StoreRefused:
    """Why a file cannot be opened as a store, and what to do."""
    # SQLITE_ERROR: our statements fit our schema, so it is not ours any more.
    if is_damage(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":
        return StoreDamaged(f"{path}: cannot be opened as a store, it is damaged: {trouble(error)}")
    return StoreRefused(
        f"{path}: cannot be opened as a store: {trouble(error)}: {remedy(error, 'put it back from a copy', path)}"
    )


def wrong_keys(db: sqlite3.Connection, event: str, subjects: Sequence[str]) -> str | None:
    """Why nothing may be written with these keys. Fingerprints; newest first."""
    seen: dict[str, list[str]] = {"event": [], "subject": []}
    rows = db.execute("SELECT purpose, fingerprint FROM key_seen ORDER BY first_seen DESC")
    for purpose, fingerprint in rows:
        seen[purpose].append(fingerprint)
    for purpose, have in (("event", [event]), ("subject", list(subjects))):
        if seen[purpose] and seen[purpose][0] not in have:
            return (
                f"was written with the {purpose} key of fingerprint {seen[purpose][0]}, which is not among the "
                "configured keys: put that key back (privacy.key_file), or start with another data directory"
            )
    if seen["subject"] and seen["subject"][0] != subjects[0]:
        # Users on their way would be two from now on: their old pseudonym and their new one.
        return (
            f"the newest subject key that it knows, of fingerprint {seen['subject'][0]}, is not the newest one "
            f"configured, of fingerprint {subjects[0]}: subject keys cannot be rotated until identities can be joined, "
            "so put that key first again; others may stand behind it"
        )
    return None


class SqliteStore:
    """The writing side, for one thread. Every write happens between `begin` and `commit`."""

    def __init__(self, path: Path, *, writer: str = "local") -> None:
        """Opens or makes the file. Raises StoreRefused, StoreDamaged.

        losses  what it has lost before
        """
        self.path = path
        self.writer = writer
        try:
            self.db = connect(path, writer=True)
        except sqlite3.DatabaseError as error:
            raise why_refused(path, error) from error
        try:
            migrate(self.db, path, SCHEMA)
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('id', lower(hex(randomblob(16))))")
            (self.store_id,) = self.db.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
            (last,) = self.db.execute("SELECT max(position) FROM transition").fetchone()
            for name in tables():
                self.db.execute(
                    f"SELECT * FROM {name} LIMIT 1"
                ).fetchone()  # it is there, its first pages whole
            self.definitions()
            self.losses = losses(self.db)
            self._nodes = nodes(path)
        except SchemaRefused as refused:
            self.db.close()
            raise StoreRefused(str(refused)) from None
        except sqlite3.DatabaseError as error:
            self.db.close()
            raise why_refused(path, error) from error
        self.quarantine = Quarantine(self.db)
        self.tasks = Tasks(self.db)
        self._position: int = last or 0
        self._resources: dict[bytes, int] = {}

    def close(self) -> None:
        self.db.close()

    def moved(self) -> bool:
        """Whether the file, or its write-ahead log, is not the one any more that is open."""
        return moved(self.path, self._nodes)

    def write_again(self, now: int) -> None:
        """Puts all that this connection sees under the file's name. Raises sqlite3.Error, OSError."""
        write_again(self.db, self.path, now)

    # The transaction.

    def begin(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.db.execute("COMMIT")

    def rollback(self) -> None:
        """Forgets the transaction and whatever was remembered from it."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self._forget()

    def mark(self) -> None:
        """Until `unmark`, the transaction can be undone to here. Marks may stand in one another."""
        self.db.execute("SAVEPOINT mark")

    def unmark(self) -> None:
        self.db.execute("RELEASE mark")

    def back(self) -> None:
        """Undoes what has happened since `mark`."""
        self.db.execute("ROLLBACK TO mark")
        self.unmark()
        self._forget()

    def _forget(self) -> None:
        self._resources.clear()
        (last,) = self.db.execute("SELECT max(position) FROM transition").fetchone()
        self._position = last or 0

    # Keys.

    def check_keys(self, event: str, subjects: Sequence[str], now: int) -> None:
        """Refuses to write with keys that would split subjects or events in two. Fingerprints; newest first."""
        if wrong := wrong_keys(self.db, event, subjects):
            raise StoreRefused(f"{self.path}: {wrong}")
        self.db.executemany(
            "INSERT OR IGNORE INTO key_seen VALUES (?, ?, ?)",
            [("event", event, now), ("subject", subjects[0], now)],
        )

    # Cursors.

    def cursor(self, consumer: str, log_id: str) -> int:
        """The saved position in that log; 0 where the saved one belongs to another."""
        row = self.db.execute(
            "SELECT position FROM cursor WHERE consumer = ? AND log_id = ?", (consumer, log_id)
        ).fetchone()
        return row[0] if row else 0

    def save_cursor(self, consumer: str, log_id: str, position: int) -> None:
        self.db.execute("REPLACE INTO cursor VALUES (?, ?, ?)", (consumer, log_id, position))

    # Definitions.

    def definitions(self, journey: str | None = None) -> list[Definition]:
        """Stored versions, the oldest first."""
        rows = self.db.execute(
            "SELECT id, journey, version, canonical, derived, first_started, complete_since, current, epoch,"
            " recounting, carrying FROM definition WHERE ? IS NULL OR journey = ? ORDER BY id",
            (journey, journey),
        )
        return [definition_from(row) for row in rows]

    def add_definition(self, journey: Journey, now: int, complete_since: int | None) -> None:
        self.db.execute(
            "INSERT INTO definition (id, journey, version, canonical, derived, first_started, complete_since,"
            f" current, epoch) VALUES (({_NEW_ID}), ?, ?, ?, ?, ?, ?, 0, 0)",
            (
                journey.name,
                journey.version,
                json.dumps(canonical(journey), ensure_ascii=False, sort_keys=True),
                journey.derived,
                now,
                complete_since,
            ),
        )

    def save_definition(self, definition: Definition) -> None:
        self.db.execute(
            "UPDATE definition SET derived=?, current=?, epoch=?, recounting=?, carrying=?, complete_since=?"
            " WHERE id=?",
            (
                definition.derived,
                int(definition.current),
                definition.epoch,
                definition.recounting,
                definition.carrying,
                definition.complete_since,
                definition.id,
            ),
        )

    # Rebuilds.

    def rebuilds(self) -> list[Rebuild]:
        """All that are under way."""
        rows = self.db.execute("SELECT definition, beside, phase, place, since FROM rebuild ORDER BY since")
        return [Rebuild(*row) for row in rows]

    def begin_rebuild(self, definition: int, now: int) -> None:
        """Rows of a definition are to be made a second time, under another id."""
        self.db.execute(f"INSERT INTO rebuild VALUES (?, ({_NEW_ID}), 'walking', -1, ?)", (definition, now))

    def save_rebuild(self, rebuild: Rebuild) -> None:
        """How far it has come."""
        self.db.execute(
            "UPDATE rebuild SET phase = ?, place = ? WHERE definition = ?",
            (rebuild.phase, rebuild.place, rebuild.definition),
        )

    def take_over(self, rebuild: Rebuild) -> None:
        """The definition's rows are those that were made beside, from now on."""
        old, new = rebuild.definition, rebuild.beside
        self.db.execute("UPDATE definition SET id = ? WHERE id = ?", (new, old))
        self.db.execute(
            "UPDATE rebuild SET definition = ?, beside = ?, phase = 'telling', place = 0 WHERE definition = ?",
            (new, old, old),
        )

    def drop_rebuild(self, rebuild: Rebuild) -> None:
        """What stands beside is wanted no more."""
        self.db.execute(
            "UPDATE rebuild SET definition = beside, phase = 'dropping', place = 0 WHERE definition = ?",
            (rebuild.definition,),
        )

    def drop_some(self, rebuild: Rebuild, ids: int) -> bool:
        """Deletes some of what is wanted no more, at the end the rebuild itself; whether that was the end."""
        gone = rebuild.beside
        (last,) = self.db.execute("SELECT coalesce(max(id), 0) FROM journey").fetchone()
        if rebuild.place < last:
            self.db.execute(
                "DELETE FROM journey WHERE id > ? AND id <= ? AND definition = ?",
                (rebuild.place, rebuild.place + ids, gone),
            )
            rebuild.place += ids
            self.save_rebuild(rebuild)
            return False
        (day,) = self.db.execute("SELECT min(day) FROM rollup WHERE definition = ?", (gone,)).fetchone()
        if day is not None:
            self.db.execute("DELETE FROM rollup WHERE definition = ? AND day = ?", (gone, day))
            return False
        self.db.execute("DELETE FROM combo WHERE definition = ?", (gone,))
        self.db.execute("DELETE FROM rebuild WHERE definition = ?", (gone,))
        return True

    def next_hashes(self, after: int, limit: int) -> list[int]:
        """Hashes beyond one, ascending, of subjects that have a journey or an event."""
        rows = self.db.execute(
            "SELECT * FROM (SELECT DISTINCT subject_hash FROM journey WHERE subject_hash > ?1"
            " ORDER BY subject_hash LIMIT ?2) UNION"
            " SELECT * FROM (SELECT DISTINCT subject_hash FROM event WHERE subject_hash > ?1"
            " ORDER BY subject_hash LIMIT ?2) ORDER BY 1 LIMIT ?2",
            (after, limit),
        )
        return [hash_ for (hash_,) in rows]

    def subjects_with(self, hash_: int) -> list[str]:
        """Subjects of that hash: one, but for chance."""
        rows = self.db.execute(
            "SELECT subject FROM journey WHERE subject_hash = ?1 UNION"
            " SELECT subject FROM event WHERE subject_hash = ?1",
            (hash_,),
        )
        return [subject for (subject,) in rows]

    def count_events(self, subject: str, most: int) -> int:
        """How many events of a subject are stored, up to a limit."""
        (count,) = self.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM event WHERE subject_hash = ? LIMIT ?)",
            (subject_hash(subject), most),
        ).fetchone()
        return int(count)

    def count_journeys(self, definitions: Sequence[int]) -> int:
        """How many rows these definitions have. Looks at all."""
        (count,) = self.db.execute(
            "SELECT count(*) FROM journey WHERE definition IN (SELECT value FROM json_each(?))",
            (json.dumps(list(definitions)),),
        ).fetchone()
        return int(count)

    # Journeys.

    def load(self, definition: int, segments: Sequence[str], subjects: Sequence[str]) -> dict[str, Kept]:
        """Rows of these subjects that exist, by subject and key: see Kept.whose."""
        hashes = json.dumps([subject_hash(subject) for subject in subjects])
        rows = self.db.execute(
            "SELECT id, subject, key, reached, segments, told, recorded, epoch, state, day, combo FROM journey"
            " WHERE definition = ? AND subject_hash IN (SELECT value FROM json_each(?))",
            (definition, hashes),
        ).fetchall()
        wanted = set(subjects)
        return {row[1] + row[2]: kept_from(row, segments) for row in rows if row[1] in wanted}

    def walk(
        self, definitions: Sequence[int], after: int, limit: int
    ) -> tuple[list[tuple[int, str]], int | None]:
        """(id, subject) of rows of these versions in order of id, beyond `after`; and after which to go on.

        None beside them: these were the last. Others' rows lie between, so there may be fewer than `limit`,
        or none, before the end.
        """
        until = after + WALK_SPAN * limit
        rows = self.db.execute(
            "SELECT id, subject FROM journey WHERE id > ? AND id <= ?"
            " AND definition IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (after, until, json.dumps(list(definitions)), limit),
        ).fetchall()
        if len(rows) == limit:
            return rows, rows[-1][0]
        (last,) = self.db.execute("SELECT max(id) FROM journey").fetchone()
        return rows, until if until < (last or 0) else None

    def due(self, definition: int, now: int, limit: int) -> dict[int, str]:
        """Ids and subjects of a version's rows that are to be looked at again, the most overdue first."""
        rows = self.db.execute(
            "SELECT id, subject FROM journey WHERE definition = ? AND due <= ? ORDER BY due LIMIT ?",
            (definition, now, limit),
        )
        return dict(rows.fetchall())

    def insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        """definition, subject_hash, subject, key, then the columns of `update` in their order, weight last."""
        self.db.executemany(
            "INSERT INTO journey (definition, subject_hash, subject, key, reached, segments, told, recorded,"
            " epoch, state, started, waiting, opened, touched, due, day, combo, weight)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def insert_firsts(
        self, definition: Definition, constant: FirstColumns, rows: Sequence[tuple[object, ...]]
    ) -> None:
        """Rows of one milestone, whose columns are mostly the same.

        subject_hash, subject, reached, segments, time of the milestone, day, combo; for those that have
        started with it also that time twice, due, recorded
        """
        columns, width = "subject_hash, subject, reached, segments, touched, day, combo", 7
        fixed = f", '', 1.0, {definition.id}, {definition.epoch}, {constant.told}, {constant.stage}"
        also = "key, weight, definition, epoch, told, state"
        if constant.waiting is not None:
            columns, width = f"{columns}, started, opened, due, recorded", 11
            also, fixed = f"{also}, waiting", f"{fixed}, {constant.waiting}"
        self._insert(f"INSERT INTO journey ({columns}, {also}) VALUES", width, rows, fixed)

    def update(self, rows: Sequence[tuple[object, ...]]) -> None:
        self.db.executemany(
            "UPDATE journey SET reached=?, segments=?, told=?, recorded=?, epoch=?, state=?, started=?,"
            " waiting=?, opened=?, touched=?, due=?, day=?, combo=? WHERE id=?",
            rows,
        )

    def delete(self, ids: Sequence[int]) -> None:
        self.db.executemany("DELETE FROM journey WHERE id = ?", [(i,) for i in ids])

    def clear_rollup(self, definition: int) -> None:
        self.db.execute("DELETE FROM rollup WHERE definition = ?", (definition,))
        self.db.execute("DELETE FROM combo WHERE definition = ?", (definition,))

    # Transitions, counts.

    def add_transitions(self, transitions: Sequence[Transition]) -> None:
        """In the order given; positions follow without a gap."""
        rows = []
        for t in transitions:
            self._position += 1
            rows.append(
                (
                    self._position,
                    t.digest,
                    t.journey,
                    t.version,
                    pack_key(t.key),
                    t.subject,
                    t.kind,
                    t.milestone,
                    t.level,
                    t.at,
                    t.recorded,
                    to_json(t.segments) if t.segments else "{}",
                    int(t.backfilled),
                    int(t.after_expiry),
                    t.old,
                    t.new,
                    to_json(t.closed) if t.closed else "[]",
                    to_json(t.changed) if t.changed else "[]",
                )
            )
        self.db.executemany(f"INSERT INTO transition VALUES ({','.join('?' * 18)})", rows)

    def add_firsts(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Transitions that say no more than: id, journey, version, subject, kind, milestone, at, recorded,
        segments. In the order given, too."""
        self._insert(
            "INSERT INTO transition (position, id, journey, version, subject, kind, milestone, at, recorded,"
            " segments, key, backfilled, after_expiry, closed, changed) VALUES",
            10,
            [(position, *row) for position, row in enumerate(rows, self._position + 1)],
            ", '', 0, 0, '[]', '[]'",
        )
        self._position += len(rows)

    def combo(self, definition: int, segments: str) -> int:
        """The id of a combination of segment values, made when new."""
        row = self.db.execute(
            "SELECT id FROM combo WHERE definition = ? AND segments = ?", (definition, segments)
        ).fetchone()
        if row:
            return int(row[0])
        new = self.db.execute(
            "INSERT INTO combo (definition, segments) VALUES (?, ?)", (definition, segments)
        )
        return int(new.lastrowid or 0)

    def cells(self, place: tuple[int, int, int]) -> bytes | None:
        """Packed counts at (definition, day, combo)."""
        row = self.db.execute(
            "SELECT cells FROM rollup WHERE definition = ? AND day = ? AND combo = ?", place
        ).fetchone()
        return row[0] if row else None

    def save_cells(self, rows: Sequence[tuple[int, int, int, bytes]]) -> None:
        self.db.executemany("REPLACE INTO rollup VALUES (?, ?, ?, ?)", rows)

    def labels(self) -> dict[tuple[str, str], dict[str, int]]:
        """(journey, segment) -> value -> place."""
        known: dict[tuple[str, str], dict[str, int]] = {}
        for journey, segment, value, place in self.db.execute("SELECT * FROM label"):
            known.setdefault((journey, segment), {})[value] = place
        return known

    def add_label(self, journey: str, segment: str, value: str, place: int) -> None:
        self.db.execute("INSERT OR IGNORE INTO label VALUES (?, ?, ?, ?)", (journey, segment, value, place))

    def add_counts(self, counts: Mapping[tuple[str, str], int]) -> None:
        """(metric, labels) -> by how much it grew."""
        self.db.executemany(
            "INSERT INTO counter VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(self.writer, metric, labels, grown) for (metric, labels), grown in counts.items()],
        )

    def add_observations(self, rows: Mapping[tuple[str, str], tuple[list[int], int]]) -> None:
        """(metric, labels) -> counts per bucket and total, both to be added."""
        for (metric, labels), (counts, total) in rows.items():
            row = self.db.execute(
                "SELECT counts, total FROM histogram WHERE writer = ? AND metric = ? AND labels = ?",
                (self.writer, metric, labels),
            ).fetchone()
            if row:
                with reading("histogram", metric):
                    known = unpack_counts(row[0], len(counts))
                counts = [a + b for a, b in zip(known, counts, strict=True)]
                total += row[1]
            self.db.execute(
                "REPLACE INTO histogram VALUES (?, ?, ?, ?, ?)",
                (self.writer, metric, labels, json.dumps(counts), total),
            )

    # Events.

    def resource(self, encoded: bytes, digest: bytes) -> int:
        """The id of a resource, made when new. Whoever adds events with it says so by `use_resources`."""
        place = self._resources.get(digest)
        if place is None:
            (place,) = self.db.execute(
                "INSERT INTO resource (digest, bytes, used_block) VALUES (?, ?, 0)"
                " ON CONFLICT (digest) DO UPDATE SET used_block = used_block RETURNING id",
                (digest, encoded),
            ).fetchone()
            if len(self._resources) > 4096:
                self._resources.clear()
            self._resources[digest] = place
        return place

    def use_resources(self, ids: Iterable[int]) -> None:
        """Resources of the events that were added in this transaction: they stay as long as these."""
        self.db.execute(
            "UPDATE resource SET used_block = block FROM (SELECT max(id) / ? AS block FROM event)"
            " WHERE id IN (SELECT value FROM json_each(?)) AND used_block < block",
            (EVENT_BLOCK, json.dumps(list(ids))),
        )

    def add_events(self, rows: Sequence[tuple[object, ...]]) -> None:
        """event_id, subject_hash, subject, kind, name, span_kind, status, at, arrival, flags, attributes,
        resource. One with a known id is left out."""
        self._add(_EVENT, rows)

    def add_lines(self, rows: Sequence[tuple[object, ...]]) -> None:
        """The same without the first three, of what has neither id nor subject."""
        self._add(_LINE, rows)

    def _add(self, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._insert(f"INSERT OR IGNORE INTO event ({columns}) VALUES", columns.count(",") + 1, rows)

    def _insert(self, insert: str, width: int, rows: Sequence[tuple[object, ...]], fixed: str = "") -> None:
        """Many rows. fixed: values that are the same in all, behind the others, each with a comma in front.

        Several rows in one statement take a third less than one each.
        """
        one = f"({','.join('?' * width)}{fixed})"
        many = insert + ",".join([one] * ROWS_TOGETHER)
        whole = len(rows) // ROWS_TOGETHER * ROWS_TOGETHER
        for at in range(0, whole, ROWS_TOGETHER):
            self.db.execute(many, list(chain.from_iterable(rows[at : at + ROWS_TOGETHER])))
        self.db.executemany(insert + one, rows[whole:])

    def events_of(self, subject: str) -> Iterator[tuple[Any, ...]]:
        """event_id, kind, name, span_kind, status, at, arrival, flags, attributes, OTLP Resource of what is stored."""
        return self.db.execute(
            f"{_STORED} subject_hash = ? AND subject = ?", (subject_hash(subject), subject)
        )

    def events_with(self, ids: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        """The same columns of the events with these ids that are stored."""
        for id_ in ids:
            yield from self.db.execute(f"{_STORED} event_id = ?", (id_,))

    def told_times(self, journey: str, subject: str, key: str) -> Iterator[tuple[str, str, int | None]]:
        """(version, milestone, time) that was ever told of a journey's milestones. Looks at all transitions."""
        return self.db.execute(
            "SELECT version, milestone, CASE kind WHEN 'corrected' THEN new ELSE at END FROM transition"
            " WHERE subject = ?1 AND journey = ?2 AND key = ?3 AND kind IN ('started', 'reached', 'corrected')"
            " UNION ALL SELECT version, milestone, old FROM transition"
            " WHERE subject = ?1 AND journey = ?2 AND key = ?3 AND kind = 'corrected'",
            (subject, journey, key),
        )

    def excluded(self) -> list[tuple[bytes, str, int]]:
        """(event id, subject, time) of events that move no journey."""
        return self.db.execute("SELECT event_id, subject, at FROM excluded").fetchall()

    def exclude(self, event: bytes, subject: str, at: int, now: int) -> None:
        """From now on the event moves no journey."""
        self.db.execute("INSERT OR IGNORE INTO excluded VALUES (?, ?, ?, ?)", (event, subject, at, now))

    def forget_events(self, before: int, now: int, limit: int = 2000) -> int:
        """Deletes some events with a time before the instant; how many.

        An event id begins with its time as sent, in milliseconds: that index finds the old ones. Ids of
        records without a usable time begin anywhere, hence the check of `at`, and the second range.
        """
        old = (max(0, before) // 1_000_000).to_bytes(6, "big")
        odd = ((now + DAY) // 1_000_000).to_bytes(6, "big")
        gone = 0
        for condition, bound in (("event_id < ?", old), ("event_id > ?", odd), ("event_id IS NULL", None)):
            gone += self.db.execute(
                f"DELETE FROM event WHERE id IN (SELECT id FROM event WHERE {condition} AND at < ? LIMIT ?)",
                ((bound, before, limit) if bound is not None else (before, limit)),
            ).rowcount
        return gone

    def drop_oldest_events(self, size: int, limit: int) -> int:
        """Deletes those events that were stored first: about so many bytes, at most `limit` events. How many."""
        last = 0
        for last, length in self.db.execute(  # noqa: B007
            "SELECT id, length(attributes) FROM event ORDER BY id LIMIT ?", (limit,)
        ):
            size -= EVENT_BYTES + length
            if size <= 0:
                break
        return self.db.execute("DELETE FROM event WHERE id <= ?", (last,)).rowcount

    def forget_resources(self, limit: int) -> int:
        """Deletes some of the resources that no event has any more; how many."""
        gone = self.db.execute(
            "DELETE FROM resource WHERE id IN (SELECT id FROM resource WHERE used_block <"
            " coalesce((SELECT min(id) / ? FROM event), 1 << 62) LIMIT ?)",
            (EVENT_BLOCK, limit),
        ).rowcount
        if gone:
            self._resources.clear()
        return gone

    def add_seen(self, rows: Mapping[tuple[str, str], tuple[int, int, set[str]]], *, most: int) -> None:
        """(kind, name) -> how often, last time, what matched. Beyond `most` names they count as `(other)`.

        Names are cut at SEEN_CHARACTERS: whoever sends may put anything there.
        """
        (have,) = self.db.execute("SELECT count(*) FROM seen").fetchone()
        for (kind, name), (count, last, matched) in rows.items():
            name = name[:SEEN_CHARACTERS]
            known = self._matched(kind, name)
            if known is None:
                if have >= most:
                    name = OTHER_NAMES
                    known = self._matched(kind, name)
                have += known is None
            self.db.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " count = count + excluded.count, last_seen = max(last_seen, excluded.last_seen),"
                " matched = excluded.matched",
                (kind, name, count, last, json.dumps(sorted((known or set()) | matched))),
            )

    def _matched(self, kind: str, name: str) -> set[str] | None:
        row = self.db.execute("SELECT matched FROM seen WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        with reading("seen", kind):
            return unpack_names(row[0]) if row else None

    # Room.

    def disk_use(self) -> DiskUse:
        """What the file takes now."""
        return disk_use(self.db, self.path)

    def limit_wal(self, size: int) -> None:
        """The write-ahead log is copied into the file, and cut, when it has so many bytes."""
        (page,) = self.db.execute("PRAGMA page_size").fetchone()
        self.db.execute(f"PRAGMA wal_autocheckpoint={max(1, min(CHECKPOINT_PAGES, size // page))}")
        self.db.execute(f"PRAGMA journal_size_limit={size}")

    def shrink(self, pages: int) -> None:
        """Gives some free pages back to the file system, in a transaction of its own."""
        vacuum(self.db, pages)

    def empty_wal(self) -> None:
        """Copies the write-ahead log into the file, which takes its new length by that."""
        empty_wal(self.db)
