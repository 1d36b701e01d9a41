"""How much of something there may be in a time: a token bucket."""

from __future__ import annotations

import threading

from otel_ttf.units import SECOND


class Bucket:
    """Tokens that come at a rate and are kept up to a number; full at first. Threads may share one.

    rate  a second
    most  that it holds, at least 1
    now   for all calls by one clock, ns; what time went back brings nothing
    """

    __slots__ = ("_at", "_left", "_lock", "_most", "_rate")

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._most = max(float(most), 1.0)
        self._left = self._most
        self._at: int | None = None
        self._lock = threading.Lock()

    def wait(self, size: float, now: int) -> float:
        """Seconds until so many are there, 0.0 when they are. More than it ever holds are there when it is full."""
        with self._lock:
            self._fill(now)
            return max(0.0, (min(size, self._most) - self._left) / self._rate)

    def take(self, size: float) -> None:
        """Takes, be it more than is there: how many it would be was known only afterwards."""
        with self._lock:
            self._left -= size

    def part(self, wanted: int, now: int) -> int:
        """Takes what is there of so many; how many these are."""
        with self._lock:
            self._fill(now)
            had = min(wanted, max(0, int(self._left)))
            self._left -= had
            return had

    def _fill(self, now: int) -> None:
        if self._at is None or now > self._at:
            since = now - self._at if self._at is not None else 0
            self._left = min(self._most, self._left + since * self._rate / SECOND)
            self._at = now
