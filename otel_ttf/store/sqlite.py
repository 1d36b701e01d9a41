"""The embedded store's writing side: keys, and the tracker's one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Protocol

from otel_ttf.journey.definition import Journey, canonical
from otel_ttf.journey.sampling import Sampling
from otel_ttf.journey.transitions import Transition
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import (
    DiskUse,
    check_writable,
    disk_use,
    empty_wal,
    moved,
    nodes,
    remedy,
    trouble,
    vacuum,
)
from otel_ttf.store.base import StoreDamaged, StoreRefused
from otel_ttf.store.events import Events
from otel_ttf.store.losses import losses
from otel_ttf.store.quarantine import Quarantine
from otel_ttf.store.rebuilds import NEW_ID, Rebuilds
from otel_ttf.store.sqlite_file import CHECKPOINT_PAGES, connect, insert_rows
from otel_ttf.store.sqlite_rows import (
    SAMPLED,
    Definition,
    Kept,
    definition_from,
    kept_from,
    pack_key,
    reading,
    subject_hash,
    to_json,
    unpack_counts,
    unpack_sampling,
)
from otel_ttf.store.tasks import Tasks
from otel_ttf.swap import write_again

# How many ids are passed for each row that is wanted of a walk: versions lie mixed in one table.
WALK_SPAN = 50

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
        self._set_rooms()
        self._position: int = last or 0
        self._wal_limit: int | None = None

    def _set_rooms(self) -> None:
        self.quarantine = Quarantine(self.db)
        self.tasks = Tasks(self.db)
        self.events = Events(self.db)
        self.rebuilds = Rebuilds(self.db)

    def close(self) -> None:
        self.db.close()

    def moved(self) -> bool:
        """Whether the file, or its write-ahead log, is not the one any more that is open."""
        return moved(self.path, self._nodes)

    def write_again(self, now: int) -> Path | None:
        """Puts all that this connection sees under the file's name, and goes on there; no transaction is open.

        Returns where a file is now that stood there instead. Raises sqlite3.Error, OSError: all is as it was.
        """
        found = write_again(self.db, self.path, now)
        made = connect(self.path, writer=True)
        try:
            check_writable(made)  # makes the write-ahead log, too
            self._nodes = nodes(self.path)
        except BaseException:
            made.close()
            raise
        before, self.db = self.db, made
        self._set_rooms()
        if self._wal_limit is not None:
            self.limit_wal(self._wal_limit)
        before.close()
        return found

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
        self.events.rolled_back()
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

    # Sampling.

    def sampling(self) -> Sampling | None:
        """Which share of the users was followed when; None: it was never noted. Raises RowDamaged."""
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (SAMPLED,)).fetchone()
        if row is None:
            return None
        with reading("meta", SAMPLED):
            return unpack_sampling(row[0])

    def save_sampling(self, sampling: Sampling) -> None:
        self.db.execute("REPLACE INTO meta VALUES (?, ?)", (SAMPLED, to_json(sampling.steps)))

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
            f" current, epoch) VALUES (({NEW_ID}), ?, ?, ?, ?, ?, ?, 0, 0)",
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

    # Journeys.

    def count_journeys(self, definitions: Sequence[int]) -> int:
        """How many rows these definitions have. Looks at all."""
        (count,) = self.db.execute(
            "SELECT count(*) FROM journey WHERE definition IN (SELECT value FROM json_each(?))",
            (json.dumps(list(definitions)),),
        ).fetchone()
        return int(count)

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
        insert_rows(self.db, f"INSERT INTO journey ({columns}, {also}) VALUES", width, rows, fixed)

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
        insert_rows(
            self.db,
            "INSERT INTO transition (position, id, journey, version, subject, kind, milestone, at, recorded,"
            " segments, key, backfilled, after_expiry, closed, changed) VALUES",
            10,
            [(position, *row) for position, row in enumerate(rows, self._position + 1)],
            ", '', 0, 0, '[]', '[]'",
        )
        self._position += len(rows)

    def told_times(self, journey: str, subject: str, key: str) -> Iterator[tuple[str, str, int | None]]:
        """(version, milestone, time) that was ever told of a journey's milestones. Looks at all transitions."""
        return self.db.execute(
            "SELECT version, milestone, CASE kind WHEN 'corrected' THEN new ELSE at END FROM transition"
            " WHERE subject = ?1 AND journey = ?2 AND key = ?3 AND kind IN ('started', 'reached', 'corrected')"
            " UNION ALL SELECT version, milestone, old FROM transition"
            " WHERE subject = ?1 AND journey = ?2 AND key = ?3 AND kind = 'corrected'",
            (subject, journey, key),
        )

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

    # Room.

    def disk_use(self) -> DiskUse:
        """What the file takes now."""
        return disk_use(self.db, self.path)

    def limit_wal(self, size: int) -> None:
        """The write-ahead log is copied into the file, and cut, when it has so many bytes."""
        self._wal_limit = size
        (page,) = self.db.execute("PRAGMA page_size").fetchone()
        self.db.execute(f"PRAGMA wal_autocheckpoint={max(1, min(CHECKPOINT_PAGES, size // page))}")
        self.db.execute(f"PRAGMA journal_size_limit={size}")

    def shrink(self, pages: int) -> None:
        """Gives some free pages back to the file system, in a transaction of its own."""
        vacuum(self.db, pages)

    def empty_wal(self) -> None:
        """Copies the write-ahead log into the file, which takes its new length by that."""
        empty_wal(self.db)
