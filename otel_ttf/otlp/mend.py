"""What becomes of a request that protobuf will not read, and of one with values that are nested too deeply.

Records are looked at one by one. Bytes in a text that are no UTF-8 become U+FFFD, and the record says so; values
beyond MAX_NESTING are cut; what cannot be read even then is rejected, and the other records are kept. Those that are
sound cost what protobuf takes to read them; for the others there is a budget, beyond which they are rejected, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_ttf.otlp.wire import (
    BYTES,
    HOLDING,
    MAX_DEPTH,
    MAX_NESTING,
    SHAPES,
    TEXT,
    VALUE,
    Layout,
    Malformed,
    Signal,
    check_bounded,
    decode,
    delimited,
    fields,
    layout,
)
from otel_ttf.units import size_text

REPAIRED = "ttf.utf8_repaired"
MAX_BYTES = 4 << 20  # of a record that protobuf will not read: mending a larger one would take seconds
# For a request, a second or two on one core. A step is a field that is looked at, or a KiB of it.
MAX_STEPS = 1_000_000
RECORD_STEPS = 30
TOO_DEEP = "<too deep>"
# What was done -> how its sender is told, with the number.
TOLD = {
    "utf8": f"texts that are no UTF-8: %d, mended with U+FFFD and marked by {REPAIRED}",
    "nesting": f"values nested more than {MAX_NESTING} deep: %d, cut",
}
_TOO_DEEP = AnyValue(string_value=TOO_DEEP).SerializeToString()
_TRUE = KeyValue(key=REPAIRED, value=AnyValue(bool_value=True))
_OVER = f"expected text in UTF-8, nested at most {MAX_NESTING} deep: more of this request is to be mended than can be"
# Up to there what stands alone is read as it would be within a request.
_SHORT, _FLAT = 1024, 20
# Numbers of the fields that these stand in, the same in all signals.
_RESOURCE, _SCOPE, _RECORD = (1, 1), (1, 2, 1), (1, 2, 2)


@dataclass(slots=True)
class Mended:
    """A request that can be read.

    raw     in its records' order, none of them gone; as it came if nothing is wrong with it
    broken  number of a record -> what is wrong with it; an empty one stands in its place
    notes   (number of the record that it stands in or before, what was done, see TOLD, how often)
    """

    raw: bytes
    broken: dict[int, str] = field(default_factory=dict)
    notes: list[tuple[int, str, int]] = field(default_factory=list)


def mend(signal: Signal, raw: bytes) -> Mended:
    """Mends what `wire.decode_bounded` refuses. Raises Malformed: not even its records can be told apart."""
    shape = SHAPES[signal]
    try:
        shallow = shape.shallow.FromString(raw)
    except DecodeError:
        raise Malformed(f"expected an OTLP {signal} request in protobuf") from None
    mending = _Mending(signal)
    broken: dict[int, str] = {}
    for by_resource in shallow.resources:
        mending.url(by_resource)
        lost = mending.head(by_resource.resource, Resource, _RESOURCE)
        for by_scope in by_resource.scopes:
            mending.url(by_scope)
            gone = lost or mending.head(by_scope.scope, InstrumentationScope, _SCOPE)
            for place, data in enumerate(by_scope.records):
                new = None if gone else mending.message(shape.record, data, _RECORD)
                if new is None:
                    broken[mending.number] = gone or mending.expected(shape.record, data)
                    new = NOTHING[signal]
                if new is not data:
                    by_scope.records[place] = new
                mending.number += 1
    if not (broken or mending.notes):
        return Mended(raw)
    return Mended(shallow.SerializeToString(), broken, mending.notes)


# What stands in the place of a broken one; of a metric's data points, at least one is lost.
NOTHING: Mapping[Signal, bytes] = {
    "logs": b"",
    "traces": b"",
    "metrics": Metric(gauge=Gauge(data_points=[NumberDataPoint()])).SerializeToString(),
}


def mark(message: Any) -> None:
    """A record, resource or scope says of itself that text in it was mended."""
    attributes = message.metadata if message.DESCRIPTOR.name == "Metric" else message.attributes
    attributes.append(_TRUE)


@cache
def _marked(kind: type[Any]) -> bytes:
    """What `mark` adds, encoded."""
    message = kind()
    mark(message)
    return bytes(message.SerializeToString())


class _NoRoom(Exception):
    """The nearest value around is nested too deeply."""


class _Exhausted(Exception):
    """No steps are left."""


class _Mending:
    """Mends the parts of a request, and notes what was mended. number: of the record that is next."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self.number = 0
        self.notes: list[tuple[int, str, int]] = []
        self._texts = self._deep = 0
        self._steps = MAX_STEPS

    def expected(self, kind: type[Any], data: bytes) -> str:
        """Why `message` has just returned None."""
        if self._steps <= 0:
            return _OVER
        within = (
            f" of at most {size_text(MAX_BYTES)}, since not all of it can be read"
            if len(data) > MAX_BYTES
            else ""
        )
        return f"expected a {kind.DESCRIPTOR.name} in protobuf{within}"

    def url(self, container: Any) -> None:
        new = self._text(container.schema_url)
        if new is not None:
            container.schema_url = new
            self._note()

    def head(self, occurrences: Any, kind: type[Any], place: tuple[int, ...]) -> str | None:
        """A resource or a scope; why all below it is lost, if it cannot be read."""
        data = b"".join(occurrences)
        new = self.message(kind, data, place)
        if new is None:
            del occurrences[:]
            return self.expected(kind, data)
        if new is not data:
            occurrences[:] = [new]
        return None

    def message(self, kind: type[Any], data: bytes, place: tuple[int, ...]) -> bytes | None:
        """An encoded message that can be read; the same object: nothing is wrong with it; None: it cannot.

        place  numbers of the fields that it stands in
        """
        if self._sound(kind, data, place):
            return data
        if self._steps <= 0:
            return None
        self._steps -= RECORD_STEPS
        reads = self._reads(data, place, decode)
        if len(data) > MAX_BYTES and not reads:
            return None
        try:
            new = self._walk(layout(kind.DESCRIPTOR), data, 0, len(data), len(place), 0)
        except (Malformed, IndexError):
            new = None
        except _Exhausted:
            self._texts = self._deep = 0
            return None
        if new is None:
            self._texts = self._deep = 0
            return data if reads else None
        if self._texts:
            new += _marked(kind)  # type: ignore[arg-type]
        self._note()
        return new if self._reads(new, place, decode) else None

    def _note(self) -> None:
        for what, count in (("utf8", self._texts), ("nesting", self._deep)):
            if count:
                self.notes.append((self.number, what, count))
        self._texts = self._deep = 0

    def _sound(self, kind: type[Any], data: bytes, place: tuple[int, ...]) -> bool:
        if len(data) >= _SHORT or len(data) - len(data.translate(None, HOLDING)) >= _FLAT:
            return self._reads(data, place, check_bounded)
        try:
            kind.FromString(data)
        except DecodeError:
            return False
        return True

    def _reads(self, data: bytes, place: tuple[int, ...], read: Callable[[Signal, bytes], Any]) -> bool:
        # In a request: what stands in it may be nested less deeply than what stands alone.
        for number in reversed(place):
            data = delimited(number, data)
        try:
            read(self._signal, data)
        except Malformed:
            return False
        return True

    def _text(self, data: bytes) -> bytes | None:
        try:
            data.decode()
        except UnicodeDecodeError:
            self._texts += 1
            return data.decode(errors="replace").encode()
        return None

    def _walk(self, plan: Layout, data: bytes, at: int, end: int, depth: int, nested: int) -> bytes | None:
        """The mended bytes of a message that stands at a place; None: nothing is wrong with them.

        depth   how many messages it is within; nested: how many values
        Raises Malformed or IndexError; _NoRoom: protobuf would not read it, so deep does it stand; _Exhausted.
        """
        if depth > MAX_DEPTH:
            raise _NoRoom
        parts: list[bytes] = []
        begin = copied = at
        for number, kind, start, stop in fields(data, at, end):
            self._steps -= 1 + (stop - start >> 10)
            if self._steps < 0:
                raise _Exhausted
            below = plan.get(number) if kind == BYTES else None
            new = None
            if below is TEXT:
                new = self._text(data[start:stop])
            elif below is not None:
                deeper = nested + (below is VALUE)
                try:
                    if deeper > MAX_NESTING:
                        raise _NoRoom
                    new = self._walk(below, data, start, stop, depth + 1, deeper)
                except _NoRoom:
                    if below is not VALUE or depth == MAX_DEPTH:
                        raise
                    if data[start:stop] != _TOO_DEEP:  # from JSON, or sent on by another of us
                        self._deep += 1
                        new = _TOO_DEEP
            if new is not None:
                parts += [data[copied:begin], delimited(number, new)]
                copied = stop
            begin = stop
        return b"".join([*parts, data[copied:end]]) if parts else None
