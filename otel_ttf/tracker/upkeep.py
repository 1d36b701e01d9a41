"""Keeps the store small: events whose time has come go, then the oldest beyond its size, then pages that are free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from otel_ttf.clock import Clock
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.units import MINUTE, size_text

MIB = 1 << 20
CLEAN_EVERY = 10 * MINUTE
# For the write-ahead log, and for what comes between two looks.
RESERVE = 64 * MIB
TRIM_ROWS = 10_000  # events in one transaction: 70 ms
TRIM_TURNS = 4  # transactions in one step, more where more came in
VACUUM_PAGES = 1000  # in one transaction: 40 ms
SMALLEST = 256  # a part of both, on a disk so full that the write-ahead log has no room for more
SPARE = 8 * MIB  # free pages that stay for the events to come, or an eighth of what is in use

T = TypeVar("T")
Transact = Callable[[Callable[[int], T]], T]

log = structlog.get_logger()


class Upkeep:
    """Works on the tracker's thread, in steps that are small transactions. Methods raise sqlite3.Error, OSError.

    retention  of events, ns
    max_size   bytes of store.db and its write-ahead log
    transact   calls what it is given, with our time, in one transaction
    steady     ns, never steps
    dropped    is told how many events went because of the size

    use   what the store took a moment ago
    full  what never goes leaves no room for events
    """

    def __init__(
        self,
        store: SqliteStore,
        clock: Clock,
        transact: Transact[int],
        *,
        retention: int,
        max_size: int,
        steady: Callable[[], int],
        dropped: Callable[[int], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._transact = transact
        self._steady = steady
        self._dropped = dropped
        self._part = 1
        self._told = False
        self._clean_next = 0
        self._vacuumed = False
        self.use = store.disk_use()
        self.full = False
        self.limit(retention, max_size)

    def limit(self, retention: int, max_size: int) -> None:
        """Other limits, from now on."""
        self._retention = retention
        self._max_size = max_size
        reserve = min(RESERVE, max_size // 4)
        self._high = max_size - reserve
        self._low = self._high - reserve // 4
        self._limit = self._high
        self._clean_next = 0
        self._store.limit_wal(reserve // 2)

    def trim(self, taken: int) -> bool:
        """Deletes the oldest events of a store that is too large; whether there may be more to do.

        taken  records that came in since the last step: so many and more may go, lest it grows all the same
        """
        for _ in range(TRIM_TURNS + taken // TRIM_ROWS if self._part == 1 else 1):
            self.use = self._store.disk_use()
            if self.use.pages <= self._limit:
                self._limit = self._high
                self.full = False
                return False
            self._limit = self._low  # so that not every step has something to do
            if not self._trimmed(self.use.pages - self._low):
                self._nothing_left()
                return False
        return True

    def _trimmed(self, size: int) -> bool:
        """Whether there was something that could go."""
        events = self._transact(lambda _: self._store.events.drop_oldest(size, TRIM_ROWS // self._part))
        if events:
            self._dropped(events)
            if not self._told:
                self._told = True
                log.warning(
                    "storage.max_size is reached: from now on the oldest events go when new ones come; journeys, "
                    "transitions and figures stay. For older events make it larger, or keep fewer (storage.events)",
                    file=str(self._store.path),
                    max_size=size_text(self._max_size),
                )
        resources = self._transact(lambda _: self._store.events.forget_resources(TRIM_ROWS))
        self._done()
        return bool(events or resources)

    def _nothing_left(self) -> None:
        if self.full or self.use.pages <= self._high:
            return
        self.full = True
        log.error(
            "storage.max_size: journeys, transitions and figures leave no room for events, and are never deleted for "
            "size: make storage.max_size larger, or events are gone as soon as they come; mind the disk",
            file=str(self._store.path),
            takes=size_text(self.use.pages),
            max_size=size_text(self._max_size),
        )

    def failed(self) -> None:
        """The store could not be written. On a full disk there may be room for smaller steps, one at a time."""
        self._part = min(SMALLEST, 4 * self._part)
        self._store.empty_wal()

    def _done(self) -> None:
        if self._part > 1:
            self._part //= 2
            self._store.empty_wal()

    def clean(self) -> bool:
        """A step of deleting the events whose time has come; whether there may be more to do."""
        if self._steady() < self._clean_next or self._clock.stepped:
            return False
        gone = self._transact(lambda now: self._store.events.forget(now - self._retention, now))
        gone = gone or self._transact(lambda _: self._store.events.forget_resources(TRIM_ROWS))
        if not gone:
            self._clean_next = self._steady() + CLEAN_EVERY
        return bool(gone)

    def shrink(self) -> bool:
        """A step of giving free pages back to the file system; whether there may be more to do."""
        use = self.use = self._store.disk_use()
        if use.free and (use.total > self._max_size or use.free > max(SPARE, use.pages // 8)):
            self._store.shrink(VACUUM_PAGES // self._part)
            self._done()
            self._vacuumed = True
            return self._store.disk_use().free < use.free
        if self._vacuumed:
            self._store.empty_wal()
            self._vacuumed = self._store.disk_use().wal > 0  # somebody reads: another time
        return False
