"""log.db itself: opening, one transaction per call, reading. No threads, no queues."""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import zstandard

from otel_ttf.files import sync_folder
from otel_ttf.log.base import Gap, LogDamaged, LogError, Lost, Row
from otel_ttf.log.consumers import Consumer
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.pages import is_damage, unseen_damage
from otel_ttf.sqlite_disk import (
    DiskUse,
    check_writable,
    disk_use,
    empty_wal,
    leave,
    moved,
    nodes,
    remedy,
    trouble,
    vacuum,
)
from otel_ttf.swap import FOUND, copy_database, draft, finish, put

PAGE_SIZE = 16 * 1024
APPLICATION = 0x6F74746C  # "ottl", where `file` and we ourselves look
OURS = APPLICATION, "an event log"
SCRIPTS = resources.files("otel_ttf.log")
LOST = "SELECT first, last, records, found, why FROM lost ORDER BY first"
LOCK_SECONDS = 1.0  # how long somebody else's tool may hold the file before a group is refused
MAX_PAYLOAD = 256 << 20  # no row unpacks to more, whatever its header says
CHECK_BYTES = 64 << 20  # a start looks at every page of a file up to here, some 40 ms
INSERT = "INSERT INTO entry VALUES "
# Rows as Stored has them.
ENTRIES = (
    "SELECT position, arrival, signal, bytes, records, records_before, stored_before, packed, ids, payload, crc"
    " FROM entry"
)
COLUMNS = 11
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
    crc: int | None  # None: from before there were any


_NUMBERS = struct.Struct("<qqqqqqq")


def checksum(
    position: int,
    arrival: int,
    signal: str,
    size: int,
    records: int,
    records_before: int,
    stored_before: int,
    packed: int,
    ids: bytes,
    payload: bytes,
) -> int:
    """CRC-32 over the other columns of a row."""
    numbers = _NUMBERS.pack(position, arrival, size, records, records_before, stored_before, packed)
    return crc32(payload, crc32(numbers + signal.encode() + ids))


@dataclass(slots=True)
class Bounds:
    """What the log holds: positions gone+1..end, and the sums over all rows ever before and up to there."""

    gone: int
    gone_records: int
    gone_stored: int
    end: int
    records: int
    stored: int


class Moved(OSError):
    """Under the file's name there is no file, or another one."""


class LogFile:
    """The writing connection; one thread at a time.

    Methods raise sqlite3.Error or OSError; `rollback` then undoes what they began.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises LogError, LogDamaged where `rescue` is to be tried."""
        self.path = path
        self.bounds = Bounds(0, 0, 0, 0, 0, 0)
        self.going = 0  # the last row that is being deleted, before readers can find it gone
        self.log_id = ""
        self.consumers: list[Consumer] = []
        self.lost: list[Lost] = []
        self.open()

    def open(self) -> None:
        """As at the start. Raises LogError, LogDamaged."""
        path = self.path
        try:
            finish(path)
            _check_bytes(path)
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS
            )
        except LogDamaged:
            raise
        except (sqlite3.Error, OSError) as error:
            raise LogError(f"{path}: {trouble(error)}: {remedy(error, 'mend it', path)}") from None
        try:
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                # Both count only before the first table.
                self._db.execute(f"PRAGMA page_size={PAGE_SIZE}")
                self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            migrate(self._db, path, SCRIPTS, ours=OURS)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            # Checkpoints come between groups, so that no answer waits for one.
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            self._db.execute("PRAGMA cache_size=-4096")
            check_writable(self._db)
            self._load()
            self._nodes = nodes(path)
            if path.stat().st_size <= CHECK_BYTES:
                (said,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
                if said != "ok":
                    raise LogDamaged(f"{path}: {said.splitlines()[-1]}")
            sync_folder(path.parent)  # the name of a new file is to last, too
        except SchemaRefused as refused:
            self._db.close()
            raise LogError(str(refused)) from None
        except (sqlite3.Error, OSError) as error:
            self.leave()
            if isinstance(error, LogError):
                raise
            # SQLITE_ERROR: our statements fit our schema, so it is not ours any more.
            if is_damage(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":
                raise LogDamaged(f"{path}: {trouble(error)}") from None
            raise LogError(
                f"{path}: {trouble(error)}: "
                + remedy(error, "mend it, or move the file away, with what was not read yet", path)
            ) from None

    def _load(self) -> None:
        one = self._db.execute
        logs = one("SELECT id, records, stored FROM log").fetchall()
        if len(logs) != 1:
            raise LogDamaged(f"{self.path}: expected 1 row in table log, found {len(logs)}")
        self.log_id, gone_records, gone_stored = logs[0]
        seq = one("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        end = seq[0] if seq else 0
        bounds = Bounds(end, gone_records, gone_stored, end, gone_records, gone_stored)
        first = one("SELECT position FROM entry ORDER BY position LIMIT 1").fetchone()
        if first:
            last, bounds.records, bounds.stored = one(
                "SELECT position, records_before + records, stored_before + length(ids) + length(payload)"
                " FROM entry ORDER BY position DESC LIMIT 1"
            ).fetchone()
            bounds.gone = first[0] - 1
            if last != end:
                raise LogDamaged(f"{self.path}: expected the last row at position {end}, found it at {last}")
        for name in Bounds.__slots__:  # in place: others hold it
            setattr(self.bounds, name, getattr(bounds, name))
        self.consumers = [
            Consumer(name, position, bool(required), on_lag)
            for name, position, required, on_lag in one(
                "SELECT name, position, required, on_lag FROM consumer"
            )
        ]
        self.lost = [Lost(*row) for row in one(LOST)]

    def make_again(self, now: int) -> Path | None:
        """Writes all that this connection sees under the file's name, from which it was taken away; opens that.

        Returns where a file is now that stood there instead. Raises sqlite3.Error, OSError, LogError.
        """
        copy_database(self._db, draft(self.path))
        self._db.close()
        found = put(self.path, FOUND, now)
        self.open()
        return found

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
        self.going = through
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

    def remember(self, name: str, value: str) -> None:
        """Writes a row of table `meta`."""
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (name, value))

    def rollback(self) -> None:
        """Leaves a transaction that failed."""
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def moved(self) -> bool:
        """Whether the file, or its write-ahead log, is not the one any more that is open."""
        return moved(self.path, self._nodes)

    def size(self) -> DiskUse:
        """Raises Moved when the file was taken away: what is written then would not be found again."""
        if self.moved():
            raise Moved(2, "the file was deleted or replaced", str(self.path))
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

    def leave(self) -> None:
        """Closes a file that is damaged as it is: its write-ahead log stays apart."""
        leave(self._db, self.path)

    def close(self) -> None:
        """The last connection to close also copies the write-ahead log into the file."""
        self._db.close()


def opened(row: Stored, unpacker: zstandard.ZstdDecompressor) -> Row:
    """The row as consumers get it. Raises LogDamaged: it is not what was written."""
    plain: bytes | None = row.payload
    if row.crc is not None and row.crc != checksum(*row[:-1]):
        plain = None
    elif row.packed:
        try:
            fits = row.size <= MAX_PAYLOAD and zstandard.frame_content_size(row.payload) == row.size
            plain = unpacker.decompress(row.payload) if fits else None
        except zstandard.ZstdError:
            plain = None
    if plain is None or len(plain) != row.size:
        raise LogDamaged(f"the row at position {row.position} is damaged")
    signal: Any = row.signal  # the column holds no other
    return Row(row.position, row.arrival, signal, plain, row.ids, row.records, before=row.records_before)


def _check_bytes(path: Path) -> None:
    """Raises LogDamaged for what SQLite does not see, or takes for something else."""
    if harm := unseen_damage(path, page_size=PAGE_SIZE):
        raise LogDamaged(f"{path}: {harm}")


def note_lost(path: Path, lost: Lost) -> None:
    """Synced when it returns; the writer may be at work. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
        db.execute("PRAGMA synchronous=FULL")
        db.execute(
            "REPLACE INTO lost (first, last, records, found, why) VALUES (?, ?, ?, ?, ?)",
            astuple(lost),
        )


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
            f"{ENTRIES} WHERE position > ? AND position < ? ORDER BY position LIMIT ?",
            (after, before, rows),
        )
        try:
            for row in cursor:
                stored = Stored(*row)
                size -= stored.size
                if size < 0 and found:
                    break
                found.append(opened(stored, self._unpack))
        finally:
            cursor.close()  # else the snapshot stays open and the write-ahead log cannot be emptied
        return found

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
    """A reader for whoever reads: as many as there are threads that read at once.

    on_damage  told what a reader found
    """

    def __init__(self, path: Path, on_damage: Callable[[str], object]) -> None:
        self._path = path
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._closed = False
        self._made = 0  # how often the file was made anew: older readers see the old one

    @contextmanager
    def lend(self) -> Iterator[Reader]:
        """Raises LogError: the file cannot be read, or is closed."""
        with self._lock:
            if self._closed:
                raise LogError(f"{self._path}: the event log is closed")
            reader = self._idle.pop() if self._idle else None
            made = self._made
        try:
            reader = reader or Reader(self._path)
            yield reader
        except (sqlite3.Error, LogDamaged) as error:
            told = str(error) if isinstance(error, LogDamaged) else trouble(error)
            if is_damage(error) or isinstance(error, LogDamaged):
                self._on_damage(told)
            if reader is not None:
                reader.close()
                reader = None
            raise LogError(f"{self._path}: {told}") from error
        finally:
            if reader is not None:
                self._give_back(reader, made)

    def _give_back(self, reader: Reader, made: int) -> None:
        with self._lock:
            if not self._closed and made == self._made:
                self._idle.append(reader)
                return
        reader.close()

    @contextmanager
    def kept_out(self) -> Iterator[None]:
        """While the file is made anew: who comes waits, and gets a reader of the new one."""
        with self._lock:
            self._made += 1
            idle, self._idle = self._idle, []
            for reader in idle:
                reader.close()
            yield

    def close(self) -> None:
        """Closes those that nobody uses; the others are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()
