"""Events: named log records, span events, spans; what tracker and store read of a masked request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.journey.values import Value
from otel_ttf.otlp.subject import SubjectKeys, subject_keys
from otel_ttf.otlp.values import decoded, mapping
from otel_ttf.otlp.wire import PAIRS, SHAPES, SPAN_EVENT, Signal, contents, decode
from otel_ttf.pii.scanner import EVERYTHING, NAME, SUBJECT
from otel_ttf.units import DAY, MINUTE, SECOND, Duration

FLAG_TIME_IMPLAUSIBLE = 1
FLAG_TIME_AHEAD = 2
FLAG_TIME_MISSING = 4
FLAG_TOO_OLD = 8
FLAG_NO_SUBJECT = 16
FLAG_NAMES = {
    FLAG_TIME_IMPLAUSIBLE: "time_implausible",
    FLAG_TIME_AHEAD: "time_ahead",
    FLAG_TIME_MISSING: "time_missing",
    FLAG_TOO_OLD: "too_old",
    FLAG_NO_SUBJECT: "no_subject",
}

LIMIT = 2**63
NAME_ATTRIBUTES = ("otel.event.name", "event.name")
NAME_LITERAL = b"event.name"  # in all of them
_name_within = re.compile(re.escape(NAME_LITERAL)).search  # far quicker than `in`, see subject.py
SPAN_KINDS = (
    "internal",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
)  # unspecified means internal
STATUSES = ("unset", "ok", "error")
PLACE_BYTES, ID_BYTES = 4, 16


class TimeConfig(BaseModel):
    """Which times are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_before: date = Field(date(2015, 1, 1), description="A time before this day is none.")
    max_event_age: Duration = Field(
        400 * DAY, description="Events older than this are kept and counted, and move no journey."
    )
    max_ahead: Duration = Field(
        5 * MINUTE, description="A time further ahead of our clock than this gives way to the arrival."
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """How events are read.

    subject_from  attributes that may hold the subject, in order
    wants_span    whether a span of that name may match a milestone: others are counted, no more
    lines         whether plain log lines and all spans are events, too (storage.events: all)
    not_before    the same as in `time`, unix ns
    """

    time: TimeConfig
    subject_from: Sequence[str]
    wants_span: Callable[[str], bool]
    lines: bool = False
    not_before: int = field(init=False)

    def __post_init__(self) -> None:
        midnight = datetime.combine(self.time.not_before, datetime.min.time(), UTC)
        object.__setattr__(self, "not_before", int(midnight.timestamp()) * SECOND)

    def at(self, times: Sequence[int], arrival: int) -> tuple[int, int]:
        """(effective time, flags) of a record with these times, the best first; 0 is unset (journeys.md, Time)."""
        flags = 0
        for time in times:
            if time == 0:
                continue
            if time < self.not_before or time >= LIMIT:
                flags |= FLAG_TIME_IMPLAUSIBLE
                continue
            if time > arrival + self.time.max_ahead:
                return arrival, flags | FLAG_TIME_AHEAD
            if time < arrival - self.time.max_event_age:
                flags |= FLAG_TOO_OLD
            return time, flags
        return arrival, flags or FLAG_TIME_MISSING


class Source:
    """A masked resource, decoded when somebody asks; all its events share it.

    encoded  OTLP Resource
    subject  token, or None
    """

    __slots__ = ("_attributes", "encoded", "subject")

    def __init__(self, encoded: bytes, keys: SubjectKeys) -> None:
        self.encoded = encoded
        self.subject: str | None = None
        if keys.in_(encoded):
            pairs = Resource.FromString(encoded).attributes
            self.subject = keys.token([pair.SerializeToString() for pair in pairs])
        self._attributes: dict[str, Value] | None = None

    @property
    def attributes(self) -> Mapping[str, Value]:
        """By key; of a key that comes twice the last one counts."""
        if self._attributes is None:
            self._attributes = mapping(Resource.FromString(self.encoded).attributes)
        return self._attributes


class Event:
    """A masked event (journey.match.Record).

    id        16 bytes (journeys.md, Event id); None for what has none, such as plain lines
    kind      log, span_event, span or line
    subject   token, or None
    at        effective time, unix ns; arrival: by our clock
    flags     bits, see FLAG_NAMES
    attributes_bytes, resource_bytes   OTLP KeyValueList and Resource
    """

    __slots__ = (
        "_attributes",
        "arrival",
        "at",
        "attributes_bytes",
        "flags",
        "id",
        "kind",
        "name",
        "source",
        "span_kind",
        "status",
        "subject",
    )

    def __init__(
        self,
        id_: bytes | None,
        kind: str,
        name: str,
        subject: str | None,
        at: int,
        arrival: int,
        flags: int,
        attributes_bytes: bytes,
        source: Source,
        span_kind: str = "",
        status: str = "",
    ) -> None:
        self.id = id_
        self.kind = kind
        self.name = name
        self.subject = subject
        self.at = at
        self.arrival = arrival
        self.flags = flags if subject is not None else flags | FLAG_NO_SUBJECT
        self.attributes_bytes = attributes_bytes
        self.source = source
        self.span_kind = span_kind
        self.status = status
        self._attributes: dict[str, Value] | None = None

    @property
    def attributes(self) -> Mapping[str, Value]:
        """The record's own, by key."""
        if self._attributes is None:
            self._attributes = decoded(self.attributes_bytes)
        return self._attributes

    @property
    def pairs(self) -> list[bytes]:
        """Its attributes, encoded, one by one."""
        found: list[bytes] = PAIRS.FromString(self.attributes_bytes).values[:]
        return found

    @property
    def resource(self) -> Mapping[str, Value]:
        """The resource's attributes, by key."""
        return self.source.attributes

    @property
    def resource_bytes(self) -> bytes:
        """OTLP Resource."""
        return self.source.encoded

    def facts(self) -> tuple[object, ...]:
        """Everything, for comparing."""
        told = (self.id, self.kind, self.name, self.span_kind, self.status, self.subject)
        return (*told, self.at, self.arrival, self.flags, self.attributes_bytes, self.resource_bytes)


@dataclass(slots=True)
class Extract:
    """What came in a request. names: ("event" or "span", name) -> how often; flags: of events, FLAG_... -> how many."""

    events: list[Event] = field(default_factory=list)
    names: dict[tuple[str, str], int] = field(default_factory=dict)
    flags: dict[int, int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """One more event; of plain lines nothing is said."""
        self.events.append(event)
        if event.flags and event.kind != "line":
            for flag in FLAG_NAMES:
                if event.flags & flag:
                    self.flags[flag] = self.flags.get(flag, 0) + 1

    def count(self, kind: str, name: str) -> None:
        """One more of that name."""
        self.names[kind, name] = self.names.get((kind, name), 0) + 1


def event_name(record: Any, pairs: Sequence[bytes]) -> str:
    """The name of a log record: its field, else an attribute; "" for a plain line.

    record  shallow; pairs  its attributes, encoded; of a key that comes twice the last one counts
    """
    if record.event_name:
        return str(record.event_name, "utf-8")
    best, best_rank = "", len(NAME_ATTRIBUTES)
    for data in pairs:
        if _name_within(data):
            pair = KeyValue.FromString(data)
            if pair.key in NAME_ATTRIBUTES and pair.value.string_value:
                rank = NAME_ATTRIBUTES.index(pair.key)
                if rank <= best_rank:
                    best, best_rank = pair.value.string_value, rank
    return best


def span_id(span: Any) -> bytes | None:
    """The event id of a span: from its end, trace id and span id alone, so that it needs no key.

    None for a span without these ids, which could not be told from others.
    """
    if not span.trace_id or not span.span_id:
        return None
    end = span.end_time_unix_nano
    told = end.to_bytes(8, "big") + len(span.trace_id).to_bytes(2, "big") + span.trace_id + span.span_id
    return milliseconds(end) + hashlib.sha256(told).digest()[:10]


def milliseconds(time: int) -> bytes:
    """The first 6 bytes of an event id: its time as sent, ns, in milliseconds modulo 2^48."""
    return (time // 1_000_000 % 2**48).to_bytes(6, "big")


# What stands before an attribute of so many bytes in a KeyValueList; longer ones are left to protobuf.
_BEFORE = [PAIRS(values=[bytes(size)]).SerializeToString()[: -size or None] for size in range(512)]


def encoded(pairs: Sequence[bytes]) -> bytes:
    """Encoded attributes as an OTLP KeyValueList."""
    try:
        return b"".join([_BEFORE[len(data)] + data for data in pairs])
    except IndexError:
        return bytes(PAIRS(values=pairs).SerializeToString())


class Reading:
    """Reads the events of a masked request from its shallow records."""

    def __init__(self, rules: Rules, arrival: int) -> None:
        self.keys = subject_keys(tuple(rules.subject_from))
        self.found = Extract()
        self._rules = rules
        self._arrival = arrival
        # Times of which there is nothing to say: nearly all.
        self._first = max(rules.not_before, arrival - rules.time.max_event_age)
        self._last = min(LIMIT - 1, arrival + rules.time.max_ahead)

    def log(
        self,
        id_: bytes | None,
        record: Any,
        source: Source,
        data: bytes | None = None,
        token: str | None = None,
        pairs: list[bytes] | None = None,
        groups: int = EVERYTHING,
    ) -> None:
        """A log record, and its event id if it has one.

        data    the record's bytes; token: its own subject; pairs: its attributes; if at hand
        groups  what the scan has found in it: without NAME no attribute names it, without SUBJECT none says whose it is
        """
        if pairs is None:
            pairs = record.attributes[:]
        name = event_name(record, pairs if groups & NAME else ())
        if name:
            self.found.count("event", name)
        elif not self._rules.lines:
            return
        at, flags = record.time_unix_nano, 0
        if not self._first <= at <= self._last:
            at, flags = self._rules.at((at, record.observed_time_unix_nano), self._arrival)
        if token is None and groups & SUBJECT:
            token = self.keys.token(pairs, data)
        self.found.add(
            Event(
                id_ if name else None,
                "log" if name else "line",
                name,
                token or source.subject,
                at,
                self._arrival,
                flags,
                encoded(pairs),
                source,
            )
        )

    def span(self, ids: Mapping[int, bytes], first: int, span: Any, source: Source) -> int:
        """A span with its events, the first of which has number `first` in `ids`; how many these are."""
        rules, arrival = self._rules, self._arrival
        name = str(span.name, "utf-8")
        self.found.count("span", name)
        wanted = rules.lines or rules.wants_span(name)
        if not wanted and not span.events:
            return 0
        pairs = span.attributes[:]
        subject = self.keys.token(pairs) or source.subject
        if wanted:
            at, flags = rules.at((span.end_time_unix_nano,), arrival)
            status = Status.FromString(b"".join(span.status)).code
            self.found.add(
                Event(
                    span_id(span),
                    "span",
                    name,
                    subject,
                    at,
                    arrival,
                    flags,
                    encoded(pairs),
                    source,
                    SPAN_KINDS[span.kind] if 0 <= span.kind < len(SPAN_KINDS) else "",
                    STATUSES[status] if 0 <= status < len(STATUSES) else "unset",
                )
            )
        for place, data in enumerate(span.events, first):
            event = SPAN_EVENT.FromString(data)
            if not event.name:
                continue
            name = str(event.name, "utf-8")
            self.found.count("event", name)
            at, flags = rules.at((event.time_unix_nano,), arrival)
            pairs = event.attributes[:]
            self.found.add(
                Event(
                    ids.get(place),
                    "span_event",
                    name,
                    self.keys.token(pairs) or subject,
                    at,
                    arrival,
                    flags,
                    encoded(pairs),
                    source,
                )
            )
        return len(span.events)


def unpack_ids(ids: bytes) -> dict[int, bytes]:
    """place -> id of the packed form."""
    size = PLACE_BYTES + ID_BYTES
    return {
        int.from_bytes(ids[at : at + PLACE_BYTES], "big"): ids[at + PLACE_BYTES : at + size]
        for at in range(0, len(ids), size)
    }


def pack_ids(ids: Mapping[int, bytes]) -> bytes:
    """Place (4 bytes, big-endian) and id (16 bytes) one after the other."""
    return b"".join([place.to_bytes(PLACE_BYTES, "big") + ids[place] for place in sorted(ids)])


def extract(signal: Signal, payload: bytes, ids: bytes, arrival: int, rules: Rules) -> Extract:
    """The events of a row of the log: every record is decoded. Raises Malformed."""
    reading = Reading(rules, arrival)
    names, sizes = contents(signal, decode(signal, payload))
    if signal == "metrics":
        return reading.found
    known = unpack_ids(ids)
    view = SHAPES[signal].view
    # Most records are plain lines; those with a name in an attribute are rare.
    name_within = NAME_LITERAL in payload
    number = place = 0
    for by_resource in SHAPES[signal].shallow.FromString(payload).resources:
        source = Source(b"".join(by_resource.resource), reading.keys)
        for by_scope in by_resource.scopes:
            for data in by_scope.records:
                if signal == "logs":
                    if number in names or rules.lines or (name_within and _name_within(data)):
                        reading.log(known.get(number), view.FromString(data), source, data)
                elif number in sizes or rules.lines or rules.wants_span(names[number]):
                    place += reading.span(known, place, view.FromString(data), source)
                else:
                    reading.found.count("span", names[number])
                number += 1
    return reading.found
