"""The benchmark's requests: log records as OTLP, made once; times and user ids are patched in place.

A thousand records of the mix `logs`: 20 milestones and 100 other named events, each with a user, and 880
plain lines without one. Of the mix `events`: 750 milestones and 250 others. Of the mix `lines`: plain lines
only. 50 of them hold personal data. A record has 8 attributes and about 360 bytes.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

Mix = Literal["logs", "events", "lines"]
MIXES: tuple[Mix, ...] = get_args(Mix)
Value = str | int | float | bool

THOUSAND = 1000
THOUSANDS = 4
# Of a thousand records: milestones, other named events; the rest are plain lines.
SHARES: dict[Mix, tuple[int, int]] = {"logs": (20, 100), "events": (750, 250), "lines": (0, 0)}
PERSONAL = 50

MILESTONES = (
    "signup",
    "first_project_created",
    "first_agent_created",
    "first_workflow_executed",
    "first_success_event",
)
OTHERS = ("page_viewed", "button_clicked", "prompt_edited", "run_started", "file_uploaded", "search_done")
PLANS = ("free", "pro", "team", "enterprise")
LINES = (
    "GET /api/projects answered in {} ms, cache hit, upstream web-{}",
    "worker took job from queue default after {} ms, attempt {}",
    "flushed {} rows to partition {}, nothing left to do",
    "connection pool has {} idle of {} connections, none waits",
)
# Letters only: a run of digits could look like a card number.
_USER_LETTERS = np.frombuffer(b"abcdefghijklmnop", dtype=np.uint8)
_USER_DIGITS = 12
_SHIFTS = np.arange(4 * (_USER_DIGITS - 1), -1, -4, dtype=np.uint64)


def user_id(number: int) -> str:
    """The user id of that number: fixed width, so that it can be patched."""
    return "user-" + "".join(chr(_USER_LETTERS[(number >> int(shift)) & 15]) for shift in _SHIFTS)


@dataclass(frozen=True, slots=True)
class Template:
    """A request, and where in it what has to change stands.

    times     (records, 8) places of the bytes of each record's time
    observed  the same for the observed time
    users     (events, 12) places of the letters of each event's user id
    """

    raw: NDArray[np.uint8]
    times: NDArray[np.int64]
    observed: NDArray[np.int64]
    users: NDArray[np.int64]
    milestones: int

    @property
    def records(self) -> int:
        return len(self.times)

    @property
    def events(self) -> int:
        return len(self.users)

    def fresh(self, first_user: int) -> bytes:
        """The request with times of now, all different, and users counted from `first_user`."""
        raw = self.raw.copy()
        now = np.uint64(time.time_ns()) + np.arange(self.records, dtype=np.uint64)
        raw[self.times] = now.view(np.uint8).reshape(-1, 8)
        raw[self.observed] = now.view(np.uint8).reshape(-1, 8)
        if self.events:
            numbers = np.arange(first_user, first_user + self.events, dtype=np.uint64)
            raw[self.users] = _USER_LETTERS[(numbers[:, None] >> _SHIFTS) & np.uint64(15)]
        return raw.tobytes()


class Load:
    """Requests of one size, endlessly; every event and every user is new."""

    def __init__(self, size: int, mix: Mix, *, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.size = size
        self.mix = mix
        self._placeholder = 0
        records = [record for _ in range(THOUSANDS) for record in self._thousand()]
        self.templates = [self._template(records[at : at + size]) for at in range(0, len(records), size)]
        self._next_user = 1 << 32  # clear of the probes' users

    @property
    def record_bytes(self) -> float:
        """Mean bytes of a record with all that is around it."""
        return sum(len(t.raw) for t in self.templates) / sum(t.records for t in self.templates)

    def requests(self) -> Iterator[tuple[Template, bytes]]:
        """(template, request): patched when it is asked for."""
        while True:
            for template in self.templates:
                first = self._next_user
                self._next_user += template.events
                yield template, template.fresh(first)

    def _thousand(self) -> list[LogRecord]:
        milestones, others = SHARES[self.mix]
        names: list[str] = [MILESTONES[n % len(MILESTONES)] for n in range(milestones)]
        names += [OTHERS[n % len(OTHERS)] for n in range(others)]
        names += [""] * (THOUSAND - len(names))
        self._random.shuffle(names)
        personal = set(self._random.sample(range(THOUSAND), PERSONAL))
        return [self._record(name, personal=place in personal) for place, name in enumerate(names)]

    def _record(self, name: str, *, personal: bool) -> LogRecord:
        self._placeholder += 1
        number, rng = self._placeholder, self._random
        record = LogRecord(
            time_unix_nano=(1 << 62) + number,
            observed_time_unix_nano=(1 << 61) + number,
            severity_number=9,
            severity_text="INFO",
            event_name=name,
            trace_id=rng.randbytes(16),
            span_id=rng.randbytes(8),
        )
        attributes: dict[str, Value] = {
            "http.request.method": rng.choice(("GET", "POST", "PUT")),
            "url.path": f"/api/v2/{rng.choice(('projects', 'agents', 'runs'))}/{rng.randrange(1 << 24):x}",
            "http.response.status_code": rng.choice((200, 201, 204, 404)),
            "server.address": f"web-{rng.randrange(16)}.internal",
            "duration_ms": rng.uniform(0.1, 900),
            "thread.name": f"worker-{rng.randrange(32)}",
        }
        if name:
            record.body.string_value = f"{name} by the web application"
            attributes["user.id"] = user_id(number)
            attributes["plan" if name in MILESTONES else "app.screen"] = rng.choice(PLANS)
        else:
            record.body.string_value = rng.choice(LINES).format(rng.randrange(900), rng.randrange(30))
            attributes["code.function.name"] = rng.choice(("handle", "flush", "poll", "render_page"))
            attributes["cache.hit"] = rng.random() < 0.5
        if personal:
            self._add_personal(record, attributes)
        record.attributes.extend(_key_values(attributes))
        return record

    def _add_personal(self, record: LogRecord, attributes: dict[str, Value]) -> None:
        email = f"jo.{self._random.randrange(10_000)}@mail.example.com"
        match self._random.randrange(4):
            case 0:
                attributes["thread.name"] = f"mailer for {email}"
            case 1:
                record.body.string_value = f"invitation sent to {email}, no answer yet"
            case 2:
                record.body.string_value = "charged card 4111 1111 1111 1111, receipt is on its way"
            case _:
                token = "".join(self._random.choices("abcdefghijkmnpqrstuvwxyz", k=24))
                record.body.string_value = f"upstream called with Authorization: Bearer {token}"

    def _template(self, records: list[LogRecord]) -> Template:
        request = ExportLogsServiceRequest()
        logs = request.resource_logs.add()
        logs.resource.CopyFrom(
            Resource(
                attributes=_key_values(
                    {
                        "service.name": "web",
                        "service.version": "2.14.1",
                        "deployment.environment.name": "production",
                        "host.name": "web-3",
                    }
                )
            )
        )
        scope = logs.scope_logs.add()
        scope.scope.CopyFrom(InstrumentationScope(name="web.requests", version="1.2.0"))
        scope.log_records.extend(records)
        raw = request.SerializeToString()
        users = [kv.value.string_value for r in records for kv in r.attributes if kv.key == "user.id"]
        return Template(
            raw=np.frombuffer(raw, dtype=np.uint8),
            times=_places(raw, (struct.pack("<Q", record.time_unix_nano) for record in records), 8),
            observed=_places(
                raw, (struct.pack("<Q", record.observed_time_unix_nano) for record in records), 8
            ),
            users=_places(raw, (user.encode() for user in users), _USER_DIGITS),
            milestones=sum(record.event_name in MILESTONES for record in records),
        )


def signup(number: int) -> bytes:
    """A request with the first milestone of one user."""
    record = LogRecord(time_unix_nano=time.time_ns(), event_name=MILESTONES[0])
    record.attributes.extend(_key_values({"user.id": user_id(number), "plan": PLANS[0]}))
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.append(record)
    return request.SerializeToString()


def _key_values(attributes: dict[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Value) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            return AnyValue(string_value=value)


def _places(raw: bytes, parts: Iterable[bytes], length: int) -> NDArray[np.int64]:
    """(parts, length) places of the last `length` bytes of each part; the parts stand in this order."""
    ends: list[int] = []
    for part in parts:
        ends.append(raw.index(part, ends[-1] if ends else 0) + len(part))
    return np.array(ends, dtype=np.int64).reshape(-1, 1) + np.arange(-length, 0)
