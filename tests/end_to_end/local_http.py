"""An HTTP server on this machine, for as long as a test is in its block."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Request = BaseHTTPRequestHandler


class LocalHttp:
    """Listens from the start on, and answers within `with`: `answer` is called for each request, in a thread.

    tls  None: plain HTTP
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        answering = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answering.answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
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

            def handle_error(self, *_: object) -> None:
                pass  # clients that give up

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def answer(self, request: Request) -> None:
        """Answers one request, by `reply` as a rule."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def body_of(request: Request) -> bytes:
    """What was posted."""
    return request.rfile.read(int(request.headers.get("content-length", "0")))


def reply(request: Request, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """A whole answer; whoever has gone meanwhile does without."""
    request.send_response(status)
    for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    with suppress(OSError):
        request.end_headers()
        request.wfile.write(body)
