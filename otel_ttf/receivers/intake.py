"""The one way into the log, whichever door a request came through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.log.base import EventLog, LogRefused
from otel_ttf.memory import give_back
from otel_ttf.otlp.events import Rules
from otel_ttf.otlp.wire import Malformed, Signal, Unread
from otel_ttf.pii.consent import Book, ConsentRefused
from otel_ttf.pii.sealed import VaultUnavailable
from otel_ttf.receivers.arrivals import Arrivals
from otel_ttf.receivers.lane import JOINED, Answer, Lane, tell
from otel_ttf.receivers.prepare import CONSENT_SECONDS, Pipeline, Preparation, Prepared, Receipt, Request
from otel_ttf.telemetry import Telemetry, failure

T = TypeVar("T")

INLINE = 32 << 10  # bytes; what is larger is worked on in a thread, so that the others need not wait
GIANT = 1 << 20  # bytes; what is larger has a thread apart, so that the others need not wait for it
IN_FLIGHT = 256 << 20
# Reading a giant takes about six times its bytes, so they get a part of the budget; and seconds: who comes again at
# once would be refused again, and gRPC takes all of it into memory first.
GIANTS_SHARE = 4
GIANTS_SECONDS = 5.0
# Bodies that are still to come to their end get a part, too: a peer can make them wait for as long as `body_timeout`.
ARRIVALS_SHARE = 2
# After the last giant its memory goes back to the system, and again when the tracker has followed it, too.
TIDY_SECONDS = (5.0, 20.0)
ALONE = JOINED // 2  # bytes; no two larger ones fit into a group
# Groups at a time: of requests worked on here, of those that take a thread, and of those that stay alone.
GROUPS = (1, 1, 1000)
GPC_HEADER = "sec-gpc"  # of HTTP, and metadata of gRPC; `1` is the only value

_log = structlog.get_logger()


class Disconnected(Exception):
    """The client went away; nobody waits for an answer."""


class InFlight:
    """A budget for the bytes of requests that have no answer yet. seconds: until who is refused comes again."""

    def __init__(self, limit: int = IN_FLIGHT, seconds: float = 1.0) -> None:
        self.limit = limit
        self.seconds = seconds
        self.used = 0
        self._lock = threading.Lock()

    def hold(self, size: int = 0) -> Hold:
        """Takes bytes until the `with` block ends. Raises LogRefused when the budget is used up."""
        return Hold(self, size)

    def take(self, size: int) -> None:
        """Raises LogRefused when the budget is used up. One request alone always fits."""
        with self._lock:
            if self.used and self.used + size > self.limit:
                raise LogRefused(
                    f"more than {self.limit >> 20} MiB of requests wait for their answer", self.seconds
                )
            self.used += size

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        with self._lock:
            self.used -= size


class Hold:
    """Bytes of one request; given back at the end of the `with` block."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: InFlight, size: int) -> None:
        budget.take(size)
        self._budget = budget
        self._held = size

    def add(self, size: int) -> None:
        """Takes more. Raises LogRefused; any thread may call."""
        self._budget.take(size)
        self._held += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._held)


class Frame:
    """Counts what goes wrong with a request, and turns what should never happen into "come again".

    A sender drops its data on any other answer, so an error of ours must not become a permanent one. Only
    type and place are logged: the message of an exception may hold what was sent.
    """

    __slots__ = ("_telemetry",)

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> None:
        if not isinstance(error, Exception) or isinstance(error, Disconnected):
            return
        if isinstance(error, Malformed):
            self._telemetry.error("malformed")
        elif isinstance(error, LogRefused):
            self._telemetry.error("refused")
        elif isinstance(error, VaultUnavailable):
            self._telemetry.error("refused")
            _log.error("nothing can be encrypted; the sender was asked to come again", reason=error.reason)
            raise LogRefused(error.reason, error.retry_after) from None
        else:
            self._telemetry.error("internal")
            _log.error("a request failed; its sender was asked to come again", **failure(error))
            raise LogRefused("an internal error", 5.0) from None


class _NotWritten(LogRefused):
    """The log would not have so many records that were good."""

    def __init__(self, refused: LogRefused, records: int) -> None:
        super().__init__(refused.reason, refused.retry_after)
        self.records = records


class Intake:
    """Takes a request: reads it, runs the processors, and answers when it is in the log, synced."""

    def __init__(
        self,
        pipeline: Pipeline,
        log: EventLog,
        rules: Rules,
        clock: Clock,
        telemetry: Telemetry,
        *,
        max_in_flight: int = IN_FLIGHT,
        book: Book | None = None,
    ) -> None:
        """book: of consent; what a request says is in it before its answer."""
        self._clock = clock
        self._prepare = Preparation(pipeline, rules, clock)
        self._log = log
        # One thread each: two that work at once take the interpreter from each other, which costs a third more.
        self._worker, self._mender, self._giants, self._disk = (
            ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("intake", "mending", "giants", "consent")
        )
        self._lanes: dict[tuple[Signal, bool, bool, int, bool], Lane] = {}
        self._book = book
        self.telemetry = telemetry
        self.frame = Frame(telemetry)
        self.in_flight = InFlight(max_in_flight)
        self.arrivals = Arrivals(max_in_flight // ARRIVALS_SHARE)
        # However many giants wait, there is room for the others.
        self._giants_in_flight = InFlight(max_in_flight // GIANTS_SHARE, GIANTS_SECONDS)
        self._tidying: list[asyncio.TimerHandle] = []

    async def __call__(
        self,
        signal: Signal,
        raw: bytes,
        *,
        protocol: str,
        event_ids: Mapping[int, str] | None = None,
        mended: Mapping[str, int] | None = None,
        broken: Mapping[int, str] | None = None,
        trusted: bool = False,
        gpc: bool = False,
    ) -> Receipt:
        """Takes one OTLP export request in protobuf.

        protocol   grpc, http or rest: how it is counted
        event_ids  REST event ids by place of the record
        mended     what was mended when it became protobuf, and how often: see mend.TOLD
        broken     number of a record that could not become protobuf -> what is wrong with it
        trusted    subjects that are tokens already stay as they are
        gpc        the request came with Global Privacy Control: see GPC_HEADER
        Raises Malformed (the sender's mistake, for good) or LogRefused (come again later); nothing else.
        """
        way = self.telemetry.way_in(signal, protocol)
        began = perf_counter()
        try:
            with (
                self.frame,
                self._giants_in_flight.hold(len(raw)) if len(raw) > GIANT else nullcontext(),
                self.in_flight.hold(len(raw)),
            ):
                request = Request(raw, event_ids, mended or {}, broken or {})
                giant = len(raw) > GIANT
                lane = self._lane(signal, len(raw), trusted=trusted, gpc=gpc, mend=giant)
                receipt = await lane.enter(request)
                if isinstance(receipt, Unread) and not giant:
                    # In a lane and a thread apart, since it may take a second: those that are sound need not wait.
                    lane = self._lane(signal, len(raw), trusted=trusted, gpc=gpc, mend=True)
                    receipt = await lane.enter(request)
                if isinstance(receipt, Exception):
                    if isinstance(receipt, _NotWritten):
                        way.refused.inc(receipt.records)
                    try:
                        raise receipt
                    finally:
                        del receipt  # it holds this frame, which would hold it, and the request with both
        finally:
            way.seconds.observe(perf_counter() - began)
        if receipt.accepted:
            way.events.inc(receipt.accepted)
            way.accepted.inc(receipt.accepted)
        if receipt.refused:
            way.refused.inc(receipt.refused)
            self.telemetry.error("rejected", receipt.refused)
        return receipt

    def switch(self, pipeline: Pipeline, rules: Rules, max_in_flight: int) -> None:
        """Requests that come from now on take this way; those on theirs end on the old one."""
        self._prepare = Preparation(pipeline, rules, self._clock)
        self.in_flight.limit = max_in_flight
        self.arrivals.limit = max_in_flight // ARRIVALS_SHARE
        self._giants_in_flight.limit = max_in_flight // GIANTS_SHARE

    async def offload(self, size: int, work: Callable[..., T], *arguments: object) -> T:
        """Calls `work(*arguments)`: here when the payload is small, else in a worker thread."""
        if size <= INLINE:
            return work(*arguments)
        loop = asyncio.get_running_loop()
        if size <= GIANT:
            return await loop.run_in_executor(self._worker, work, *arguments)
        try:
            return await loop.run_in_executor(self._giants, work, *arguments)
        finally:
            self._untidy()
            self._tidying = [
                loop.call_later(seconds, loop.run_in_executor, self._giants, give_back)
                for seconds in TIDY_SECONDS
            ]

    def close(self) -> None:
        """Ends the worker threads; for when the receivers are stopped."""
        self._untidy()
        for worker in (self._worker, self._mender, self._giants, self._disk):
            worker.shutdown(wait=False, cancel_futures=True)

    def _untidy(self) -> None:
        for timer in self._tidying:
            timer.cancel()

    def _lane(self, signal: Signal, size: int, *, trusted: bool, gpc: bool, mend: bool) -> Lane:
        """Lanes by size, so that small requests need not wait for larger ones. mend: what cannot be read is mended."""
        rank = (size > INLINE) + (size > ALONE)
        lane = self._lanes.get((signal, trusted, gpc, rank, mend))
        if lane is None:
            work = partial(self._work, signal, trusted, gpc, mend)
            lane = self._lanes[signal, trusted, gpc, rank, mend] = Lane(work, groups=GROUPS[rank])
        return lane

    async def _work(
        self,
        signal: Signal,
        trusted: bool,
        gpc: bool,
        mend: bool,
        requests: Sequence[Request],
        answers: Sequence[Answer],
    ) -> None:
        size = sum(len(request.raw) for request in requests)
        prepare = partial(self._prepare, signal, requests, trusted, gpc, mend)
        if mend and size <= GIANT:
            parts = await asyncio.get_running_loop().run_in_executor(self._mender, prepare)
        else:
            parts = await self.offload(size, prepare)
        if len(parts) == 1:
            await self._append(parts[0][0], answers)
        else:
            await asyncio.gather(
                *(self._append(part, [answers[number] for number in numbers]) for part, numbers in parts)
            )

    async def _keep(self, said: int) -> None:
        """What was said about consent is on the disk when this returns."""
        assert self._book is not None
        if reason := self._log.refusing():
            raise LogRefused(reason)  # the disk is full: consent is not what fills up the rest
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._book.save, said)
        except ConsentRefused as refused:
            raise LogRefused(str(refused), CONSENT_SECONDS) from None

    async def _append(self, part: Prepared | Exception, answers: Sequence[Answer]) -> None:
        """Answers when the entry of these senders is in the log, or with the reason why it is not."""
        if isinstance(part, Exception):
            tell(answers, [part])
            return
        try:
            if part.said is not None:
                await self._keep(part.said)
            if part.entry is not None:
                await self._log.append(part.entry)
        except LogRefused as refused:
            tell(answers, [_NotWritten(refused, receipt.accepted) for receipt in part.receipts])
        else:
            self.telemetry.counted(part.counts)
            tell(answers, part.receipts)
