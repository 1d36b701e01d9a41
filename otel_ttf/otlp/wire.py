"""OTLP requests as protobuf: whole, and shallow, with everything below a scope as slices.

In the shallow messages every resource, scope and record is `bytes`: protobuf cuts a request into records in C,
a changed record is put back by setting an element, and one serialisation splices. A singular message becomes
*repeated* bytes, since protobuf merges the occurrences of one that comes twice, and that is the same as joining
their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Signal = Literal["logs", "traces", "metrics"]
SIGNALS: tuple[Signal, ...] = ("logs", "traces", "metrics")

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; OTLP has no groups
BROKEN = "expected an OTLP request in protobuf"
MAX_NESTING = 32  # values within each other
MAX_DEPTH = 100  # messages within each other: protobuf reads no more

_PACKAGE = "otel_ttf.shallow"
_POINTS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_Field = descriptor_pb2.FieldDescriptorProto


class Malformed(ValueError):
    """The sender's mistake, for good. The text may be told to the peer: it never holds a value."""


class Unread(Malformed):
    """A request that would have to be mended to be read."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a signal's requests are built.

    request, response             the official messages
    resources, scopes, records    names of their fields
    rejected                      field of the response that counts what was not taken
    record                        the official message of a slice: LogRecord, Span, Metric
    shallow                       the request as `resources` of `scopes` of `records`, see above
    view                          shallow message of a slice
    """

    request: type[Any]
    response: type[Any]
    resources: str
    scopes: str
    records: str
    rejected: str
    record: type[Any]
    shallow: type[Any]
    view: type[Any]

    @property
    def attributes(self) -> int:
        """Number of the field of a slice that holds its attributes. Metrics have none."""
        number: int = self.view.DESCRIPTOR.fields_by_name["attributes"].number
        return number


def _add_view(file: Any, official: Descriptor, name: str) -> None:
    """A message with all fields of the official one: messages are repeated bytes, strings bytes."""
    scalars = {FieldDescriptor.TYPE_STRING: _Field.TYPE_BYTES, FieldDescriptor.TYPE_ENUM: _Field.TYPE_INT32}
    view = file.message_type.add(name=name)
    for field in official.fields:
        message = field.type == FieldDescriptor.TYPE_MESSAGE
        view.field.add(
            name=field.name,
            number=field.number,
            type=_Field.TYPE_BYTES if message else scalars.get(field.type, field.type),
            label=_Field.LABEL_REPEATED if message or field.is_repeated else _Field.LABEL_OPTIONAL,
        )


def _add_container(file: Any, name: str, *fields: tuple[str, int, str]) -> None:
    """A message of slices and of containers; a kind is a message's name, "slices" or "text"."""
    container = file.message_type.add(name=name)
    for field, number, kind in fields:
        label = _Field.LABEL_OPTIONAL if kind == "text" else _Field.LABEL_REPEATED
        if kind in ("slices", "text"):
            container.field.add(name=field, number=number, type=_Field.TYPE_BYTES, label=label)
        else:
            type_name = f".{_PACKAGE}.{kind}"
            container.field.add(
                name=field, number=number, type=_Field.TYPE_MESSAGE, type_name=type_name, label=label
            )


def _shallow() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="otel_ttf/shallow.proto", package=_PACKAGE, syntax="proto3"
    )
    # The containers of all signals have the same numbers.
    _add_container(file, "Scope", ("scope", 1, "slices"), ("records", 2, "slices"), ("schema_url", 3, "text"))
    _add_container(
        file, "Resource", ("resource", 1, "slices"), ("scopes", 2, "Scope"), ("schema_url", 3, "text")
    )
    _add_container(file, "Request", ("resources", 1, "Resource"))
    for official in (LogRecord, Span, Span.Event, Metric, KeyValueList):
        _add_view(file, official.DESCRIPTOR, official.DESCRIPTOR.name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}")
        )
        for message in file.message_type
    }


_SHALLOW = _shallow()
SPAN_EVENT: type[Any] = _SHALLOW["Event"]
PAIRS: type[Any] = _SHALLOW["KeyValueList"]

SHAPES: dict[Signal, Shape] = {
    "logs": Shape(
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        "resource_logs",
        "scope_logs",
        "log_records",
        "rejected_log_records",
        LogRecord,
        _SHALLOW["Request"],
        _SHALLOW["LogRecord"],
    ),
    "traces": Shape(
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        "resource_spans",
        "scope_spans",
        "spans",
        "rejected_spans",
        Span,
        _SHALLOW["Request"],
        _SHALLOW["Span"],
    ),
    "metrics": Shape(
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        "resource_metrics",
        "scope_metrics",
        "metrics",
        "rejected_data_points",
        Metric,
        _SHALLOW["Request"],
        _SHALLOW["Metric"],
    ),
}


def decode(signal: Signal, raw: bytes) -> Any:
    """The official request message. Raises Malformed: not protobuf, not UTF-8, or deeper than MAX_DEPTH."""
    return _parsed(SHAPES[signal].request, signal, raw)


def _parsed(kind: type[Any], signal: Signal, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Malformed(f"expected an OTLP {signal} request in protobuf, text in UTF-8") from None


# What a request is put into, so that protobuf stops where lists are nested too deeply: each is two messages, below the
# request and at least three others. Groups need no length.
_AROUND = MAX_DEPTH - (4 + 2 * MAX_NESTING)
_OPEN, _CLOSE = b"\x0b" * _AROUND, b"\x0c" * _AROUND
# One of these bytes is in each value that holds others: tags of a list and of a map's value, however they are written.
HOLDING = b"\x2a\xaa\x12\x92"
_COUNTED = 1024  # bytes: up to there counting them takes less time than the groups do


def _wrapper() -> tuple[type[Any], dict[Signal, tuple[bytes, Any]]]:
    """(groups in a group; signal -> the tag of a request in the innermost, and what gets it out)."""
    file = descriptor_pb2.FileDescriptorProto(name="otel_ttf/around.proto", package=_PACKAGE, syntax="proto2")
    outer = file.message_type.add(name="Around")
    group = outer.nested_type.add(name="In")
    for message in (outer, group):
        message.field.add(
            name="in",
            number=1,
            type=_Field.TYPE_GROUP,
            type_name=f".{_PACKAGE}.Around.In",
            label=_Field.LABEL_OPTIONAL,
        )
    ways = {}
    for number, signal in enumerate(SIGNALS, 2):
        request = SHAPES[signal].request.DESCRIPTOR
        file.dependency.append(request.file.name)
        group.field.add(
            name=signal,
            number=number,
            type=_Field.TYPE_MESSAGE,
            type_name=f".{request.full_name}",
            label=_Field.LABEL_OPTIONAL,
        )
        path = ".".join(["in"] * _AROUND + [signal])
        ways[signal] = bytes([number << 3 | BYTES]), attrgetter(path)
    pool = descriptor_pool.Default()  # where the official messages are
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Around")), ways


_WRAPPER, _WAYS = _wrapper()


def decode_bounded(signal: Signal, raw: bytes) -> Any:
    """The same. Raises Malformed also for values that may be nested deeper than MAX_NESTING: lists that are, and maps
    from two thirds of that on."""
    if _flat(raw):
        return decode(signal, raw)
    return _WAYS[signal][1](_wrapped(signal, raw))


def check_bounded(signal: Signal, raw: bytes) -> None:
    """The same without the request, which takes longer to get out than a small one to read."""
    if _flat(raw):
        decode(signal, raw)
        return
    _wrapped(signal, raw)


def _flat(raw: bytes) -> bool:
    return len(raw) < _COUNTED and len(raw) - len(raw.translate(None, HOLDING)) < MAX_NESTING


def _wrapped(signal: Signal, raw: bytes) -> Any:
    return _parsed(_WRAPPER, signal, b"".join([_OPEN, _WAYS[signal][0], written(len(raw)), raw, _CLOSE]))


def contents(signal: Signal, request: Any) -> tuple[dict[int, str], dict[int, int]]:
    """(names, sizes) by number of the record, of an official request message.

    names  of log records that have an event_name, of all spans
    sizes  events of a span, data points of a metric; those without any are left out
    """
    shape = SHAPES[signal]
    names: dict[int, str] = {}
    sizes: dict[int, int] = {}
    number = 0
    for by_resource in getattr(request, shape.resources):
        for by_scope in getattr(by_resource, shape.scopes):
            records = getattr(by_scope, shape.records)
            if signal == "logs":
                names.update([(n, r.event_name) for n, r in enumerate(records, number) if r.event_name])
            elif signal == "traces":
                for at, span in enumerate(records, number):
                    names[at] = span.name
                    if count := len(span.events):
                        sizes[at] = count
            else:
                sizes.update([(n, count) for n, r in enumerate(records, number) if (count := points(r))])
            number += len(records)
    return names, sizes


def records_in(signal: Signal, raw: bytes) -> int:
    """Log records, spans, or data points of a request. Raises Malformed."""
    shape = SHAPES[signal]
    return sum(
        sum(map(points, getattr(by_scope, shape.records)))
        if signal == "metrics"
        else len(getattr(by_scope, shape.records))
        for by_resource in getattr(decode(signal, raw), shape.resources)
        for by_scope in getattr(by_resource, shape.scopes)
    )


def points(metric: Any) -> int:
    """Data points of an official Metric."""
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind in _POINTS else 0


def fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, end) of each field of a message. Raises Malformed or IndexError where it is none."""
    while at < end:
        tag = raw[at]
        at += 1
        if tag > 127:
            tag, at = varint(raw, at - 1)
        kind = tag & 7
        start = at
        if kind == BYTES:
            length = raw[at]
            at += 1
            if length > 127:
                length, at = varint(raw, at - 1)
            start = at
            at += length
        elif kind == VARINT:
            _, at = varint(raw, at)
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        else:
            raise Malformed(BROKEN)  # groups: OTLP has none
        if at > end:
            raise Malformed(BROKEN)
        yield tag >> 3, kind, start, at


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """(value, place behind it). Raises Malformed or IndexError where it is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Malformed(BROKEN)


def delimited(number: int, data: bytes) -> bytes:
    """A field that is a message, a text, or bytes."""
    if number < 16 and len(data) < 128:
        return bytes((number << 3 | BYTES, len(data))) + data
    return written(number << 3 | BYTES) + written(len(data)) + data


def written(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# What may stand in a message, by number of the field: TEXT, or what may stand in the message that it is.
Layout = dict[int, "Layout"]
TEXT: Layout = {}
_LAYOUTS: dict[str, Layout] = {}


def layout(descriptor: Descriptor) -> Layout:
    """The texts and messages of a message type; of one type always the same object."""
    made = _LAYOUTS.get(descriptor.full_name)
    if made is None:
        made = _LAYOUTS[descriptor.full_name] = {}  # before what is below: types contain themselves
        for field in descriptor.fields:
            if field.type == FieldDescriptor.TYPE_STRING:
                made[field.number] = TEXT
            elif field.message_type is not None:
                made[field.number] = layout(field.message_type)
    return made


def within(outer: Layout) -> list[Layout]:
    """A message type and all that may stand in it, each once."""
    found = {id(outer): outer}
    waiting = [outer]
    while waiting:
        for inner in waiting.pop().values():
            if inner is not TEXT and id(inner) not in found:
                found[id(inner)] = inner
                waiting.append(inner)
    return list(found.values())


VALUE = layout(AnyValue.DESCRIPTOR)
