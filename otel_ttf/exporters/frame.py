"""The frame of every exporter: reads the log, puts requests together, has them delivered, remembers how far it is.

At least once, and nothing is given up in silence: the cursor moves behind a row once the destination has taken it, or
once what it would not take is set aside in the same transaction. How far an exporter reads ahead of its cursor is
bounded in bytes, and so is what is sent twice after a crash.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.exporters.base import Piece, Sender, Unreachable
from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.delivery import Batch, Delivery, Overtaken
from otel_ttf.exporters.leaving import Leaving
from otel_ttf.exporters.metrics import WayOut
from otel_ttf.exporters.setting_aside import Aside
from otel_ttf.exporters.telling import Telling
from otel_ttf.journey.match import Test
from otel_ttf.log.base import Gap, LogError, OnLag, Row
from otel_ttf.otlp.wire import Signal
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.store.exports import Cursor, ExportBook
from otel_ttf.store.quarantine import DeadLetter
from otel_ttf.telemetry import failure
from otel_ttf.units import SECOND

SAVE_EVERY = 0.2  # seconds: each costs the disk a sync
PASSED_EVERY = 1.0  # seconds, where there were only rows of other signals
POLL = 0.05  # seconds between looks at the end of the log
READ_ROWS = 256
AGAIN = 1.0  # seconds, after the log could not be read or the cursor not be written

T = TypeVar("T")

log = structlog.get_logger()


class Source(Protocol):
    """What an exporter reads: the event log, or something that is read in the same way. See log.base.EventLog."""

    @property
    def log_id(self) -> str: ...
    def end(self) -> int: ...
    def read(self, after: int, *, rows: int = 64, size: int = 8 << 20) -> list[Row]: ...
    def lag(self, after: int) -> tuple[int, float]: ...
    def position(self, consumer: str) -> int | None: ...
    def register(self, consumer: str, position: int, *, required: bool, on_lag: OnLag = "drop") -> int: ...
    def release(self, consumer: str, position: int) -> None: ...
    def gaps(self, consumer: str) -> list[Gap]: ...


@dataclass(slots=True)
class _Building:
    """Requests that wait for others."""

    pieces: list[Piece] = field(default_factory=list)
    records: int = 0
    size: int = 0
    since: float = 0.0


class Exporter:
    """One consumer of the log, for one signal. `start` is for any thread; the rest for the exporters' event loop.

    name     as a consumer
    signal   what is sent; rows of others are passed over
    ceiling  a position beyond which nothing is to be read yet; None: there is none
    only     which records are sent: a condition; None: all
    annotate what is added to a request; the number of its records stays
    count    told what was done to records: set_aside, displaced; to a gap as to one
    """

    def __init__(
        self,
        name: str,
        config: ExporterConfig,
        signal: Signal,
        sender: Sender,
        source: Source,
        book: ExportBook,
        metrics: WayOut,
        clock: Clock,
        *,
        ceiling: Callable[[], int] | None = None,
        only: Test | None = None,
        annotate: Callable[[Row], Row] | None = None,
        count: Callable[[str, int], None] = lambda action, records: None,
    ) -> None:
        self.name = name
        self.config = config
        self._signal = signal
        self._sender = sender
        self._source = source
        self._book = book
        self._metrics = metrics
        self._ceiling = ceiling
        self._telling = telling = Telling()
        self._leaving = Leaving(config, metrics, only, annotate)
        self._aside = Aside(name, signal, source.log_id, metrics, clock, telling, count)
        self._delivery = Delivery(name, config, signal, sender, metrics, telling, self._done, self._overtaken)
        self._window = (self._delivery.workers + 2) * config.sending_queue.batch.max_bytes
        # Where reading is; records in all rows up to there, if that is known.
        self._at = 0
        self._records: int | None = None
        self._saved = 0
        self._saved_records: int | None = None
        self._building = _Building()
        # Rows that are on their way, in order: position -> records in all rows before it.
        self._open: dict[int, int] = {}
        # (position, bytes) of what was read and is not behind the cursor yet.
        self._ahead: deque[tuple[int, int]] = deque()
        self._ahead_bytes = 0
        self._sent = False  # since the cursor was saved
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False
        self._read_all = False
        self._unsaved: str | None = None

    # Any thread.

    @property
    def position(self) -> int:
        """Everything up to it is sent or set aside, durably."""
        return self._saved

    def lag(self) -> tuple[int, float]:
        """Records behind the log's end, and the age of the oldest of them in seconds."""
        try:
            return self._source.lag(self._saved)
        except LogError:
            return 0, 0.0  # whose file it is says so

    def note(self) -> str | None:
        """For operators: what is the matter with it."""
        if self._unsaved is not None:
            return (
                f"exporter {self.name}: {self._unsaved}; what it has sent since is sent again after a restart"
            )
        if self._delivery.why is None:
            return None
        records, seconds = self.lag()
        what, mend = self._delivery.told()
        return (
            f"exporter {self.name}: its destination {what}: {records} records wait, the oldest for {seconds:.0f} s; "
            f"{mend}nothing is lost while they are less than log.max_lag; it goes on by itself"
        )

    def start(self) -> None:
        """Finds out how far it is, and has the log keep what comes after. Raises sqlite3.Error, OSError."""
        source = self._source
        saved, known = self._book.cursor(self.name, source.log_id), source.position(self.name)
        new = saved is None and known is None
        # Who was here with another log has sent nothing of this one.
        start_at = self.config.start_at if self._book.last(self.name) is None else "beginning"
        if saved is not None and known is not None and known > saved.position and not source.gaps(self.name):
            position = known  # of a file that was put back from a copy, or damaged: the log knows more
        elif saved is not None:
            position = saved.position
        elif known is not None:
            position = known
        else:
            position = source.end() if start_at == "end" else 0
        first = source.register(self.name, position, required=False, on_lag=self.config.on_lag)
        # Rows that are gone already are found to be missing when the next one is read.
        self._at = first if new else min(position, source.end())
        self._records = saved.records if saved is not None and saved.position == self._at else None
        self._saved, self._saved_records = self._at, self._records
        if saved is None or saved.position != self._at:
            self._book.save(self._cursor())
        self._metrics.watch(
            lambda: self.lag()[0],
            lambda: float(not self._delivery.pace.open),
            lambda: float(self._delivery.refusing),
        )

    # The event loop.

    async def run(self, pool: Executor) -> None:
        """Sends until it is cancelled, from where it was saved. pool: for what blocks. Raises nothing but defects."""
        self._pool = pool
        while True:
            await self._begin()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read())
                    group.create_task(self._save())
                    for _ in range(self._delivery.workers):
                        group.create_task(self._delivery.work())
            except* Overtaken:
                pass  # it goes on behind the gap

    async def _begin(self) -> None:
        """Everything as after a start."""
        with suppress(sqlite3.Error, OSError):
            if self._writing is not None:
                await self._writing
        self._delivery.begin()
        self._dirty, self._ending = asyncio.Event(), asyncio.Event()
        if self._stopping:
            self._ending.set()
        self._at, self._records = self._saved, self._saved_records
        self._building = _Building()
        for waiting in (self._open, self._ahead, self._aside):
            waiting.clear()
        self._ahead_bytes = 0

    async def drained(self, deadline: float) -> None:
        """Sends what is in the log until then (time.monotonic), as long as the destination takes it."""
        pace = self._delivery.pace
        self._stopping = pace.stopping = True
        self._ending.set()
        while monotonic() < deadline:
            over = self._delivery.idle and (self._read_all or pace.failures)
            if over and self._saved == self._cursor().position:
                return
            await asyncio.sleep(POLL / 2)

    async def close(self) -> None:
        """What was sent is remembered, once more; `run` is over."""
        with suppress(sqlite3.Error, OSError):
            if self._writing is not None:
                await self._writing
            await self._write()
        await self._sender.close()

    async def resend(self, letter: DeadLetter) -> str | None:
        """Sends what was set aside once more; why it was not taken, None if it was."""
        if not letter.payload:
            return "its records are gone"
        try:
            piece = await self._blocking(partial(self._leaving.once_more, letter))
        except Exception as error:  # noqa: BLE001 - as when it was read first
            told = failure(error)
            return f"{told['error']} at {told['place']}"
        return None if piece is None else await self._delivery.resend(piece)

    # Reading.

    async def _read(self) -> None:
        while True:
            # A second one is read whatever its size: it tells whether the first is to blame.
            if self._ahead_bytes >= self._window and len(self._ahead) > 1:
                self._flush()  # else nobody would make room
                await asyncio.sleep(POLL)
                continue
            try:
                last = end = self._source.end()
                if self._ceiling is not None:
                    end = min(end, self._ceiling())
                self._read_all = last <= self._at
                if end <= self._at:
                    self._flush(aged=not self._stopping)
                    await asyncio.sleep(POLL)
                    continue
                rows = await self._blocking(partial(self._prepared, end))
            except LogError as error:
                if self._telling.due("log"):
                    log.error(
                        "an exporter cannot read what it is to send", exporter=self.name, reason=str(error)
                    )
                await asyncio.sleep(AGAIN)
                continue
            try:
                for row, piece in rows:
                    self._take(row, piece)
            except Unreachable as error:
                if self._telling.due("prepare"):
                    log.error("an exporter cannot prepare records", exporter=self.name, reason=str(error))
                await asyncio.sleep(AGAIN)
            self._flush(aged=True)

    def _prepared(self, end: int) -> list[tuple[Row, Piece | Exception | None]]:
        """The next rows up to a position, and what of each may go; or what that has raised, the last one
        Unreachable. For a thread: of a large request it may take seconds. Raises LogError."""
        made: list[tuple[Row, Piece | Exception | None]] = []
        for row in self._source.read(self._at, rows=READ_ROWS, size=self._delivery.batch_bytes):
            if row.position > end or (made and isinstance(made[-1][1], Unreachable)):
                break
            piece: Piece | Exception | None = None
            if row.signal == self._signal and row.records:
                try:
                    piece = self._leaving.of(row)
                except Exception as error:  # noqa: BLE001 - a request that makes us fail must not stop the others
                    piece = error
            made.append((row, piece))
        return made

    def _take(self, row: Row, piece: Piece | Exception | None) -> None:
        """Raises Unreachable: what is needed for it cannot be read now; then nothing is taken."""
        if isinstance(piece, Unreachable):
            raise piece
        if isinstance(piece, Exception):
            told = failure(piece)
            self._aside.put([Piece(row)], told["error"], source=told["place"])
            piece = None
        if row.position > self._at + 1:
            self._skip(row)
        self._at, self._records = row.position, row.before + row.records
        if piece is None:
            self._dirty.set()
            return
        self._open[row.position] = row.before
        self._ahead.append((row.position, piece.size))
        self._ahead_bytes += piece.size
        if self._building.size + piece.size > self._delivery.batch_bytes:
            self._go()
        waiting = self._building
        if not waiting.pieces:
            waiting.since = monotonic()
        waiting.pieces.append(piece)
        waiting.records += piece.row.records
        waiting.size += piece.size
        if (
            waiting.records >= self.config.sending_queue.batch.min_size
            or waiting.size >= self._delivery.batch_bytes
        ):
            self._go()

    def _skip(self, row: Row) -> None:
        """Rows before this one went before they were sent: that is set aside, too."""
        first = self._at + 1
        known = [
            gap for gap in self._source.gaps(self.name) if gap.first < row.position and gap.last >= first
        ]
        records = sum(gap.records for gap in known) if self._records is None else row.before - self._records
        self._aside.skipped(first, row, records, "beyond log.max_lag" if known else "no longer in the log")

    def _flush(self, *, aged: bool = False) -> None:
        """Lets the batch go. aged: if it has waited long enough."""
        longest = self.config.sending_queue.batch.flush_timeout / SECOND
        if not aged or monotonic() - self._building.since >= longest:
            self._go()

    def _go(self) -> None:
        pieces = self._building.pieces
        self._building = _Building()
        if pieces:
            self._delivery.put(pieces)

    def _done(self, batch: Batch) -> None:
        """Nothing of it is to be sent any more."""
        for one in batch.refused:
            self._aside.put(one.pieces, one.why, one.records)
        for position in batch.positions:
            del self._open[position]
        self._sent = True
        self._dirty.set()

    def _overtaken(self) -> bool:
        """Whether all that was read and not sent went from the log, which did not wait any longer."""
        with suppress(LogError):
            return any(gap.last >= self._at for gap in self._source.gaps(self.name))
        return False

    # Remembering.

    def _cursor(self) -> Cursor:
        """Behind it everything is sent or set aside."""
        for position, before in self._open.items():
            return Cursor(self.name, self._source.log_id, position - 1, before)
        return Cursor(self.name, self._source.log_id, self._at, self._records)

    async def _save(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            sent, self._sent = self._sent, False
            try:
                # What is begun is ended, or close would write the same letters once more.
                self._writing = asyncio.create_task(self._write())
                await asyncio.shield(self._writing)
                self._unsaved = self._writing = None
                await self._rest(SAVE_EVERY if sent else PASSED_EVERY)
            except (sqlite3.Error, OSError) as error:
                path = self._book.path
                self._unsaved = f"{path}: {trouble(error)}: {remedy(error, 'mend it', path)}"
                if self._telling.due("unsaved"):
                    log.error("exporters.db cannot be written", exporter=self.name, reason=self._unsaved)
                await asyncio.sleep(AGAIN)
                self._dirty.set()

    async def _rest(self, seconds: float) -> None:
        """Until the cursor may be saved again; at the end at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _write(self) -> None:
        """Raises sqlite3.Error, OSError."""
        cursor = self._cursor()
        # Of what lies beyond the cursor more may be set aside before it is behind it.
        letters = self._aside.upto(cursor.position)
        if cursor.position == self._saved and not letters:
            return
        gone = await self._blocking(lambda: self._book.save(cursor, letters))
        self._aside.written(cursor.position)
        self._saved, self._saved_records = cursor.position, cursor.records
        self._source.release(self.name, cursor.position)
        while self._ahead and self._ahead[0][0] <= cursor.position:
            self._ahead_bytes -= self._ahead.popleft()[1]
        self._aside.displaced(gone)

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
