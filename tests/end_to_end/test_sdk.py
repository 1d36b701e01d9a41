"""The official Python SDK sends milestones, as an instrumented application does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from server_process import ServerProcess

MINUTE = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Way:
    """One of the SDK's exporters for each signal."""

    logs: Callable[[ServerProcess], LogRecordExporter]
    spans: Callable[[ServerProcess], SpanExporter]


WAYS = {
    "grpc": Way(
        logs=lambda server: GrpcLogs(endpoint=server.grpc, insecure=True),
        spans=lambda server: GrpcSpans(endpoint=server.grpc, insecure=True),
    ),
    "http": Way(
        logs=lambda server: HttpLogs(endpoint=f"{server.http_url}/v1/logs"),
        spans=lambda server: HttpSpans(endpoint=f"{server.http_url}/v1/traces"),
    ),
    "http on the API port": Way(
        logs=lambda server: HttpLogs(endpoint=f"{server.api_url}/v1/logs"),
        spans=lambda server: HttpSpans(endpoint=f"{server.api_url}/v1/traces"),
    ),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("[", "-").replace("]", "").replace(" ", "-")


def emit_logs(exporter: LogRecordExporter, records: list[LogRecord]) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    for record in records:
        provider.get_logger("shop").emit(record)
    provider.shutdown()


def test_log_events_are_milestones(server: ServerProcess, way: Way, user: str) -> None:
    start = time.time_ns() - 30 * MINUTE
    attributes = {"user.id": user, "plan": "pro"}
    emit_logs(
        way.logs(server),
        [
            LogRecord(event_name="user_signed_up", timestamp=start, attributes=attributes),
            LogRecord(event_name="project_created", timestamp=start + 4 * MINUTE, attributes=attributes),
        ],
    )
    server.wait_caught_up()
    answer = server.get(f"/api/v1/ttf/{user}").json
    assert answer["ttf_project_minutes"] == pytest.approx(4)
    assert (answer["state"], answer["segments"]) == ("in_progress", {"plan": "pro"})


def test_span_events_are_milestones_of_the_user_of_their_span(
    server: ServerProcess, way: Way, user: str
) -> None:
    start = time.time_ns() - 20 * MINUTE
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(way.spans(server)))
    tracer = provider.get_tracer("shop")
    with tracer.start_as_current_span("POST /signup", attributes={"user.id": user}) as span:
        span.add_event("signup", timestamp=start)
        span.add_event("project_created", {"user.id": user}, timestamp=start + 3 * MINUTE)
    provider.shutdown()
    server.wait_caught_up()
    assert server.get(f"/api/v1/ttf/{user}").json["ttf_project_minutes"] == pytest.approx(3)


def test_metrics_of_the_sdk_are_taken_and_counted(server: ServerProcess) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    before = server.metrics().total("telemetry_events_total", signal="metrics")
    exporter = OTLPMetricExporter(endpoint=server.grpc, insecure=True)
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)], shutdown_on_exit=False
    )
    provider.get_meter("shop").create_counter("clicks").add(1)
    provider.shutdown()
    assert server.metrics().total("telemetry_events_total", signal="metrics") > before
