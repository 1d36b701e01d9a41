"""Whether an entry may come in: room in memory, in the log, and on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from otel_ttf.log.base import LogRefused
from otel_ttf.units import size_text

MIB = 1 << 20
WAITING_BYTES = 64 * MIB
REMEMBERED = 5.0  # seconds for which a refused entry is asked about again when none has come in since


class Room:
    """Decides on the event loop, with what the writer measured last and what has been written since.

    max_size, min_free  bytes
    folder              named in reasons
    behind              name of the consumer that holds rows back
    """

    def __init__(self, max_size: int, min_free: int, folder: Path, behind: Callable[[], str | None]) -> None:
        self._max_size = max_size
        self._min_free = min_free
        self._folder = folder
        self._behind = behind
        self._waiting = 0
        self._refused: tuple[int, float] | None = None  # what it would have cost, and when
        self.used = 0
        self.free = 0
        self.broken: str | None = None
        self.closing: str | None = None

    def measured(self, used: int, free: int) -> None:
        """What the writer found: bytes the log takes, bytes free on the disk."""
        self.used, self.free = used, free

    def written(self, size: int) -> None:
        """What the writer wrote: it is in the write-ahead log now and will be in the file, too."""
        self.used += size
        self.free -= 2 * size

    def take(self, cost: int, *, empty: bool) -> None:
        """Counts an entry of `cost` bytes in. Raises LogRefused.

        empty  the log holds nothing: then an entry comes in that is larger than the whole log may be
        """
        reason = self.closing or self.broken or self._lack(cost, empty=empty)
        if reason is None:
            self._waiting += cost
            self._refused = None
            return
        self._refused = cost, time.monotonic()
        raise LogRefused(reason, 1.0 if self._waiting else 5.0)

    def give_back(self, cost: int) -> None:
        """An entry no longer waits."""
        self._waiting -= cost

    def _lack(self, cost: int, *, empty: bool) -> str | None:
        coming = self._waiting + cost
        if coming > WAITING_BYTES and self._waiting:
            return f"{size_text(self._waiting)} wait to be written: the disk is slower than the senders"
        if 2 * coming > self.free - self._min_free:
            # Each entry is written twice: into the write-ahead log, from there into the file.
            also = f", beside {size_text(2 * coming)} for what comes" if self.free > self._min_free else ""
            return (
                f"log.min_free: {size_text(max(0, self.free))} are free on the disk of {self._folder}, "
                f"{size_text(self._min_free)} have to stay free{also}: make room"
            )
        if self.used + coming > self._max_size and not (empty and not self._waiting):
            name = self._behind()
            behind = f": {name} has not read them yet" if name else ""
            return f"log.max_size: {size_text(self.used)} of {size_text(self._max_size)} are in use{behind}"
        return None

    def refusing(self) -> str | None:
        """Why nothing comes in right now."""
        # Not even one byte; or what was refused a moment ago, if it still would be.
        cost, when = self._refused or (1, 0.0)
        if time.monotonic() - when > REMEMBERED:
            cost = 1
        return self.closing or self.broken or self._lack(cost, empty=False)
