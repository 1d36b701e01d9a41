"""Files as the Collector's file exporter writes them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ttf.otlp.json import as_json

AT = 1_790_000_000 * 10**9


def logs(*users: str, name: str = "signup", at: int = AT) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number, user in enumerate(users):
        record = records.add(event_name=name, time_unix_nano=at + number)
        record.attributes.add(key="user.id").value.string_value = user
    return request


def spans(*names: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for number, name in enumerate(names, 1):
        scope = request.resource_spans.add().scope_spans.add()
        scope.spans.add(
            name=name,
            trace_id=bytes([number] * 16),
            span_id=bytes([number] * 8),
            start_time_unix_nano=AT,
            end_time_unix_nano=AT + number,
        )
    return request


def metrics(name: str = "requests") -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name=name)
    metric.sum.data_points.add(as_int=1, time_unix_nano=AT)
    return request


def prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def json_lines(requests: Sequence[Any]) -> bytes:
    return b"".join(line_of(request) + b"\n" for request in requests)


def line_of(request: Any) -> bytes:
    text = as_json(request)
    return text.encode() if isinstance(text, str) else bytes(text)


def messages(requests: Sequence[Any]) -> bytes:
    return b"".join(prefixed(request.SerializeToString()) for request in requests)


def packed_messages(requests: Sequence[Any]) -> bytes:
    return b"".join(prefixed(zstandard.compress(request.SerializeToString())) for request in requests)


def packed_json(requests: Sequence[Any]) -> bytes:
    return b"".join(prefixed(zstandard.compress(line_of(request))) for request in requests)


FORMATS: dict[str, Callable[[Sequence[Any]], bytes]] = {
    "json": json_lines,
    "proto": messages,
    "proto, each in zstd": packed_messages,
    "json, each in zstd": packed_json,
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "gz, several members": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "zst": zstandard.compress,
    "zst, several frames": lambda data: zstandard.compress(data[:100]) + zstandard.compress(data[100:]),
}


def file_of(folder: Path, data: bytes, name: str = "telemetry") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
