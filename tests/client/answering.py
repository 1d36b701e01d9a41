"""An HTTP server that answers as a test wants, and remembers what came."""

from __future__ import annotations

import gzip
import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord


@dataclass(frozen=True)
class Answering:
    """One answer. hold: what it waits for; forward: a server to ask first; cut: no answer, the connection ends."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    forward: int | None = None
    cut: bool = False


@dataclass(frozen=True)
class Came:
    """A request. at: monotonic."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def records(self) -> list[LogRecord]:
        """Of an OTLP logs request."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        request = ExportLogsServiceRequest.FromString(body)
        return [
            record for one in request.resource_logs for two in one.scope_logs for record in two.log_records
        ]


class FakeServer:
    """Answers `next` in turn, then `always`. tls: over TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.always = Answering()
        self.next: deque[Answering] = deque()
        self.came: list[Came] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake._answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                if tls is None:
                    return connection, address
                try:
                    # Of one who is gone already wrap_socket would leave a socket behind that nobody can close.
                    connection.getpeername()
                    return tls.wrap_socket(connection, server_side=True), address
                except OSError:
                    connection.close()
                    raise

            def handle_error(self, *_: Any) -> None:
                pass  # clients that give up

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.came.append(Came(handler.path, headers, body, time.monotonic()))
        try:
            answering = self.next.popleft()
        except IndexError:
            answering = self.always
        if answering.forward is not None:
            with closing(http.client.HTTPConnection("127.0.0.1", answering.forward, timeout=10)) as onward:
                onward.request(handler.command, handler.path, body, headers)
                answer = onward.getresponse()
                answering = Answering(answer.status, answer.read(), cut=answering.cut)
        if answering.hold is not None:
            answering.hold.wait(60)
        if answering.cut:
            handler.close_connection = True
            return
        handler.send_response(answering.status)
        for name, value in answering.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answering.body)))
        handler.end_headers()
        handler.wfile.write(answering.body)

    @property
    def records(self) -> list[LogRecord]:
        """All that came, in order, repeated ones too."""
        return [record for came in self.came if came.path == "/v1/logs" for record in came.records]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
