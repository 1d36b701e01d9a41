"""Events: named log records, span events, spans; what tracker and store read of a masked request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.journey.values import Value
from otel_ttf.otlp.subject import subject_of
from otel_ttf.otlp.values import decoded, encoded, mapping
from otel_ttf.otlp.wire import SHAPES, Signal, decode
from otel_ttf.pii.pseudonym import is_token
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
SPAN_KINDS = ("", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")


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
    """

    time: TimeConfig
    subject_from: Sequence[str]
    normalise: Literal["none", "lower"]
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
        return arrival, flags | FLAG_TIME_MISSING


class Source:
    """A masked resource, decoded when somebody asks; all its events share it."""

    __slots__ = ("_attributes", "encoded")

    def __init__(self, message: Resource) -> None:
        # The message itself would keep its whole request in memory.
        self.encoded: bytes = message.SerializeToString()
        self._attributes: dict[str, Value] | None = None

    @property
    def attributes(self) -> Mapping[str, Value]:
        if self._attributes is None:
            self._attributes = mapping(Resource.FromString(self.encoded).attributes)
        return self._attributes


class Event:
    """A masked event (journey.match.Record).

    id        16 bytes (journeys.md, Event id); None for plain lines
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
        if self._attributes is None:
            self._attributes = decoded(self.attributes_bytes)
        return self._attributes

    @property
    def resource(self) -> Mapping[str, Value]:
        return self.source.attributes

    @property
    def resource_bytes(self) -> bytes:
        return self.source.encoded

    def facts(self) -> tuple[object, ...]:
        """Everything, for comparing."""
        return (
            self.id,
            self.kind,
            self.name,
            self.span_kind,
            self.status,
            self.subject,
            self.at,
            self.arrival,
            self.flags,
            self.attributes,
            self.resource,
        )


@dataclass(slots=True)
class Extract:
    """What came in a request. names: ("event" or "span", name) -> how often."""

    events: list[Event] = field(default_factory=list)
    names: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, kind: str, name: str) -> None:
        self.names[kind, name] = self.names.get((kind, name), 0) + 1


def event_name(record: Any) -> str:
    """The name of a log record: its field, else an attribute; "" for a plain line."""
    if record.event_name:
        return str(record.event_name)
    attributes = record.attributes
    if attributes:
        for wanted in NAME_ATTRIBUTES:
            for pair in attributes:
                if pair.key == wanted and pair.value.string_value:
                    return str(pair.value.string_value)
    return ""


def span_id(span: Any) -> bytes:
    """The event id of a span: from its end, trace id and span id alone, so that it needs no key."""
    end = span.end_time_unix_nano
    told = end.to_bytes(8, "big") + len(span.trace_id).to_bytes(2, "big") + span.trace_id + span.span_id
    return milliseconds(end) + hashlib.sha256(told).digest()[:10]


def milliseconds(time: int) -> bytes:
    """The first 6 bytes of an event id: its time as sent, ns, in milliseconds modulo 2^48."""
    return (time // 1_000_000 % 2**48).to_bytes(6, "big")


class Reading:
    """Reads the events of one masked request, record by record."""

    def __init__(self, rules: Rules, arrival: int, ids: Mapping[int, bytes]) -> None:
        self.rules = rules
        self.arrival = arrival
        self.ids = ids
        self.found = Extract()

    def log(self, place: int, record: Any, resource: Resource, source: Source) -> None:
        """A log record."""
        rules = self.rules
        name = event_name(record)
        if name:
            self.found.count("event", name)
        elif not rules.lines:
            return
        at, flags = rules.at((record.time_unix_nano, record.observed_time_unix_nano), self.arrival)
        self.found.events.append(
            Event(
                self.ids.get(place) if name else None,
                "log" if name else "line",
                name,
                self._subject(record.attributes, resource.attributes),
                at,
                self.arrival,
                flags,
                encoded(record.attributes),
                source,
            )
        )

    def span(self, first: int, span: Any, resource: Resource, source: Source) -> int:
        """A span and its events, the first of which is number `first` of the request; how many there are."""
        rules = self.rules
        name = span.name
        self.found.count("span", name)
        if rules.lines or rules.wants_span(name):
            at, flags = rules.at((span.end_time_unix_nano,), self.arrival)
            kind, status = span.kind, span.status.code
            self.found.events.append(
                Event(
                    span_id(span),
                    "span",
                    name,
                    self._subject(span.attributes, resource.attributes),
                    at,
                    self.arrival,
                    flags,
                    encoded(span.attributes),
                    source,
                    SPAN_KINDS[kind] if 0 <= kind < len(SPAN_KINDS) else "",
                    STATUSES[status] if 0 <= status < len(STATUSES) else "unset",
                )
            )
        for place, event in enumerate(span.events, first):
            self.found.count("event", event.name)
            at, flags = rules.at((event.time_unix_nano,), self.arrival)
            self.found.events.append(
                Event(
                    self.ids.get(place),
                    "span_event",
                    event.name,
                    self._subject(event.attributes, span.attributes, resource.attributes),
                    at,
                    self.arrival,
                    flags,
                    encoded(event.attributes),
                    source,
                )
            )
        return len(span.events)

    def _subject(self, *levels: Any) -> str | None:
        found = subject_of(levels, self.rules.subject_from, "none")
        return found if found is not None and is_token(found) else None


def unpack_ids(ids: bytes) -> dict[int, bytes]:
    """place -> id of the packed form."""
    return {int.from_bytes(ids[at : at + 4], "big"): ids[at + 4 : at + 20] for at in range(0, len(ids), 20)}


def pack_ids(ids: Mapping[int, bytes]) -> bytes:
    """Place (4 bytes, big-endian) and id (16 bytes) one after the other."""
    return b"".join(place.to_bytes(4, "big") + ids[place] for place in sorted(ids))


def walk(signal: Signal, message: Any) -> Iterator[tuple[int, Any, Any]]:
    """(number of the resource, its message, record) of every record in order."""
    shape = SHAPES[signal]
    for number, by_resource in enumerate(getattr(message, shape.resources)):
        resource = by_resource.resource
        for by_scope in getattr(by_resource, shape.scopes):
            for record in getattr(by_scope, shape.records):
                yield number, resource, record


def extract(signal: Signal, payload: bytes, ids: bytes, arrival: int, rules: Rules) -> Extract:
    """The events of a row of the log: everything is decoded. Raises Malformed."""
    reading = Reading(rules, arrival, unpack_ids(ids))
    if signal == "metrics":
        return reading.found
    sources: dict[int, Source] = {}
    kept = decode(signal, payload)
    place = 0
    # Looking for a name among the attributes of every plain line would cost more than all the rest.
    names_in_attributes = any(name.encode() in payload for name in NAME_ATTRIBUTES)
    for number, resource, record in walk(signal, kept):
        if signal == "logs" and not (record.event_name or names_in_attributes or rules.lines):
            place += 1
            continue
        source = sources.get(number)
        if source is None:
            source = sources[number] = Source(resource)
        if signal == "logs":
            reading.log(place, record, resource, source)
            place += 1
        else:
            place += reading.span(place, record, resource, source)
    return reading.found
