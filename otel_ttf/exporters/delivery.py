"""From what was read to what the destination has taken: whose turn it is, what is tried again, who is to blame.

A refusal counts against a batch only when something else was taken since it was tried first. While nothing is, it is
the destination that is wrong, and nothing is set aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import structlog

from otel_ttf.exporters.base import Outcome, Piece, Sender, Unreachable, later, never
from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.metrics import WayOut
from otel_ttf.exporters.pace import Pace, Stopping
from otel_ttf.exporters.telling import Telling
from otel_ttf.otlp.wire import Signal
from otel_ttf.store.exports import PARTIAL
from otel_ttf.telemetry import failure
from otel_ttf.units import SECOND

# Times that a batch may fail by a defect of ours before it is looked for the record that makes it fail.
TRIES = 3
# Parts of a batch that may be refused in a row, and in all, before what is left is set aside as it is. One bad record
# in a million is found with the first; the second bounds what a destination costs that refuses every other one.
FRUITLESS = 24
PARTS = 512
# So many batches that were refused as a whole may wait for one that is taken, before each further look costs a wait of
# max_interval. Each such look goes at the oldest of them and at as many others, doubled each time up to the second.
LOOKS = 3
MOST_LOOKS = 64
SMALLEST = 16 * 1024  # bytes: no batch is made smaller than this because the destination found one too large
# Each batch that is taken gives back this part of max_bytes: what found them too large may be gone.
GROWS = 64
LOOK_AT = "look at its endpoint, at our headers and tls, and whether it has room"

log = structlog.get_logger()


class Overtaken(Exception):
    """All that was read and not sent went from the log, which did not wait any longer."""


@dataclass(slots=True)
class Refused:
    """Pieces that were refused. records: how many of theirs; None: all. alone: nothing smaller can be sent."""

    pieces: list[Piece]
    why: str
    records: int | None = None
    alone: bool = True


@dataclass(slots=True, order=True)
class Batch:
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
    refused: list[Refused] = field(compare=False, default_factory=list)
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


class Delivery:
    """Batches of one exporter. For one event loop, but for what tells how it is.

    done       told of each batch that is not to be sent any more, with what was refused of it
    overtaken  whether all that was read went from the log
    batch_bytes  so large batches may be now
    why        nothing is taken, for operators; refusing: it answers, and all that it says is no
    """

    def __init__(
        self,
        name: str,
        config: ExporterConfig,
        signal: Signal,
        sender: Sender,
        metrics: WayOut,
        telling: Telling,
        done: Callable[[Batch], None],
        overtaken: Callable[[], bool],
    ) -> None:
        self._name = name
        self._signal = signal
        self._sender = sender
        self._metrics = metrics
        self._telling = telling
        self._done = done
        self._overtaken = overtaken
        self._retry, queue = config.retry_on_failure, config.sending_queue
        self.workers = 1 if config.ordered else queue.num_consumers
        self._most_bytes = self.batch_bytes = queue.batch.max_bytes
        self.pace = Pace(self._retry.initial_interval / SECOND, self._retry.max_interval / SECOND)
        self.why: str | None = None
        self.refusing = False
        self._passed = 0  # times that something was taken
        # Batches of which all was refused and none taken since; how many were tried since the last wait, and may be.
        self._undecided: list[Batch] = []
        self._looked, self._looks = 0, LOOKS
        self._busy = 0

    def begin(self) -> None:
        """Nothing is on its way."""
        self._ready: asyncio.PriorityQueue[Batch] = asyncio.PriorityQueue()
        self._undecided.clear()
        self._looked, self._looks = 0, LOOKS
        self._busy = 0

    @property
    def idle(self) -> bool:
        """Nothing is on its way, or could be."""
        return not self._busy and self._ready.empty()

    def put(self, pieces: list[Piece]) -> None:
        """They are to be sent together."""
        positions = [piece.row.position for piece in pieces]
        self._ready.put_nowait(Batch(positions[0], pieces, positions))

    async def resend(self, piece: Piece) -> str | None:
        """Once, out of turn; why it was not taken, None if it was."""
        outcome = await self._send([piece])
        if outcome.rejected or outcome.retry:
            return outcome.why
        self._metrics.sent(self._signal, piece.row.records - outcome.unnamed)
        return f"{PARTIAL}: {outcome.unnamed} records were not taken" if outcome.unnamed else None

    def told(self) -> tuple[str, str]:
        """For operators, where `why` says something: what the destination does, and where to look."""
        if self.refusing:
            return f"refuses everything ({self.why})", f"{LOOK_AT}; "
        return f"takes nothing ({self.why})", ""

    async def work(self) -> None:
        """Sends one batch after the other. Raises Overtaken."""
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
                batch.refused.append(Refused(batch.pieces, batch.why))
                self._done(batch)
            else:
                self._undecide(batch)

    async def _next(self) -> Batch:
        """The batch that is to be sent next."""
        if self._undecided and self._ready.empty():
            # Another one would tell whether it is the destination that is wrong; without any, it is asked again.
            try:
                async with asyncio.timeout(self._retry.max_interval / SECOND):
                    self._ready.put_nowait(await self._ready.get())
            except TimeoutError:
                if self._undecided:
                    self._say(Outcome(why=self._undecided[0].why, barred=True))
            self._put_back()
        return await self._ready.get()

    def _undecide(self, batch: Batch) -> None:
        """All of it was refused, and nothing else was taken since: nobody knows whether it is its records."""
        self._undecided.append(batch)
        self._looked += 1
        if self._looked <= self._looks:
            return
        if self._overtaken():
            raise Overtaken
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

    async def _deliver(self, batch: Batch) -> None:
        """Sends until all of it is taken or refused; `pieces` are then those of which nobody knows whether they are
        to blame for it. Raises Stopping."""
        if batch.began is None:
            batch.began, batch.passed = monotonic(), self._passed
        refused: list[Refused] = []
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
                batch.refused.append(Refused(kept, why, outcome.unnamed))
            if again and self._given_up(batch):
                batch.refused.append(Refused(again, outcome.why))
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
                    refused.append(Refused(bad, outcome.why, alone=spent.in_a_row <= FRUITLESS))
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
        self.batch_bytes = min(self._most_bytes, self.batch_bytes + self._most_bytes // GROWS)
        self._looked, self._looks = 0, LOOKS
        self._put_back()
        self.pace.answered()
        self.refusing = False
        if self.why is not None:
            log.info("an exporter's destination takes records again", exporter=self._name)
            self.why = None

    def _given_up(self, batch: Batch) -> bool:
        longest = self._retry.max_elapsed_time / SECOND
        return 0 < longest <= monotonic() - (batch.began or 0.0)

    def _parts(self, bad: list[Piece], outcome: Outcome, spent: _Spent) -> list[list[Piece]]:
        """Both halves of what was refused; empty: it is one record, or looking further costs too much."""
        spent.in_a_row += 1
        spent.parts += outcome.fault == "data"
        if outcome.fault == "all" or spent.in_a_row > FRUITLESS or spent.parts > PARTS:
            return []
        if outcome.fault == "size":
            self.batch_bytes = max(SMALLEST, min(self.batch_bytes, sum(p.size for p in bad) // 2))
        if len(bad) > 1:
            middle = len(bad) // 2
            return [bad[:middle], bad[middle:]]
        return [[half] for half in bad[0].halves()]

    async def _attempt(self, batch: list[Piece], spent: _Spent) -> Outcome:
        """One request, when its turn has come. Raises Stopping."""
        async with self.pace.turn():
            outcome = await self._send(batch, spent)
            if outcome.retry:
                self._fails(outcome)
            return outcome

    def _fails(self, outcome: Outcome) -> None:
        """Nothing was taken; what there is to send is sent again later."""
        self._metrics.retries.inc()
        self.pace.failed(outcome.after, barred=outcome.barred)
        self._say(outcome)

    def _say(self, outcome: Outcome) -> None:
        """For operators: why nothing is taken."""
        self.why, self.refusing = outcome.why, outcome.barred
        if not self._telling.due("refusing" if outcome.barred else "failing"):
            return
        if outcome.barred:
            log.error(
                "an exporter's destination refuses everything: records wait in the log, and it is asked again each "
                f"max_interval; {LOOK_AT}",
                exporter=self._name,
                reason=outcome.why,
            )
        else:
            log.warning(
                "an exporter's destination takes nothing; it is tried again, and records wait in the log",
                exporter=self._name,
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
