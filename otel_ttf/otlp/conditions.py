"""Conditions on masked records, outside journeys: how they are configured, and what they see (journey.match)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from pydantic import BeforeValidator, WithJsonSchema

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.match import Test, parse
from otel_ttf.journey.values import Value
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import SPAN_KINDS, STATUSES, Source, event_name, unpack_ids
from otel_ttf.otlp.subject import subject_keys
from otel_ttf.otlp.values import mapping
from otel_ttf.otlp.wire import SPAN_EVENT, Signal

MATCH = "match"  # stands in the schema for that of the match language


def _condition(data: object) -> object:
    """The condition as it was written; raises all that the match language has against it."""
    parse(data)
    return data


Condition = Annotated[Any, BeforeValidator(_condition), WithJsonSchema({"format": MATCH})]


class Seen:
    """A masked record (journey.match.Record), read as far as somebody asks.

    kind   log, span_event, span; line: a log record without a name; metric: no condition on events or spans holds
    pairs  its attributes, encoded; a metric has none, its data points do
    """

    __slots__ = ("_attributes", "_source", "_view", "kind", "name", "pairs")

    def __init__(self, kind: str, name: str, view: Any, pairs: Sequence[bytes], source: Source) -> None:
        self.kind = kind
        self.name = name
        self.pairs = pairs
        self._view = view
        self._source = source
        self._attributes: Mapping[str, Value] | None = None

    @property
    def attributes(self) -> Mapping[str, Value]:
        """Its own, by key."""
        if self._attributes is None:
            self._attributes = mapping([KeyValue.FromString(data) for data in self.pairs])
        return self._attributes

    @property
    def resource(self) -> Mapping[str, Value]:
        """The resource's attributes, by key."""
        return self._source.attributes

    @property
    def span_kind(self) -> str:
        """One of SPAN_KINDS; empty unless a span."""
        number = self._view.kind if self.kind == "span" else -1
        return SPAN_KINDS[number] if 0 <= number < len(SPAN_KINDS) else ""

    @property
    def status(self) -> str:
        """One of STATUSES; empty unless a span."""
        if self.kind != "span":
            return ""
        code = Status.FromString(b"".join(self._view.status)).code
        return STATUSES[code] if 0 <= code < len(STATUSES) else "unset"


_NOBODY = subject_keys(())


def seen(batch: Batch) -> Iterator[tuple[int, Seen, list[Seen]]]:
    """(slice, the record, its span events) of those that are not gone. Whoever asks drops slices as it goes."""
    sources: dict[int, Source] = {}
    for number in range(len(batch)):
        if batch.gone(number):
            continue
        head = batch.resource_of(number)
        source = sources.get(id(head))
        if source is None:
            source = sources[id(head)] = Source(head.data, _NOBODY)
        view = batch.view(number)
        if batch.signal == "logs":
            pairs = view.attributes[:]
            name = event_name(view, pairs)
            yield number, Seen("log" if name else "line", name, view, pairs, source), []
        elif batch.signal == "traces":
            events = [SPAN_EVENT.FromString(data) for data in view.events]
            yield (
                number,
                Seen("span", str(view.name, "utf-8"), view, view.attributes[:], source),
                [Seen("span_event", str(e.name, "utf-8"), e, e.attributes[:], source) for e in events],
            )
        else:
            yield number, Seen("metric", str(view.name, "utf-8"), view, (), source), []


class Reads:
    """Whether journeys read a record: it reaches a milestone, or has an attribute that is a segment.

    lines  whether all spans are events: storage.events is `all`
    """

    def __init__(self, journeys: Sequence[Journey], *, lines: bool) -> None:
        self._dispatch = Dispatch(journeys)
        self._segments = [tuple(segment.attribute for segment in journey.segments) for journey in journeys]
        self._literals = {name.encode() for names in self._segments for name in names}
        self._lines = lines

    def __call__(self, record: Seen) -> bool:
        dispatch = self._dispatch
        if record.kind in ("line", "metric") or (record.kind == "span_event" and not record.name):
            return False
        if record.kind == "span" and not (self._lines or dispatch.wants_span(record.name)):
            return False
        if dispatch.hits(record):
            return True
        if not any(name in data for data in record.pairs for name in self._literals):
            return False
        return any(name in record.attributes for j in dispatch.admits(record) for name in self._segments[j])


def chosen(signal: Signal, payload: bytes, ids: bytes, test: Test) -> tuple[bytes, bytes, int]:
    """(request, event ids, records) of a masked request with only those records for which the condition holds.

    A span goes along with its events where it holds for one of them. The same bytes when it holds for all.
    Raises Malformed.
    """
    batch = Batch(signal, payload, 0, as_it_is=True)
    for number, record, events in seen(batch):
        if not (test(record) or any(map(test, events))):
            batch.drop(number, batch.parts(number))
    if not batch.left_out and not any(map(batch.gone, range(len(batch)))):
        return payload, ids, batch.records
    batch.prune()
    known, first = unpack_ids(ids), 0
    sizes = batch.sizes if signal == "traces" else dict.fromkeys(range(len(batch)), 1)
    for number, size in sizes.items() if known else ():
        own = [(place - first, known[place]) for place in range(first, first + size) if place in known]
        if own:
            batch.identify(number, own)
        first += size
    return batch.finish(), batch.ids, batch.kept
