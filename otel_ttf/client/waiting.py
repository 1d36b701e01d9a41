"""Events that wait for being sent: put from any thread, taken by one."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty

from otel_ttf.client.event import Event
from otel_ttf.client.native import Mark, RLock, SimpleQueue


class Waiting:
    """A queue bounded in events and bytes. What puts never waits for what takes.

    Whoever takes is woken by a bell, rung for the first event and not for the others, and by whoever wants it at once.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._items: deque[Event | Mark] = deque()
        self._count = 0
        self._bytes = 0
        self._bell: SimpleQueue[bool] = (
            SimpleQueue()
        )  # may be rung in a signal handler, as the lock may be taken
        self._rung = False
        self._lock = RLock()  # held for some instructions at a time

    def __len__(self) -> int:
        """Events that nobody has taken."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether there is no room for any event."""
        return self._count >= self._most

    @property
    def bytes(self) -> int:
        """Roughly what the events take, those taken and not `gone` included."""
        return self._bytes

    def put(self, event: Event) -> bool:
        """Whether there was room."""
        with self._lock:
            if self._count >= self._most or self._bytes + event.size > self._most_bytes:
                return False
            self._items.append(event)
            self._count += 1
            self._bytes += event.size
        if not self._rung:
            self._rung = True
            self._bell.put(False)
        elif self._count == self._most // 2:
            self._bell.put(True)
        return True

    def mark(self) -> Mark:
        """Is set when nothing that was put before waits any more."""
        with suppress(IndexError):
            # While the server is away there may be many who ask: one mark for all behind the last event.
            if isinstance(last := self._items[-1], Mark):
                self.ring()
                return last
        mark = Mark()
        self._items.append(mark)
        self.ring()
        return mark

    def ring(self) -> None:
        """Whoever takes should look at once."""
        self._rung = True
        self._bell.put(True)

    def wait(self, seconds: float | None) -> bool:
        """Waits for the bell; whether it is urgent. None: for ever."""
        try:
            urgent = self._bell.get(timeout=seconds)
            while not self._bell.empty():  # many at once are one: else each of them would have it try again
                urgent |= self._bell.get_nowait()
        except Empty:
            return False
        return urgent

    def take(self, most: int, most_bytes: int) -> list[Event]:
        """The next events, at least one if there is one; they count until they are `gone`. Sets marks before them."""
        self._rung = False  # what comes from here on rings
        events: list[Event] = []
        size = 0
        while self._items and len(events) < most and size < most_bytes:
            item = self._items.popleft()
            if isinstance(item, Mark):
                if events:
                    self._items.appendleft(item)
                    break
                item.set()
            else:
                events.append(item)
                size += item.size
        with self._lock:
            self._count -= len(events)
        return events

    def gone(self, events: list[Event]) -> None:
        """Taken events need no room any more."""
        size = sum(event.size for event in events)
        with self._lock:
            self._bytes -= size
