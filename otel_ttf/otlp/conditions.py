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
from otel_ttf.otlp.events import SPAN_KINDS, STATUSES, Source, unpack_ids
from otel_ttf.otlp.subject import subject_keys
from otel_ttf.otlp.values import mapping, plain
from otel_ttf.otlp.wire import SPAN_EVENT, Signal

MATCH = "match"  # stands in the schema for that of the match language


def _condition(data: object) -> object:
    """The condition as it was written; raises all that the match language has against it."""
    parse(data)
    return data


Condition = Annotated[Any, BeforeValidator(_condition), WithJsonSchema({"format": MATCH})]


class _Attributes(Mapping[str, Value]):
    """Encoded attributes by key, each decoded when it is asked for; of a key that comes twice the last one counts."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[bytes]) -> None:
        self._pairs = pairs

    def __getitem__(self, key: str) -> Value:
        name = key.encode("utf-8", "surrogatepass")
        for data in reversed(self._pairs):
            if name in data:
                found = KeyValue.FromString(data)
                if found.key == key:
                    return plain(found.value)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        name = key.encode("utf-8", "surrogatepass")
        for data in self._pairs:
            if name in data:
                return super().get(key, default)
        return default

    def __iter__(self) -> Iterator[str]:
        return iter(mapping([KeyValue.FromString(data) for data in self._pairs]))

    def __len__(self) -> int:
        return len(list(iter(self)))


class Seen:
    """A masked record (journey.match.Record), read as far as somebody asks.

    kind  log, span_event, span; line: a log record without a name; metric: no condition on events or spans holds
    view  its shallow message
    """

    __slots__ = ("_batch", "_number", "_source", "_view", "kind", "name")

    def __init__(
        self, kind: str, name: str, source: Source, batch: Batch, number: int, view: Any = None
    ) -> None:
        self.kind = kind
        self.name = name
        self._source = source
        self._batch = batch
        self._number = number
        self._view = view

    @property
    def view(self) -> Any:
        if self._view is None:
            self._view = self._batch.view(self._number)
        return self._view

    @property
    def pairs(self) -> Sequence[bytes]:
        """Its attributes, encoded; a metric has none, its data points do."""
        found: Sequence[bytes] = () if self.kind == "metric" else self.view.attributes
        return found

    @property
    def attributes(self) -> Mapping[str, Value]:
        """Its own, by key."""
        return _Attributes(self.pairs)

    @property
    def resource(self) -> Mapping[str, Value]:
        """The resource's attributes, by key."""
        return self._source.attributes

    @property
    def span_kind(self) -> str:
        """One of SPAN_KINDS; empty unless a span."""
        number = self.view.kind if self.kind == "span" else -1
        return SPAN_KINDS[number] if 0 <= number < len(SPAN_KINDS) else ""

    @property
    def status(self) -> str:
        """One of STATUSES; empty unless a span."""
        if self.kind != "span":
            return ""
        code = Status.FromString(b"".join(self.view.status)).code
        return STATUSES[code] if 0 <= code < len(STATUSES) else "unset"


_NOBODY = subject_keys(())


def seen(batch: Batch) -> Iterator[tuple[int, Seen, Sequence[Seen]]]:
    """(slice, the record, its span events) of those that are not gone. Whoever asks drops slices as it goes."""
    for head in batch.resources:
        source = Source(head.data, _NOBODY)
        for number in range(head.first, head.end):
            if batch.gone(number):
                continue
            if batch.signal == "logs":
                name = batch.event_name(number)
                yield number, Seen("log" if name else "line", name, source, batch, number), ()
                continue
            view = batch.view(number)
            name = str(view.name, "utf-8")
            if batch.signal == "metrics":
                yield number, Seen("metric", name, source, batch, number, view), ()
                continue
            events = [SPAN_EVENT.FromString(data) for data in view.events]
            yield (
                number,
                Seen("span", name, source, batch, number, view),
                [Seen("span_event", str(e.name, "utf-8"), source, batch, number, e) for e in events],
            )


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
