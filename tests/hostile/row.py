"""What a row of the table of hostile inputs is, and the same events in the spelling of each door."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from doors import CANARY, Answer, Call, Door, Http, Input, Reply
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from server_process import ServerProcess

from otel_ttf.otlp.json import as_json

# Nothing of these may stand anywhere in the data directory.
SECRET = "xk7secret"
EMAIL = f"{SECRET}@example.com"
CARD = "4539148803436467"
# As long as it is wrong: what protobuf writes around it stays right.
BAD = "BAD TEXT"
WRONG = b"BAD\xffTEXT"
MENDED = "BAD\ufffdTEXT"

Form = Literal["grpc", "http", "json", "rest"]
FORMS: tuple[Form, ...] = ("grpc", "http", "json", "rest")
OTLP: tuple[Form, ...] = ("grpc", "http", "json")
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Event:
    """A named log record. time: unix ns, None: when it is sent; event_id: for REST."""

    attributes: Sequence[tuple[str, Any]] = ()
    name: str = CANARY
    user: str | None = None
    time: int | None = None
    body: Any = None
    trace_id: bytes = b""
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it is in the store."""

    name: str
    subject: str | None
    at: int
    arrival: int
    flags: int
    encoded: bytes

    @property
    def attributes(self) -> dict[str, AnyValue]:
        """By key, the last one of each."""
        return {pair.key: pair.value for pair in self.pairs}

    @property
    def pairs(self) -> list[Any]:
        """All of them."""
        return list(KeyValueList.FromString(self.encoded).values)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is after a row. events: that it has brought into the store."""

    server: ServerProcess
    reply: Reply
    events: Sequence[Stored]

    @property
    def event(self) -> Stored:
        """The only one."""
        (one,) = self.events
        return one


Effect = Callable[[Seen], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One hostile input.

    answer   an HTTP status, the name of a gRPC code, CLOSED, or several that will do
    stored   records that come in by it
    mib      what the process may grow by, be it for a moment
    seconds  of the processor that it may cost; not of attacks, which go on
    says     stands in what is answered
    effect   raises AssertionError unless all is as it should be, once the tracker has followed
    """

    number: int
    name: str
    door: Door
    sent: Input
    answer: Answer | tuple[Answer, ...]
    stored: int = 0
    mib: int = 32
    seconds: float = 8.0
    says: str = ""
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """Events, and how they are spelled. wrong: bytes that come in the place of BAD."""

    of: Callable[[], Sequence[Event]]
    wrong: bytes = WRONG

    @classmethod
    def one(cls, *attributes: tuple[str, Any], **event: Any) -> Self:
        """An event with these attributes."""
        return cls(lambda: [Event(attributes, **event)])

    def protobuf(self) -> bytes:
        """As an OTLP request."""
        return self._spoilt(self._request().SerializeToString())

    def json(self) -> bytes:
        """The same in JSON."""
        return self._spoilt(as_json(self._request()).encode())

    def rest(self) -> bytes:
        """As REST has it."""
        events = ",".join(map(_rest, self.of()))
        return self._spoilt(f'{{"events":[{events}]}}'.encode())

    def sent(self, form: Form) -> Input:
        """What goes through a door."""
        return {
            "grpc": Call(self.protobuf),
            "http": Http(self.protobuf),
            "json": Http(self.json, JSON),
            "rest": Http(self.rest),
        }[form]

    def _request(self) -> ExportLogsServiceRequest:
        request = ExportLogsServiceRequest()
        records = request.resource_logs.add().scope_logs.add().log_records
        now = time.time_ns()
        for event in self.of():
            record = records.add(event_name=event.name, trace_id=event.trace_id)
            record.time_unix_nano = now if event.time is None else event.time
            for key, value in event.attributes:
                _set(record.attributes.add(key=key).value, value)
            if event.user is not None:
                record.attributes.add(key="user.id").value.string_value = event.user
            if event.body is not None:
                _set(record.body, event.body)
        return request

    def _spoilt(self, body: bytes) -> bytes:
        return body.replace(BAD.encode(), self.wrong)


def _set(target: AnyValue, value: Any) -> None:
    match value:
        case bool():
            target.bool_value = value
        case str():
            target.string_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case bytes():
            target.bytes_value = value
        case list():
            target.array_value.SetInParent()
            for element in value:
                _set(target.array_value.values.add(), element)
        case dict():
            target.kvlist_value.SetInParent()
            for key, element in value.items():
                _set(target.kvlist_value.values.add(key=key).value, element)


def _rest(event: Event) -> str:
    told = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
    properties = ",".join(f"{told(key)}:{told(value)}" for key, value in event.attributes)
    parts = {
        "event_name": event.name,
        "event_type": "x",
        "user_id": event.user,
        "timestamp": event.time,
        "event_id": event.event_id,
    }
    named = "".join(f"{told(name)}:{told(value)}," for name, value in parts.items() if value is not None)
    return f'{{{named}"properties":{{{properties}}}}}'


def by(forms: Sequence[Form], number: int, name: str, events: Events, **more: Any) -> list[Row]:
    """A row for each spelling; all are taken unless `more` says otherwise."""
    return [
        Row(
            number,
            f"{name}, in JSON" if form == "json" else name,
            "http" if form == "json" else form,
            events.sent(form),
            **{"answer": "OK" if form == "grpc" else 200, "stored": 1, **more},
        )
        for form in forms
    ]


def get(number: int, name: str, path: str, answer: Answer | tuple[Answer, ...], **more: Any) -> Row:
    """A question to the API."""
    return Row(number, name, "rest", Http(method="GET", path=path), answer, **more)
