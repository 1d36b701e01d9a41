"""The tracker's thread: reads the log, follows journeys, saves its cursor in the same transaction."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.journey.sampling import Sampling
from otel_ttf.log.base import EventLog, LogError, Row
from otel_ttf.otlp.events import Rules
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.store.opening import lost
from otel_ttf.store.quarantine import records_of
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.telemetry import failure
from otel_ttf.tracker import rebuild
from otel_ttf.tracker.follow import Follower, Missing
from otel_ttf.tracker.isolate import EverythingFails, Isolation, Stopped, Taken, of_the_machine, read
from otel_ttf.tracker.tasks import Errands
from otel_ttf.tracker.upkeep import CLEAN_EVERY, Upkeep
from otel_ttf.units import DAY, MINUTE, SECOND

CONSUMER = "tracker"
SWEEP_EVERY = 5 * SECOND
JOB_ROWS = 1000
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
# Few records a transaction cost a sync each: better to let some gather. It shows in no answer's age but this much.
FEW_RECORDS = 4096
GATHER_SECONDS = 0.05
# So often a batch may fail before it is looked for the record that makes it fail.
TRIES = 3
# Beyond those that fail, so many of the newest rows tell whether others can be taken.
NEWEST = 64
TASKS_KEPT = DAY

T = TypeVar("T")

log = structlog.get_logger()


class NotSwitched(Exception):
    """The tracker goes on as before; the message says why."""


@dataclass(slots=True)
class _Switch:
    """What the tracker is to go on with."""

    made: Callable[[SqliteStore], Follower]
    rules: Rules
    retention: int
    max_size: int
    done: bool = False
    failed: str | None = None


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
        max_size: int,
        dropped: Callable[[int], None],
        steady: Callable[[], int] = time.monotonic_ns,
        on_quarantine: Callable[[str, int], None] = lambda action, records: None,
        on_missing: Callable[[str, str, int], None] = lambda what, milestone, events: None,
        on_written_again: Callable[[], None] = lambda: None,
        given: Given = NOTHING_GIVEN,
    ) -> None:
        """retention, max_size, dropped, steady: see Upkeep.

        given             the server's options, for what an operator is told to type
        on_written_again  the store has another file: whoever reads it has to open that

        Both are told once it is committed:
        on_quarantine  what was done to records that are, or were, set aside: set_aside, retried, dropped,
                       displaced, expired
        on_missing     what was missing where a milestone was matched, which one, and in how many events: see Missing
        """
        self.failing: str | None = None
        self.set_aside = 0
        self._isolation = Isolation(follower, rules, event_log.log_id, self._out_of_time)
        self._errands = Errands(follower, rules, max_size)
        self._failures = 0
        # Whether the step has come to what is beside rows; when that is tried again after it failed (time.monotonic).
        self._beside = False
        self._beside_next = 0.0
        self._on_quarantine = on_quarantine
        self._given = given
        self._on_missing = on_missing
        self._on_written_again = on_written_again
        self._log = event_log
        self._store = store
        self._follower = follower
        self._rules = rules
        self._clock = clock
        self.upkeep = Upkeep(
            store,
            clock,
            self._transact,
            retention=retention,
            max_size=max_size,
            steady=steady,
            dropped=dropped,
        )
        self._position = 0
        self._taken = 0  # records, in the last step
        self._torn = False
        self._told = "", 0
        self._as_of = 0
        self._as_of_lock = threading.Lock()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
        self._steady = steady
        self._began = steady()
        # What the sweep under way is about: an instant, and the log's end then.
        self._sweeping: tuple[int, int] | None = None
        self._sweep_next = 0
        self._tidy_next = 0
        self._switching = threading.Condition()
        self._wanted: _Switch | None = None
        self._retention = retention

    @property
    def sampling(self) -> Sampling:
        """Which share of the users was followed when. From any thread."""
        return self._follower.sampling

    @property
    def position(self) -> int:
        """How far the log has been taken, durably."""
        return self._position

    def start(self) -> None:
        """Brings the store in step with the configuration, then follows in a thread."""
        self._store.begin()
        self._follower.prepare(self._clock.now())
        saved = self._store.cursor(CONSUMER, self._log.log_id)
        self._position = self._log.register(CONSUMER, saved, required=True)
        if self._position != saved:  # the next start is to find nothing missing between them
            self._store.save_cursor(CONSUMER, self._log.log_id, self._position)
        self._store.commit()
        self.set_aside = self._store.quarantine.count()
        self._thread.start()

    def switch(
        self,
        made: Callable[[SqliteStore], Follower],
        rules: Rules,
        retention: int,
        max_size: int,
        timeout: float,
    ) -> None:
        """Follows other journeys by other rules from the next batch on; returns when it does.

        made     called in the tracker's thread
        timeout  seconds in which the tracker has to come to it. Raises NotSwitched: all is as it was
        """
        wanted = _Switch(made, rules, retention, max_size)
        with self._switching:
            self._wanted = wanted
            if not self._switching.wait_for(lambda: wanted.done or wanted.failed, timeout):
                self._wanted = None
        if not wanted.done:
            raise NotSwitched(
                wanted.failed or self.failing or f"it is busy and did not come to it in {timeout:g} s"
            )

    def _switch(self) -> None:
        """Between two batches; nobody waits any longer once it is under way and cannot be stopped."""
        with self._switching:
            wanted = self._wanted
            if wanted is None:
                return
            self._wanted = None
            try:
                self._store.begin()
                follower = wanted.made(self._store)
                follower.prepare(self._clock.now())
                self._store.commit()
            except Exception as error:
                wanted.failed = (
                    self._unwritten(error)
                    if isinstance(error, sqlite3.Error | OSError)
                    else str(failure(error))
                )
                raise
            else:
                self._take_over(wanted, follower)
                wanted.done = True
            finally:
                self._switching.notify_all()

    def _take_over(self, wanted: _Switch, follower: Follower) -> None:
        self._follower, self._rules = follower, wanted.rules
        self._isolation = Isolation(self._follower, self._rules, self._log.log_id, self._out_of_time)
        self._errands = Errands(self._follower, self._rules, wanted.max_size)
        self._retention = wanted.retention
        self.upkeep.limit(wanted.retention, wanted.max_size)
        self._failures = 0

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
            worked = False
            with _Attempt() as attempt:
                if self._torn:
                    self._recover()
                worked = self._step()
            if isinstance(attempt.failed, Stopped):
                self._follower.undo()
                return
            if attempt.failed is None:
                if self._beside:
                    pause, self.failing = 0.1, None
            elif is_damage(attempt.failed):
                self._give_up(attempt.failed)
                return
            else:
                self._tell(attempt.failed)
                self._torn = True
                with (
                    _Attempt()
                ):  # nobody else can write until then; where it fails, it comes before the next step
                    self._recover()
                    if isinstance(attempt.failed, sqlite3.Error):
                        self.upkeep.failed()
                if self._beside:
                    self._beside_next = time.monotonic() + pause
                else:
                    self._stop.wait(pause)
                pause = min(pause * 2, 5.0)
            if self._stop.is_set() and (not worked or self._out_of_time()):
                return

    def _resting(self) -> bool:
        """Whether what is no row has failed a moment ago."""
        return time.monotonic() < self._beside_next

    def _out_of_time(self) -> bool:
        return time.monotonic() > self._deadline

    def _give_up(self, error: Exception) -> None:
        """The store is damaged: nothing is written into it any more."""
        with _Attempt():
            self._follower.undo()
        why = f"is damaged ({trouble(error)})"
        self.failing = str(lost(self._store.path, why, self._given, self._store.store_id))
        log.error("the tracker has ended", reason=self.failing)

    def _tell(self, error: Exception) -> None:
        """Says once a minute what is wrong. Texts of errors that we don't know may hold what a sender sent."""
        if isinstance(error, LogError):
            told = str(error)
        elif isinstance(error, sqlite3.Error | OSError) and of_the_machine(error):
            told = self._unwritten(error)
        elif isinstance(error, EverythingFails):
            told = f"the tracker fails: {error}"
        else:
            what = failure(error)
            told = (
                f"the tracker fails ({what['error']} at {what['place']}) and tries again: nothing is lost; after "
                f"{TRIES} tries a bad record is set aside; where this stays, go back to the version before, or report "
                "it with the place"
            )
        now = self._steady()
        if told != self._told[0] or now - self._told[1] >= MINUTE:
            log.error("the tracker fails and tries again", reason=told)
            self._told = told, now
        self.failing = told

    def _unwritten(self, error: sqlite3.Error | OSError) -> str:
        path = self._store.path
        why = f"{trouble(error)}: {remedy(error, 'mend the disk', path)}"
        with suppress(OSError):
            if self._store.moved():
                return (
                    f"the store cannot be written: {path}, or its -wal, was deleted or replaced, and cannot be written "
                    f"again: {why}, and do not stop the server before: what the file held would be lost"
                )
        return f"the store cannot be written: {path}: {why}; it goes on by itself"

    def _recover(self) -> None:
        """Back to what was committed: the failed rows are taken again."""
        self._follower.undo()
        self._position = max(self._position, self._store.cursor(CONSUMER, self._log.log_id))
        self._torn = False

    def _step(self) -> bool:
        """A little of all there is to do, each in a transaction of its own; False: there was nothing."""
        self._beside = False
        self._switch()
        if self._store.moved():
            found = self._store.write_again(self._clock.now())
            log.error(
                "store.db was deleted or replaced: it was written again, nothing is lost",
                file=str(self._store.path),
                found_instead=str(found) if found else None,
            )
            self._on_written_again()
        # Before rows: on a full disk they need the room that this makes.
        trimming = not self._stop.is_set() and self.upkeep.trim(self._taken)
        rows = self._log.read(self._position, rows=BATCH_ROWS, size=BATCH_BYTES, payloads=False)
        self._taken = sum(row.records for row in rows)
        if rows:
            self._follow(rows)
        if self._stop.is_set():
            # Senders were promised their rows; everything else goes on after the next start.
            return bool(rows)
        worked = trimming
        if not self._resting():
            self._beside = True
            chores = (
                self._task,
                self._jobs,
                self._sweep,
                self._tidy,
                self.upkeep.clean,
                self.upkeep.shrink,
            )
            worked = any([trimming, *(chore() for chore in chores)])
        if not rows and not worked:
            self._log.wait(self._position, 0.25)
        # Not where more waits already, nor beside other work, which gives rows the time to gather.
        elif not worked and len(rows) < BATCH_ROWS and self._taken < FEW_RECORDS:
            self._stop.wait(GATHER_SECONDS)
        return worked or bool(rows)

    def _transact(self, work: Callable[[int], T]) -> T:
        self._store.begin()
        done = work(self._clock.now())
        self._store.commit()
        return done

    def _follow(self, rows: Sequence[Row]) -> None:
        """Takes rows, the first of which comes next; those that have failed often enough record by record."""
        if self._failures >= TRIES:
            rows = self._isolate()
        else:
            try:
                events, missing = self._transact(lambda now: self._take(rows, now))
            except Exception as error:
                self._failures += not of_the_machine(error)
                raise
            if events:
                self._isolation.passed()
            self._missed(missing)
            self._failures = 0
        self._position = rows[-1].position
        self._log.release(CONSUMER, self._position)

    def _take(self, rows: Sequence[Row], now: int) -> tuple[bool, Missing]:
        """(whether there was any event in them, what Follower.take returns)."""
        extracts = [(row.arrival, read(row, self._rules)) for row in rows]
        missing = self._follower.take(extracts, now)
        self._store.save_cursor(CONSUMER, self._log.log_id, rows[-1].position)
        return any(found.events for _, found in extracts), missing

    def _isolate(self) -> Sequence[Row]:
        """Takes the next rows without the records that cannot be taken, which are set aside in the same transaction.

        Returns those that it took. If there are more, they are taken in the same way, not tried together first.
        """
        rows = self._log.read(self._position, rows=BATCH_ROWS, size=BATCH_BYTES)
        last = rows[-1].position
        newest = self._log.read(max(last, self._log.end() - NEWEST), rows=NEWEST, size=BATCH_BYTES)
        self._store.begin()
        self._isolation.probe(rows, newest, self._clock.now())
        self._follower.undo()
        taken, displaced = self._transact(lambda now: self._take_parts(rows, now))
        self._missed(taken.missing)
        self._quarantined({"set_aside": records_of(taken.letters), "displaced": displaced})
        for letter in taken.letters[:1]:
            log.error(
                "records make the tracker fail and were set aside; see otel-ttf dead-letters list",
                records=records_of(taken.letters),
                error=letter.error,
                place=letter.source,
            )
        if len(taken.rows) == len(rows):
            self._failures = 0
        return taken.rows

    def _take_parts(self, rows: Sequence[Row], now: int) -> tuple[Taken, int]:
        taken = self._isolation.take(rows, now)
        displaced = self._store.quarantine.add(taken.letters)
        self._store.save_cursor(CONSUMER, self._log.log_id, taken.rows[-1].position)
        return taken, displaced + self._store.quarantine.displace()

    def _missed(self, missing: Missing) -> None:
        """Events matched milestones and lacked something: it is committed."""
        for (what, milestone), events in missing.items():
            self._on_missing(what, milestone, events)

    def _quarantined(self, counts: Mapping[str, int]) -> None:
        """Something was done to records that are, or were, set aside: it is committed."""
        if any(counts.values()):
            self.set_aside = self._store.quarantine.count()
            for action, records in counts.items():
                if records:
                    self._on_quarantine(action, records)
            if counts.get("displaced"):
                log.error("the quarantine is full: the oldest records are gone", records=counts["displaced"])

    def _tidy(self) -> bool:
        """Deletes what was set aside longer ago than events are kept, and old answers; False: that was all."""
        if self._steady() < self._tidy_next or self._clock.stepped:
            return False
        self._tidy_next = self._steady() + CLEAN_EVERY
        self._quarantined({"expired": self._transact(self._expire)})
        return False

    def _expire(self, now: int) -> int:
        self._store.tasks.forget(now - TASKS_KEPT)
        return self._store.quarantine.expire(now - self._retention)

    def _task(self) -> bool:
        """Carries out what an operator has asked, if anything."""
        task = self._store.tasks.next()
        if task is None:
            return False
        done = self._transact(lambda now: self._errands.do(task, now))
        self._quarantined(done.counts)
        self._missed(done.missing)
        # Who asked may have gone before a server came to it.
        if reason := done.not_done:
            log.warning("what an operator asked for was not done", task=task.kind, reason=reason)
        return True

    def _jobs(self) -> bool:
        """A step of counting anew, of joining versions in, or of a rebuild, if one is under way."""
        for followed in self._follower.followed:
            if followed.definition.recounting is not None:
                self._transact(lambda now, f=followed: self._follower.recount(f, JOB_ROWS, now))  # type: ignore[misc]
                return True
            if followed.definition.carrying is not None:
                self._transact(lambda now, f=followed: self._follower.carry(f, JOB_ROWS, now))  # type: ignore[misc]
                return True
        return self._follower.rebuilding and self._transact(lambda now: rebuild.step(self._follower, now))

    def _sweep(self) -> bool:
        """A step of the sweep for overdue and expired, once all that was in the log at an instant has been read."""
        steady = self._steady()
        if self._sweeping is None and steady >= self._sweep_next:
            self._sweeping = (self._clock.now(), self._log.end())
        if self._sweeping is None or self._position < self._sweeping[1]:
            return False
        moment, _ = self._sweeping
        # A stepped clock proves nothing.
        more = not self._clock.stepped and self._transact(
            lambda _: self._follower.sweep(moment, JOB_ROWS, up=steady - self._began)
        )
        if not more:
            self._sweeping, self._sweep_next = None, steady + SWEEP_EVERY
        return more


class _Attempt:
    """Keeps what went wrong inside it. Whatever it is, it must not end the tracker's thread."""

    failed: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: TracebackType | None) -> bool:
        self.failed = error if isinstance(error, Exception) else None
        return self.failed is not None
