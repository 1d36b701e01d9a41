"""The tracker's thread: reads the log, follows journeys, saves its cursor in the same transaction."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

import structlog

from otel_ttf.clock import Clock
from otel_ttf.log.base import EventLog, Row
from otel_ttf.otlp.events import Extract, Rules, extract
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker.follow import Follower
from otel_ttf.units import DAY, HOUR, SECOND

CONSUMER = "tracker"
SWEEP_EVERY = 5 * SECOND
CLEAN_EVERY = 10 * 60 * SECOND
JOB_ROWS = 1000
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
# Few records a transaction cost a sync each: better to let some gather. It shows in no answer's age but this much.
FEW_RECORDS = 256
GATHER_SECONDS = 0.02

log = structlog.get_logger()


class Tracker:
    """Takes every row of the log once, in order.

    The cursor is saved in the transaction that takes the rows, so a crash repeats nothing and skips nothing.
    """

    def __init__(
        self,
        event_log: EventLog,
        store: SqliteStore,
        follower: Follower,
        rules: Rules,
        clock: Clock,
        *,
        retention: int,
        settle: int,
    ) -> None:
        self.failing: str | None = None
        self._log = event_log
        self._store = store
        self._follower = follower
        self._rules = rules
        self._clock = clock
        self._retention = retention
        self._settle = settle
        self._position = 0
        self._as_of = 0
        self._as_of_lock = threading.Lock()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._started = clock.now()
        self._sweep_at: tuple[int, int] | None = None
        self._swept = self._cleaned = 0

    @property
    def position(self) -> int:
        """How far the log has been taken, durably."""
        return self._position

    def start(self) -> None:
        """Brings the store in step with the configuration, then follows in a thread."""
        self._store.begin()
        self._follower.prepare(self._started)
        saved = self._store.cursor(CONSUMER, self._log.log_id)
        self._store.commit()
        self._position = self._log.register(CONSUMER, saved, required=True)
        self._thread.start()

    def stop(self, drain: float) -> None:
        """Takes what is in the log, for at most `drain` seconds, then ends the thread."""
        self._deadline = time.monotonic() + drain
        self._stop.set()
        self._thread.join()

    def as_of(self) -> tuple[int, float]:
        """(the instant up to which everything that arrived is taken, how far that lies behind in seconds)."""
        now = self._clock.now()
        oldest = self._log.oldest(self._position)
        with self._as_of_lock:
            self._as_of = max(self._as_of, now if oldest is None else min(oldest, now))
            return self._as_of, max(0, now - self._as_of) / SECOND

    def _run(self) -> None:
        pause = 0.1
        while True:
            try:
                worked = self._step()
                pause, self.failing = 0.1, None
            except (sqlite3.Error, OSError) as error:
                self._undo(error)
                self._stop.wait(pause)
                pause = min(pause * 2, 5.0)
                worked = False
            if self._stop.is_set() and (not worked or time.monotonic() > self._deadline):
                return

    def _undo(self, error: Exception) -> None:
        """Nothing of the failed transaction stays; the rows are taken again."""
        if self.failing is None:
            log.error("tracker cannot write; trying again", error=type(error).__name__, reason=str(error))
        self.failing = f"the store cannot be written: {error}"
        self._follower.counts.forget()
        try:
            self._store.rollback()
            self._follower.reload()
        except sqlite3.Error as also:
            log.error("tracker cannot roll back", reason=str(also))

    def _step(self) -> bool:
        """One transaction's worth of work; False when there was nothing to do."""
        rows = self._log.read(self._position, rows=BATCH_ROWS, size=BATCH_BYTES, payloads=False)
        if rows:
            self._transact(lambda now: self._take(rows, now))
            self._position = rows[-1].position
            self._log.release(CONSUMER, self._position)
            if sum(row.records for row in rows) < FEW_RECORDS:
                self._stop.wait(GATHER_SECONDS)
        worked = self._jobs() or bool(rows)
        self._keep_time()
        if not worked and not self._stop.is_set():
            self._log.wait(self._position, 0.25)
        return worked

    def _transact(self, work: Callable[[int], None]) -> None:
        self._store.begin()
        work(self._clock.now())
        self._store.commit()

    def _take(self, rows: list[Row], now: int) -> None:
        self._follower.take([(row.arrival, self._extract(row)) for row in rows], now)
        self._store.save_cursor(CONSUMER, self._log.log_id, rows[-1].position)

    def _extract(self, row: Row) -> Extract:
        if isinstance(row.view, Extract):
            return row.view
        return extract(row.signal, row.payload, row.ids, row.arrival, self._rules)

    def _jobs(self) -> bool:
        """A step of counting anew or of joining versions in, if either is under way."""
        for followed in self._follower.followed:
            if followed.definition.recounting is not None:
                self._transact(lambda now, f=followed: self._follower.recount(f, JOB_ROWS, now))  # type: ignore[misc]
                return True
            if followed.definition.carrying is not None:
                self._transact(lambda now, f=followed: self._follower.carry(f, JOB_ROWS, now))  # type: ignore[misc]
                return True
        return False

    def _keep_time(self) -> None:
        """Sweeps for overdue and expired once everything that was in the log at a moment has been read."""
        now = self._clock.now()
        if self._sweep_at is None and now >= self._swept + SWEEP_EVERY:
            self._sweep_at = (now, self._log.end())
        if self._sweep_at is not None and self._position >= self._sweep_at[1]:
            moment, _ = self._sweep_at
            self._sweep_at, self._swept = None, now
            # Senders' queues come first after a start; a stepped clock proves nothing.
            if now >= self._started + self._settle and not self._clock.stepped:
                more = True
                while more and not self._stop.is_set():
                    self._store.begin()
                    more = self._follower.sweep(moment)
                    self._store.commit()
        if now >= self._cleaned + CLEAN_EVERY and not self._clock.stepped:
            self._cleaned = now
            self._clean(now)

    def _clean(self, now: int) -> None:
        before = now - self._retention
        gone = 1
        while gone and not self._stop.is_set():
            self._store.begin()
            gone = self._store.forget_events(before, now)
            self._store.commit()
        self._store.begin()
        self._store.forget_resources((before - HOUR) // DAY - 1)
        self._store.commit()
        self._store.shrink()
