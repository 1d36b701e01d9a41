"""OTLP/gRPC as clients see it: the official exporters, and raw calls for what they never send."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from sdk import emit_log, emit_metric, emit_span
from serving import Serving, attributes, records, refusing, serving

from otel_ttf.receivers.endpoint import CannotListen
from otel_ttf.receivers.otlp_grpc import SERVICES, GrpcConfig, KeepaliveConfig, serve

EXPORT = f"/{SERVICES['logs']}/Export"


@pytest.fixture(scope="module")
def channel(server: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_target, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def export(
    channel: grpc.Channel, raw: bytes, method: str = EXPORT, compression: grpc.Compression | None = None
) -> bytes:
    answer: bytes = channel.unary_unary(method)(raw, timeout=20, compression=compression)
    return answer


def refusal(
    channel: grpc.Channel, raw: bytes, method: str = EXPORT
) -> tuple[grpc.RpcError, status_pb2.Status]:
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, raw, method)
    metadata = dict(caught.value.trailing_metadata() or ())
    return caught.value, status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))


def logs(*made: LogRecord) -> bytes:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.extend(made)
    return request.SerializeToString()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_official_exporters_are_understood(server, compression):
    options = {"endpoint": server.grpc_target, "insecure": True, "compression": compression}
    with server.stored() as rows:
        emit_log(OTLPLogExporter(**options))
        emit_span(OTLPSpanExporter(**options))
        emit_metric(OTLPMetricExporter(**options))
    assert [row.signal for row in rows] == ["logs", "traces", "metrics"]
    assert [row.records for row in rows] == [1, 1, 1]


def test_a_named_event_stands_in_the_log_before_the_answer(server, channel):
    record = LogRecord(event_name="signup", time_unix_nano=1_790_000_000_000_000_000)
    record.attributes.add(key="user.id").value.string_value = "jane"
    with server.stored() as rows:
        answer = export(channel, logs(record))
    assert answer == b""
    (kept,) = records(rows)
    assert kept.event_name == "signup"
    assert attributes(kept)["user.id"].startswith("u1_")
    assert b"jane" not in rows[0].payload


@pytest.mark.parametrize("method", [f"/{service}/Export" for service in SERVICES.values()])
def test_an_empty_request_succeeds_and_leaves_no_trace(server, channel, method):
    with server.stored() as rows:
        assert export(channel, b"", method) == b""
    assert rows == []


def test_accepted_records_are_counted(server, channel):
    before = server.count("telemetry_events_total", signal="logs")
    export(channel, logs(LogRecord(), LogRecord()))
    assert server.count("telemetry_events_total", signal="logs") == before + 2
    assert server.count("otelcol_receiver_accepted_log_records_total", receiver="otlp", transport="grpc") >= 2
    seconds = "otel_ttf_request_duration_seconds_count"
    assert server.count(seconds, protocol="grpc", signal="logs") >= 1


def test_a_bad_record_is_named_and_the_others_are_kept(server, channel):
    bad = LogRecord(event_name="signup")
    bad.attributes.add(key="user.id").value.string_value = "x" * 513
    before = server.count("telemetry_errors_total", reason="rejected")
    with server.stored() as rows:
        answer = ExportLogsServiceResponse.FromString(export(channel, logs(LogRecord(), bad)))
    assert answer.partial_success.rejected_log_records == 1
    assert "log_records[1]" in answer.partial_success.error_message
    assert "user.id" in answer.partial_success.error_message
    assert rows[0].records == 1
    assert server.count("telemetry_errors_total", reason="rejected") == before + 1


def test_many_bad_records_give_a_short_answer(server, channel):
    bad = LogRecord(event_name="signup")
    bad.attributes.add(key="user.id").value.string_value = "x" * 513
    with server.stored() as rows:
        raw = export(channel, logs(*[bad] * 5000))
    answer = ExportLogsServiceResponse.FromString(raw)
    assert answer.partial_success.rejected_log_records == 5000
    assert "and 4990 more" in answer.partial_success.error_message
    assert len(raw) < 10_000
    assert rows == []


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xff\xff", id="garbage"),
        pytest.param(logs(LogRecord(event_name="signup"))[:-3], id="cut off"),
        pytest.param(b"\x0a\x7f", id="a length beyond the end"),
        pytest.param(b"\x0a\x05hello", id="text in place of a message"),
    ],
)
def test_bad_data_is_refused_for_good(server, channel, raw):
    before = server.count("telemetry_errors_total", reason="malformed")
    error, status = refusal(channel, raw)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert status.code == code_pb2.INVALID_ARGUMENT
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].description == status.message == error.details()
    assert server.count("telemetry_errors_total", reason="malformed") == before + 1


def test_back_pressure_says_when_to_come_again(server, channel):
    before = server.count("telemetry_errors_total", reason="refused")
    with server.failing(refusing()):
        error, status = refusal(channel, logs(LogRecord()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    detail = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(detail)
    assert detail.retry_delay.ToTimedelta().total_seconds() == 1.5
    assert "log.max_size is reached" in (error.details() or "")
    assert server.count("telemetry_errors_total", reason="refused") == before + 1


def test_too_much_in_flight_is_refused_for_a_while(server, channel):
    with server.full():
        error, _ = refusal(channel, logs(LogRecord()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert export(channel, logs(LogRecord())) == b""


def test_an_error_of_ours_is_never_the_senders(server, channel, capsys):
    before = server.count("telemetry_errors_total", reason="internal")
    with server.failing(RuntimeError("jane@example.com")):
        error, status = refusal(channel, logs(LogRecord()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert status.details[0].Is(error_details_pb2.RetryInfo.DESCRIPTOR)
    assert server.count("telemetry_errors_total", reason="internal") == before + 1
    written = capsys.readouterr()
    assert "RuntimeError" in written.out + written.err
    assert "jane" not in written.out + written.err + (error.details() or "")


def test_a_closed_log_is_no_reason_to_drop_data(tmp_path):
    with serving(tmp_path) as server, grpc.insecure_channel(server.grpc_target) as channel:
        server.call(server.log.close)
        error, _ = refusal(channel, logs(LogRecord()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_a_large_request_is_taken_and_one_over_the_limit_refused_for_good(server, channel):
    body = LogRecord()
    body.body.string_value = "x" * (256 << 10)
    assert export(channel, logs(*[body] * 160)) == b""
    error, status = refusal(channel, logs(*[body] * 256))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not status.details
    assert export(channel, logs(LogRecord())) == b""


def test_an_unknown_method_is_unimplemented(channel):
    error, _ = refusal(channel, b"", "/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_watch_of_the_health_service_keeps_no_connection_for_ever(server):
    assert KeepaliveConfig().max_connection_age
    assert KeepaliveConfig().max_connection_age_grace
    soon = KeepaliveConfig(max_connection_age="300ms", max_connection_age_grace="200ms")
    running = server.call(lambda: serve(GrpcConfig(endpoint="127.0.0.1:0", keepalive=soon), server.intake))
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert export(channel, b"") == b""
    server.call(lambda: running.stop(1))


def test_health_tells_of_draining(tmp_path):
    with serving(tmp_path) as server, grpc.insecure_channel(server.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        serving_status = health_pb2.HealthCheckResponse
        assert health.Check(health_pb2.HealthCheckRequest()).status == serving_status.SERVING
        server.call(server.grpc.drain)
        assert health.Check(health_pb2.HealthCheckRequest()).status == serving_status.NOT_SERVING
        assert export(channel, logs(LogRecord())) == b""


def test_a_port_in_use_is_said_in_one_sentence(server):
    with pytest.raises(
        CannotListen, match=r"^receivers\.otlp\.protocols\.grpc\.endpoint: .* is in use; stop"
    ):
        server.call(lambda: serve(GrpcConfig(endpoint=server.grpc_target), server.intake))
