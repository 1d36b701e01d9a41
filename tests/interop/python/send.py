"""Sends what every sender of these tests sends, by the official Python SDK: see ../senders.py.

python send.py PROTOCOL URL USERS PREFIX
"""

from __future__ import annotations

import sys
import time
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MINUTE = 60 * 10**9
BATCH = 200  # a log record too many and the SDK would drop it: so much is sent, and waited for, at a time


def exporters(protocol: str, url: str) -> tuple[Any, Any, Any]:
    """Of logs, spans and metrics."""
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        target: dict[str, Any] = {"endpoint": url, "insecure": True, "compression": Compression.Gzip}
        return GrpcLogs(**target), GrpcSpans(**target), GrpcMetrics(**target)
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

        gzip = HttpCompression.Gzip
        return (
            HttpLogs(f"{url}/v1/logs", compression=gzip),
            HttpSpans(f"{url}/v1/traces", compression=gzip),
            HttpMetrics(f"{url}/v1/metrics", compression=gzip),
        )
    raise SystemExit(f"expected grpc or http/protobuf, found {protocol}")


def main(protocol: str, url: str, users: int, prefix: str) -> int:
    """The exit code."""
    by_logs, by_spans, by_metrics = exporters(protocol, url)
    logs, spans = LoggerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(by_logs))
    spans.add_span_processor(BatchSpanProcessor(by_spans))
    metrics = MeterProvider([PeriodicExportingMetricReader(by_metrics)], shutdown_on_exit=False)
    logger, tracer = logs.get_logger("interop"), spans.get_tracer("interop")
    start = time.time_ns() - 30 * MINUTE

    def event(name: str, user: str, at: int) -> None:
        logger.emit(LogRecord(event_name=name, timestamp=at, attributes={"user.id": user, "plan": "pro"}))

    delivered = True
    for number in range(users):
        user = f"{prefix}{number}"
        event("user_signed_up", user, start)
        event("project_created", user, start + 4 * MINUTE)
        logger.emit(LogRecord(timestamp=start, body="a mail went to ada@example.com"))
        with tracer.start_as_current_span("POST /agents", attributes={"user.id": user}) as span:
            span.add_event("agent_created", timestamp=start + 10 * MINUTE)
        if number % BATCH == BATCH - 1:
            delivered &= logs.force_flush() and spans.force_flush()
    event("user_signed_up", "x" * 600, start)
    metrics.get_meter("interop").create_counter("clicks").add(1)
    delivered &= logs.force_flush() and spans.force_flush() and metrics.force_flush()
    for provider in (logs, spans, metrics):
        provider.shutdown()
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
