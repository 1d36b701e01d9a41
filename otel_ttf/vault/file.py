"""vault.db itself: opening, one transaction per call. It holds wrapped keys only and asks no master key."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import structlog

from otel_ttf.files import sync_folder
from otel_ttf.migrate import SchemaRefused, migrate, transaction
from otel_ttf.pii.sealed import VaultUnavailable
from otel_ttf.sqlite_disk import moved, nodes, remedy, trouble
from otel_ttf.swap import write_again
from otel_ttf.vault.master import Wrapped

APPLICATION = 0x6F747476  # "ottv"
LOCK_SECONDS = 5.0
CHECKPOINT_SECONDS = 5.0
SLOT = 64  # bytes; slots are multiples of it, so that wraps of one kind of master key have one size
MODE = 0o600
CHUNK = 1 << 20

log = structlog.get_logger()


class VaultRefused(Exception):
    """The vault cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """A subject. wrapped None: its key was destroyed."""

    id: int
    subject: str
    wrapped: Wrapped | None
    sealed_id: bytes | None


class New(NamedTuple):
    """A subject that is to have a data key."""

    subject: str
    wrapped: Wrapped
    sealed_id: bytes | None


@dataclass(frozen=True, slots=True)
class Counts:
    """live, destroyed: data keys. ids: raw user ids kept. stale: keys that a rotation has yet to wrap anew.

    masters: name -> how many data keys it wraps, those that wrap none included
    """

    live: int
    destroyed: int
    ids: int
    stale: int
    masters: Mapping[str, int]


class VaultFile:
    """One connection, one thread at a time; threads wait for one another. Raises VaultUnavailable."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file, mode 0600. Raises VaultRefused."""
        self.path = path
        self._lock = threading.Lock()
        self._version = -1
        self.file_id: str
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))
            self._db = _connection(path)
        except (OSError, sqlite3.Error) as error:
            raise VaultRefused(f"{path}: {trouble(error)}: {remedy(error, 'mend it', path)}") from None
        try:
            _prepare(self._db)
            migrate(self._db, path, resources.files("otel_ttf.vault"), ours=(APPLICATION, "a vault"))
            (self.file_id,) = self._db.execute("SELECT id FROM identity").fetchone()
            self._nodes = nodes(path)
            sync_folder(path.parent)  # the name of a new file is to last, too
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            mend = remedy(error, "put it back from a copy", path)
            raise VaultRefused(
                f"{path}: {trouble(error)}: {mend}; without it sealed values cannot be opened"
            ) from None
        except SchemaRefused as refused:
            self._db.close()
            raise VaultRefused(str(refused)) from None

    @contextmanager
    def _ours(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; what SQLite says becomes VaultUnavailable."""
        with self._lock:
            try:
                self._check_named()
                yield self._db
                # What is written into a file without a name is gone with it, however whole it was a moment ago.
                self._check_named()
            except (sqlite3.Error, OSError) as error:
                raise VaultUnavailable(f"{self.path}: {trouble(error)}") from None

    def _check_named(self) -> None:
        if moved(self.path, self._nodes):
            raise VaultUnavailable(
                f"{self.path}: it, or its -wal, was deleted or replaced: a running server writes it again within a "
                "second, or our log says why it cannot; then try again"
            )

    def mend(self) -> None:
        """Writes the file again where it was deleted or replaced. Raises sqlite3.Error, OSError.

        For the server alone: of two who do it, one would put back what the other had changed.
        """
        with self._lock:
            if not moved(self.path, self._nodes):
                return
            before, ours = self._db, self._nodes
            found = write_again(before, self.path, time.time_ns(), mode=MODE)
            after = _connection(self.path)
            _prepare(after)
            after.execute("SELECT id FROM identity").fetchone()
            self._db, self._version, self._nodes = after, -1, nodes(self.path)
            # What was left of ours is all in the new one, and keys that are destroyed later must not stay elsewhere.
            for file in self.path.parent.glob(f"{self.path.name}.found-*"):
                if file.stat().st_ino in ours:
                    _overwrite(file)
            before.close()
        log.error(
            "vault.db was deleted or replaced: it was written again, nothing is lost",
            file=str(self.path),
            found_instead=str(found) if found and found.exists() else None,
        )

    # Reading.

    def rows(self, subjects: Iterable[str]) -> dict[str, Row]:
        """Those of the subjects that are known."""
        with self._ours() as db:
            found = db.execute(
                "SELECT s.id, s.subject, m.name, d.slot, s.sealed_id FROM subject s"
                " LEFT JOIN master m ON m.id = s.master LEFT JOIN data_key d ON d.id = s.id"
                " WHERE s.subject IN (SELECT value FROM json_each(?))",
                (json.dumps(list(subjects)),),
            ).fetchall()
        return {row[1]: _row(row) for row in found}

    def generation(self) -> int:
        """How many rotations of the master key have begun, and one."""
        with self._ours() as db:
            return int(db.execute("SELECT number FROM generation").fetchone()[0])

    def changed(self) -> bool:
        """Whether another connection has written since this was asked last, or it was not asked yet."""
        with self._ours() as db:
            (version,) = db.execute("PRAGMA data_version").fetchone()
            changed: bool = version != self._version
            self._version = version
            return changed

    def destroyed_since(self, last: int) -> tuple[list[str], int]:
        """Subjects whose keys were destroyed after the `last` destruction; the number of the newest one."""
        with self._ours() as db:
            found = db.execute(
                "SELECT subject, destroyed FROM subject WHERE destroyed > ? ORDER BY destroyed", (last,)
            ).fetchall()
        return [subject for subject, _ in found], found[-1][1] if found else last

    def masters_in_use(self) -> list[str]:
        """Names of the master keys that wrap data keys."""
        with self._ours() as db:
            found = db.execute(
                "SELECT name FROM master m WHERE EXISTS (SELECT 1 FROM subject WHERE master = m.id) ORDER BY id"
            )
            return [name for (name,) in found]

    def counts(self) -> Counts:
        """Reads the whole table."""
        with self._ours() as db:
            live, destroyed, ids, stale = db.execute(
                "SELECT count(master), count(destroyed_at), count(sealed_id), count(CASE WHEN master IS NOT NULL"
                " AND generation < (SELECT number FROM generation) THEN 1 END) FROM subject"
            ).fetchone()
            masters = dict(
                db.execute(
                    "SELECT m.name, count(s.id) FROM master m LEFT JOIN subject s ON s.master = m.id"
                    " GROUP BY m.id ORDER BY m.id"
                ).fetchall()
            )
        return Counts(live, destroyed, ids, stale, masters)

    # Writing. What is committed is synced.

    def insert(self, new: Sequence[New], generation: int) -> set[str] | None:
        """Adds those subjects that are not there: which. None: a rotation began since, wrap them anew."""
        with self._ours() as db, transaction(db):
            if db.execute("SELECT number FROM generation").fetchone()[0] != generation:
                return None
            names = json.dumps([each.subject for each in new])
            there = {
                subject
                for (subject,) in db.execute(
                    "SELECT subject FROM subject WHERE subject IN (SELECT value FROM json_each(?))", (names,)
                )
            }
            added = [each for each in new if each.subject not in there]
            masters = {name: self._master(name) for name in {each.wrapped.key_id for each in added}}
            last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'subject'").fetchone()
            first, now = (last[0] if last else 0) + 1, time.time_ns()
            db.executemany(
                "INSERT INTO subject (id, subject, created, master, generation, sealed_id)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (number, each.subject, now, masters[each.wrapped.key_id], generation, each.sealed_id)
                    for number, each in enumerate(added, first)
                ],
            )
            db.executemany(
                "INSERT INTO data_key VALUES (?, ?)",
                [(number, _slot(each.wrapped.data)) for number, each in enumerate(added, first)],
            )
        return {each.subject for each in added}

    def _master(self, name: str) -> int:
        self._db.execute("INSERT INTO master (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        return int(self._db.execute("SELECT id FROM master WHERE name = ?", (name,)).fetchone()[0])

    def keep_ids(self, ids: Sequence[tuple[bytes, int]]) -> None:
        """(sealed user id, id): of live subjects that have none yet."""
        with self._ours() as db, transaction(db):
            db.executemany(
                "UPDATE subject SET sealed_id = ? WHERE id = ? AND sealed_id IS NULL AND destroyed_at IS NULL",
                ids,
            )

    def destroy(self, subjects: Iterable[str]) -> dict[str, bool]:
        """Overwrites the keys with zeros; subject -> whether there was one until now. `checkpoint` is to follow.

        A subject without a key never gets one.
        """
        had: dict[str, bool] = {}
        with self._ours() as db, transaction(db):
            now = time.time_ns()
            for subject in subjects:
                db.execute(
                    "INSERT INTO subject (subject, created, generation) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
                    (subject, now),
                )
                (id_, master, destroyed_at) = db.execute(
                    "SELECT id, master, destroyed_at FROM subject WHERE subject = ?", (subject,)
                ).fetchone()
                had[subject] = master is not None
                if destroyed_at is None:
                    db.execute("UPDATE data_key SET slot = zeroblob(length(slot)) WHERE id = ?", (id_,))
                    db.execute(
                        "UPDATE subject SET master = NULL, sealed_id = NULL, destroyed_at = ?,"
                        " destroyed = (SELECT coalesce(max(destroyed), 0) + 1 FROM subject) WHERE id = ?",
                        (now, id_),
                    )
        return had

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the file and empties it, so that it holds no old bytes.

        Raises VaultUnavailable: others read or write without a pause; to be called again.
        """
        deadline = time.monotonic() + CHECKPOINT_SECONDS
        while not self._emptied():
            if time.monotonic() > deadline:
                raise VaultUnavailable(
                    f"{self.path}: another program holds it open: old bytes are left in the write-ahead log"
                )
            time.sleep(0.05)

    def _emptied(self) -> bool:
        with self._ours() as db:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    # Rotation.

    def next_generation(self) -> None:
        """From here on every data key is to be wrapped anew."""
        with self._ours() as db, transaction(db):
            db.execute("UPDATE generation SET number = number + 1")

    def stale(self, after: int, limit: int) -> list[Row]:
        """Data keys of an earlier generation, in order of id, beyond `after`."""
        with self._ours() as db:
            found = db.execute(
                "SELECT s.id, s.subject, m.name, d.slot, NULL FROM subject s JOIN master m ON m.id = s.master"
                " JOIN data_key d ON d.id = s.id"
                " WHERE s.id > ? AND s.generation < (SELECT number FROM generation) ORDER BY s.id LIMIT ?",
                (after, limit),
            ).fetchall()
        return [_row(row) for row in found]

    def rewrap(self, rows: Sequence[tuple[int, Wrapped]], generation: int) -> None:
        """(id, data key under another master key); of those that were not destroyed in between."""
        with self._ours() as db, transaction(db):
            masters = {name: self._master(name) for name in {wrapped.key_id for _, wrapped in rows}}
            for id_, wrapped in rows:
                alive = db.execute(
                    "UPDATE subject SET master = ?, generation = ? WHERE id = ? AND master IS NOT NULL",
                    (masters[wrapped.key_id], generation, id_),
                ).rowcount
                if alive:
                    db.execute("UPDATE data_key SET slot = ? WHERE id = ?", (_slot(wrapped.data), id_))

    def forget_masters(self) -> None:
        """Forgets the names of master keys that wrap nothing any more."""
        with self._ours() as db, transaction(db):
            db.execute(
                "DELETE FROM master WHERE id NOT IN (SELECT master FROM subject WHERE master IS NOT NULL)"
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)


def _prepare(db: sqlite3.Connection) -> None:
    # What is deleted is overwritten; before the first page, so that it holds for all of them.
    db.execute("PRAGMA secure_delete=ON")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA temp_store=MEMORY")


def _overwrite(path: Path) -> None:
    """Deletes a file after zeros were written over it."""
    with path.open("r+b") as file:
        left = path.stat().st_size
        while left > 0:
            left -= file.write(bytes(min(left, CHUNK)))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _slot(wrapped: bytes) -> bytes:
    filled = len(wrapped).to_bytes(2, "big") + wrapped
    return filled.ljust(-(-len(filled) // SLOT) * SLOT, b"\0")


def _row(row: tuple[int, str, str | None, bytes | None, bytes | None]) -> Row:
    id_, subject, master, slot, sealed_id = row
    if master is None or slot is None:
        return Row(id_, subject, None, None)
    return Row(id_, subject, Wrapped(master, slot[2 : 2 + int.from_bytes(slot[:2], "big")]), sealed_id)
