"""Personal data goes in by every door; none of it is on the disk, in our log lines, or in an answer."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest
from disk import contents
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from server_process import Answer, ServerProcess

USER = "canary-traveller-zq7"
EMAIL = "canary.zq7@secret-mail.example.com"
CARD = "4539148803436467"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnktenE3In0.Y2FuYXJ5LXNpZ25hdHVyZS16cTc"
BEARER = "zq7canarybearertokenvalue0815"
# What must be nowhere; parts too, since half an address is one.
SECRETS = (USER, "canary.zq7", CARD, "4539 1488 0343 6467", "eyJzdWIiOiJjYW5hcnktenE3In0", BEARER)
# What must be there: the search has to be able to find something.
HARMLESS = "a-harmless-word-zq7"
TEXT = (
    f"{HARMLESS}: mail {EMAIL}, card {CARD} or 4539 1488 0343 6467, jwt {JWT}, Authorization: Bearer {BEARER}"
)


def text_value() -> AnyValue:
    return AnyValue(string_value=TEXT)


def attributes(*, user: bool = True) -> list[KeyValue]:
    """Secrets as a text, in a list, and in a map in a list."""
    nested = KeyValueList(values=[KeyValue(key="deep", value=text_value())])
    listed = ArrayValue(values=[text_value(), AnyValue(kvlist_value=nested)])
    found = [
        KeyValue(key="note", value=text_value()),
        KeyValue(key="notes", value=AnyValue(array_value=listed)),
        KeyValue(key="enduser.id", value=AnyValue(string_value=USER)),
    ]
    return [*found, KeyValue(key="user.id", value=AnyValue(string_value=USER))] if user else found


def logs() -> Message:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(attributes())
    scope = resource.scope_logs.add()
    scope.scope.attributes.extend(attributes())
    for name in ("signup", ""):
        scope.log_records.add(
            time_unix_nano=time.time_ns(), event_name=name, body=text_value(), attributes=attributes()
        )
    return request


def traces() -> Message:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.extend(attributes())
    span = resource.scope_spans.add().spans.add(
        name=TEXT,
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        end_time_unix_nano=time.time_ns(),
        attributes=attributes(),
    )
    span.status.message = TEXT
    span.events.add(name="project_created", time_unix_nano=time.time_ns(), attributes=attributes())
    span.events.add(name=TEXT, time_unix_nano=time.time_ns())
    span.links.add(trace_id=b"u" * 16, span_id=b"v" * 8, attributes=attributes())
    return request


def metrics() -> Message:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(attributes())
    metric = resource.scope_metrics.add().metrics.add(name="clicks", description=TEXT)
    metric.gauge.data_points.add(
        time_unix_nano=time.time_ns(), as_int=1, attributes=attributes()
    ).exemplars.add(filtered_attributes=attributes())
    return request


SIGNALS = {
    "logs": ("logs.v1.LogsService", logs),
    "traces": ("trace.v1.TraceService", traces),
    "metrics": ("metrics.v1.MetricsService", metrics),
}


def send_everywhere(server: ServerProcess) -> list[bytes]:
    """Sends secrets by all doors, also in requests that are refused; the answers' bytes."""
    answers: list[bytes] = []
    with grpc.insecure_channel(server.grpc) as channel:
        for service, make in SIGNALS.values():
            call = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
            answers.append(call(make().SerializeToString(), timeout=10))
            with pytest.raises(grpc.RpcError) as refused:
                call(b"\x0a\x7f" + TEXT.encode(), timeout=10)
            answers.append(str(refused.value).encode())
    for signal, (_, make) in SIGNALS.items():
        for body in (make().SerializeToString(), TEXT.encode()):
            headers = {"content-type": "application/x-protobuf"}
            answers.append(
                whole(server.request("POST", f"/v1/{signal}", body, headers=headers, port=server.http_port))
            )
    event = {"event_name": "agent_created", "event_type": "milestone", "user_id": USER}
    for properties in ({"note": TEXT, "deep": {"er": [TEXT]}}, {"user.id": USER}, {"ttf.x": TEXT}):
        answers.append(
            whole(server.post_json("/api/v1/events", {"events": [{**event, "properties": properties}]}))
        )
    too_long = {**event, "user_id": USER * 100}
    for document in ({"events": [too_long]}, {"events": TEXT}, {"resourceLogs": TEXT}):
        answers += [whole(server.post_json(path, document)) for path in ("/api/v1/events", "/v1/logs")]
    return answers


def whole(answer: Answer) -> bytes:
    return str(answer.headers).encode() + answer.body


def found_in(data: bytes) -> list[str]:
    """The secrets that are in there, as UTF-8 or UTF-16."""
    return [
        secret
        for secret in SECRETS
        if secret.encode() in data
        or secret.encode("utf-16-le") in data
        or secret.encode().hex().encode() in data
    ]


def test_no_secret_is_stored_logged_or_answered(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=["service.telemetry.logs.level=debug"]) as server:
        answers = send_everywhere(server)
        server.wait_caught_up()
        subject = server.get(f"/api/v1/ttf/{USER}").json["subject"]
        paths = (
            f"/api/v1/subjects/{subject}",
            f"/api/v1/ttf/{USER}/alerts",
            "/api/v1/ttf",
            "/api/v1/stuck?over=0s",
            "/api/v1/events/names",
            "/metrics",
        )
        answers += [whole(server.get(path)) for path in paths]
        before = list(contents(server.data_dir))
        assert server.terminate() == 0
        after = list(contents(server.data_dir))
    assert [found_in(answer) for answer in answers if found_in(answer)] == []
    assert found_in(server.printed().encode()) == []
    assert {name: found_in(data) for name, data in before + after if found_in(data)} == {}
    assert any(HARMLESS.encode() in data for _, data in after), "the search finds nothing at all"
