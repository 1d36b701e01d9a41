"""How much a caller may send: token buckets."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """Fills at a rate, up to what comes in `burst` seconds, and may be overdrawn: what is taken is known afterwards.

    Any thread may call; two at once may get a little more than there is.
    """

    __slots__ = ("_at", "_clock", "_left", "_most", "_rate")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """rate: a second; burst: seconds; clock: seconds"""
        self._rate = rate
        self._most = max(rate * burst, 1.0)
        self._left = self._most
        self._clock = clock
        self._at = clock()

    def wait(self, size: float) -> float:
        """Seconds until so much is there, 0.0 when it is. More than it ever holds is there when it is full."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (min(size, self._most) - self._left) / self._rate)

    def take(self, size: float) -> None:
        """Takes, be it more than is there."""
        self._left -= size
