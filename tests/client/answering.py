"""An HTTP server that answers as a test wants, and remembers what came."""

from __future__ import annotations

import gzip
import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field

from local_http import LocalHttp, Request, body_of, reply
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord


@dataclass(frozen=True)
class Answering:
    """One answer.

    hold     what it waits for; forward: a server to ask first; cut: no answer, the connection ends
    dripped  bytes that come one by one, for as long as anybody listens, in the place of an answer; its last for ever
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    forward: int | None = None
    cut: bool = False
    dripped: bytes = b""


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


class FakeServer(LocalHttp):
    """Answers `next` in turn, then `always`. tls: over TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.url = self.address
        self.always = Answering()
        self.next: deque[Answering] = deque()
        self.came: list[Came] = []

    def answer(self, request: Request) -> None:
        body = body_of(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.came.append(Came(request.path, headers, body, time.monotonic()))
        try:
            answering = self.next.popleft()
        except IndexError:
            answering = self.always
        if answering.forward is not None:
            with closing(http.client.HTTPConnection("127.0.0.1", answering.forward, timeout=10)) as onward:
                onward.request(request.command, request.path, body, headers)
                answer = onward.getresponse()
                answering = Answering(answer.status, answer.read(), cut=answering.cut)
        if answering.hold is not None:
            answering.hold.wait(60)
        if answering.cut or answering.dripped:
            request.close_connection = True
            _drip(request, answering.dripped)
        else:
            reply(request, answering.status, answering.body, answering.headers)

    @property
    def records(self) -> list[LogRecord]:
        """All that came, in order, repeated ones too."""
        return [record for came in self.came if came.path == "/v1/logs" for record in came.records]


def _drip(request: Request, data: bytes) -> None:
    with suppress(OSError):
        for place in range(len(data)):
            request.wfile.write(data[place : place + 1])
            time.sleep(0.01)
        while data:
            request.wfile.write(data[-1:])
            time.sleep(0.01)
