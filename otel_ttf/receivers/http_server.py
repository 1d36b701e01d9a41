"""Runs an ASGI application on uvicorn inside a loop that belongs to somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import sys
from asyncio import TimerHandle
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from otel_ttf.receivers.connections import HTTP_CONNECTIONS, Connections
from otel_ttf.receivers.endpoint import listen

HANDSHAKE_SECONDS = 10
GOODBYE_SECONDS = 1
HEADER_SECONDS = 10.0
HEADER_BYTES = 64 << 10
LINGER_SECONDS = 1.0  # what comes behind a refusal is thrown away so long,
LINGER_BYTES = 1 << 20  # or until it is more than this
WRITE_SECONDS = 30.0  # until a peer takes of its answer what the kernel does not hold
_TOO_LARGE = b"431 Request Header Fields Too Large"
IDLE_SECONDS = 75  # longer than the minute that clients and proxies keep a connection


@dataclass(frozen=True, slots=True)
class Tls:
    """How a listener speaks TLS.

    context  for the next connection
    failed   is called for each that does not get so far
    """

    context: Callable[[], ssl.SSLContext]
    failed: Callable[[], object]


class HttpServer:
    """One HTTP/1.1 listener. No signal handlers, no access log (request lines carry user ids)."""

    def __init__(
        self,
        app: Any,
        endpoint: str,
        *,
        setting: str,
        max_connections: int = HTTP_CONNECTIONS,
        tls: Tls | None = None,
    ) -> None:
        """app is an ASGI application; setting names the endpoint in the configuration, for errors.

        tls  None: the listener speaks plain HTTP
        """
        known = Connections(max_connections)
        self._endpoint = endpoint
        self._setting = setting
        self._sockets: list[socket.socket] = []
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(_Protocol, known) if tls is None else partial(_Secured, known, tls),  # type: ignore[arg-type]
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
    """uvicorn's, with what it lacks: deadlines for the header block and for a peer that does not read, limits for
    headers, trailers and connections."""

    _in_headers = True
    _header_bytes = 0
    _parsed_bytes = 0
    _bytes_without_body = 0
    _header_deadline: TimerHandle | None = None
    _write_deadline: TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    _refused = False
    _stopping = False
    _thrown_away = 0
    _fed = b""
    _again = b""

    def __init__(
        self,
        connections: Connections,
        *args: Any,
        secured: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> None:
        """secured: is called when a peer can speak."""
        super().__init__(*args, **options)
        self._known = connections
        self._secured = secured

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._secured()
        super().connection_made(transport)
        self._patient = _Patient(transport, self.end)
        self._await_headers()
        self._known.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_done()
        self._written()
        self._known.closed(self)
        super().connection_lost(exc)
        self._nobody_listens()  # uvicorn tells it to the last of several requests only

    def _nobody_listens(self) -> None:
        """The request that is being answered would write to a connection that is closed, which is an error."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def make_room(self, *, new: bool) -> None:
        """Closes; new: it has just come, so its peer is to hear why."""
        if new:
            self._refuse(b"503 Service Unavailable\r\nretry-after: 1")
        else:
            self.transport.abort()

    def give_up(self) -> None:
        """Closes, and throws away what its peer does not take."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
        self._known.stands(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._written()
        super().resume_writing()

    def _written(self) -> None:
        self._known.flows(self)
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self.transport.abort()
            return
        self._bytes_without_body += len(data)
        self._again = data
        while self._again:
            self._fed, self._again = self._again, b""
            super().data_received(self._fed)
        if self._refused or self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self._refuse(_TOO_LARGE)
            elif self._header_deadline is None:
                self._await_headers()
        elif self._bytes_without_body > HEADER_BYTES:
            # Trailers, or what may follow a chunk's length; parser and framework keep all of the former.
            self._refuse(_TOO_LARGE)
        elif self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # Stray bytes between requests ended the idle timer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _upgrades(self) -> bool:
        # With CONNECT it is the parser that says so.
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """A client that would rather speak something else (Java's HttpClient: HTTP/2) is answered in HTTP/1.1.

        The parser stops behind such headers and would leave out the body; a new one gets them without the question.
        """
        upgrade = sys.exc_info()[1]
        if not isinstance(upgrade, httptools.HttpParserUpgrade) or not self._upgrades():
            return
        first = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        lines = [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self._again = b"\r\n".join([first, *lines, b"", self._fed[upgrade.args[0] :]])
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._in_headers = True
        self._header_bytes = self._parsed_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._parsed(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsed(len(name) + len(value) + 4)
        if not self._in_headers:
            return
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            # The parser would take the body as it comes, and what stands before us may have read it otherwise.
            self._refuse(b"501 Not Implemented")
            raise ValueError("an unknown transfer coding")  # stops the parser
        super().on_header(name, value)

    def _parsed(self, size: int) -> None:
        # Much may come at once, and be parsed before anybody has counted what came.
        self._parsed_bytes += size
        if self._parsed_bytes > HEADER_BYTES:
            self._refuse(_TOO_LARGE)
            raise ValueError("too much")  # stops the parser

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request")  # or it was the parser that was stopped

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body = 0
        self._known.heard(self)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrades():
            return
        self._bytes_without_body = 0
        if not self.cycle.response_complete:  # else it was answered before its body came
            self._known.busy(self)
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        if self._upgrades():
            return
        self._in_headers = False
        self._bytes_without_body = 0
        self._headers_done()
        self._known.heard(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        answered = self._running
        super().on_response_complete()
        # Of several requests the next is running now, and its body may be still to come.
        whole = self._running is not answered and self._running is not None and not self._running.more_body
        if not whole and not self.transport.is_closing():
            self._known.idle(self)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = self._patient  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def _await_headers(self) -> None:
        self._header_deadline = self.loop.call_later(HEADER_SECONDS, self._refuse, b"408 Request Timeout")

    def _headers_done(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def end(self) -> None:
        """Closes behind an answer."""
        early = self._running is not None and self._running.more_body
        if early and not self._refused and not self._stopping:
            self._linger()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        self._stopping = True
        super().shutdown()

    def _refuse(self, status: bytes) -> None:
        """Answers, and closes."""
        if self._refused or self.transport.is_closing():
            return
        self._nobody_listens()
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self._linger()

    def _linger(self) -> None:
        """Takes for a moment what still comes: a kernel that has to throw something away resets the connection, and the
        peer might never see the answer."""
        self._refused = True
        self._headers_done()
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # TLS has no half of a connection
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class _Patient:
    """What a request writes its answer to. It may be closed before the body has come."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class _Secured(SSLProtocol):
    """TLS below the protocol. A connection counts from its first moment on: one that never says hello takes no place
    for long, and none of the others'."""

    def __init__(
        self, connections: Connections, tls: Tls, *, server_state: ServerState, **options: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        self._known = connections
        self._tls = tls
        self._server_state = server_state
        self._greeting = False
        protocol = _Protocol(connections, server_state=server_state, secured=self._greeted, **options)
        waiter: asyncio.Future[None] = loop.create_future()
        waiter.add_done_callback(self._shaken)
        super().__init__(
            loop,
            protocol,
            tls.context(),
            waiter,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            # A peer that waits for its next request does not read our good-bye.
            ssl_shutdown_timeout=GOODBYE_SECONDS,
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._greeting = True
        self._raw = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        super().connection_made(transport)
        self._known.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._greeted()
        super().connection_lost(exc)

    def make_room(self, *, new: bool) -> None:
        """Closes: it has nothing to say yet."""
        self.give_up()

    def give_up(self) -> None:
        """Closes."""
        self._raw.abort()

    shutdown = give_up

    def _greeted(self) -> None:
        """It is the protocol that counts from now on, or there is nothing to count."""
        if self._greeting:
            self._greeting = False
            self._server_state.connections.discard(self)
            self._known.closed(self)

    def _shaken(self, done: asyncio.Future[None]) -> None:
        # Whoever goes away without a word, such as a probe, has failed at nothing.
        if not done.cancelled() and isinstance(done.exception(), ssl.SSLError | ConnectionAbortedError):
            self._tls.failed()
