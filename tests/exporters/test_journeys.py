"""What the tracker tells goes out as events and traces, each once over a restart."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from destinations import METHODS, OK, Answer, Came, GrpcDestination, log_records
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from server_process import ServerProcess, command_on, wait_for

from otel_ttf.exporters.journeys import trace_id

START = (time.time_ns() // 10**9 - 3600) * 10**9
MINUTE = 60 * 10**9
WAY = ("signup", "project_created", "agent_created", "workflow_executed", "success_event")


@pytest.fixture
def destination() -> Iterator[GrpcDestination]:
    made = GrpcDestination()
    made.start()
    yield made
    made.stop()


def travel(server: ServerProcess, user: str, *minutes: int) -> None:
    """The default journey, as far as there are minutes."""
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    for name, at in zip(WAY, minutes, strict=False):
        record = records.add(event_name=name, time_unix_nano=START + at * MINUTE)
        record.attributes.add(key="user.id").value.string_value = user
        record.attributes.add(key="plan").value.string_value = "pro"
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(f"/{METHODS['logs']}/Export")(made.SerializeToString(), timeout=10)


def spans(came: list[Came]) -> list[Span]:
    return [
        span
        for one in came
        if one.signal == "traces"
        for resource in one.request.resource_spans
        for span in resource.scope_spans[0].spans
    ]


def attributes(record: Any) -> dict[str, Any]:
    values = {pair.key: pair.value for pair in record.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


@pytest.mark.slow
def test_transitions_are_events_and_a_completed_journey_is_a_trace(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    exporter = {
        "endpoint": f"127.0.0.1:{destination.port}",
        "tls": {"insecure": True},
        "journey_events": True,
        "journey_traces": True,
    }
    with ServerProcess(tmp_path / "data", settings=[f"exporters.otlp/x={json.dumps(exporter)}"]) as server:
        travel(server, "jane", 0, 4, 12, 30, 50)
        travel(server, "john", 0, 4)
        wait_for(lambda: len(log_records(destination.came)) >= 8 and spans(destination.came), "what was told")
        lag = {"consumer": "otlp/x:journey_events"}
        wait_for(lambda: server.metrics().total("otel_ttf_consumer_lag_records", **lag) == 0, "the cursor")
        assert server.terminate() == 0
        server.start()
        travel(server, "john", 0, 4, 9)
        wait_for(lambda: len(log_records(destination.came)) >= 9, "what came after a restart")
        subject = server.get("/api/v1/ttf/jane").json["subject"]
        assert server.terminate() == 0

    told = log_records(destination.came)
    ids = [attributes(record)["ttf.transition.id"] for record in told]
    assert len(ids) == len(set(ids)) == 9
    of_jane = [record for record in told if attributes(record)["user.id"] == subject]
    assert [record.event_name for record in of_jane] == [
        "ttf.journey.started",
        *["ttf.milestone.reached"] * 4,
        "ttf.journey.completed",
    ]
    second = attributes(of_jane[1])
    assert second["ttf.milestone"] == "first_project_created"
    assert (second["ttf.stage"], second["ttf.stage.minutes"]) == ("project", 4)
    assert second["ttf.segment.plan"] == "pro"
    assert of_jane[1].time_unix_nano == START + 4 * MINUTE

    trace = spans(destination.came)
    root, *stages = trace
    assert {span.trace_id for span in trace} == {trace_id("onboarding", subject)} == {of_jane[0].trace_id}
    assert (root.name, root.start_time_unix_nano, root.end_time_unix_nano) == (
        "onboarding",
        START,
        START + 50 * MINUTE,
    )
    assert attributes(root)["ttf.elapsed.minutes"] == 50
    assert [
        (span.name, (span.end_time_unix_nano - span.start_time_unix_nano) // MINUTE) for span in stages
    ] == [("project", 4), ("agent", 8), ("workflow", 18), ("success", 20)]
    assert {span.parent_span_id for span in stages} == {root.span_id}
    assert len({span.span_id for span in trace}) == 5


@pytest.mark.slow
def test_after_a_lost_store_nothing_that_was_told_is_left_out(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    """First one that is put back from a copy, then one that is begun anew."""
    exporter = {
        "endpoint": f"127.0.0.1:{destination.port}",
        "tls": {"insecure": True},
        "journey_events": True,
        "retry_on_failure": {"max_interval": "200ms"},
    }

    def names() -> Counter[str]:
        taken = [one for one in destination.came if one.answer.kind == "ok"]
        return Counter(attributes(record)["ttf.transition.id"] for record in log_records(taken))

    with ServerProcess(tmp_path / "data", settings=[f"exporters.otlp={json.dumps(exporter)}"]) as server:
        travel(server, "jane", 0)
        wait_for(lambda: len(names()) == 1, "that she has started")
        destination.judge = lambda _: Answer("later")
        travel(server, "john", 0)
        server.wait_caught_up()
        assert server.terminate() == 0
        store = server.data_dir / "store.db"
        shutil.copy(store, tmp_path / "copy.db")
        assert command_on(server.data_dir, "restore", str(tmp_path / "copy.db")).returncode == 0
        destination.judge = lambda _: OK
        server.start()
        wait_for(lambda: len(names()) == 2, "what the copy had and was not sent")
        assert server.terminate() == 0
        store.unlink()
        server.options = ["--accept-empty-store", ""]
        server.start()
        travel(server, "jane", 0)
        travel(server, "eve", 0)
        wait_for(lambda: len(names()) == 3, "what the new one tells")
        wait_for(lambda: sum(names().values()) == 4, "what it tells again")
        assert server.terminate() == 0
    assert sorted(names().values()) == [1, 1, 2], "under the same id"
