"""Ways to send bytes to a running server, and what it says to them.

A table of hostile inputs names an input of one of these kinds; `send` carries it through its door. What an answer is:
an HTTP status, the name of a gRPC code, CLOSED, or SILENCE.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import grpc
from attacks import ATTACKS, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, greeted
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess, wait_for

Door = Literal["grpc", "http", "rest"]
DOORS: tuple[Door, ...] = ("grpc", "http", "rest")
PATHS: Mapping[Door, str] = {"http": "/v1/logs", "rest": "/api/v1/events"}
MEDIA: Mapping[Door, str] = {"http": "application/x-protobuf", "rest": "application/json"}
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
CLOSED = "closed"
SILENCE = "nothing"
# In all that is sent; nothing of it may stand in our own log.
CANARY = "xk7canary"
# Somebody who has signed up, and what stands for that user's token in what is sent: as long as one.
VICTIM = "victim"
TOKEN = b"u1_mine_" + b"m" * 32
PATIENCE = 30.0  # seconds for any answer
SILENT_SECONDS = 1.5
AGAIN = 5
MIB = 1 << 20

Answer = int | str
Bytes = bytes | Callable[[], bytes]  # large ones are made when they are needed


@dataclass(frozen=True, slots=True)
class Http:
    """A request by a client library. path: None: the door's."""

    body: Bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes on a connection; `more` goes on being sent until the server answers or closes.

    pause  seconds between two of these
    """

    first: Bytes
    more: bytes = b""
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A call by the gRPC library."""

    body: Bytes = b""
    compression: grpc.Compression = grpc.Compression.NoCompression
    metadata: tuple[tuple[str, str], ...] = ()
    method: str = EXPORT


@dataclass(frozen=True, slots=True)
class Frames:
    """A call whose headers and data are made by hand: data is what follows the headers, message frame included."""

    data: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Attack:
    """One of attacks.py for so many seconds. What it is answered is nobody's business."""

    name: str
    seconds: float = 1.5


@dataclass(frozen=True, slots=True)
class Again:
    """The same request so many times. Its answer is the last one, or the first that differs from the one before."""

    what: Http | Call
    times: int


Input = Http | Raw | Call | Frames | Attack | Again


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers, and what it says with it: a body, or the text of a gRPC status."""

    answer: Answer
    body: bytes = b""


def port(server: ServerProcess, door: Door) -> int:
    """Where the door is."""
    return {"grpc": server.grpc_port, "http": server.http_port, "rest": server.api_port}[door]


def made(server: ServerProcess, content: Bytes) -> bytes:
    """The bytes; TOKEN in them is the victim's token."""
    data = content() if callable(content) else content
    return data.replace(TOKEN, token(server, VICTIM).encode()) if TOKEN in data else data


def token(server: ServerProcess, user: str) -> str:
    """The token of a user who has signed up."""
    return str(server.get(f"/api/v1/ttf/{quote(user, safe='')}").json["subject"])


def send(server: ServerProcess, door: Door, what: Input) -> Reply:
    """What the server answers."""
    match what:
        case Http():
            headers = {"content-type": MEDIA[door], **what.headers}
            answer = server.request(
                what.method,
                what.path or PATHS[door],
                made(server, what.body),
                headers=headers,
                port=port(server, door),
                timeout=PATIENCE,
            )
            return Reply(answer.status, answer.body)
        case Raw():
            return Reply(_raw(server, port(server, door), what))
        case Call():
            return _call(server, what)
        case Frames():
            return Reply(_frames(server.grpc_port, what))
        case Attack():
            with attacking(server, what.name):
                time.sleep(what.seconds)
            return Reply(CLOSED)
        case Again():
            reply = send(server, door, what.what)
            for _ in range(what.times - 1):
                before, reply = reply, send(server, door, what.what)
                if reply.answer != before.answer:
                    break
            return reply


def _raw(server: ServerProcess, at: int, what: Raw) -> Answer:
    got = b""
    end = time.monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", at), PATIENCE) as peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(made(server, what.first))
            while what.more and time.monotonic() < end:
                peer.sendall(what.more)
                if select.select([peer], [], [], what.pause)[0]:
                    break
        with contextlib.suppress(ConnectionError):
            got = peer.recv(4096)
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", got)
    return int(status[1]) if status else CLOSED


def _call(server: ServerProcess, what: Call) -> Reply:
    # A connection of its own, and room for what a client would not send by itself.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 64 * MIB),
        ("grpc.absolute_max_metadata_size", 64 * MIB),
    ]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        call = channel.unary_unary(what.method)
        try:
            body = call(
                made(server, what.body),
                timeout=PATIENCE,
                compression=what.compression,
                metadata=what.metadata,
            )
        except grpc.RpcError as error:
            return Reply(str(error.code().name), str(error.details()).encode())
    return Reply("OK", body)


def _frames(at: int, what: Frames) -> Answer:
    got = b""
    with greeted(at) as peer, contextlib.suppress(ConnectionError):
        peer.settimeout(SILENT_SECONDS)
        peer.sendall(frame(HEADERS, END_HEADERS, 1, block(*what.headers)))
        peer.sendall(frame(DATA, END_STREAM, 1, what.data))
        while True:
            try:
                part = peer.recv(65536)
            except TimeoutError:
                return SILENCE
            if not part:
                break
            got += part
            # gRPC writes names and short values of its trailers as they are.
            if status := re.search(rb"grpc-status[\x01\x02](\d{1,2})", got):
                number = int(status[1])
                return next(code.name for code in grpc.StatusCode if code.value[0] == number)
    return CLOSED


@contextlib.contextmanager
def attacking(server: ServerProcess, name: str) -> Iterator[int]:
    """The attack goes on within the block, in a process with less of the processor than others: its id."""
    door = ATTACKS[name][0]
    at = server.api_port if door == "api" else port(server, "grpc" if door == "grpc" else "http")
    script = str(Path(__file__).with_name("attacks.py"))
    with subprocess.Popen([sys.executable, script, name, str(at)], preexec_fn=humble) as process:
        try:
            yield process.pid
            assert process.poll() is None, f"the attack {name} has failed"
        finally:
            process.kill()


def humble() -> None:
    """Of a process that is beginning: others come first, and it may open as many files as there may be."""
    os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# What the others see meanwhile and afterwards.


def record(text: str = CANARY) -> bytes:
    """A request with one log record, in protobuf."""
    message = ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.add().body.string_value = text
    return message.SerializeToString()


VALID: Mapping[Door, Input] = {
    "grpc": Call(record),
    "http": Http(record),
    "rest": Http(b'{"events":[{"event_name":"a","event_type":"%s"}]}' % CANARY.encode()),
}


def everybody_is_served(server: ServerProcess) -> None:
    """Raises AssertionError unless a record comes in through each door, and /health answers."""
    got = {door: send(server, door, VALID[door]).answer for door in DOORS}
    for _ in range(AGAIN):
        if got["grpc"] in ("CANCELLED", "UNAVAILABLE"):  # gRPC's own limit of calls; OTLP clients come again
            time.sleep(0.2)
            got["grpc"] = send(server, "grpc", VALID["grpc"]).answer
    assert got == {"grpc": "OK", "http": 200, "rest": 200}
    assert server.get("/health").status == 200


# Read as text: for a table of hundreds of rows the parser takes longer than the server.
_ACCEPTED = re.compile(rb"^telemetry_events_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_LAG = re.compile(rb'^otel_ttf_consumer_lag_records\{consumer="tracker"\} ([0-9.e+]+)$', re.MULTILINE)


def accepted(server: ServerProcess) -> int:
    """Records that were taken so far."""
    return int(sum(map(float, _ACCEPTED.findall(server.get("/metrics").body))))


def wait_followed(server: ServerProcess) -> None:
    """Waits until the tracker has taken all that is in the log. Raises AssertionError."""
    wait_for(lambda: float(_LAG.findall(server.get("/metrics").body)[0]) == 0, "the tracker", PATIENCE)


@contextlib.contextmanager
def memory_bounded(server: ServerProcess, mib: int) -> Iterator[None]:
    """Raises AssertionError when the process grows by more than that within the block, be it for a moment."""
    process = Path(f"/proc/{server.running.pid}")
    if not (process / "clear_refs").exists():  # only Linux tells
        yield
        return
    (process / "clear_refs").write_text("5")  # the peak begins anew
    before = resident(server)
    yield
    grown = (server.peak_rss() - before) / MIB
    assert grown < mib, f"{grown:.0f} MiB more"


def resident(server: ServerProcess) -> int:
    """Bytes of memory of the process."""
    lines = Path(f"/proc/{server.running.pid}/statm").read_text().split()
    return int(lines[1]) * resource.getpagesize()
