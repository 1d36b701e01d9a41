"""What the writer does between groups: deleting, shrinking, copying the write-ahead log, looking for room."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from otel_ttf.log.base import Gap
from otel_ttf.log.consumers import Consumers
from otel_ttf.log.room import Room
from otel_ttf.log.sqlite_file import PAGE_SIZE, LogFile

MIB = 1 << 20
LOOK_EVERY = 0.25  # seconds
LOOK_BYTES = 4 * MIB
WAL_BYTES = 8 * MIB
DELETE_EVERY = 1.0  # seconds, or
DELETE_AT = 1024  # rows, whichever comes first; then at most so many
DELETE_BYTES = 8 * MIB
VACUUM_PAGES = 256  # a few milliseconds

log = structlog.get_logger()


class Upkeep:
    """Works on the writer's thread, in steps of a few milliseconds. Methods raise sqlite3.Error or OSError.

    free_space  bytes free on the disk
    max_lag     bytes that a consumer which drops may hold back
    """

    def __init__(
        self,
        file: LogFile,
        consumers: Consumers,
        room: Room,
        free_space: Callable[[], int],
        max_lag: int,
    ) -> None:
        self._file = file
        self._consumers = consumers
        self._room = room
        self._free_space = free_space
        self._max_lag = max_lag
        self._spare = 0  # bytes in free pages
        self._wal = 0  # bytes of the write-ahead log
        self._unchecked = 0  # bytes in it since it was last copied, about
        self._unseen = 0  # bytes written since the last look
        self._more = False  # rows may go that the last step left
        self._looked = self._deleted = time.monotonic()
        self._told: str | None = None

    def written(self, size: int) -> None:
        """A group of so many bytes was written."""
        size += PAGE_SIZE  # what SQLite rewrites beside it
        self._room.written(size)
        self._unchecked += size
        self._unseen += size

    def tend(self, *, idle: bool, busy: Callable[[], bool]) -> None:
        """What is due. idle: everything, as long as nobody is waiting again (`busy`)."""
        now = time.monotonic()
        changed = False
        if idle:
            changed = self._tidy(busy)
        else:
            released = self._consumers.through(0) - self._file.bounds.gone
            if self._more or released >= DELETE_AT or now - self._deleted >= DELETE_EVERY:
                self._more = self._delete()
            if self._unchecked >= WAL_BYTES:
                self._file.checkpoint(truncate=False)
                self._unchecked = 0
        if changed or self._unseen >= LOOK_BYTES or now - self._looked >= LOOK_EVERY:
            self.look()
            # Free pages are used again; a file that is mostly free shrinks under load, too.
            if not idle and self._spare > self._room.used + LOOK_BYTES:
                self._file.vacuum(VACUUM_PAGES)

    def _tidy(self, busy: Callable[[], bool]) -> bool:
        """Whether there was anything to do."""
        changed = False
        while not busy() and self._delete():
            changed = True
        self.save()
        while not busy() and self._spare > 0:
            self._file.vacuum(VACUUM_PAGES)
            self._spare -= VACUUM_PAGES * PAGE_SIZE
            self._unchecked += PAGE_SIZE
            changed = True
        if not busy() and (self._wal or self._unchecked):
            self._file.checkpoint(truncate=True)
            self._wal = self._unchecked = 0
            changed = True
        return changed

    def save(self) -> None:
        """Saves where consumers stand, if they have moved."""
        moved = self._consumers.unsaved()
        if moved is not None:
            self._file.save(moved)
            self._consumers.saved(moved)
            self._unchecked += PAGE_SIZE

    def look(self) -> None:
        """Measures the log and the disk."""
        size = self._file.size()
        self._room.measured(size.pages + size.wal, self._free_space())
        self._spare, self._wal = size.free, size.wal
        self._looked, self._unseen = time.monotonic(), 0
        if self._room.closing is None and self._room.broken is None:  # else somebody else tells
            self._tell(self._room.refusing())

    def _tell(self, reason: str | None) -> None:
        if reason is None and self._told is not None:
            log.info("senders are taken again")
        elif reason is not None and self._told is None:
            log.warning("senders are asked to come again", reason=reason)
        self._told = reason

    def _skip_to(self) -> int:
        """The position up to which consumers that drop hold nothing back: behind it lie max_lag bytes."""
        bounds = self._file.bounds
        allowed = bounds.stored - self._max_lag
        # Only when somebody who drops is all that holds back is it worth knowing.
        if allowed <= bounds.gone_stored or self._consumers.through(bounds.end) <= self._consumers.through(0):
            return 0
        low, high = bounds.gone, bounds.end
        while low < high:
            middle = (low + high) // 2
            if self._file.stored_before(middle + 1) < allowed:
                low = middle + 1
            else:
                high = middle
        return low

    def _delete(self) -> bool:
        """Deletes some of the rows that may go; whether there were any."""
        bounds = self._file.bounds
        self._deleted = time.monotonic()
        through = min(self._consumers.through(self._skip_to()), bounds.end)
        if through <= bounds.gone:
            return False
        average = max(1, (bounds.stored - bounds.gone_stored) // (bounds.end - bounds.gone))
        through = min(through, bounds.gone + max(1, min(DELETE_AT, DELETE_BYTES // average)))
        moved = self._consumers.skip(through)
        written = False
        try:
            gaps = [(consumer.name, self._gap(consumer.position, through)) for consumer in moved]
            now = self._consumers.all()
            self._file.delete(through, now, gaps)
            self._consumers.saved(now)
            written = True
        finally:
            if not written:
                self._consumers.unskip(moved, through)
        for name, gap in gaps:
            log.warning(
                "a consumer lies too far behind: it goes on later", consumer=name, records=gap.records
            )
        self._unchecked += 4 * PAGE_SIZE
        return True

    def _gap(self, position: int, through: int) -> Gap:
        records = self._file.records_before(through + 1) - self._file.records_before(position + 1)
        return Gap(position + 1, through, records)
