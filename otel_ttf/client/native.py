"""Threads and locks as they were when this was imported.

gevent replaces them, also in a worker that was forked from a loaded application. Half of them replaced, a thread that
waits would stop all others; those below go together, whichever they are.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, RLock, allocate_lock, start_new_thread
from queue import SimpleQueue

__all__ = ["Mark", "RLock", "SimpleQueue", "allocate_lock", "start_new_thread"]


class Mark:
    """Is set once, by anybody; any number wait for it."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Whoever waits goes on."""
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Whether it was set within so many seconds."""
        came = self._lock.acquire(timeout=min(seconds, TIMEOUT_MAX))
        if came:
            self._lock.release()  # for the next one who waits
        return came
