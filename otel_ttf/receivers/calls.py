"""gRPC calls whose message is still to come: none waits for ever, and all together do not take the memory.

gRPC gathers a message before anybody can see how large it is. What those that are on their way hold can only be told
by how the process has grown since it was calm. A small message comes at once, so those that have been sending for a
while end first, and of these the many of one peer before the few of another.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from otel_ttf.log.base import LogRefused
from otel_ttf.memory import collect, give_back, resident

TICK = 0.25  # seconds
AGAIN_SECONDS = 5.0  # until who is ended for its size comes again
# The process may grow by so many budgets of requests in flight while calls are on their way.
GROWTH_SHARE = 2
_WORTH = 64 << 20  # bytes; less than this is not looked for in free memory
CALM_SECONDS = 10.0  # after the last slow call, in which gRPC lets go of what it held
_DRIFT = 16 << 10  # bytes a tick that the process may grow by itself while there is always a slow call
CROWD = 256  # so many that wait are more than well-behaved senders have, and hold some 50 objects each
AT_ONCE = 16  # so many end in one round of the loop; each takes as long as a request
HUGE = 16 << 20  # bytes of a message that leaves that much free memory behind

Call = grpc.aio.ServicerContext[bytes, bytes]
End = Callable[[Call, LogRefused], Any]


class Calls:
    """Those of one server. One event loop.

    seconds   a message has to come as a whole
    growth    bytes by which the process may grow while messages are on their way
    end       ends a call with the reason
    resident  bytes that the process has; None: the system does not say, and only time counts
    """

    def __init__(
        self, seconds: float, growth: int, end: End, *, resident: Callable[[], int | None] = resident
    ) -> None:
        self._seconds = seconds
        self._growth = growth
        self._end = end
        self._resident = resident
        self._waiting: dict[Call, float] = {}  # since when, by the loop's clock; the longest first
        self._ending: set[asyncio.Task[None]] = set()
        self._crowded = False
        self._usual = 0
        # By the loop's clock.
        self._calm_at = 0.0
        self._gave_back = 0.0

    async def message(self, call: Call) -> bytes | None:
        """What it sends; None: nothing. Raises LogRefused when it comes while it is ended, or what ended it."""
        self._waiting[call] = asyncio.get_running_loop().time()
        if len(self._waiting) > CROWD and not self._crowded:
            self._crowd(come=True)  # at once: a moment later ten times as many may be there
        try:
            raw = await call.read()
        finally:
            waited = self._waiting.pop(call, None)
        if waited is None:
            raise LogRefused("the message has come too late")
        if not isinstance(raw, bytes):  # gRPC's EOF
            return None
        if len(raw) > HUGE:
            # The pieces that it came in are free now. glibc keeps them unless it is told, and so twice the message.
            await asyncio.to_thread(give_back)
        return raw

    async def watch(self) -> None:
        """Looks after them until it is cancelled."""
        self._usual = self._resident() or 0
        while True:
            await asyncio.sleep(TICK)
            await self.look()

    async def look(self) -> None:
        """Ends those that have to."""
        now = asyncio.get_running_loop().time()
        if self._crowded and len(self._waiting) <= CROWD:
            self._crowd(come=False)
        late = self._since(now - self._seconds)
        await self._end_all(late, f"the message has not come within {self._seconds:g} seconds", 1.0)
        # A message of usual size comes at once, so whatever is here twice is large or slow.
        slow = next(iter(self._waiting.values()), now) <= now - TICK
        if slow or late:
            self._calm_at = now + CALM_SECONDS
        grown = await self._grown(self._growth if slow else _WORTH)
        if grown > self._growth and slow:
            them = self._since(now - TICK)
            some = _by_peer(them)[: (len(them) + 1) // 2]
            await self._end_all(some, f"more than {self._growth >> 20} MiB are on their way", AGAIN_SECONDS)
        # What an attack leaves behind must not become usual: the next one would get as much again.
        self._usual += grown if now >= self._calm_at else min(grown, _DRIFT)

    def _crowd(self, *, come: bool) -> None:
        self._crowded = come
        collect(in_steps=come)

    def _since(self, instant: float) -> list[Call]:
        """Those that have been on their way since then or longer."""
        longest = itertools.takewhile(lambda item: item[1] <= instant, self._waiting.items())
        return [call for call, _ in longest]

    async def _grown(self, much: int) -> int:
        """Bytes; where it is more than `much`, without what is free, which is looked for once a second."""
        size = self._resident()
        if size is not None and size - self._usual > much:
            now = asyncio.get_running_loop().time()
            if now - self._gave_back >= 1.0:
                self._gave_back = now
                await asyncio.to_thread(give_back)
                size = self._resident()
        return 0 if size is None else size - self._usual

    async def _end_all(self, calls: list[Call], reason: str, seconds: float) -> None:
        for number, call in enumerate(calls, 1):
            if not number % AT_ONCE:
                await asyncio.sleep(0)  # others get their turn
            if self._waiting.pop(call, None) is not None:  # else it has come, or gone, just now
                task = asyncio.create_task(self._ended(call, LogRefused(reason, seconds)))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _ended(self, call: Call, refused: LogRefused) -> None:
        # A peer that reads nothing is waited for here, and nobody else waits.
        with suppress(Exception, asyncio.CancelledError):
            await self._end(call, refused)


def _by_peer(calls: list[Call]) -> list[Call]:
    """Those first whose host has most of them, then those whose connection has; the longest on their way first."""
    peers = [call.peer() for call in calls]
    hosts = [peer.rpartition(":")[0] for peer in peers]
    of_host, of_peer = Counter(hosts), Counter(peers)
    order = sorted(range(len(calls)), key=lambda at: (-of_host[hosts[at]], -of_peer[peers[at]]))
    return [calls[at] for at in order]
