"""What becomes of a request that protobuf will not read: one bad text in it, and the whole of it would be lost.

Records are looked at one by one. Bytes in a text that are no UTF-8 become U+FFFD, and the record says so; values
that are nested too deeply are cut; what cannot be read even then is rejected, and the other records are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_ttf.otlp.wire import BROKEN, BYTES, SHAPES, Malformed, Signal, fields

REPAIRED = "ttf.utf8_repaired"
MAX_NESTING = 32  # values within each other; protobuf itself reads some 48
MAX_BYTES = 4 << 20  # of a record: a larger one is rejected, since mending it would take seconds
MAX_DEPTH = 100  # messages within each other: protobuf reads no more
_TOO_DEEP = AnyValue(string_value="<too deep>").SerializeToString()
_TRUE = KeyValue(key=REPAIRED, value=AnyValue(bool_value=True))
# Numbers of the fields that these stand in, the same in all signals.
_RESOURCE, _SCOPE, _RECORD = (1, 1), (1, 2, 1), (1, 2, 2)


@dataclass(slots=True)
class Mended:
    """A request that can be read.

    raw       in its records' order, none of them gone
    broken    number of a record -> what is wrong with it; an empty one stands in its place
    warnings  about what was mended
    """

    raw: bytes
    broken: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def mend(signal: Signal, raw: bytes) -> Mended:
    """Mends what `wire.decode` refuses. Raises Malformed: not even its records can be told apart."""
    shape = SHAPES[signal]
    malformed = f"expected an OTLP {signal} request in protobuf"
    try:
        shallow = shape.shallow.FromString(raw)
    except DecodeError:
        raise Malformed(malformed) from None
    mending = _Mending(shape.request)
    broken: dict[int, str] = {}
    number = 0
    for by_resource in shallow.resources:
        mending.url(by_resource)
        lost = mending.head(by_resource.resource, Resource, _RESOURCE)
        for by_scope in by_resource.scopes:
            mending.url(by_scope)
            gone = lost or mending.head(by_scope.scope, InstrumentationScope, _SCOPE)
            for place, data in enumerate(by_scope.records):
                new = None if gone else mending.message(shape.record, data, _RECORD)
                if new is None:
                    broken[number] = gone or _expected(shape.record.DESCRIPTOR.name)
                    new = _NOTHING[signal]
                if new is not data:
                    by_scope.records[place] = new
                number += 1
    return Mended(shallow.SerializeToString(), broken, mending.warnings)


# What stands in the place of a broken one; of a metric's data points, at least one is lost.
_NOTHING: Mapping[Signal, bytes] = {
    "logs": b"",
    "traces": b"",
    "metrics": Metric(gauge=Gauge(data_points=[NumberDataPoint()])).SerializeToString(),
}


def _expected(message: str) -> str:
    return f"expected a {message} in protobuf"


def mark(message: Any) -> None:
    """A record, resource or scope says of itself that text in it was mended."""
    attributes = message.metadata if message.DESCRIPTOR.name == "Metric" else message.attributes
    attributes.append(_TRUE)


class _Mending:
    """Mends the parts of a request, and counts what was mended. request: the official message."""

    def __init__(self, request: type[Any]) -> None:
        self._request = request
        self.texts = 0
        self.deep = 0

    @property
    def warnings(self) -> list[str]:
        told = []
        if self.texts:
            told.append(f"texts that are no UTF-8: {self.texts}, mended with U+FFFD and marked by {REPAIRED}")
        if self.deep:
            told.append(f"values nested more than {MAX_NESTING} deep: {self.deep}, cut")
        return told

    def url(self, container: Any) -> None:
        new = self._text(container.schema_url)
        if new is not None:
            container.schema_url = new

    def head(self, occurrences: Any, kind: type[Any], place: tuple[int, ...]) -> str | None:
        """A resource or a scope; why all below it is lost, if it cannot be read."""
        data = b"".join(occurrences)
        new = self.message(kind, data, place)
        if new is None:
            del occurrences[:]
            return _expected(kind.DESCRIPTOR.name)
        if new is not data:
            occurrences[:] = [new]
        return None

    def message(self, kind: type[Any], data: bytes, place: tuple[int, ...]) -> bytes | None:
        """An encoded message that can be read; the same object: it could be before; None: it cannot.

        place  numbers of the fields that it stands in
        """
        if self._reads(data, place):
            return data
        if len(data) > MAX_BYTES:
            return None
        texts = self.texts
        try:
            new = self._walk(_plan(kind.DESCRIPTOR), data, 0, len(data), 0, 0)
        except (Malformed, IndexError):
            return None
        if new is None:
            return None
        if self.texts > texts:
            marked = kind()
            mark(marked)
            new += marked.SerializeToString()
        return new if self._reads(new, place) else None

    def _reads(self, data: bytes, place: tuple[int, ...]) -> bool:
        # In a request: what stands in it may be nested less deeply than what stands alone.
        for number in reversed(place):
            data = _field(number, data)
        try:
            self._request.FromString(data)
        except DecodeError:
            return False
        return True

    def _text(self, data: bytes) -> bytes | None:
        try:
            data.decode()
        except UnicodeDecodeError:
            self.texts += 1
            return data.decode(errors="replace").encode()
        return None

    def _walk(self, plan: _Plan, data: bytes, at: int, end: int, depth: int, nested: int) -> bytes | None:
        """The mended bytes of a message that stands at a place; None: nothing is wrong with them.

        nested  how many values it is within
        Raises Malformed or IndexError.
        """
        if depth > MAX_DEPTH:
            raise Malformed(BROKEN)
        parts: list[bytes] = []
        begin = copied = at
        for number, kind, start, stop in fields(data, at, end):
            below = plan.get(number) if kind == BYTES else None
            new = None
            if below is _TEXT:
                new = self._text(data[start:stop])
            elif below is not None:
                deeper = nested + (below is _VALUE)
                if deeper > MAX_NESTING:
                    self.deep += 1
                    new = _TOO_DEEP
                else:
                    new = self._walk(below, data, start, stop, depth + 1, deeper)
            if new is not None:
                parts += [data[copied:begin], _field(number, new)]
                copied = stop
            begin = stop
        return b"".join([*parts, data[copied:end]]) if parts else None


# Fields of a message that are texts or messages: number -> what they are.
_Plan = dict[int, "_Plan"]
_TEXT: _Plan = {}


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    plans: dict[str, _Plan] = {}

    def made(descriptor: Descriptor) -> _Plan:
        plan = plans.get(descriptor.full_name)
        if plan is None:
            # One object for all that values are in.
            plan = _VALUE if descriptor is AnyValue.DESCRIPTOR else {}
            plans[descriptor.full_name] = plan  # before what is below: types contain themselves
            for one in descriptor.fields:
                if one.type == FieldDescriptor.TYPE_STRING:
                    plan[one.number] = _TEXT
                elif one.type == FieldDescriptor.TYPE_MESSAGE:
                    assert one.message_type is not None
                    plan[one.number] = made(one.message_type)
        return plan

    return made(descriptor)


_VALUE: _Plan = {}


def _field(number: int, data: bytes) -> bytes:
    return _written(number << 3 | BYTES) + _written(len(data)) + data


def _written(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
