"""Requests of one kind that wait at the same moment are worked on together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from otel_ttf.receivers.prepare import Receipt, Request

JOINED = 256 << 10  # bytes of a group: more would gain nothing, and delay the first of them
# Many senders at once: waiting so long costs less than a row and a sync for each few of them.
CROWD_SECONDS = 0.015

Answer = asyncio.Future[Receipt | Exception]
Work = Callable[[Sequence[Request], Sequence[Answer]], Awaitable[None]]


class Lane:
    """A queue whose requests leave it in groups: those that come while a group is on its way are the next one.

    So nobody waits for company while the server has nothing else to do. One event loop.
    """

    def __init__(self, work: Work, *, groups: int = 1) -> None:
        """work    gives each of a group its answer, in the order in which they came; not for those who have
                   one already: they went away
        groups  so many at a time
        """
        self._work = work
        self._free = groups
        # With one group at a time, those who were answered just now are waited for a little.
        self._gathers = groups == 1
        self._waiting: deque[tuple[Request, Answer]] = deque()
        self._starting = False
        self._expected = 0
        self._crowd: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, request: Request) -> Answer:
        """What to wait for. Whoever stops waiting is left out, or gets no answer; others do not notice."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._crowd is not None and len(self._waiting) >= self._expected:
            _done(self._crowd)
        self._start()
        return answer

    def _start(self) -> None:
        if self._free and self._waiting and not self._starting:
            # A task of its own, since a sender's ends when the sender does. It begins with the loop's next
            # round, and by then has all that came in this one.
            self._starting = True
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._follow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        """Group after group until nobody waits."""
        self._starting = False
        try:
            while self._waiting:
                requests, answers = self._take()
                self._start()  # what does not fit into this group
                try:
                    await self._work(requests, answers)
                except Exception as error:  # noqa: BLE001 - raised again where each of them is waited for
                    tell(answers, [error] * len(answers))
                finally:
                    for answer in answers:
                        answer.cancel()  # only at the end of the process is anybody left
                if self._gathers and len(answers) > 1 and self._room():
                    await self._gather(len(answers) + len(self._waiting))
        finally:
            self._free += 1

    def _take(self) -> tuple[list[Request], list[Answer]]:
        """What has come, in order, up to JOINED bytes; without those who went away."""
        requests: list[Request] = []
        answers: list[Answer] = []
        size = 0
        while self._waiting:
            request, answer = self._waiting[0]
            size += len(request.raw)
            if requests and size > JOINED:
                break
            self._waiting.popleft()
            if not answer.done():
                requests.append(request)
                answers.append(answer)
        return requests, answers

    def _room(self) -> bool:
        """Whether those that wait are no whole group yet."""
        return sum(len(request.raw) for request, _ in self._waiting) < JOINED

    async def _gather(self, expected: int) -> None:
        """Waits until so many wait: senders that were answered just now and have more to send come again at once, and
        without them a crowd would go in two halves by turns, a row and a sync for each.
        """
        loop = asyncio.get_running_loop()
        self._expected, self._crowd = expected, loop.create_future()
        timer = loop.call_later(CROWD_SECONDS, _done, self._crowd)
        try:
            await self._crowd
        finally:
            timer.cancel()
            self._crowd = None


def tell(answers: Sequence[Answer], told: Sequence[Receipt | Exception]) -> None:
    """Answers each, but for those who have an answer, or went away."""
    for answer, one in zip(answers, told, strict=True):
        if not answer.done():
            answer.set_result(one)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
