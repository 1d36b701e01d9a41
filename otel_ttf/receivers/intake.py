"""The one way into the log, whichever door a request came through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self, TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.log.base import Entry, EventLog, LogRefused
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules
from otel_ttf.otlp.wire import Malformed, Signal
from otel_ttf.receivers.limits import check
from otel_ttf.telemetry import Telemetry, failure

Pipeline = Callable[[Batch], Batch]
T = TypeVar("T")

INLINE = 32 << 10  # bytes; a larger request is worked on in a thread, so that the others need not wait
IN_FLIGHT = 256 << 20
WORKERS = 2

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a request that was taken.

    accepted  records in the log
    refused   records that are not: log records, spans, data points
    rejected  place in the request -> what is wrong with that record (safe to tell the sender, not to log);
              for metrics the place of the metric, which may have several data points
    warnings  about what was accepted
    """

    accepted: int
    refused: int = 0
    rejected: Mapping[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Disconnected(Exception):
    """The client went away; nobody waits for an answer."""


class InFlight:
    """A budget for the bytes of requests that have no answer yet."""

    def __init__(self, limit: int = IN_FLIGHT) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def hold(self, size: int = 0) -> Hold:
        """Takes bytes until the `with` block ends. Raises LogRefused when the budget is used up."""
        return Hold(self, size)

    def take(self, size: int) -> None:
        """Raises LogRefused when the budget is used up. One request alone always fits."""
        with self._lock:
            if self.used and self.used + size > self.limit:
                raise LogRefused(f"more than {self.limit >> 20} MiB of requests wait for their answer", 1.0)
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
        else:
            self._telemetry.error("internal")
            _log.error("a request failed; its sender was asked to come again", **failure(error))
            raise LogRefused("an internal error", 5.0) from None


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
    ) -> None:
        self._pipeline = pipeline
        self._log = log
        self._rules = rules
        self._clock = clock
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="intake")
        self.telemetry = telemetry
        self.frame = Frame(telemetry)
        self.in_flight = InFlight(max_in_flight)

    async def __call__(
        self,
        signal: Signal,
        raw: bytes,
        *,
        protocol: str,
        event_ids: Mapping[int, str] | None = None,
        trusted: bool = False,
    ) -> Receipt:
        """Takes one OTLP export request in protobuf.

        protocol   grpc, http or rest: how it is counted
        event_ids  REST event ids by place of the record
        trusted    subjects that are tokens already stay as they are
        Raises Malformed (the sender's mistake, for good) or LogRefused (come again later); nothing else.
        """
        way = self.telemetry.way_in(signal, protocol)
        began = perf_counter()
        try:
            with self.frame, self.in_flight.hold(len(raw)):
                batch, entry = await self.offload(
                    len(raw), self._prepare, signal, raw, self._clock.later(), event_ids, trusted
                )
                if entry is not None:
                    await self._append(entry, way.refused.inc)
        finally:
            way.seconds.observe(perf_counter() - began)
        if entry is not None:
            way.events.inc(entry.records)
            way.accepted.inc(entry.records)
        accepted = batch.kept
        refused = batch.records - accepted if batch.rejected else 0
        if refused:
            way.refused.inc(refused)
            self.telemetry.error("rejected", refused)
        return Receipt(accepted, refused, batch.rejected, batch.warnings)

    async def offload(self, size: int, work: Callable[..., T], *arguments: object) -> T:
        """Calls `work(*arguments)`: here when the payload is small, else in a worker thread."""
        if size <= INLINE:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    def close(self) -> None:
        """Ends the worker threads; for when the receivers are stopped."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _prepare(
        self, signal: Signal, raw: bytes, arrival: int, event_ids: Mapping[int, str] | None, trusted: bool
    ) -> tuple[Batch, Entry | None]:
        check(signal, raw)
        batch = self._pipeline(Batch(signal, raw, arrival, trusted=trusted, event_ids=event_ids))
        # An empty request, or one without a good record, needs no place in the log.
        if not batch.kept:
            return batch, None
        payload = batch.finish()
        view = batch.extract(self._rules)
        return batch, Entry(signal, arrival, payload, batch.ids, batch.kept, view)

    async def _append(self, entry: Entry, refused: Callable[[float], None]) -> None:
        try:
            await self._log.append(entry)
        except LogRefused:
            refused(entry.records)
            raise
