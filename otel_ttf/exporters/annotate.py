"""Milestone records say what they are: journey, milestone, minutes of the stage and since the start.

As known when they are sent: the tracker has read what is annotated, and a later correction is not. Of records that
match a milestone only those are annotated that reached it: whose time is the milestone's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.exporters.base import Unreachable
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.keys import Key, key_of
from otel_ttf.journey.state import State, Timeline, timeline
from otel_ttf.log.base import Row
from otel_ttf.otlp.events import NAME_LITERAL, Event, Reading, Rules, Source, unpack_ids
from otel_ttf.otlp.wire import BROKEN, SHAPES, SPAN_EVENT, Malformed, contents, decode
from otel_ttf.store.base import Reader, StoreUnreadable
from otel_ttf.units import MINUTE

JOURNEY, MILESTONE = "ttf.journey", "ttf.milestone"
STAGE_MINUTES, ELAPSED_MINUTES = "ttf.stage.minutes", "ttf.elapsed.minutes"


@dataclass(slots=True)
class _Found:
    """An event that matches milestones, and what puts attributes on its record."""

    event: Event
    hits: Sequence[tuple[int, int]]
    put: Callable[[list[bytes]], None]


@dataclass(frozen=True, slots=True)
class _Line:
    """One journey of a subject. key: its parts beyond the subject."""

    key: Key
    state: State
    timeline: Timeline


class Annotator:
    """Reads the store, and never writes. Called by one thread; `follow` is for any."""

    def __init__(self, journeys: Sequence[Journey], rules: Rules, reader: Reader) -> None:
        self.follow(journeys, rules, reader)

    def follow(self, journeys: Sequence[Journey], rules: Rules, reader: Reader) -> None:
        """From now on it is these journeys, which the reader knows."""
        self._now = _Now(journeys, rules, reader)

    def __call__(self, row: Row) -> Row:
        """Raises Malformed; Unreachable: the store cannot be read now."""
        return row if row.signal == "metrics" else self._now.annotated(row)


class _Now:
    """Journeys as they are followed now."""

    def __init__(self, journeys: Sequence[Journey], rules: Rules, reader: Reader) -> None:
        self._journeys = journeys
        self._rules = rules
        self._reader = reader
        self._dispatch = Dispatch(journeys)

    def annotated(self, row: Row) -> Row:
        try:
            request = SHAPES[row.signal].shallow.FromString(row.payload)
            found = [one for one in self._events(row, request) if one.hits and one.event.subject is not None]
        except DecodeError:
            raise Malformed(BROKEN) from None
        if not found:
            return row
        try:
            lines = self._lines(found)
        except StoreUnreadable:
            raise Unreachable("the store cannot be read") from None
        changed = False
        for one in found:
            pairs = self._pairs(one, lines)
            if pairs:
                one.put(pairs)
                changed = True
        return replace(row, payload=bytes(request.SerializeToString())) if changed else row

    def _events(self, row: Row, request: Any) -> Iterable[_Found]:
        """The events of a request with the milestones that they match."""
        names, sizes = contents(row.signal, decode(row.signal, row.payload))
        ids, view = unpack_ids(row.ids), SHAPES[row.signal].view
        name_within = NAME_LITERAL in row.payload
        reading = Reading(self._rules, row.arrival)
        number = place = 0
        for by_resource in request.resources:
            source = Source(b"".join(by_resource.resource), reading.keys)
            for by_scope in by_resource.scopes:
                for at, data in enumerate(by_scope.records):
                    before = len(reading.found.events)
                    if row.signal == "logs":
                        if number in names or (name_within and NAME_LITERAL in data):
                            reading.log(ids.get(number), view.FromString(data), source, data)
                    elif number in sizes or self._rules.wants_span(names[number]):
                        place += reading.span(ids, place, view.FromString(data), source)
                    number += 1
                    yield from self._matching(by_scope.records, at, reading.found.events[before:])

    def _matching(self, records: Any, at: int, events: Sequence[Event]) -> Iterable[_Found]:
        """records[at] is the record that the events were read from."""
        within = -1  # of the named events of a span
        for event in events:
            within += event.kind == "span_event"
            if event.kind != "line":
                place = within if event.kind == "span_event" else None
                view = SHAPES["logs" if event.kind == "log" else "traces"].view
                yield _Found(event, self._dispatch.hits(event), partial(_put, view, records, at, place))

    def _lines(self, found: Sequence[_Found]) -> Mapping[tuple[int, str], Sequence[_Line]]:
        """(journey, subject) -> what is known of it, for each key. Raises StoreUnreadable."""
        subjects: dict[int, set[str]] = {}
        for one in found:
            for j, _ in one.hits:
                subjects.setdefault(j, set()).add(str(one.event.subject))
        lines: dict[tuple[int, str], list[_Line]] = {}
        with self._reader.snapshot():
            for j, whose in subjects.items():
                journey = self._journeys[j]
                # By its version: the tracker may follow another one for a moment.
                for row in self._reader.find(journey.name, sorted(whose), journey.version):
                    line = _Line(row.key, row.state, timeline(journey, row.state))
                    lines.setdefault((j, row.subject), []).append(line)
        return lines

    def _pairs(self, one: _Found, lines: Mapping[tuple[int, str], Sequence[_Line]]) -> list[bytes]:
        told: list[tuple[str, str, float | None, float | None]] = []
        for j, m in one.hits:
            journey = self._journeys[j]
            key = key_of(journey.key[1:], one.event.attributes, one.event.resource)
            # A milestone that all of a user's journeys share has a record without the key: then it is any of them.
            line = next(
                (
                    of.timeline
                    for of in lines.get((j, str(one.event.subject)), ())
                    if of.state.reached[m] == one.event.at
                    and all(part in ("", its) for part, its in zip(key, of.key, strict=True))
                ),
                None,
            )
            if line is None:
                continue
            known = line.known[m]
            took = line.durations[m - 1] if m else None
            elapsed = None if known is None or line.started_at is None else known - line.started_at
            told.append(
                (
                    journey.name,
                    journey.milestones[m].name,
                    None if took is None else took / MINUTE,
                    None if elapsed is None else elapsed / MINUTE,
                )
            )
        named = zip(
            (JOURNEY, MILESTONE, STAGE_MINUTES, ELAPSED_MINUTES), zip(*told, strict=True), strict=False
        )
        return [
            KeyValue(key=key, value=_value(values)).SerializeToString()
            for key, values in named
            if any(value is not None for value in values)
        ]


def _put(view: Any, records: Any, at: int, place: int | None, pairs: list[bytes]) -> None:
    """Puts attributes on records[at], or on the place-th named event of that span. view: its shallow message."""
    record = view.FromString(records[at])
    if place is None:
        record.attributes.extend(pairs)
    else:
        named = [number for number, data in enumerate(record.events) if SPAN_EVENT.FromString(data).name]
        event = SPAN_EVENT.FromString(record.events[named[place]])
        event.attributes.extend(pairs)
        record.events[named[place]] = event.SerializeToString()
    records[at] = record.SerializeToString()


def _value(values: Sequence[Any]) -> AnyValue:
    """One value as it is; several, where a record reached several milestones, as a list in the same order."""
    if len(values) > 1:
        made = AnyValue()
        made.array_value.values.extend([_value([value]) for value in values])
        return made
    (value,) = values
    if value is None:
        return AnyValue()
    return AnyValue(string_value=value) if isinstance(value, str) else AnyValue(double_value=value)
