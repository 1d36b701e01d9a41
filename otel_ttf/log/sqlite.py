"""The event log in one SQLite file: many requests share one transaction and one sync.

The event loop hands entries to one writer thread, which takes all that wait, writes them in one transaction
and answers them with one call into the loop. Between groups, the same thread deletes what every consumer has
dealt with, copies the write-ahead log into the file and looks how much room is left.
"""

from __future__ import annotations

import asyncio
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.clock import Clock
from otel_ttf.log.base import Entry, Gap, LogDamaged, LogError, LogRefused, Lost, OnLag, Row
from otel_ttf.log.consumers import Consumer, Consumers
from otel_ttf.log.recent import Recent
from otel_ttf.log.rescue import NOTHING_KNOWN, Known, open_or_rescue, rescue
from otel_ttf.log.room import Room
from otel_ttf.log.sqlite_file import LogFile, Moved, Readers, Stored, checksum, note_lost
from otel_ttf.log.upkeep import Upkeep
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.units import SECOND, Size

__all__ = ["LogConfig", "LogError", "SqliteLog"]

MIB = 1 << 20
GROUP_ROWS = 1024
GROUP_BYTES = 16 * MIB
LEVEL = -3  # zstd: a third of the time of level 3, for a tenth more bytes
WORTH_PACKING = 512  # bytes; a single record hardly shrinks
TICK = 0.1  # seconds without an append after which the writer tidies up
CROWD_SECONDS = 0.003  # many senders at once: waiting so long costs less than a sync for each few of them
# A required consumer that lies so far behind makes answers wait for it a little: they come later, rather than its
# figures much later. At the most so long, since one that stands still must not stop the senders.
BRAKE_RECORDS = 8000
BRAKE_SECONDS = 0.25
BRAKE_STEPS = 25
PROBE_EVERY = 1.0  # seconds between attempts to write when the disk has failed
CLOSE_SECONDS = 5.0
MEND_EVERY = 60.0  # seconds: what is damaged again so soon is not the file's fault
CLOCK = "clock"  # in table meta: the clock's anchor, for the next start
CLOCK_EVERY = 60.0  # seconds

log = structlog.get_logger()


class LogConfig(BaseModel):
    """The event log between receivers and consumers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_size: Size = Field(
        512 * MIB,
        ge=MIB,
        description="When so much waits for its consumers, senders are asked to come again.",
    )
    min_free: Size | None = Field(
        None,
        description="Senders are asked to come again, too, when less is free on the disk; by default the "
        "smaller of 256MiB and 5 % of the disk, at least 64MiB.",
    )
    max_lag: Size | None = Field(
        None,
        description="How much is kept for an exporter that lies behind before it skips; by default half of "
        "max_size.",
    )


_Waiting = tuple[Entry, "asyncio.Future[int]", int]  # with what it costs in bytes


class SqliteLog:
    """Implements log.base.EventLog."""

    def __init__(self, file: LogFile, config: LogConfig, clock: Clock, free_space: Callable[[], int]) -> None:
        max_lag = config.max_size // 2 if config.max_lag is None else config.max_lag
        self._file = file
        self._clock = clock
        self._bounds = file.bounds
        self._readers = Readers(file.path, self._found_damage)
        self._recent = Recent()
        self._consumers = Consumers(file.consumers)
        folder = file.path.parent
        self._room = Room(config.max_size, _min_free(config, folder), folder, self._consumers.behind)
        self._upkeep = Upkeep(file, self._consumers, self._room, free_space, max_lag)
        self._packer = zstandard.ZstdCompressor(level=LEVEL)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._group: list[_Waiting] = []  # what the writer works on
        self._end = file.bounds.end
        self._grown = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._probe_at = 0.0
        self._mend_at = 0.0
        self._clock_at = 0.0
        self._damage: str | None = None  # what was found, by whichever thread
        self._crowded = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    @classmethod
    def open(
        cls,
        path: Path,
        config: LogConfig,
        clock: Clock,
        *,
        free_space: Callable[[], int] | None = None,
        known: Known = NOTHING_KNOWN,
    ) -> SqliteLog:
        """Opens or makes the file, rescues what is readable of a damaged one, and starts the writer.

        free_space  bytes that are free on the disk; by default the file system is asked
        known       what the store knows of the log
        Raises LogError.
        """
        file = open_or_rescue(path, known, clock.now())
        opened = cls(file, config, clock, free_space or (lambda: shutil.disk_usage(path.parent).free))
        opened._upkeep.look()
        opened._thread.start()
        return opened

    @property
    def log_id(self) -> str:
        return self._file.log_id

    # The event loop's side.

    async def append(self, entry: Entry) -> int:
        cost = len(entry.payload) + len(entry.ids)
        if self._recent.records > BRAKE_RECORDS and self._consumers.required():
            await self._brake()
        self._room.take(cost, empty=self._bounds.gone == self._end)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._queue.put((entry, future, cost))
        if self._room.closing is not None:  # the writer has ended just now and may not have seen it
            raise LogRefused(self._room.closing)
        return await future

    async def _brake(self) -> None:
        for _ in range(BRAKE_STEPS):
            await asyncio.sleep(BRAKE_SECONDS / BRAKE_STEPS)
            if self._recent.records <= BRAKE_RECORDS:
                return

    def _resolve(self, group: list[_Waiting], first: int) -> None:
        for position, (_, future, cost) in enumerate(group, first):
            self._room.give_back(cost)
            # A sender that went away has cancelled its future; the others are no business of it.
            if not future.done():
                future.set_result(position)

    def _refuse(self, group: list[_Waiting], reason: str) -> None:
        for _, future, cost in group:
            self._room.give_back(cost)
            if not future.done():
                future.set_exception(LogRefused(reason, 5.0))

    def refusing(self) -> str | None:
        return self._room.refusing()

    async def close(self) -> None:
        if self._room.closing is None:
            self._room.closing = "the server is stopping"
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("the event log does not close; what waits is refused", seconds=CLOSE_SECONDS)
            self._refuse([*self._group, *self._drained()], "the server is stopping")

    def _drained(self) -> list[_Waiting]:
        found = []
        with suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    found.append(item)
        return found

    # The writer thread.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            # Whatever ended it, nobody may wait for an answer for ever.
            self._room.closing = self._room.closing or "the event log's writer has failed: restart the server"
            self._call(self._refuse, [*self._group, *self._drained()], self._room.closing)
            with self._grown:
                self._grown.notify_all()
            self._readers.close()
            self._file.close()

    def _turn(self) -> bool:
        """One group, and some tidying; False when the log is to be closed."""
        group, goes_on = self._take()
        self._crowded = len(group) > 1
        try:
            if group:
                self._write(group)
            self._tend(idle=not group)
            if not goes_on:
                self._upkeep.save()
                self._keep_clock()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        return goes_on

    def _take(self) -> tuple[list[_Waiting], bool]:
        group = self._group
        size = 0
        try:
            item = self._queue.get(timeout=TICK)
            if self._crowded and self._room.closing is None:
                time.sleep(CROWD_SECONDS)
            while item is not None:
                group.append(item)
                size += item[2]
                if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
                    return group, True
                item = self._queue.get_nowait()
        except queue.Empty:
            # Who closes drains the queue in the end, and may have taken what ends it, too.
            return group, self._room.closing is None
        return group, False

    def _write(self, group: list[_Waiting]) -> None:
        entries = [entry for entry, _, _ in group]
        bounds = self._bounds
        rows = self._rows(entries)
        try:
            self._file.insert(rows)
        except sqlite3.Error as error:
            self._fail(error)
            self._group = []
            self._call(self._refuse, group, self._unwritten(error))
            return
        first, records_before, last = bounds.end + 1, bounds.records, rows[-1]
        stored = last.stored_before + len(last.ids) + len(last.payload)
        self._upkeep.written(stored - bounds.stored)
        bounds.end, bounds.records, bounds.stored = last.position, last.records_before + last.records, stored
        self._recent.add(first, entries, records_before)
        self._end = bounds.end
        self._group = []
        self._call(self._resolve, group, first)
        with self._grown:
            self._grown.notify_all()

    def _rows(self, entries: list[Entry]) -> list[Stored]:
        payloads = [entry.payload for entry in entries]
        large: list[bytes | bytearray | memoryview] = [
            payload for payload in payloads if len(payload) >= WORTH_PACKING
        ]
        # All in one call: between calls the interpreter would have to be waited for.
        packed = iter(self._packer.multi_compress_to_buffer(large)) if large else iter(())
        rows = []
        position, records, stored = self._bounds.end, self._bounds.records, self._bounds.stored
        for entry, payload in zip(entries, payloads, strict=True):
            kept: bytes = next(packed) if len(payload) >= WORTH_PACKING else payload  # type: ignore[assignment]
            smaller = len(kept) < len(payload)
            position += 1
            columns = (
                position,
                entry.arrival,
                entry.signal,
                len(payload),
                entry.records,
                records,
                stored,
                int(smaller),
                entry.ids,
                kept if smaller else payload,
            )
            row = Stored(*columns, checksum(*columns))
            records += entry.records
            stored += len(row.ids) + len(row.payload)
            rows.append(row)
        return rows

    def _call(self, what: Callable[..., None], group: list[_Waiting], argument: object) -> None:
        """Answers a group: one wake-up of the loop, however many wait."""
        if group and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(what, group, argument)

    def _fail(self, error: sqlite3.Error | OSError) -> None:
        self._file.rollback()
        reason = self._unwritten(error)
        if self._damage is None or self._room.broken is None:  # else the first reason says more
            if self._room.broken != reason:
                log.error("senders are asked to come again", reason=reason, file=str(self._file.path))
            self._room.broken = reason
        if is_damage(error) or isinstance(error, Moved | LogDamaged):
            self._damage = trouble(error)
        self._probe_at = time.monotonic() + PROBE_EVERY

    def _unwritten(self, error: sqlite3.Error | OSError) -> str:
        path, mended = self._file.path, is_damage(error) or isinstance(error, Moved | LogDamaged)
        what = (
            "it is mended by itself, or our log says why not"
            if mended
            else remedy(error, "mend the disk", path)
        )
        return f"the event log cannot be written: {path}: {trouble(error)}: {what}"

    def _found_damage(self, what: str) -> None:
        """A reader's thread has found something; the writer mends it."""
        self._damage = what

    def _tend(self, *, idle: bool) -> None:
        if self._damage is not None:
            if time.monotonic() < self._mend_at:
                return
            self._mend(self._damage)
        if self._room.broken is not None:
            if time.monotonic() < self._probe_at:
                return
            self._file.probe(self._clock.now())
            self._upkeep.look()
            self._room.broken = None
            log.info("the event log can be written again", file=str(self._file.path))
        if time.monotonic() >= self._clock_at:
            self._keep_clock()
        self._upkeep.tend(idle=idle, busy=lambda: not self._queue.empty())

    def _keep_clock(self) -> None:
        self._clock_at = time.monotonic() + CLOCK_EVERY
        self._file.remember(CLOCK, self._clock.anchor())
        self._upkeep.written(0)

    def _mend(self, what: str) -> None:
        """Rescues what is readable of the file; one that was taken away is written again from what is open still."""
        self._mend_at = time.monotonic() + MEND_EVERY
        file, now = self._file, self._clock.now()
        with self._readers.kept_out():
            if file.moved():
                found = file.make_again(now)
                log.error(
                    "log.db was deleted or replaced: it was written again, nothing is lost",
                    found_instead=str(found) if found else None,
                )
            else:
                positions = {consumer.name: consumer.position for consumer in self._consumers.all()}
                file.leave()
                known = Known(file.log_id, positions, self._end)
                rescue(file.path, known, now, f"{file.path}: {what}").close()
                file.open()
        self._damage = None
        self._consumers.saved([])  # they are to be written down again

    # The consumers' side.

    def read(self, after: int, *, rows: int = 64, size: int = 8 * MIB, payloads: bool = True) -> list[Row]:
        if after >= self._end:
            return []
        found = self._recent.read(after, rows, size, payloads=payloads)
        if found:
            return found
        # What lies before the rows in memory is on the disk, if it is there at all.
        before = self._recent.begins(after)
        with self._readers.lend() as reader:
            stop = self._end + 1 if before is None else before
            found = reader.rows(after, stop, rows, size)
            self._check_whole(after, stop, found)
        if before is not None and not found:
            return self._recent.read(before - 1, rows, size, payloads=payloads)
        return found

    def _check_whole(self, after: int, stop: int, found: list[Row]) -> None:
        """Raises LogDamaged: rows that must be there are not, since something above them in the tree is damaged.

        stop  the position before which the rows were looked for
        """
        if found and found[-1].position - after == len(found):
            return
        position = max(after, self._bounds.gone, self._file.going)
        for at in [row.position for row in found] or [stop]:
            if at > position + 1 and not any(
                one.first <= position + 1 and (one.last or 0) >= at - 1 for one in self._file.lost
            ):
                raise LogDamaged(f"rows between positions {position} and {at} are not found")
            position = max(position, at)

    def end(self) -> int:
        return self._end

    def lost(self) -> list[Lost]:
        """What is gone though it was answered OK, ever."""
        return list(self._file.lost)

    def missed(self, first: int, last: int, now: int) -> Lost | None:
        """Notes positions that went before a restored store has read them, unless damage took them. Synced.

        Raises LogError.
        """
        if any(one.first <= first and (one.last or 0) >= last for one in self._file.lost):
            return None
        lost = Lost(first, last, None, now, "missed")
        try:
            note_lost(self._file.path, lost)
        except sqlite3.Error as error:
            raise LogError(f"{self._file.path}: {trouble(error)}") from None
        self._file.lost.append(lost)
        return lost

    def has_been_read(self, consumer: str) -> bool:
        """Whether the consumer has dealt with something of this log."""
        return bool(self.position(consumer))

    def wait(self, after: int, timeout: float) -> bool:
        with self._grown:
            self._grown.wait_for(lambda: self._end > after or self._room.closing is not None, timeout)
        return self._end > after

    def oldest(self, after: int) -> int | None:
        row = self._next(after)
        return row[0] if row else None

    def lag(self, after: int) -> tuple[int, float]:
        row = self._next(after)
        if row is None:
            return 0, 0.0
        arrival, records_before = row
        return max(0, self._bounds.records - records_before), max(0, self._clock.now() - arrival) / SECOND

    def _next(self, after: int) -> tuple[int, int] | None:
        if after >= self._end:
            return None
        row = self._recent.next(after)
        if row is None:
            with self._readers.lend() as reader:
                row = reader.next(after)
        return row

    def register(self, consumer: str, position: int, *, required: bool, on_lag: OnLag = "drop") -> int:
        start = min(max(position, self._bounds.gone), self._end)
        self._consumers.register(Consumer(consumer, start, required, on_lag))
        return start

    def release(self, consumer: str, position: int) -> None:
        self._consumers.release(consumer, position)
        self._recent.release(self._consumers.held_in_memory())

    def position(self, consumer: str) -> int | None:
        return next((known.position for known in self._consumers.all() if known.name == consumer), None)

    def consumers(self) -> list[str]:
        return [consumer.name for consumer in self._consumers.all()]

    def forget(self, consumer: str) -> None:
        self._consumers.forget(consumer)

    def gaps(self, consumer: str) -> list[Gap]:
        with self._readers.lend() as reader:
            return reader.gaps(consumer)

    def size(self) -> int:
        """Bytes in use, as of a moment ago: pages that hold something, and the write-ahead log."""
        return self._room.used


def _min_free(config: LogConfig, folder: Path) -> int:
    if config.min_free is not None:
        return config.min_free
    return max(64 * MIB, min(256 * MIB, shutil.disk_usage(folder).total // 20))
