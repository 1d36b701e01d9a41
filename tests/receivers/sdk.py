"""One log record, span or data point through the official SDK and a given exporter."""

from __future__ import annotations

import logging

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

logging.getLogger("opentelemetry").setLevel(logging.ERROR)


def emit_log(exporter: LogRecordExporter) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("tests").emit(
        LogRecord(
            event_name="signup",
            timestamp=1_790_000_000_000_000_000,
            severity_number=SeverityNumber.INFO,
            attributes={"user.id": "jane", "plan": "pro"},
        )
    )
    provider.shutdown()


def emit_span(exporter: SpanExporter) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("tests").start_as_current_span("POST /projects") as span:
        span.add_event("project_created", {"user.id": "jane"})
    provider.shutdown()


def emit_metric(exporter: MetricExporter) -> None:
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("tests").create_counter("clicks").add(1)
    provider.shutdown()
