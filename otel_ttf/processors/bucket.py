"""How much of something there may be in a time."""

from __future__ import annotations

import threading

from otel_ttf.units import SECOND


class Bucket:
    """Tokens that come at a rate and are kept up to a number. Threads may share one.

    rate  a second
    """

    def __init__(self, rate: int, size: int) -> None:
        self._rate = rate
        self._size = size
        self._left = float(size)
        self._at: int | None = None
        self._lock = threading.Lock()

    def take(self, wanted: int, now: int) -> int:
        """How many of so many are to be had, unix ns; what time went back brings nothing."""
        with self._lock:
            since = max(0, now - self._at) if self._at is not None else 0
            self._at = max(now, self._at or now)
            self._left = min(self._size, self._left + since * self._rate / SECOND)
            had = min(wanted, int(self._left))
            self._left -= had
            return had
