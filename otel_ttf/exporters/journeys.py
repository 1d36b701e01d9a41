"""What the tracker tells, as OpenTelemetry: each transition as an event, each journey as a synthetic trace.

Both are read from the transitions like requests from the event log: a position, a request, a cursor. Ids are derived
from what they stand for, so whatever is sent twice is the same event or span twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_ttf import __version__
from otel_ttf.clock import Clock
from otel_ttf.exporters.annotate import ELAPSED_MINUTES, JOURNEY, MILESTONE, STAGE_MINUTES
from otel_ttf.exporters.told import ToldTransitions
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import State, timeline
from otel_ttf.journey.transitions import Transition
from otel_ttf.log.base import Gap, LogError, OnLag, Row
from otel_ttf.otlp.wire import Signal
from otel_ttf.store.base import Reader, StoreUnreadable
from otel_ttf.units import MINUTE, SECOND

SERVICE = "otel_ttf"
NAMES: Mapping[str, str] = {
    "reached": "ttf.milestone.reached",
    "corrected": "ttf.milestone.corrected",
    "started": "ttf.journey.started",
    "completed": "ttf.journey.completed",
    "overdue": "ttf.journey.overdue",
    "expired": "ttf.journey.expired",
}
ENDS = ("completed", "expired")  # what a trace is made at

Made = Callable[[Sequence[Transition]], Sequence[bytes | None]]
"""Requests in OTLP of so many transitions; None: nothing of this one is sent. Raises LogError."""


class Told:
    """The transitions as a source of an exporter (frame.Source): a row each."""

    def __init__(
        self,
        told: ToldTransitions,
        store_id: str,
        signal: Signal,
        made: Made,
        clock: Clock,
        before: Callable[[str], int | None] = lambda consumer: None,
    ) -> None:
        """before: how far a consumer was last, in this store or in one in whose place it is."""
        self.log_id = store_id
        self._before = before
        self._told = told
        self._signal = signal
        self._made = made
        self._clock = clock

    def end(self) -> int:
        return self._told.end()

    def read(self, after: int, *, rows: int = 64, size: int = 8 << 20) -> list[Row]:
        found = self._told.read(after, rows)
        made = self._made([transition for _, transition in found])
        return [
            _row(position, transition, self._signal, payload)
            for (position, transition), payload in zip(found, made, strict=True)
        ]

    def lag(self, after: int) -> tuple[int, float]:
        """Transitions, and the age of the oldest."""
        recorded = self._told.recorded(after)
        if recorded is None:
            return 0, 0.0
        return self.end() - after, max(0, self._clock.now() - recorded) / SECOND

    def position(self, consumer: str) -> int | None:
        """A store that was restored or salvaged has what the one before had, up to where it ends; one that was begun
        anew has nothing of it. What it tells now follows that."""
        before = self._before(consumer)
        return None if before is None else min(before, self._told.opened_at)

    def register(self, consumer: str, position: int, *, required: bool, on_lag: OnLag = "drop") -> int:
        """They stay, so nobody is waited for. Who is new begins where the store was opened."""
        return min(position, self._told.opened_at)

    def release(self, consumer: str, position: int) -> None:
        pass

    def gaps(self, consumer: str) -> list[Gap]:
        return []


def _row(position: int, transition: Transition, signal: Signal, payload: bytes | None) -> Row:
    records = int(payload is not None)
    return Row(position, transition.recorded, signal, payload or b"", b"", records, before=position - records)


def trace_id(journey: str, subject: str, key: Sequence[str] = ()) -> bytes:
    """Of a journey's trace: from its name and the pseudonym of who travels."""
    return _digest("trace", journey, subject, *key)[:16]


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(("otel_ttf", *parts)).encode("utf-8", "surrogatepass")).digest()


def as_events(transitions: Sequence[Transition]) -> list[bytes | None]:
    """Each as a request with one event."""
    return [_event(transition) for transition in transitions]


def _event(one: Transition) -> bytes:
    request = ExportLogsServiceRequest()
    by_resource = request.resource_logs.add()
    _place(by_resource, by_resource.scope_logs.add().scope)
    by_resource.scope_logs[0].log_records.append(
        LogRecord(
            event_name=NAMES.get(one.kind, f"ttf.journey.{one.kind}"),
            time_unix_nano=one.at,
            observed_time_unix_nano=one.recorded,
            trace_id=trace_id(one.journey, one.subject, one.key),
            attributes=_pairs(
                {
                    "ttf.transition.id": one.id,
                    **_whose(one),
                    MILESTONE: one.milestone,
                    "ttf.level": one.level,
                    "ttf.stage": [stage for stage, _ in one.closed] or None,
                    STAGE_MINUTES: [took / MINUTE for _, took in one.closed] or None,
                    "ttf.backfilled": one.backfilled or None,
                    "ttf.after_expiry": one.after_expiry or None,
                }
            ),
        )
    )
    return request.SerializeToString()


def _whose(one: Transition) -> dict[str, Any]:
    return {
        JOURNEY: one.journey,
        "ttf.journey.version": one.version,
        "user.id": one.subject,
        "ttf.journey.key": list(one.key) or None,
        **{f"ttf.segment.{name}": value for name, value in sorted(one.segments.items())},
    }


class Traces:
    """Journeys that have ended, as traces: the journey is the root span, each stage one below it."""

    def __init__(self, journeys: Sequence[Journey], reader: Reader) -> None:
        self.follow(journeys, reader)

    def follow(self, journeys: Sequence[Journey], reader: Reader) -> None:
        """From now on it is these journeys, which the reader knows. Any thread may call."""
        self._now = {journey.name: journey for journey in journeys}, reader

    def __call__(self, transitions: Sequence[Transition]) -> list[bytes | None]:
        """Raises LogError: the store cannot be read."""
        journeys, reader = self._now
        ended = [one for one in transitions if one.kind in ENDS and not one.backfilled]
        states: dict[tuple[str, str, tuple[str, ...]], State] = {}
        try:
            for name, journey in journeys.items():
                subjects = sorted({one.subject for one in ended if one.journey == name})
                for row in reader.find(name, subjects, journey.version) if subjects else ():
                    states[name, row.subject, row.key] = row.state
        except StoreUnreadable as error:
            raise LogError(str(error)) from None
        return [
            _trace(one, journeys.get(one.journey), states.get((one.journey, one.subject, one.key)))
            if one.kind in ENDS and not one.backfilled
            else None
            for one in transitions
        ]


def _trace(one: Transition, journey: Journey | None, state: State | None) -> bytes | None:
    if journey is None or state is None:
        return None  # it was another version's, or is erased
    line = timeline(journey, state)
    if line.started_at is None:
        return None
    request = ExportTraceServiceRequest()
    by_resource = request.resource_spans.add()
    _place(by_resource, by_resource.scope_spans.add().scope)
    spans = by_resource.scope_spans[0].spans
    trace = trace_id(one.journey, one.subject, one.key)
    root = _digest("span", trace.hex())[:8]
    done = one.kind == "completed"
    spans.append(
        Span(
            trace_id=trace,
            span_id=root,
            name=journey.name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=line.started_at,
            end_time_unix_nano=line.completed_at or line.touched or line.started_at,
            status=Status(code=Status.STATUS_CODE_OK if done else Status.STATUS_CODE_ERROR),
            attributes=_pairs(
                {
                    **_whose(one),
                    "ttf.state": one.kind,
                    ELAPSED_MINUTES: None if line.total is None else line.total / MINUTE,
                }
            ),
        )
    )
    for place, took in enumerate(line.durations, 1):
        end, milestone = line.known[place], journey.milestones[place]
        if took is not None and end is not None:
            spans.append(
                Span(
                    trace_id=trace,
                    span_id=_digest("span", trace.hex(), milestone.name)[:8],
                    parent_span_id=root,
                    name=milestone.stage,
                    kind=Span.SPAN_KIND_INTERNAL,
                    start_time_unix_nano=end - took,
                    end_time_unix_nano=end,
                    attributes=_pairs(
                        {JOURNEY: journey.name, MILESTONE: milestone.name, STAGE_MINUTES: took / MINUTE}
                    ),
                )
            )
    return request.SerializeToString()


def _place(by_resource: Any, scope: Any) -> None:
    by_resource.resource.attributes.extend(_pairs({"service.name": SERVICE, "service.version": __version__}))
    scope.name = "otel_ttf.journeys"


def _pairs(values: Mapping[str, Any]) -> Iterable[KeyValue]:
    """Attributes; those that are None are left out."""
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items() if value is not None]


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            if len(value) == 1:
                return _value(value[0])
            made = AnyValue()
            made.array_value.values.extend(map(_value, value))
            return made
    return AnyValue(double_value=value)
