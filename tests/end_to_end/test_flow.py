"""From events to answers, through a running server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from server_process import ServerProcess

MINUTE = 60 * 10**9
SERVICE = "/opentelemetry.proto.collector"

SPANS_COUNT = """
subject:
  from: [user.id, http.request.header.x-user-id]
journeys:
  onboarding:
    milestones:
      - name: signup
        match: {event: [signup, user_signed_up]}
      - name: first_project_created
        stage: project
        target: 5m
        match:
          any:
            - {event: [first_project_created, project_created]}
            - span: {name: "POST /projects", kind: server}
              attributes: {http.response.status_code: {range: [200, 299]}}
"""


@pytest.fixture(scope="module")
def with_spans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server to which a span is a milestone."""
    folder = tmp_path_factory.mktemp("spans")
    config = folder / "my.yaml"
    config.write_text(SPANS_COUNT)
    with ServerProcess(folder / "data", config=config) as running:
        yield running


def rest_event(user: str, name: str, at: int, **properties: object) -> dict[str, object]:
    return {
        "event_name": name,
        "event_type": "milestone",
        "user_id": user,
        "timestamp": at,
        "properties": properties,
    }


def post_events(server: ServerProcess, *events: Mapping[str, object]) -> None:
    answer = server.post_json("/api/v1/events", {"events": events})
    assert (answer.status, answer.json["accepted"], answer.json["rejected"]) == (200, len(events), [])


def export(server: ServerProcess, service: str, raw: bytes) -> bytes:
    with grpc.insecure_channel(server.grpc) as channel:
        answer: bytes = channel.unary_unary(f"{SERVICE}.{service}/Export")(raw, timeout=10)
        return answer


def key_values(attributes: Mapping[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(
            key=key,
            value=AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value),
        )
        for key, value in attributes.items()
    ]


def test_a_whole_journey_gives_the_right_minutes_and_score(server: ServerProcess) -> None:
    start = time.time_ns() - 60 * MINUTE
    steps = (
        ("signup", 0),
        ("project_created", 4),
        ("agent_created", 12),
        ("workflow_executed", 30),
        ("success_event", 50),
    )
    post_events(
        server, *(rest_event("flow ada/1", name, start + at * MINUTE, plan="pro") for name, at in steps)
    )
    server.wait_caught_up()
    answer = server.get("/api/v1/ttf/flow%20ada%2F1").json
    assert answer["user_id"] == "flow ada/1"
    assert answer["subject"].startswith("u1_")
    expected = {"project": 4, "agent": 8, "workflow": 18, "success": 20, "complete": 50}
    assert {name: answer[f"ttf_{name}_minutes"] for name in expected} == pytest.approx(expected)
    assert answer["ttf_efficiency_score"] == pytest.approx(95.8, abs=0.05)
    assert (answer["state"], answer["flags"], answer["segments"]) == ("completed", [], {"plan": "pro"})
    assert answer["lag_seconds"] == 0
    by_token = server.get(f"/api/v1/subjects/{answer['subject']}").json
    assert by_token["ttf_complete_minutes"] == answer["ttf_complete_minutes"]


def test_somebody_who_waits_is_in_the_figures_among_the_stuck_and_has_alerts(server: ServerProcess) -> None:
    start = time.time_ns() - 90 * MINUTE
    (before,) = server.get("/api/v1/ttf").json["journeys"]
    post_events(server, rest_event("flow-grace", "signup", start, plan="free"))
    server.wait_caught_up()
    subject = server.get("/api/v1/ttf/flow-grace").json["subject"]
    (after,) = server.get("/api/v1/ttf").json["journeys"]
    assert after["started"] == before["started"] + 1
    assert after["in_progress"] == before["in_progress"] + 1
    stuck = server.get("/api/v1/stuck?stage=project&over=80m").json
    assert [item["minutes"] for item in stuck["items"] if item["subject"] == subject] == [
        pytest.approx(90, abs=1)
    ]
    (alert,) = server.get("/api/v1/ttf/flow-grace/alerts").json
    assert (alert["level"], alert["stage"]) == ("warning", "project")
    names = server.get("/api/v1/events/names").json
    assert "signup" in str(names)


def test_a_user_nobody_knows_is_404_with_a_problem_document(server: ServerProcess) -> None:
    answer = server.get("/api/v1/ttf/nobody")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json["status"] == 404


def test_a_milestone_that_comes_as_log_and_as_span_event_counts_once(server: ServerProcess) -> None:
    at, trace, span_id = time.time_ns() - 10 * MINUTE, b"t" * 16, b"s" * 8
    user = key_values({"user.id": "flow-twice"})
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(
        time_unix_nano=at, event_name="signup", attributes=user, trace_id=trace, span_id=span_id
    )
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.add(
        name="POST /signup",
        trace_id=trace,
        span_id=span_id,
        start_time_unix_nano=at,
        end_time_unix_nano=at + 10**9,
        events=[Span.Event(name="signup", time_unix_nano=at, attributes=user)],
    )
    server.wait_caught_up()
    before = server.metrics().total("ttf_started_total")
    export(server, "logs.v1.LogsService", logs.SerializeToString())
    export(server, "trace.v1.TraceService", traces.SerializeToString())
    server.wait_caught_up()
    assert server.metrics().total("ttf_started_total") == before + 1
    subject = server.get("/api/v1/ttf/flow-twice").json["subject"]
    with server.store() as store:
        kinds = store.execute("SELECT kind FROM transition WHERE subject = ?", (subject,)).fetchall()
        events = store.execute("SELECT kind FROM event WHERE subject = ?", (subject,)).fetchall()
    assert kinds == [("started",)]
    assert events == [("log",)], "the bridged copy on the span is the same event"


@pytest.mark.parametrize(
    ("status", "kind", "minutes"),
    [
        pytest.param(201, Span.SPAN_KIND_SERVER, 6, id="created"),
        pytest.param(422, Span.SPAN_KIND_SERVER, None, id="refused by the application"),
        pytest.param(201, Span.SPAN_KIND_CLIENT, None, id="seen by a client"),
    ],
)
def test_a_server_span_is_a_milestone_without_a_code_change(
    with_spans: ServerProcess, status: int, kind: Span.SpanKind.ValueType, minutes: float | None
) -> None:
    user, start = f"span-{status}-{kind}", time.time_ns() - 30 * MINUTE
    post_events(with_spans, rest_event(user, "signup", start))
    traces = ExportTraceServiceRequest()
    span = (
        traces.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            name="POST /projects",
            kind=kind,
            trace_id=b"u" * 16,
            span_id=status.to_bytes(4, "big") + int(kind).to_bytes(4, "big"),
            start_time_unix_nano=start,
            end_time_unix_nano=start + 6 * MINUTE,
            attributes=key_values({"http.response.status_code": status}),
        )
    )
    # As instrumentations capture headers: an array of one, hyphens as underscores.
    header = span.attributes.add(key="http.request.header.x_user_id")
    header.value.array_value.CopyFrom(ArrayValue(values=[AnyValue(string_value=user)]))
    export(with_spans, "trace.v1.TraceService", traces.SerializeToString())
    with_spans.wait_caught_up()
    answer = with_spans.get(f"/api/v1/ttf/{user}").json
    assert answer["ttf_project_minutes"] == (minutes and pytest.approx(minutes))
    assert answer["state"] == ("completed" if minutes else "in_progress")
