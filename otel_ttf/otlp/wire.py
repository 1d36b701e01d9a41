"""OTLP requests as protobuf: whole, and shallow, with records as slices.

In the shallow messages resources, scopes and records are `repeated bytes`: protobuf cuts a request into records
in C, and a changed record is put back by setting an element. A singular message declared as repeated bytes keeps
all its occurrences, so nothing of an oddly encoded request is lost; unknown fields are kept by protobuf itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

Signal = Literal["logs", "traces", "metrics"]
SIGNALS: tuple[Signal, ...] = ("logs", "traces", "metrics")


class Malformed(ValueError):
    """The sender's mistake, for good. The text may be told to the peer: it never holds a value."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a signal's requests are built.

    request, response  the official messages
    shallow            the request with slices; `records` parses the fields of one slice that event ids need
    resources, scopes, records, rejected   field names
    record, nested     shallow messages of a record, and of a span event in it
    """

    request: type[Any]
    response: type[Any]
    shallow: type[Any]
    record: type[Any]
    nested: type[Any]
    resources: str
    scopes: str
    records: str
    rejected: str


_PACKAGE = "otel_ttf.shallow"
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bytes": _Field.TYPE_BYTES,
    "string": _Field.TYPE_STRING,
    "fixed64": _Field.TYPE_FIXED64,
}
# Message -> (field, number, type, repeated). Numbers are those of opentelemetry-proto.
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "ScopeLogs": [
        ("scope", 1, "bytes", True),
        ("log_records", 2, "bytes", True),
        ("schema_url", 3, "string", False),
    ],
    "ResourceLogs": [
        ("resource", 1, "bytes", True),
        ("scope_logs", 2, "ScopeLogs", True),
        ("schema_url", 3, "string", False),
    ],
    "Logs": [("resource_logs", 1, "ResourceLogs", True)],
    "ScopeSpans": [
        ("scope", 1, "bytes", True),
        ("spans", 2, "bytes", True),
        ("schema_url", 3, "string", False),
    ],
    "ResourceSpans": [
        ("resource", 1, "bytes", True),
        ("scope_spans", 2, "ScopeSpans", True),
        ("schema_url", 3, "string", False),
    ],
    "Traces": [("resource_spans", 1, "ResourceSpans", True)],
    "ScopeMetrics": [
        ("scope", 1, "bytes", True),
        ("metrics", 2, "bytes", True),
        ("schema_url", 3, "string", False),
    ],
    "ResourceMetrics": [
        ("resource", 1, "bytes", True),
        ("scope_metrics", 2, "ScopeMetrics", True),
        ("schema_url", 3, "string", False),
    ],
    "Metrics": [("resource_metrics", 1, "ResourceMetrics", True)],
    "LogRecord": [("attributes", 6, "bytes", True)],
    "Span": [("events", 11, "bytes", True)],
    "SpanEvent": [("attributes", 3, "bytes", True)],
}


def _shallow() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="otel_ttf/shallow.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _TYPES:
                message.field.add(name=field, number=number, type=_TYPES[kind], label=label)
            else:
                message.field.add(
                    name=field,
                    number=number,
                    type=_Field.TYPE_MESSAGE,
                    type_name=f".{_PACKAGE}.{kind}",
                    label=label,
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_SHALLOW = _shallow()

SHAPES: dict[Signal, Shape] = {
    "logs": Shape(
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        _SHALLOW["Logs"],
        _SHALLOW["LogRecord"],
        _SHALLOW["SpanEvent"],
        "resource_logs",
        "scope_logs",
        "log_records",
        "rejected_log_records",
    ),
    "traces": Shape(
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        _SHALLOW["Traces"],
        _SHALLOW["Span"],
        _SHALLOW["SpanEvent"],
        "resource_spans",
        "scope_spans",
        "spans",
        "rejected_spans",
    ),
    "metrics": Shape(
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        _SHALLOW["Metrics"],
        _SHALLOW["LogRecord"],
        _SHALLOW["SpanEvent"],
        "resource_metrics",
        "scope_metrics",
        "metrics",
        "rejected_data_points",
    ),
}


def decode(signal: Signal, raw: bytes) -> Any:
    """The official request message. Raises Malformed: not protobuf, not UTF-8, or nested too deeply."""
    try:
        return SHAPES[signal].request.FromString(raw)
    except DecodeError:
        raise Malformed(f"expected an OTLP {signal} request in protobuf") from None
