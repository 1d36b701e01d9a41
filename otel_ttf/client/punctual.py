"""Connections of requests over which an answer comes in time and is not too long, or is none.

Its own timeouts are for each part of an answer: a peer that sends a byte now and then would be waited for without end.
"""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

MAX_ANSWER = 4 * 1024 * 1024  # bytes, headers and all

_DEADLINE: ContextVar[float] = ContextVar("otel_ttf_deadline", default=math.inf)


class TooLong(OSError):
    """An answer has more than MAX_ANSWER bytes."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is asked in the block has an answer by then, or TimeoutError is at the bottom of its errors."""
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def left() -> float:
    """Seconds; 0.0: none."""
    return max(0.0, _DEADLINE.get() - time.monotonic())


def _wait_no_longer(sock: Any) -> None:
    """Raises TimeoutError."""
    seconds = left()
    if not seconds:
        raise TimeoutError
    sock.settimeout(seconds if seconds < math.inf else None)


class _Bounded(io.RawIOBase):
    """What comes over a socket."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        self._room = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _wait_no_longer(self._sock)
        size: int | None = self._raw.readinto(buffer)
        self._room -= size or 0
        if self._room < 0:
            raise TooLong
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: Any, *given: Any, **more: Any) -> None:
        super().__init__(sock, *given, **more)
        self.fp = io.BufferedReader(_Bounded(self.fp.detach(), sock))


class _Punctual:
    sock: Any
    port: int
    _dns_host: str
    socket_options: Any

    def _new_conn(self) -> socket.socket:
        """The first of the host's addresses that takes it, in one time for all of them."""
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._dns_host.strip("[]"), self.port, 0, socket.SOCK_STREAM
        ):
            try:
                opened = socket.socket(family, kind, protocol)
            except OSError as failed:  # of a family that this machine does not have
                error = failed
                continue
            try:
                for option in self.socket_options or ():
                    opened.setsockopt(*option)
                _wait_no_longer(opened)
                opened.connect(address)
                _wait_no_longer(opened)
                return opened
            except OSError as failed:
                opened.close()
                error = failed
        raise error or OSError("no address")

    def request(self, *given: Any, **more: Any) -> None:
        if self.sock is not None:  # one that is used again, with what was left of the last time
            _wait_no_longer(self.sock)
        super().request(*given, **more)  # type: ignore[misc]


class _Plain(_Punctual, HTTPConnection):
    response_class = _Answer


class _Secure(_Punctual, HTTPSConnection):
    response_class = _Answer


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class Adapter(HTTPAdapter):
    """For a session whose questions are asked in a block of `within`."""

    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        super().init_poolmanager(*given, **more)
        _mind(self.poolmanager)

    def proxy_manager_for(self, *given: Any, **more: Any) -> Any:
        return _mind(super().proxy_manager_for(*given, **more))


def _mind(manager: PoolManager) -> PoolManager:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return manager
