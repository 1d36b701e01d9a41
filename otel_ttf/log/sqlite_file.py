"""log.db itself: opening, one transaction per call, reading. No threads, no queues."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import zstandard

from otel_ttf.files import sync_folder
from otel_ttf.log.base import Gap, LogError, Row
from otel_ttf.log.consumers import Consumer
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.sqlite_disk import DiskUse, check_writable, disk_use, empty_wal, remedy, trouble, vacuum

PAGE_SIZE = 16 * 1024
APPLICATION = 0x6F74746C  # "ottl", where `file` and we ourselves look
LOCK_SECONDS = 1.0  # how long somebody else's tool may hold the file before a group is refused
MAX_PAYLOAD = 256 << 20  # no row unpacks to more, whatever its header says
INSERT = "INSERT INTO entry VALUES "
COLUMNS = 10
# Each statement lets go of the interpreter once and has to wait for it again while the loop works. So a group
# is a handful of statements of fixed, cached sizes, not a statement a row.
CHUNKS = {
    n: INSERT + ",".join(["(" + ",".join("?" * COLUMNS) + ")"] * n) for n in (128, 64, 32, 16, 8, 4, 2, 1)
}


class Stored(NamedTuple):
    """A row of `entry`, in the order of its columns."""

    position: int
    arrival: int
    signal: str
    size: int
    records: int
    records_before: int
    stored_before: int
    packed: int
    ids: bytes
    payload: bytes


@dataclass(slots=True)
class Bounds:
    """What the log holds: positions gone+1..end, and the sums over all rows ever before and up to there."""

    gone: int
    gone_records: int
    gone_stored: int
    end: int
    records: int
    stored: int


class LogFile:
    """The writing connection; one thread at a time.

    Methods raise sqlite3.Error or OSError; `rollback` then undoes what they began.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises LogError."""
        self.path = path
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS
            )
        except sqlite3.Error as error:
            raise LogError(f"{path}: {trouble(error)}: choose another directory with --data-dir") from None
        try:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                # Both count only before the first table.
                self._db.execute(f"PRAGMA page_size={PAGE_SIZE}")
                self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            migrate(self._db, path, resources.files("otel_ttf.log"), ours=(APPLICATION, "an event log"))
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            # Checkpoints come between groups, so that no answer waits for one.
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            self._db.execute("PRAGMA cache_size=-4096")
            check_writable(self._db)
            self.log_id, self.bounds, self.consumers = self._load()
            self._node = path.stat().st_ino
            sync_folder(path.parent)  # the name of a new file is to last, too
        except SchemaRefused as refused:
            self._db.close()
            raise LogError(str(refused)) from None
        except (sqlite3.Error, OSError) as error:
            self._db.close()
            if isinstance(error, LogError):
                raise
            raise LogError(
                f"{path}: {trouble(error)}: "
                + remedy(error, "mend it, or move the file away, with what was not read yet")
            ) from None

    def _load(self) -> tuple[str, Bounds, list[Consumer]]:
        one = self._db.execute
        log_id, gone_records, gone_stored = one("SELECT id, records, stored FROM log").fetchone()
        seq = one("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        end = seq[0] if seq else 0
        bounds = Bounds(end, gone_records, gone_stored, end, gone_records, gone_stored)
        first = one("SELECT position FROM entry ORDER BY position LIMIT 1").fetchone()
        if first:
            last = one(
                "SELECT records_before + records, stored_before + length(ids) + length(payload)"
                " FROM entry ORDER BY position DESC LIMIT 1"
            ).fetchone()
            bounds.gone = first[0] - 1
            bounds.records, bounds.stored = last
        consumers = [
            Consumer(name, position, bool(required), on_lag)
            for name, position, required, on_lag in one(
                "SELECT name, position, required, on_lag FROM consumer"
            )
        ]
        return log_id, bounds, consumers

    def insert(self, rows: Sequence[Stored]) -> None:
        """Rows in order of position, in one transaction; on the disk when it returns."""
        if len(rows) in CHUNKS:
            self._db.execute(CHUNKS[len(rows)], tuple(chain.from_iterable(rows)))
            return
        self._db.execute("BEGIN IMMEDIATE")
        start = 0
        for size, statement in CHUNKS.items():
            while len(rows) - start >= size:
                self._db.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
        self._db.execute("COMMIT")

    def stored_before(self, position: int) -> int:
        """Bytes of all rows ever before this position, or what follows it first."""
        return self._before("stored_before", position, self.bounds.stored)

    def records_before(self, position: int) -> int:
        """Records of all rows ever before this position, or what follows it first."""
        return self._before("records_before", position, self.bounds.records)

    def _before(self, column: str, position: int, at_the_end: int) -> int:
        statement = f"SELECT {column} FROM entry WHERE position >= ? ORDER BY position LIMIT 1"
        row = self._db.execute(statement, (position,)).fetchone()
        return int(row[0]) if row else at_the_end

    def delete(self, through: int, consumers: Iterable[Consumer], gaps: Iterable[tuple[str, Gap]]) -> None:
        """Deletes rows up to a position, and saves who has released them or went without them."""
        records, stored = self.records_before(through + 1), self.stored_before(through + 1)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM entry WHERE position <= ?", (through,))
        self._db.execute("UPDATE log SET records = ?, stored = ?", (records, stored))
        self._put(consumers)
        for consumer, gap in gaps:
            # What continues a gap makes it longer, so that a consumer that is dead for a month has one.
            longer = self._db.execute(
                "UPDATE gap SET last = ?, records = records + ? WHERE consumer = ? AND last = ?",
                (gap.last, gap.records, consumer, gap.first - 1),
            )
            if not longer.rowcount:
                self._db.execute(
                    "INSERT INTO gap VALUES (?, ?, ?, ?)", (consumer, gap.first, gap.last, gap.records)
                )
        self._db.execute("COMMIT")
        self.bounds.gone, self.bounds.gone_records, self.bounds.gone_stored = through, records, stored

    def save(self, consumers: Iterable[Consumer]) -> None:
        """Saves where consumers stand."""
        self._db.execute("BEGIN IMMEDIATE")
        self._put(consumers)
        self._db.execute("COMMIT")

    def _put(self, consumers: Iterable[Consumer]) -> None:
        self._db.execute("DELETE FROM consumer")
        self._db.executemany(
            "INSERT INTO consumer VALUES (?, ?, ?, ?)",
            [(c.name, c.position, int(c.required), c.on_lag) for c in consumers],
        )

    def probe(self, now: int) -> None:
        """Writes something, to find out whether it works."""
        self._db.execute("UPDATE log SET probed = ?", (now,))

    def rollback(self) -> None:
        """Leaves a transaction that failed."""
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def size(self) -> DiskUse:
        """Raises OSError when the file was moved away: what is written then would not be found again."""
        if self.path.stat().st_ino != self._node:
            raise FileNotFoundError(2, "the file was replaced: restart the server", str(self.path))
        return disk_use(self._db, self.path)

    def checkpoint(self, *, truncate: bool) -> None:
        """Copies the write-ahead log into the file, as far as readers allow, without waiting for them."""
        if truncate:
            empty_wal(self._db)
        else:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def vacuum(self, pages: int) -> None:
        """Gives free pages back to the file system."""
        vacuum(self._db, pages)

    def close(self) -> None:
        """The last connection to close also copies the write-ahead log into the file."""
        self._db.close()


class Reader:
    """One read-only connection; one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=LOCK_SECONDS,
        )
        self._db.execute("PRAGMA cache_size=-1024")
        self._unpack = zstandard.ZstdDecompressor()

    def rows(self, after: int, before: int, rows: int, size: int) -> list[Row]:
        """Rows between two positions, neither included; limits as EventLog.read."""
        found: list[Row] = []
        cursor = self._db.execute(
            "SELECT position, arrival, signal, bytes, records, packed, ids, payload FROM entry"
            " WHERE position > ? AND position < ? ORDER BY position LIMIT ?",
            (after, before, rows),
        )
        try:
            for position, arrival, signal, length, records, packed, ids, payload in cursor:
                size -= length
                if size < 0 and found:
                    break
                plain = self._unpacked(position, payload, length) if packed else payload
                found.append(Row(position, arrival, signal, plain, ids, records))
        finally:
            cursor.close()  # else the snapshot stays open and the write-ahead log cannot be emptied
        return found

    def _unpacked(self, position: int, payload: bytes, length: int) -> bytes:
        try:
            if length <= MAX_PAYLOAD and zstandard.frame_content_size(payload) == length:
                return self._unpack.decompress(payload)
        except zstandard.ZstdError:
            pass
        raise LogError(f"the row at position {position} is damaged")

    def next(self, after: int) -> tuple[int, int] | None:
        """(arrival, records before it) of the first row after the position."""
        row: tuple[int, int] | None = self._db.execute(
            "SELECT arrival, records_before FROM entry WHERE position > ? ORDER BY position LIMIT 1", (after,)
        ).fetchone()
        return row

    def gaps(self, consumer: str) -> list[Gap]:
        rows = self._db.execute(
            "SELECT first, last, records FROM gap WHERE consumer = ? ORDER BY first", (consumer,)
        ).fetchall()
        return [Gap(*row) for row in rows]

    def close(self) -> None:
        self._db.close()


class Readers:
    """A reader for whoever reads: as many as there are threads that read at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._closed = False

    @contextmanager
    def lend(self) -> Iterator[Reader]:
        """Raises LogError: the file cannot be read, or is closed."""
        with self._lock:
            if self._closed:
                raise LogError(f"{self._path}: the event log is closed")
            reader = self._idle.pop() if self._idle else None
        try:
            reader = reader or Reader(self._path)
            yield reader
        except sqlite3.Error as error:
            if reader is not None:
                reader.close()
                reader = None
            raise LogError(f"{self._path}: {trouble(error)}") from error
        finally:
            if reader is not None:
                self._give_back(reader)

    def _give_back(self, reader: Reader) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(reader)
                return
        reader.close()

    def close(self) -> None:
        """Closes those that nobody uses; the others are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()
