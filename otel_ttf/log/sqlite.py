"""The event log in one SQLite file: many requests share one transaction and one sync."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import structlog
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.clock import Clock
from otel_ttf.log.base import Entry, LogRefused, Row
from otel_ttf.units import SECOND, Size

VERSION = 1
MIB = 1 << 20
WAITING_BYTES = 64 * MIB
RECENT_RECORDS = 20_000
BRAKE_RECORDS = 8_000
BRAKE_SECONDS = 0.25  # at the most: a consumer that stands still must not stop the senders
BRAKE_STEPS = 25
LARGEST_PAYLOAD = 1 << 30
COMPRESSION = -3
SMALL = 200  # bytes: below, compressing gains nothing
GROUP_ENTRIES = 512
GROUP_BYTES = 16 * MIB
DELETE_ROWS = 2000
CROWD_SECONDS = 0.003
LOOK_EVERY = 0.25  # seconds between looks at sizes

log = structlog.get_logger()


class LogError(Exception):
    """The log cannot be opened; the message says why and what to do."""


class LogConfig(BaseModel):
    """The event log between receivers and consumers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_size: Size = Field(512 * MIB, ge=MIB, description="Beyond this size senders are asked to come again.")
    min_free: Size | None = Field(
        None,
        description="Senders are asked to come again when the disk has less room left than this; by default "
        "256 MiB or 5 % of the disk, the smaller, at least 64 MiB.",
    )
    max_lag: Size | None = Field(
        None,
        description="How much is kept for a consumer that is not required; by default half of max_size.",
    )


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    future: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class _Consumer:
    position: int
    required: bool
    on_lag: Literal["drop", "block"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows first..last went before the consumer had read them."""

    consumer: str
    first: int
    last: int
    records: int


class SqliteLog:
    """Implements log.base.EventLog. One thread writes; readers have a connection each."""

    def __init__(
        self, path: Path, config: LogConfig, clock: Clock, free_space: Callable[[], int] | None = None
    ) -> None:
        self.path = path
        self._config = config
        self._clock = clock
        self._free_space = free_space or (lambda: shutil.disk_usage(path.parent).free)
        self._min_free = config.min_free if config.min_free is not None else _default_min_free(path.parent)
        self._max_lag = config.max_lag if config.max_lag is not None else config.max_size // 2
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._consumers: dict[str, _Consumer] = {}
        # The last rows as they were handed over, without payload: no gap between them.
        self._recent: deque[Row] = deque()
        self._recent_records = 0
        self._recent_lock = threading.Lock()
        self._reason: str | None = None
        self._closing = False
        self._wake = threading.Event()
        self._compress = zstandard.ZstdCompressor(level=COMPRESSION)
        self._db = self._open()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    @classmethod
    def open(
        cls, path: Path, config: LogConfig, clock: Clock, *, free_space: Callable[[], int] | None = None
    ) -> SqliteLog:
        """Opens or makes the log and starts its writer. Raises LogError.

        free_space  bytes left on the disk; for tests
        """
        opened = cls(path, config, clock, free_space)
        opened._thread.start()
        return opened

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA page_size=16384")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA cache_size=-4096")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise LogError(
                    f"{self.path}: written by a newer otel_ttf (version {version}, this one knows {VERSION}): "
                    "upgrade otel_ttf, or start with another data directory"
                )
            if version == 0:
                schema = (resources.files("otel_ttf.log") / "schema.sql").read_text()
                db.executescript(
                    f"BEGIN IMMEDIATE;\n{schema}\n"
                    f"INSERT INTO meta VALUES ('log_id', '{secrets.token_hex(16)}');\n"
                    f"PRAGMA user_version={VERSION};\nCOMMIT;"
                )
            (self.log_id,) = db.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
            self._end: int = row[0] if row else 0
            last = db.execute("SELECT through FROM entry ORDER BY position DESC LIMIT 1").fetchone()
            saved = db.execute("SELECT value FROM meta WHERE name = 'through'").fetchone()
            self._through: int = last[0] if last else int(saved[0]) if saved else 0
            for name, position, required in db.execute("SELECT name, position, required FROM consumer"):
                self._consumers[name] = _Consumer(position, bool(required), "drop")
        except sqlite3.DatabaseError as error:
            raise LogError(f"{self.path}: cannot be opened as an event log: {error}") from error
        self._db = db
        self._look()
        return db

    # The appending side: event loop to writer thread.

    async def append(self, entry: Entry) -> int:
        if self._closing:
            raise LogRefused("the server is stopping")
        if self._reason is not None:
            raise LogRefused(self._reason, 5.0)
        if self._waiting_bytes > WAITING_BYTES:
            raise LogRefused("too much waits to be written", 1.0)
        if self._recent_records > BRAKE_RECORDS:
            await self._brake()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, loop.create_future(), loop)
        self._waiting_bytes += len(entry.payload)
        self._queue.append(waiting)
        self._wake.set()
        try:
            return await waiting.future
        finally:
            self._waiting_bytes -= len(entry.payload)

    async def _brake(self) -> None:
        """Lets the required consumers come closer: answers a little later rather than figures much later."""
        for _ in range(BRAKE_STEPS):
            await asyncio.sleep(BRAKE_SECONDS / BRAKE_STEPS)
            if self._recent_records <= BRAKE_RECORDS:
                return

    def _run(self) -> None:
        looked = 0.0
        crowded = False
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.wait(LOOK_EVERY)
            self._wake.clear()
            if crowded and self._queue and not self._closing:
                # Many senders at once: a sync for each few of them would cost more than a moment's wait.
                time.sleep(CROWD_SECONDS)
            group: list[_Waiting] = []
            size = 0
            while self._queue and len(group) < GROUP_ENTRIES and size < GROUP_BYTES:
                group.append(self._queue.popleft())
                size += len(group[-1].entry.payload)
            if group:
                self._write(group)
                crowded = len(group) > 1
            now = time.monotonic()
            if now - looked >= LOOK_EVERY or not group:
                looked = now
                with contextlib.suppress(sqlite3.Error):
                    self._truncate(idle=not group)
                with contextlib.suppress(sqlite3.Error):
                    self._look()

    def _write(self, group: list[_Waiting]) -> None:
        """One transaction, one sync, one wake-up of the loop."""
        through = self._through
        rows = []
        for waiting in group:
            entry = waiting.entry
            through += entry.records
            payload = entry.payload
            packed = self._compress.compress(payload) if len(payload) >= SMALL else payload
            smaller = len(packed) < len(payload)
            rows.append(
                (
                    entry.arrival,
                    entry.signal,
                    len(payload),
                    int(smaller),
                    entry.records,
                    through,
                    entry.ids,
                    packed if smaller else payload,
                )
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO entry (arrival, signal, size, packed, records, through, ids, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(group, error)
            return
        first, self._end, self._through = self._end + 1, self._end + len(rows), through
        with self._recent_lock:
            for position, waiting in enumerate(group, first):
                self._remember(position, waiting.entry)
        with self._changed:
            self._changed.notify_all()
        self._resolve(group, [(waiting.future, position) for position, waiting in enumerate(group, first)])

    def _give_up(self, group: list[_Waiting], error: sqlite3.Error) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        reason = f"the event log cannot be written: {error}"
        if self._reason is None:
            log.error("the event log cannot be written; senders are asked to come again", reason=str(error))
        refused = LogRefused(reason, 5.0)
        self._resolve(group, [(waiting.future, refused) for waiting in group])

    @staticmethod
    def _resolve(group: list[_Waiting], results: list[tuple[asyncio.Future[int], int | LogRefused]]) -> None:
        def settle() -> None:
            for future, result in results:
                # A client that went away has cancelled its future; the others are not its business.
                if future.done():
                    continue
                if isinstance(result, LogRefused):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            group[0].loop.call_soon_threadsafe(settle)

    def _remember(self, position: int, entry: Entry) -> None:
        if entry.view is None:
            self._recent.clear()
            self._recent_records = 0
            return
        row = Row(position, entry.arrival, entry.signal, b"", entry.ids, entry.records, entry.view)
        self._recent.append(row)
        self._recent_records += entry.records
        while self._recent_records > RECENT_RECORDS and len(self._recent) > 1:
            self._recent_records -= self._recent.popleft().records

    def _remembered(self, after: int, rows: int) -> list[Row]:
        """Rows right after the position that need no reading."""
        with self._recent_lock:
            if not self._recent or not self._recent[0].position <= after + 1 <= self._recent[-1].position:
                return []
            first = after + 1 - self._recent[0].position
            return [self._recent[place] for place in range(first, min(len(self._recent), first + rows))]

    # Sizes, truncation.

    def size(self) -> int:
        """Bytes in use: pages that hold something, and the write-ahead log."""
        pages, free, page = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        wal = self.path.with_name(self.path.name + "-wal")
        return int((pages - free) * page + (wal.stat().st_size if wal.exists() else 0))

    def _look(self) -> None:
        """Works out whether appends are to be refused."""
        size = self.size()
        free = self._free_space()
        reason = None
        if size > self._config.max_size:
            reason = (
                f"the event log has reached log.max_size ({size / MIB:.0f} of {self._config.max_size / MIB:.0f}"
                " MiB): its consumers are behind"
            )
        elif free < self._min_free:
            reason = (
                f"the disk of {self.path.parent} has {free / MIB:.0f} MiB left, log.min_free is"
                f" {self._min_free / MIB:.0f} MiB: make room"
            )
        else:
            blocked = [
                name
                for name, consumer in self._consumers.items()
                if consumer.on_lag == "block" and self._behind(consumer.position) > self._max_lag
            ]
            if blocked:
                reason = f"{', '.join(blocked)} lags by more than log.max_lag and is set to block"
        if reason is not None and self._reason is None:
            log.warning("senders are asked to come again", reason=reason)
        self._reason = reason

    def _behind(self, position: int) -> int:
        (size,) = self._db.execute(
            "SELECT coalesce(sum(length(payload)), 0) FROM entry WHERE position > ?", (position,)
        ).fetchone()
        return int(size)

    def _truncate(self, *, idle: bool) -> None:
        """Deletes what nobody needs any more, a few rows at a time, and gives the room back."""
        consumers = dict(self._consumers)
        required = [consumer.position for consumer in consumers.values() if consumer.required]
        if not required:
            return
        keep = min(required)
        for name, consumer in consumers.items():
            if consumer.required or consumer.position >= keep:
                continue
            if consumer.on_lag == "drop" and self._behind(consumer.position) > self._max_lag:
                self._skip(name, consumer, keep)
            else:
                keep = min(keep, consumer.position)
        first = self._db.execute("SELECT min(position) FROM entry").fetchone()[0]
        if first is not None and first <= keep:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("REPLACE INTO meta VALUES ('through', ?)", (str(self._through),))
            self._db.executemany(
                "REPLACE INTO consumer VALUES (?, ?, ?)",
                [(name, c.position, int(c.required)) for name, c in consumers.items()],
            )
            self._db.execute("DELETE FROM entry WHERE position <= ?", (min(keep, first + DELETE_ROWS - 1),))
            self._db.execute("COMMIT")
        elif idle:
            (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
            if free:
                self._db.execute("PRAGMA incremental_vacuum(1000)").fetchall()
            elif self.path.with_name(self.path.name + "-wal").stat().st_size > MIB:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _skip(self, name: str, consumer: _Consumer, keep: int) -> None:
        """A consumer that is not required lags too far: its cursor moves on, and the gap is written down."""
        row = self._db.execute(
            "SELECT min(position), sum(records) FROM entry WHERE position > ? AND position <= ?",
            (consumer.position, keep),
        ).fetchone()
        if row[0] is not None:
            self._db.execute(
                "INSERT INTO gap VALUES (?, ?, ?, ?, ?)", (name, row[0], keep, row[1], self._clock.now())
            )
            log.warning("a consumer lags too far; rows were left out", consumer=name, records=row[1])
        consumer.position = keep

    def gaps(self, consumer: str) -> list[Gap]:
        """What the consumer will never see, the oldest first."""
        rows = self._reader.execute(
            "SELECT consumer, first, last, records FROM gap WHERE consumer = ? ORDER BY first", (consumer,)
        )
        return [Gap(*row) for row in rows]

    # The reading side.

    @property
    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA cache_size=-2048")
            self._local.connection = connection
            self._readers.append(connection)
        return connection

    def read(self, after: int, *, rows: int = 64, size: int = 8 << 20, payloads: bool = True) -> list[Row]:
        if after >= self._end:
            return []
        found: list[Row] = [] if payloads else self._remembered(after, rows)
        if found:
            return found
        used = 0
        cursor = self._reader.execute(
            "SELECT position, arrival, signal, size, packed, records, ids, payload FROM entry"
            " WHERE position > ? ORDER BY position LIMIT ?",
            (after, rows),
        )
        decompress = zstandard.ZstdDecompressor()
        for position, arrival, signal, length, packed, records, ids, payload in cursor:
            used += length
            if found and used > size:
                break
            if packed:
                payload = decompress.decompress(payload, max_output_size=min(length, LARGEST_PAYLOAD))
            found.append(Row(position, arrival, signal, payload, ids, records))
        cursor.close()
        return found

    def end(self) -> int:
        return self._end

    def wait(self, after: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._end > after, timeout)

    def oldest(self, after: int) -> int | None:
        if after >= self._end:
            return None
        row = self._reader.execute(
            "SELECT arrival FROM entry WHERE position > ? ORDER BY position LIMIT 1", (after,)
        ).fetchone()
        return row[0] if row else None

    def lag(self, after: int) -> tuple[int, float]:
        if after >= self._end:
            return 0, 0.0
        row = self._reader.execute(
            "SELECT arrival, through - records FROM entry WHERE position > ? ORDER BY position LIMIT 1",
            (after,),
        ).fetchone()
        if row is None:
            return 0, 0.0
        return max(0, self._through - row[1]), max(0, self._clock.now() - row[0]) / SECOND

    def register(
        self, consumer: str, position: int, *, required: bool, on_lag: Literal["drop", "block"] = "drop"
    ) -> int:
        first = self._reader.execute("SELECT min(position) FROM entry").fetchone()[0]
        start = max(position, (first if first is not None else self._end + 1) - 1)
        self._consumers[consumer] = _Consumer(start, required, on_lag)
        return start

    def release(self, consumer: str, position: int) -> None:
        self._consumers[consumer].position = position
        keep = min((c.position for c in self._consumers.values() if c.required), default=0)
        with self._recent_lock:
            while self._recent and self._recent[0].position <= keep:
                self._recent_records -= self._recent.popleft().records

    def refusing(self) -> str | None:
        return "the server is stopping" if self._closing else self._reason

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        for reader in self._readers:
            reader.close()
        self._db.close()


def _default_min_free(folder: Path) -> int:
    """256 MiB or 5 % of the disk, the smaller, at least 64 MiB."""
    return max(64 * MIB, min(256 * MIB, shutil.disk_usage(folder).total // 20))
