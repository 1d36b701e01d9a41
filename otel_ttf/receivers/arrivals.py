"""Bodies of which a part is still to come: they leave room for requests that are complete."""

from __future__ import annotations

import asyncio
from typing import Self

from otel_ttf.log.base import LogRefused
from otel_ttf.units import size_text

STILL_SECONDS = 1.0  # who has sent nothing worth mentioning for so long makes room for others
_WORTH = 64 << 10  # bytes


class Arrivals:
    """A budget for their bytes. Where it is used up, the one that stands still longest is given up. One event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._known: dict[Arrival, None] = {}  # whoever moved last is the last

    def body(self, timeout: asyncio.Timeout) -> Arrival:
        """One of them, until its `with` block ends. timeout: what it is waited for in."""
        return Arrival(self, timeout)

    def add(self, arrival: Arrival, size: int) -> None:
        """Raises LogRefused: the budget is used up, and nobody stands still. One body alone always fits."""
        now = asyncio.get_running_loop().time()
        while self.used > arrival.size and self.used + size > self.limit:
            stillest = next(one for one in self._known if one is not arrival)
            if now - stillest.moved < STILL_SECONDS:
                raise LogRefused(f"more than {size_text(self.limit)} of requests are on their way")
            self.leave(stillest)
            stillest.give_up(now)
        self.used += size
        arrival.size += size
        arrival.fresh += size
        if arrival.fresh >= _WORTH or arrival not in self._known:
            self._known.pop(arrival, None)
            self._known[arrival] = None
            arrival.moved, arrival.fresh = now, 0

    def leave(self, arrival: Arrival) -> None:
        """It is complete, or given up."""
        self._known.pop(arrival, None)
        self.used -= arrival.size
        arrival.size = 0


class Arrival:
    """A body on its way.

    size      bytes that have come; fresh: since it has moved
    moved     when it last did, by the loop's clock
    given_up  its timeout has ended because of others
    """

    __slots__ = ("_arrivals", "_timeout", "fresh", "given_up", "moved", "size")

    def __init__(self, arrivals: Arrivals, timeout: asyncio.Timeout) -> None:
        self.size = self.fresh = 0
        self.moved = 0.0
        self._arrivals = arrivals
        self._timeout = timeout
        self.given_up = False

    def add(self, size: int) -> None:
        """More has come, and it is not all. Raises LogRefused."""
        self._arrivals.add(self, size)

    def give_up(self, now: float) -> None:
        """Its timeout ends now."""
        self.given_up = True
        self._timeout.reschedule(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._arrivals.leave(self)
