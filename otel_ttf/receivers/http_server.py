"""Runs an ASGI application on uvicorn inside a loop that belongs to somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from asyncio import TimerHandle
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_ttf.receivers.endpoint import listen

HEADER_SECONDS = 10.0
HEADER_BYTES = 64 << 10
IDLE_SECONDS = 75  # longer than the minute that clients and proxies keep a connection


class HttpServer:
    """One HTTP/1.1 listener. No signal handlers, no access log (request lines carry user ids)."""

    def __init__(self, app: Any, endpoint: str, *, setting: str) -> None:
        """app is an ASGI application; setting names the endpoint in the configuration, for errors."""
        self._endpoint = endpoint
        self._setting = setting
        self._sockets: list[socket.socket] = []
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
            )
        )

    @property
    def port(self) -> int:
        """The port listened on; known after `start`, also when 0 was asked for."""
        return int(self._sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listens. Raises CannotListen."""
        self._sockets = listen(self._endpoint, self._setting)
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets))
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            self._task.result()

    async def stop(self, grace: float = 5.0) -> None:
        """Takes no new connections, answers what is in flight for up to `grace` seconds, closes."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = math.ceil(grace)
        self._server.should_exit = True
        await self._task
        self._task = None
        if cancelled := self._server.server_state.tasks:
            await asyncio.wait(cancelled, timeout=1.0)  # they tell their clients to come again


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the service's: it drains all its parts in order.
        yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with what it lacks: a deadline and a limit for the header block, and a limit for trailers."""

    _in_headers = True
    _header_bytes = 0
    _bytes_without_body = 0
    _header_deadline: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes_without_body += len(data)
        super().data_received(data)
        if self._in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")
            elif self._header_deadline is None:
                self._await_headers()
        elif self._bytes_without_body > HEADER_BYTES:
            # Trailers, or what may follow a chunk's length; parser and framework keep all of the former.
            self._refuse(b"431 Request Header Fields Too Large")
        elif self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # Stray bytes between requests ended the idle timer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bytes_without_body = 0
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._bytes_without_body = 0
        self._headers_done()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        self._header_deadline = self.loop.call_later(HEADER_SECONDS, self._refuse, b"408 Request Timeout")

    def _headers_done(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def _refuse(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
