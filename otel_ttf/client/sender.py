"""The thread that sends: batches, waits and tries again. Nothing of it is in the way of who tracks."""

from __future__ import annotations

import random
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from otel_ttf.client.event import Event
from otel_ttf.client.native import Mark, allocate_lock
from otel_ttf.client.options import Options
from otel_ttf.client.outcome import Next, Outcome
from otel_ttf.client.tell import Tell
from otel_ttf.client.waiting import Waiting

if TYPE_CHECKING:
    from otel_ttf.client.ending import EndingExporter
    from otel_ttf.client.export import SdkExporter

BATCH = 256  # events to a request: while they are encoded, the application's threads wait some milliseconds
BATCH_BYTES = 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; full jitter up to them
LONGEST_RETRY_AFTER = 300.0

# Held while modules are imported: a child that is forked meanwhile would wait for ever for a half imported one.
IMPORTING = allocate_lock()


class Sender:
    """Sends what waits, until `close`. run() is its thread's."""

    def __init__(self, options: Options, waiting: Waiting, tell: Tell) -> None:
        self._options = options
        self._waiting = waiting
        self._tell = tell
        self._exporter: SdkExporter | EndingExporter | None = None
        self._end: float | None = None  # monotonic; None: nobody has closed
        self.on_its_way = 0  # events taken and not answered
        self.lost = 0  # events that were taken, and neither the server has nor anybody will send
        self.done = Mark()

    def close(self, seconds: float) -> None:
        """It goes on for so many seconds at most, and ends when nothing waits."""
        self._end = time.monotonic() + seconds
        self._waiting.ring()

    def run(self) -> None:
        """Until closed."""
        with suppress(Exception):  # it is tried again, and said, when there is something to send
            self._exporter = self._opened()
        try:
            while self._end is None or len(self._waiting):
                self._once()
                if self._end is not None and time.monotonic() >= self._end:
                    break
        finally:
            if self._exporter is not None:
                self._exporter.close()
            self.done.set()

    def _once(self) -> None:
        urgent = self._waiting.wait(None if self._end is None else 0)
        # Collects, unless somebody waits for it.
        if not urgent and self._end is None:
            self._waiting.wait(self._options.flush_interval)
        while events := self._waiting.take(BATCH, BATCH_BYTES):
            self.on_its_way = len(events)
            try:
                self._deliver(events)
            except ImportError as error:
                self._tell.once("no SDK", error.name)
                self._lose(self.on_its_way)
            except Exception as error:  # noqa: BLE001  the thread has to go on, and the application must not hear
                self._tell.once("defect", type(error).__name__)
                self._tell.print(traceback.format_exc())
                self._lose(self.on_its_way)
            finally:
                self.on_its_way = 0
                self._waiting.gone(events)
            if self._end is not None and time.monotonic() >= self._end:
                return
        if not len(self._waiting):
            self._tell.again("full")

    def _deliver(self, events: list[Event]) -> None:
        parts = deque([events])
        tries = 0
        while parts:
            part = parts[0]
            outcome = self._send(part)
            match outcome.next:
                case Next.AGAIN:
                    if not self._pause(tries, outcome.after):
                        self._lose(self.on_its_way)
                        return
                    tries += 1
                    continue
                case Next.SMALLER if len(part) > 1:
                    half = len(part) // 2
                    parts[0] = part[half:]
                    parts.appendleft(part[:half])
                    continue
                case Next.DONE:
                    rejected = min(max(0, outcome.rejected), len(part))
                    self._tell.count("sent", len(part) - rejected)
                    self._tell.count("rejected", rejected)
                case _:
                    self._lose(len(part))
            tries = 0
            parts.popleft()
            self.on_its_way -= len(part)

    def _send(self, events: list[Event]) -> Outcome:
        if self._exporter is None:
            self._exporter = self._opened()
        timeout = self._options.timeout
        if self._end is not None:
            timeout = min(timeout, max(0.1, self._end - time.monotonic()))
        began = time.monotonic()
        outcome = self._exporter.send(events, timeout)
        self._say(events, outcome, time.monotonic() - began)
        return outcome

    def _opened(self) -> SdkExporter | EndingExporter:
        with IMPORTING:
            try:
                from otel_ttf.client.export import SdkExporter

                return SdkExporter(self._options)
            except RuntimeError:  # Python goes down, and starts no thread
                from otel_ttf.client.ending import EndingExporter

                return EndingExporter(self._options)

    def _say(self, events: list[Event], outcome: Outcome, took: float) -> None:
        tell, place = self._tell, self._options.place
        tell.print(
            f"{len(events)} events to {place}: {outcome.said} after {took * 1000:.0f} ms: {outcome.next.value}"
            + (f", but for {outcome.rejected}: {outcome.reason}" if outcome.rejected else "")
        )
        match outcome.next:
            case Next.AGAIN if outcome.status in (401, 403):
                tell.once("refused key", place, outcome.status)
            case Next.AGAIN:
                tell.once("waiting", outcome.said, place)
            case Next.DONE:
                if tell.again("waiting", "refused key"):
                    tell.once("works again", place, tell.counts.dropped)
                    tell.again("works again")
                if outcome.rejected:
                    tell.once("rejected", outcome.rejected, len(events), outcome.reason)
            case Next.SMALLER if len(events) > 1:
                pass
            case _:
                tell.once("refused", len(events), place, outcome.said)

    def _pause(self, tries: int, after: float) -> bool:
        """Waits before the next try, with full jitter, at least `after` seconds. False: there is no time for one."""
        began = time.monotonic()
        earliest = began + min(after, LONGEST_RETRY_AFTER)
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries, 10))
        until = earliest + random.uniform(0, longest)  # noqa: S311  no secret
        while (now := time.monotonic()) < until:
            if self._end is not None:
                # Little time is left: it is tried as often as that allows.
                until = min(until, max(earliest, began + FIRST_PAUSE / 2))
                if until > self._end:
                    return False
                time.sleep(max(0.0, until - now))
            elif self._waiting.wait(until - now):
                # Who asks for it may know more than we do, but not of what the server has asked for.
                until = min(until, earliest)
        return True

    def _lose(self, events: int) -> None:
        self.lost += events
        self._tell.count("dropped", events)
