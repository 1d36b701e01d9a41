"""When the next request may go to a destination: back-off with full jitter, Retry-After, circuit breaker.

One for each destination, not for each batch: what fails is the destination.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from tenacity import RetryCallState, Retrying, wait_random_exponential

OPENS_AT = 5  # failures in a row, after which one request at a time finds out whether it works again
LONGEST_WISH = 3600.0  # seconds: what destinations ask for beyond it is an hour
NAP = 0.1  # seconds: how soon a sleeper notices that the destination answers again


class Stopping(Exception):
    """There is no time left to wait."""


class Pace:
    """For one event loop.

    first, longest  seconds: the first wait is at most the one, none is longer than the other
    opens_at        see OPENS_AT
    """

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        opens_at: int = OPENS_AT,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.failures = 0
        self.stopping = False
        self._jitter = wait_random_exponential(multiplier=first, max=longest)
        self._longest = longest
        self._opens_at = opens_at
        self._now = now
        self._until = 0.0
        self._probing = asyncio.Lock()

    @property
    def open(self) -> bool:
        """Whether the circuit is open: the destination is taken for dead, and one request at a time tries it."""
        return self.failures >= self._opens_at

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Within it one request may be sent. Raises Stopping: it would have to wait and there is no time."""
        await self._wait()
        if not self.open:
            yield
            return
        async with self._probing:
            await self._wait()  # the one before may have failed, or closed the circuit
            yield

    async def _wait(self) -> None:
        while (left := self._until - self._now()) > 0:
            if self.stopping:
                raise Stopping
            await asyncio.sleep(min(left, NAP))
        if self.stopping and self.failures:
            raise Stopping

    def answered(self) -> None:
        """The destination has taken something, or said why it never will."""
        self.failures = 0
        self._until = 0.0

    def failed(self, after: float | None = None, *, barred: bool = False) -> float:
        """It has not. The seconds until the next try.

        after   what it asks for
        barred  nothing but a change of its mind, or of our configuration, will help
        """
        self.failures = max(self.failures + 1, self._opens_at if barred else 0)
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = self.failures
        wait = self._longest if barred else self._jitter(state)
        if after is not None:
            wait = max(wait, min(after, LONGEST_WISH))
        self._until = max(self._until, self._now() + wait)
        return wait
