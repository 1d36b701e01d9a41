"""The frame of every exporter: reads the log, puts requests together, sends, sends again, remembers how far it is.

At least once, and nothing is given up in silence: the cursor moves behind a row once the destination has taken it, or
once what it would not take is set aside in the same transaction. How far an exporter reads ahead of its cursor is
bounded in bytes, and so is what is sent twice after a crash.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.exporters.base import Outcome, Piece, Sender, Unreachable, later, never
from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.metrics import WayOut
from otel_ttf.exporters.pace import Pace, Stopping
from otel_ttf.journey.match import Test
from otel_ttf.log.base import Gap, LogError, OnLag, Row
from otel_ttf.otlp.conditions import chosen
from otel_ttf.otlp.leaving import for_vendor
from otel_ttf.otlp.wire import Signal, records_in
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.store.exports import PARTIAL, Cursor, ExportBook
from otel_ttf.store.quarantine import DeadLetter
from otel_ttf.telemetry import failure
from otel_ttf.units import SECOND

SAVE_EVERY = 0.2  # seconds: each costs the disk a sync
PASSED_EVERY = 1.0  # seconds, where there were only rows of other signals
POLL = 0.05  # seconds between looks at the end of the log
READ_ROWS = 256
TRIES = (
    3  # times that a batch may fail by a defect of ours before it is looked for the record that makes it fail
)
# Parts of a batch that may be refused in a row, and in all, before what is left is set aside as it is. One bad record
# in a million is found with the first; the second bounds what a destination costs that refuses every other one.
FRUITLESS = 24
PARTS = 512
# So many batches that were refused as a whole may wait for one that is taken, before each further look costs a wait of
# max_interval. Each such look goes at the oldest of them and at as many others, doubled each time up to the second.
LOOKS = 3
MOST_LOOKS = 64
SMALLEST = 16 * 1024  # bytes: no batch is made smaller than this because the destination found one too large
GROWS = (
    64  # each batch that is taken gives back this part of max_bytes: what found them too large may be gone
)
REFUSED = "its destination"  # source of letters that were refused
LOOK_AT = "look at its endpoint, at our headers and tls, and whether it has room"
AGAIN = 1.0  # seconds, after the log could not be read or the cursor not be written
TOLD = 60.0  # seconds

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


class _Overtaken(Exception):
    """All that was read and not sent went from the log, which did not wait any longer."""


@dataclass(slots=True)
class _Refused:
    """Pieces that were refused. records: how many of theirs; None: all. alone: nothing smaller can be sent."""

    pieces: list[Piece]
    why: str
    records: int | None = None
    alone: bool = True


@dataclass(slots=True, order=True)
class _Batch:
    """Requests that are sent together. What is put back goes first again.

    first      position of the first of them
    positions  of all of them
    began      when it was tried first; None: not yet
    refused    what was refused for good; the rest is in, or in `pieces`
    passed     how many times something had been taken before all of its pieces were refused
    why        they were refused
    """

    first: int
    pieces: list[Piece] = field(compare=False)
    positions: list[int] = field(compare=False)
    began: float | None = field(compare=False, default=None)
    refused: list[_Refused] = field(compare=False, default_factory=list)
    passed: int = field(compare=False, default=0)
    why: str = field(compare=False, default="")


@dataclass(slots=True)
class _Spent:
    """What one delivery of a batch has cost so far.

    in_a_row, parts  parts of it that were refused: since something was taken, and in all
    defects          times that sending failed by a defect of ours
    taken            whether any of it was taken
    """

    in_a_row: int = 0
    parts: int = 0
    defects: int = 0
    taken: bool = False


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
        self._clock = clock
        self._ceiling = ceiling
        self._only = only
        self._annotate = annotate
        self._count = count
        retry, queue = config.retry_on_failure, config.sending_queue
        self._pace = Pace(retry.initial_interval / SECOND, retry.max_interval / SECOND)
        self._workers = 1 if config.ordered else queue.num_consumers
        self._batch_bytes = queue.batch.max_bytes
        self._window = (self._workers + 2) * queue.batch.max_bytes
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
        self._letters: list[DeadLetter] = []
        self._busy = 0
        self._sent = False  # since the cursor was saved
        # Batches of which all was refused and none taken since; how many were tried since the last wait, and may be.
        self._undecided: list[_Batch] = []
        self._looked, self._looks = 0, LOOKS
        self._passed = 0  # batches of which something was taken
        self._refusing = False  # all that the destination says is no
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False
        self._read_all = False
        self._why: str | None = None
        self._unsaved: str | None = None
        self._told: dict[str, float] = {}

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
        if self._why is None:
            return None
        records, seconds = self.lag()
        what, mend = ("refuses everything", f"{LOOK_AT}; ") if self._refusing else ("takes nothing", "")
        return (
            f"exporter {self.name}: its destination {what} ({self._why}): {records} records wait, the oldest "
            f"for {seconds:.0f} s; {mend}nothing is lost while they are less than log.max_lag; it goes on by itself"
        )

    def start(self) -> None:
        """Finds out how far it is, and has the log keep what comes after. Raises sqlite3.Error, OSError."""
        source = self._source
        saved, known = self._book.cursor(self.name, source.log_id), source.position(self.name)
        new = saved is None and known is None
        start_at = (
            self.config.start_at if self._book.last(self.name) is None else "beginning"
        )  # of another log
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
            lambda: self.lag()[0], lambda: float(not self._pace.open), lambda: float(self._refusing)
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
                    for _ in range(self._workers):
                        group.create_task(self._work())
            except* _Overtaken:
                pass  # it goes on behind the gap

    async def _begin(self) -> None:
        """Everything as after a start."""
        with suppress(sqlite3.Error, OSError):
            if self._writing is not None:
                await self._writing
        self._ready: asyncio.PriorityQueue[_Batch] = asyncio.PriorityQueue()
        self._dirty, self._ending = asyncio.Event(), asyncio.Event()
        if self._stopping:
            self._ending.set()
        self._at, self._records = self._saved, self._saved_records
        self._building = _Building()
        for waiting in (self._open, self._ahead, self._letters, self._undecided):
            waiting.clear()
        self._ahead_bytes = self._busy = 0
        self._looked, self._looks = 0, LOOKS

    async def drained(self, deadline: float) -> None:
        """Sends what is in the log until then (time.monotonic), as long as the destination takes it."""
        self._stopping = self._pace.stopping = True
        self._ending.set()
        while monotonic() < deadline:
            idle = not self._busy and self._ready.empty()
            if idle and (self._read_all or self._pace.failures) and self._saved == self._cursor().position:
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
            piece = await self._blocking(partial(self._once_more, letter))
        except Exception as error:  # noqa: BLE001 - as when it was read first
            told = failure(error)
            return f"{told['error']} at {told['place']}"
        if piece is None:
            return None
        outcome = await self._send([piece])
        if outcome.rejected or outcome.retry:
            return outcome.why
        self._metrics.sent(letter.signal, piece.row.records - outcome.unnamed)
        return f"{PARTIAL}: {outcome.unnamed} records were not taken" if outcome.unnamed else None

    def _once_more(self, letter: DeadLetter) -> Piece | None:
        """What of a letter may go; None: nothing. For a thread, and raises, as _prepared."""
        records = records_in(letter.signal, letter.payload)
        row = Row(letter.position, letter.arrival, letter.signal, letter.payload, letter.ids, records)
        if letter.source != REFUSED:
            return self._leaving(row)
        allowed = self._allowed(row)  # it was prepared before, but perhaps when `vendor` was false
        return None if allowed is None else Piece(allowed)

    # Reading.

    async def _read(self) -> None:
        while True:
            # A second one is read whatever its size: it tells whether the first is to blame, see _next.
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
                if self._may_tell("log"):
                    log.error(
                        "an exporter cannot read what it is to send", exporter=self.name, reason=str(error)
                    )
                await asyncio.sleep(AGAIN)
                continue
            try:
                for row, piece in rows:
                    self._take(row, piece)
            except Unreachable as error:
                if self._may_tell("prepare"):
                    log.error("an exporter cannot prepare records", exporter=self.name, reason=str(error))
                await asyncio.sleep(AGAIN)
            self._flush(aged=True)

    def _prepared(self, end: int) -> list[tuple[Row, Piece | Exception | None]]:
        """The next rows up to a position, and what of each may go, see _leaving; or what that has raised, the last one
        Unreachable. For a thread: of a large request it may take seconds. Raises LogError."""
        made: list[tuple[Row, Piece | Exception | None]] = []
        for row in self._source.read(self._at, rows=READ_ROWS, size=self._batch_bytes):
            if row.position > end or (made and isinstance(made[-1][1], Unreachable)):
                break
            piece: Piece | Exception | None = None
            if row.signal == self._signal and row.records:
                try:
                    piece = self._leaving(row)
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
            self._letters += self._aside([Piece(row)], told["error"], source=told["place"])
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
        if self._building.size + piece.size > self._batch_bytes:
            self._go()
        waiting = self._building
        if not waiting.pieces:
            waiting.since = monotonic()
        waiting.pieces.append(piece)
        waiting.records += piece.row.records
        waiting.size += piece.size
        if waiting.records >= self.config.sending_queue.batch.min_size or waiting.size >= self._batch_bytes:
            self._go()

    def _leaving(self, row: Row) -> Piece | None:
        """What of a row may go; None: nothing. Raises Malformed, Unreachable."""
        allowed = self._allowed(row)
        if allowed is None:
            return None
        row = allowed
        if row.view is not None:  # the tracker's
            row = replace(row, view=None)
        return Piece(self.config.prepare(self._annotate(row) if self._annotate is not None else row))

    def _allowed(self, row: Row) -> Row | None:
        """A row without what is not asked for, and what must not go to a vendor, where the destination is one; None:
        nothing is left. Raises Malformed."""
        if self._only is not None:
            payload, ids, left = chosen(row.signal, row.payload, row.ids, self._only)
            self._metrics.elsewhere.inc(row.records - left)
            if not left:
                return None
            row = replace(row, payload=payload, ids=ids, records=left)
        if not self.config.vendor:
            return row
        payload = for_vendor(row.signal, row.payload)
        if payload is row.payload:
            return row
        left = records_in(row.signal, payload) if payload else 0
        self._metrics.withheld.inc(row.records - left)
        # Places of ids are those of the whole request.
        return replace(row, payload=payload, ids=b"", records=left) if left else None

    def _skip(self, row: Row) -> None:
        """Rows before this one went before they were sent: that is set aside, too."""
        first, last = self._at + 1, row.position - 1
        known = [gap for gap in self._source.gaps(self.name) if gap.first <= last and gap.last >= first]
        records = sum(gap.records for gap in known) if self._records is None else row.before - self._records
        self._metrics.skipped(last, records)
        why = "beyond log.max_lag" if known else "no longer in the log"
        self._letters.append(
            DeadLetter(
                *(None, self._source.log_id, first, 0, self._signal, row.arrival, b"", b"", why),
                *(
                    f"positions {first} to {last}, {records} records of all signals",
                    0,
                    self._clock.now(),
                ),
                consumer=self.name,
            )
        )
        self._count("set_aside", 1)
        if self._may_tell("skipped"):
            log.error(
                "an exporter skips records that went before they were sent",
                exporter=self.name,
                records=records,
                reason=why,
            )

    def _flush(self, *, aged: bool = False) -> None:
        """Lets the batch go. aged: if it has waited long enough."""
        longest = self.config.sending_queue.batch.flush_timeout / SECOND
        if not aged or monotonic() - self._building.since >= longest:
            self._go()

    def _go(self) -> None:
        pieces = self._building.pieces
        self._building = _Building()
        if pieces:
            positions = [piece.row.position for piece in pieces]
            self._ready.put_nowait(_Batch(positions[0], pieces, positions))

    # Sending.

    async def _work(self) -> None:
        while True:
            batch = await self._next()
            self._busy += 1
            try:
                await self._deliver(batch)
            except Stopping:
                continue  # it stays in the log
            finally:
                self._busy -= 1
            if not batch.pieces:
                self._done(batch)
            elif self._passed > batch.passed:  # others were taken in between: it is the records
                batch.refused.append(_Refused(batch.pieces, batch.why))
                self._done(batch)
            else:
                self._undecide(batch)

    async def _next(self) -> _Batch:
        """The batch that is to be sent next."""
        if self._undecided and self._ready.empty():
            # Another one would tell whether it is the destination that is wrong; without any, it is asked again.
            try:
                async with asyncio.timeout(self.config.retry_on_failure.max_interval / SECOND):
                    self._ready.put_nowait(await self._ready.get())
            except TimeoutError:
                if self._undecided:
                    self._say(Outcome(why=self._undecided[0].why, barred=True))
            self._put_back()
        return await self._ready.get()

    def _done(self, batch: _Batch) -> None:
        """Nothing of it is to be sent any more."""
        for one in batch.refused:
            self._letters += self._aside(one.pieces, one.why, one.records)
        for position in batch.positions:
            del self._open[position]
        self._sent = True
        self._dirty.set()

    def _undecide(self, batch: _Batch) -> None:
        """All of it was refused, and nothing else was taken since: nobody knows whether it is its records."""
        self._undecided.append(batch)
        self._looked += 1
        if self._looked <= self._looks:
            return
        with suppress(LogError):
            if any(gap.last >= self._at for gap in self._source.gaps(self.name)):
                raise _Overtaken
        self._looked, self._looks = 0, min(2 * self._looks, MOST_LOOKS)
        self._fails(Outcome(why=batch.why, barred=True))
        oldest = min(self._undecided)
        self._undecided.remove(oldest)
        self._ready.put_nowait(oldest)

    def _put_back(self) -> None:
        """What is undecided is tried again."""
        for batch in self._undecided:
            self._ready.put_nowait(batch)
        self._undecided.clear()

    async def _deliver(self, batch: _Batch) -> None:
        """Sends until all of it is taken or refused; `pieces` are then those of which nobody knows whether they are
        to blame for it. Raises Stopping."""
        if batch.began is None:
            batch.began, batch.passed = monotonic(), self._passed
        refused: list[_Refused] = []
        spent = _Spent()
        stack = [batch.pieces]
        while stack:
            sent = stack.pop()
            outcome = await self._attempt(sent, spent)
            kept = [piece for at, piece in enumerate(sent) if at not in outcome.rejected]
            again = [sent[at] for at in outcome.retry]
            taken = sum(piece.row.records for piece in kept) - sum(piece.row.records for piece in again)
            self._metrics.sent(self._signal, taken - outcome.unnamed)
            if outcome.unnamed:
                why = f"{PARTIAL}: {outcome.unnamed} of {taken} records"
                batch.refused.append(_Refused(kept, why, outcome.unnamed))
            if again and self._given_up(batch):
                batch.refused.append(_Refused(again, outcome.why))
            elif again:
                stack.append(again)
            if taken:
                self._takes()
                spent.in_a_row, spent.taken = 0, True
                batch.refused += refused
                refused = []
            if outcome.rejected:
                bad = [sent[at] for at in sorted(outcome.rejected)]
                parts = self._parts(bad, outcome, spent)
                stack += reversed(parts)
                if not parts:
                    refused.append(_Refused(bad, outcome.why, alone=spent.in_a_row <= FRUITLESS))
        given_up = self._given_up(batch)
        if spent.taken:
            batch.passed = self._passed
        batch.pieces = []
        for one in refused:
            # A record that was refused alone, beside others that were taken, is to blame.
            if given_up or (spent.taken and one.alone):
                batch.refused.append(one)
            else:
                batch.pieces += one.pieces
                batch.why = one.why

    def _takes(self) -> None:
        """The destination has taken something."""
        self._passed += 1
        most = self.config.sending_queue.batch.max_bytes
        self._batch_bytes = min(most, self._batch_bytes + most // GROWS)
        self._looked, self._looks = 0, LOOKS
        self._put_back()
        self._pace.answered()
        self._refusing = False
        if self._why is not None:
            log.info("an exporter's destination takes records again", exporter=self.name)
            self._why = None

    def _given_up(self, batch: _Batch) -> bool:
        longest = self.config.retry_on_failure.max_elapsed_time / SECOND
        return 0 < longest <= monotonic() - (batch.began or 0.0)

    def _parts(self, bad: list[Piece], outcome: Outcome, spent: _Spent) -> list[list[Piece]]:
        """Both halves of what was refused; empty: it is one record, or looking further costs too much."""
        spent.in_a_row += 1
        spent.parts += outcome.fault == "data"
        if outcome.fault == "all" or spent.in_a_row > FRUITLESS or spent.parts > PARTS:
            return []
        if outcome.fault == "size":
            self._batch_bytes = max(SMALLEST, min(self._batch_bytes, sum(p.size for p in bad) // 2))
        if len(bad) > 1:
            middle = len(bad) // 2
            return [bad[:middle], bad[middle:]]
        return [[half] for half in bad[0].halves()]

    async def _attempt(self, batch: list[Piece], spent: _Spent) -> Outcome:
        """One request, when its turn has come. Raises Stopping."""
        async with self._pace.turn():
            outcome = await self._send(batch, spent)
            if outcome.retry:
                self._fails(outcome)
            return outcome

    def _fails(self, outcome: Outcome) -> None:
        """Nothing was taken; what there is to send is sent again later."""
        self._metrics.retries.inc()
        self._pace.failed(outcome.after, barred=outcome.barred)
        self._say(outcome)

    def _say(self, outcome: Outcome) -> None:
        """For operators: why nothing is taken."""
        self._why, self._refusing = outcome.why, outcome.barred
        if not self._may_tell("refusing" if outcome.barred else "failing"):
            return
        if outcome.barred:
            log.error(
                "an exporter's destination refuses everything: records wait in the log, and one request each "
                f"max_interval finds out whether it is mended; {LOOK_AT}",
                exporter=self.name,
                reason=outcome.why,
            )
        else:
            log.warning(
                "an exporter's destination takes nothing; it is tried again, and records wait in the log",
                exporter=self.name,
                reason=outcome.why,
            )

    async def _send(self, batch: list[Piece], spent: _Spent | None = None) -> Outcome:
        """What became of it, whatever happens."""
        try:
            with self._metrics.seconds.time():
                return await self._sender.send(batch)
        except Unreachable as error:
            return later(batch, str(error))
        except Exception as error:  # noqa: BLE001 - the frame counts and tries again
            told = failure(error)
            why = f"{told['error']} at {told['place']}"
            if spent is not None:
                spent.defects += 1
            if spent is None or spent.defects % TRIES == 0:
                return never(batch, why)
            return later(batch, why)

    # What will never be taken.

    def _aside(
        self,
        pieces: Sequence[Piece],
        why: str,
        records: int | None = None,
        source: str = REFUSED,
    ) -> list[DeadLetter]:
        """records  how many of theirs were not taken, where that is not all"""
        if records is None:
            records = sum(piece.row.records for piece in pieces)
        self._metrics.failed(self._signal, records)
        self._count("set_aside", sum(piece.row.records for piece in pieces))
        if self._may_tell("aside"):
            log.error(
                "records were set aside that an exporter's destination does not take; see otel-ttf dead-letters list",
                exporter=self.name,
                records=records,
                reason=why,
            )
        return [self._letter(piece, why, source) for piece in pieces]

    def _letter(self, piece: Piece, error: str, source: str) -> DeadLetter:
        row = piece.row
        return DeadLetter(
            *(
                None,
                self._source.log_id,
                row.position,
                piece.place,
                row.signal,
                row.arrival,
                row.payload,
                row.ids,
            ),
            *(error, source, 0, self._clock.now(), row.records, self.name),
        )

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
                if self._may_tell("unsaved"):
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
        letters = [letter for letter in self._letters if letter.position <= cursor.position]
        if cursor.position == self._saved and not letters:
            return
        gone = await self._blocking(lambda: self._book.save(cursor, letters))
        self._letters = [letter for letter in self._letters if letter.position > cursor.position]
        self._saved, self._saved_records = cursor.position, cursor.records
        self._source.release(self.name, cursor.position)
        while self._ahead and self._ahead[0][0] <= cursor.position:
            self._ahead_bytes -= self._ahead.popleft()[1]
        if gone:
            self._count("displaced", gone)
            if self._may_tell("displaced"):
                log.error(
                    "there is no room for all that exporters have set aside: the oldest records are gone",
                    records=gone,
                )

    async def _blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _may_tell(self, what: str) -> bool:
        """Once a minute of each kind."""
        now = monotonic()
        if now - self._told.get(what, -TOLD) < TOLD:
            return False
        self._told[what] = now
        return True
