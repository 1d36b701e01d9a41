"""Load whose every event is known: what was sent, what was answered OK, what has to be in the store."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from server_process import ServerProcess

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
MARK = "test.mark"
MILESTONES = (
    "signup",
    "first_project_created",
    "first_agent_created",
    "first_workflow_executed",
    "first_success_event",
)
MINUTE = 60 * 10**9
Way = Literal["otlp", "rest"]
Door = Literal["grpc", "http", "rest"]
DOORS: tuple[Door, ...] = ("grpc", "grpc", "grpc", "http", "rest")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `mark` is unique and travels as an attribute."""

    mark: str
    user: str
    name: str
    time: int


@dataclass(frozen=True, slots=True)
class Request:
    """Events that go out together. Sent again, it has the same bytes and goes the same way."""

    way: Way
    events: tuple[Event, ...]
    body: bytes


class Ledger:
    """Makes requests and keeps account of them. Any thread."""

    def __init__(self, rng: random.Random) -> None:
        self.sent: dict[str, Event] = {}
        self.acknowledged: set[str] = set()
        self.problems: list[str] = []
        self._rng = rng
        self._lock = threading.Lock()
        self._users = 0
        self._marks = 0
        # Users under way, each with the events that are still to be sent.
        self._under_way: list[deque[tuple[str, str, int]]] = []
        self._unanswered: deque[Request] = deque()

    def next(self, door: Door) -> Request:
        """A request for this door: an unanswered one again, or a new one."""
        way: Way = "rest" if door == "rest" else "otlp"
        with self._lock:
            for request in self._unanswered:
                if request.way == way and self._rng.random() < 0.5:
                    self._unanswered.remove(request)
                    return request
            events = tuple(self._event() for _ in range(self._rng.randint(1, 12)))
            self.sent |= {event.mark: event for event in events}
        return Request(way, events, _ENCODE[way](events))

    def acknowledge(self, request: Request) -> None:
        """It was answered OK."""
        with self._lock:
            self.acknowledged |= {event.mark for event in request.events}

    def give_back(self, request: Request) -> None:
        """Nobody knows what became of it: it is to be sent again."""
        with self._lock:
            self._unanswered.append(request)

    def unanswered(self) -> list[Request]:
        """Takes out what was never answered."""
        with self._lock:
            requests = list(self._unanswered)
            self._unanswered.clear()
        return requests

    def reached(self) -> dict[str, dict[str, int]]:
        """user -> milestone -> earliest time, of the acknowledged events."""
        users: dict[str, dict[str, int]] = {}
        for mark in self.acknowledged:
            event = self.sent[mark]
            if event.name in MILESTONES:
                times = users.setdefault(event.user, {})
                times[event.name] = min(event.time, times.get(event.name, event.time))
        return users

    def _event(self) -> Event:
        while len(self._under_way) < 20:
            self._under_way.append(self._journey())
        steps = self._rng.choice(self._under_way)
        user, name, at = steps.popleft()
        if not steps:
            self._under_way.remove(steps)
        self._marks += 1
        return Event(f"mark-{self._marks}", user, name, at)

    def _journey(self) -> deque[tuple[str, str, int]]:
        """What one user is going to send: milestones, some twice, some in odd order, and other events."""
        self._users += 1
        user = f"traveller-{self._users}"
        at = time.time_ns() - 50 * MINUTE
        steps = []
        for name in MILESTONES[: self._rng.choice((1, 2, 3, 5, 5, 5))]:
            at += self._rng.randrange(9 * MINUTE)
            steps.append((user, name, at))
            if self._rng.random() < 0.2:
                steps.append((user, name, at + self._rng.randrange(-MINUTE, MINUTE)))
            if self._rng.random() < 0.2:
                steps.append((user, "page_viewed", at + 1))
        if self._rng.random() < 0.2:
            self._rng.shuffle(steps)
        return deque(steps)


def _otlp(events: Sequence[Event]) -> bytes:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for event in events:
        record = records.add(time_unix_nano=event.time, event_name=event.name)
        attributes = {"user.id": event.user, MARK: event.mark, "plan": "pro"}
        record.attributes.extend(
            KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()
        )
    return request.SerializeToString()


def _rest(events: Sequence[Event]) -> bytes:
    document = [
        {
            "event_name": event.name,
            "event_type": "milestone",
            "user_id": event.user,
            "timestamp": event.time,
            "event_id": event.mark,
            "properties": {MARK: event.mark, "plan": "pro"},
        }
        for event in events
    ]
    return json.dumps({"events": document}).encode()


_ENCODE = {"otlp": _otlp, "rest": _rest}


@contextmanager
def sending(server: ServerProcess, ledger: Ledger, pause: float = 0) -> Iterator[None]:
    """Sends by all doors at once until the block ends, whatever becomes of the server meanwhile.

    pause  seconds of each sender behind an answer; 0: as fast as it goes
    """
    stop = threading.Event()
    threads = [threading.Thread(target=_send, args=(server, ledger, door, stop, pause)) for door in DOORS]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def send_unanswered(server: ServerProcess, ledger: Ledger) -> None:
    """Sends what was never answered once more; every request has to be taken now."""
    senders: dict[Way, GrpcSender | HttpSender] = {"otlp": GrpcSender(server), "rest": _rest_door(server)}
    for request in ledger.unanswered():
        senders[request.way].send(request)
        ledger.acknowledge(request)
    for sender in senders.values():
        sender.close()


def _send(server: ServerProcess, ledger: Ledger, door: Door, stop: threading.Event, pause: float) -> None:
    sender = _DOORS[door](server)
    while not stop.is_set():
        request = ledger.next(door)
        try:
            sender.send(request)
        except (grpc.RpcError, OSError, http.client.HTTPException):
            ledger.give_back(request)
            stop.wait(0.02)
        except AssertionError as wrong:
            ledger.problems.append(str(wrong))
        else:
            ledger.acknowledge(request)
            if pause:
                stop.wait(pause)
    sender.close()


# Any other code makes clients drop what they sent.
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class GrpcSender:
    """OTLP over gRPC."""

    def __init__(self, server: ServerProcess) -> None:
        options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(server.grpc, options=options)
        self._export = self._channel.unary_unary(EXPORT)

    def send(self, request: Request) -> None:
        """Raises grpc.RpcError when there is no OK, AssertionError for an odd one."""
        try:
            answer = self._export(request.body, timeout=10)
        except grpc.RpcError as error:
            if error.code() in _AGAIN:
                raise
            raise AssertionError(f"gRPC answered {error.code()}: {error.details()}") from error
        assert answer == b"", f"gRPC answered {answer!r}"

    def close(self) -> None:
        self._channel.close()


class HttpSender:
    """OTLP over HTTP, or REST."""

    def __init__(self, port: int, path: str, content_type: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._path = path
        self._headers = {"content-type": content_type}

    def send(self, request: Request) -> None:
        """Raises OSError or HTTPException when there is no OK, AssertionError for an odd one."""
        try:
            self._connection.request("POST", self._path, request.body, self._headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status == 503:
            raise OSError("asked to come again")
        assert answer.status == 200, f"{self._path} answered {answer.status}: {body!r}"
        if request.way == "otlp":
            assert body == b"", f"{self._path} answered {body!r}"
        else:
            told = json.loads(body)
            assert (told["accepted"], told["rejected"]) == (len(request.events), []), f"REST answered {told}"

    def close(self) -> None:
        self._connection.close()


def _rest_door(server: ServerProcess) -> HttpSender:
    return HttpSender(server.api_port, "/api/v1/events", "application/json")


def _http_door(server: ServerProcess) -> HttpSender:
    return HttpSender(server.http_port, "/v1/logs", "application/x-protobuf")


_DOORS: dict[Door, Callable[[ServerProcess], GrpcSender | HttpSender]] = {
    "grpc": GrpcSender,
    "http": _http_door,
    "rest": _rest_door,
}
