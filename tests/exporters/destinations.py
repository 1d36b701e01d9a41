"""Destinations on loopback that behave as a test tells them: real gRPC and HTTP servers."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.wire import SHAPES, Signal

METHODS: dict[Signal, str] = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}


@dataclass(frozen=True)
class Answer:
    """kind      ok, later, bad, large, denied, or partial
    after     seconds that it asks to wait
    rejected  of `partial`
    slow      seconds until it answers
    """

    kind: str = "ok"
    after: int | None = None
    rejected: int = 0
    slow: float = 0


OK = Answer()


def names(signal: Signal, request: Any) -> list[str]:
    """Of the records of a request."""
    shape = SHAPES[signal]
    field_ = "event_name" if signal == "logs" else "name"
    return [
        getattr(record, field_)
        for resource in getattr(request, shape.resources)
        for scope in getattr(resource, shape.scopes)
        for record in getattr(scope, shape.records)
    ]


@dataclass
class Came:
    """A request. at: time.monotonic; raw: its body, unpacked; size: of it as protobuf."""

    signal: Signal
    names: list[str]
    headers: dict[str, str]
    at: float
    answer: Answer
    size: int
    request: Any
    raw: bytes


def log_records(came: Iterable[Came]) -> list[Any]:
    """Of all requests that came, in order."""
    return [
        record
        for one in came
        if one.signal == "logs"
        for resource in one.request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@dataclass
class Destination:
    """What a test tells it, and what came. `answers` are used up one by one, then `judge` is asked."""

    answers: deque[Answer] = field(default_factory=deque)
    judge: Callable[[Came], Answer] = lambda came: OK
    came: list[Came] = field(default_factory=list)
    port: int = 0

    @property
    def taken(self) -> list[str]:
        """Names of the records that it has said OK to, in the order in which they came."""
        return [name for one in self.came if one.answer.kind in ("ok", "partial") for name in one.names]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.taken)

    def answer(self, signal: Signal, body: bytes, headers: dict[str, str], raw: bytes = b"") -> Answer:
        """body: protobuf; raw: what came, where that is something else."""
        request = SHAPES[signal].request.FromString(body)
        at = time.monotonic()
        came = Came(signal, names(signal, request), headers, at, OK, len(body), request, raw or body)
        try:
            came.answer = self.answers.popleft()
        except IndexError:
            came.answer = self.judge(came)
        if came.answer.slow:
            time.sleep(came.answer.slow)
        self.came.append(came)
        return came.answer

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


CODES = {
    "later": grpc.StatusCode.UNAVAILABLE,
    "bad": grpc.StatusCode.INVALID_ARGUMENT,
    "large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "denied": grpc.StatusCode.UNAUTHENTICATED,
}
STATUSES = {"later": 503, "bad": 400, "large": 413, "denied": 401}


@dataclass
class GrpcDestination(Destination):
    """OTLP/gRPC. Stopped and started again it has the same port."""

    credentials: Any = None

    def start(self) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        for signal, service in METHODS.items():
            handler = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, {"Export": handler})]
            )
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        self._server.start()

    def _handler(self, signal: Signal) -> Callable[[bytes, Any], bytes]:
        def export(raw: bytes, context: Any) -> bytes:
            answer = self.answer(signal, raw, dict(context.invocation_metadata()))
            if answer.kind in ("ok", "partial"):
                response: Any = SHAPES[signal].response()
                if answer.rejected:
                    setattr(response.partial_success, SHAPES[signal].rejected, answer.rejected)
                    response.partial_success.error_message = "secret words"
                return bytes(response.SerializeToString())
            code = CODES[answer.kind]
            if answer.after is not None:
                detail = any_pb2.Any()
                detail.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=answer.after)))
                code = grpc.StatusCode.RESOURCE_EXHAUSTED
                told = status_pb2.Status(code=code.value[0], details=[detail]).SerializeToString()
                context.set_trailing_metadata([("grpc-status-details-bin", told)])
            context.abort(code, "secret words")
            raise AssertionError

        return export

    def stop(self) -> None:
        self._server.stop(0).wait()


@dataclass
class HttpDestination(Destination):
    """OTLP/HTTP. Stopped and started again it has the same port."""

    context: ssl.SSLContext | None = None

    def start(self) -> None:
        destination = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                signal: Any = self.path.removeprefix("/v1/")
                spoken, raw = self.headers["content-type"], body
                if spoken == "application/json":
                    body = otlp_json.decode(signal, body)
                headers = {k.lower(): v for k, v in self.headers.items()}
                answer = destination.answer(signal, body, headers, raw)
                status, told = STATUSES.get(answer.kind, 200), b""
                if answer.rejected:
                    response = SHAPES[signal].response()
                    setattr(response.partial_success, SHAPES[signal].rejected, answer.rejected)
                    told = response.SerializeToString()
                    if spoken == "application/json":
                        told = otlp_json.as_json(response).encode()
                if answer.after is not None:
                    status = 429
                self.send_response(status)
                self.send_header("content-type", spoken)
                self.send_header("content-length", str(len(told)))
                if answer.after is not None:
                    self.send_header("retry-after", str(answer.after))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            opened: ClassVar[set[socket.socket]] = set()

            def process_request(self, request: Any, address: Any) -> None:
                self.opened.add(request)
                super().process_request(request, address)

            def handle_error(self, *_: object) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for opened in self._server.opened:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        self._server.opened.clear()


class Cutting:
    """Stands in front of a destination; cuts each of the next connections when its answer is on its way.

    left  how many more
    """

    def __init__(self, destination: Destination, left: int) -> None:
        self._to = destination
        self.left = left
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._opened = [self._listening]
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to.port))
                self._opened += (client, server)
                taken = len(self._to.came)
                for ends in ((client, server, None), (server, client, taken)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, taken: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if taken is not None and self.left and len(self._to.came) > taken:
                    self.left -= 1
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for opened in self._opened:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
