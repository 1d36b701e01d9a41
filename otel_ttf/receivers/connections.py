"""How many connections a listener has at most, and which one goes when there is no more room."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field

HTTP_CONNECTIONS = 1000  # a listener; gRPC, whose senders stay connected, has what is left
UNREAD = 64 << 20  # bytes of answers that wait for peers of a listener to take them
_OWN_FILES = 256  # databases, timers, connections of our own
_WITHOUT_LIMIT = 65_536

MaxConnections = Annotated[int | None, Field(ge=1)]


def open_files() -> int:
    """Files that the process may have open, which on many systems is 1024 until somebody asks for more."""
    try:
        import resource
    except ImportError:  # Windows
        return _WITHOUT_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WITHOUT_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _WITHOUT_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def shares(files: int) -> tuple[int, int]:
    """(connections of an HTTP listener, of gRPC) where they are not configured: two of the former, and one."""
    left = max(files - _OWN_FILES, 8)
    http = min(HTTP_CONNECTIONS, left // 4)
    return http, left - 2 * http


class Closable(Protocol):
    """A connection."""

    def make_room(self, *, new: bool) -> None:
        """Closes; new: it has just come, so its peer is to hear why."""

    def give_up(self) -> None:
        """Closes, and throws away what its peer does not take."""


class Connections:
    """Those of one listener. When one too many comes, one without a whole request goes: first of those that never had
    one, then of the others, and of each the one that has been silent longest.

    So a flood of silent ones, or of bodies that do not come, takes nobody's place; connections with a whole request
    that is not answered yet always stay. Of those whose peers do not take their answers the one that waits longest is
    given up when there is too much to be taken: a question is small, and an answer may have megabytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0
        # In the order in which they were heard of.
        self._new: dict[Closable, None] = {}
        self._idle: dict[Closable, None] = {}
        self._unread: dict[Closable, int] = {}  # bytes
        self._to_be_read = 0

    def opened(self, connection: Closable) -> None:
        """A new one. One of the others is closed when there are too many, or else this one."""
        self.open += 1
        if self.open > self.limit:
            oldest = next(iter(self._new), None) or next(iter(self._idle), connection)
            self._forget(oldest)
            oldest.make_room(new=oldest is connection)
            if oldest is connection:
                return
        self._new[connection] = None

    def heard(self, connection: Closable) -> None:
        """A part of a request has come."""
        for known in (self._new, self._idle):
            if connection in known:
                del known[connection]
                known[connection] = None

    def busy(self, connection: Closable) -> None:
        """All of a request has come."""
        self._forget(connection)

    def idle(self, connection: Closable) -> None:
        """Its requests are answered, or are not there as a whole."""
        if connection not in self._new:
            self._idle[connection] = None

    def stands(self, connection: Closable, size: int) -> None:
        """So many bytes of its answer wait for its peer. The last one that stands is never given up for others."""
        self.flows(connection)
        self._unread[connection] = size
        self._to_be_read += size
        while self._to_be_read > UNREAD and len(self._unread) > 1:
            longest = next(iter(self._unread))
            self.flows(longest)
            longest.give_up()

    def flows(self, connection: Closable) -> None:
        """Its peer has taken the most of it."""
        self._to_be_read -= self._unread.pop(connection, 0)

    def closed(self, connection: Closable) -> None:
        """It is gone."""
        self.open -= 1
        self._forget(connection)
        self.flows(connection)

    def _forget(self, connection: Closable) -> None:
        self._new.pop(connection, None)
        self._idle.pop(connection, None)
