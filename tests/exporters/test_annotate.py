"""Milestone records say what they are, on their way on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from destinations import METHODS, GrpcDestination, log_records
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from server_process import ServerProcess, wait_for

START = (time.time_ns() // 10**9 - 3600) * 10**9
MINUTE = 60 * 10**9
JOURNEY = {
    "milestones": [
        {"name": "signup", "match": {"event": "signup"}},
        {"name": "project", "match": {"event": "project_created"}},
        {"name": "page", "match": {"span": {"name": "GET /page"}}},
        {"name": "done", "match": {"event": ["done", "finished"]}},
    ]
}


@pytest.fixture
def destination() -> Iterator[GrpcDestination]:
    made = GrpcDestination()
    made.start()
    yield made
    made.stop()


def export(server: ServerProcess, signal: Any, made: Message) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(f"/{METHODS[signal]}/Export")(made.SerializeToString(), timeout=10)


def log(name: str, minutes: int, user: str = "jane") -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    record = (
        made.resource_logs.add()
        .scope_logs.add()
        .log_records.add(event_name=name, time_unix_nano=START + minutes * MINUTE)
    )
    record.attributes.add(key="user.id").value.string_value = user
    return made


def told(attributes: Any) -> dict[str, Any]:
    """Of what was added."""
    found = {}
    for pair in attributes:
        if pair.key.startswith("ttf."):
            value = pair.value
            found[pair.key] = value.string_value if value.HasField("string_value") else value.double_value
    return found


@pytest.mark.slow
def test_a_record_says_which_milestone_it_reached_and_after_how_long(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    exporter = {
        "endpoint": f"127.0.0.1:{destination.port}",
        "tls": {"insecure": True},
        "annotate": True,
    }
    config = tmp_path / "config.yaml"
    pipelines = {signal: {"exporters": ["otlp"]} for signal in ("logs", "traces")}

    def configure(journey: str) -> None:
        given = {"exporters": {"otlp": exporter}, "service": {"pipelines": pipelines}}
        config.write_text(json.dumps({"journeys": {journey: JOURNEY}, **given}))

    configure("way")
    with ServerProcess(tmp_path / "data", config=config) as server:
        export(server, "logs", log("signup", 0))
        export(server, "logs", log("nothing", 1))
        export(server, "logs", log("project_created", 4))
        wait_for(lambda: len(destination.taken) == 3, "the first three")
        export(server, "logs", log("project_created", 9))
        traces = ExportTraceServiceRequest()
        span = (
            traces.resource_spans.add()
            .scope_spans.add()
            .spans.add(
                name="GET /page", trace_id=b"t" * 16, span_id=b"s" * 8, end_time_unix_nano=START + 10 * MINUTE
            )
        )
        span.attributes.add(key="user.id").value.string_value = "jane"
        span.events.add(name="other", time_unix_nano=START + 11 * MINUTE)
        span.events.add(name="done", time_unix_nano=START + 30 * MINUTE)
        export(server, "traces", traces)
        wait_for(lambda: len(destination.taken) == 5, "all of them")
        configure("path")
        assert server.request("POST", "/-/reload").status == 200
        export(server, "logs", log("signup", 2, "john"))
        wait_for(lambda: len(destination.taken) == 6, "what came after a reload")
        assert server.terminate() == 0
    records = log_records(destination.came)
    logs = [(record.event_name, told(record.attributes)) for record in records]
    way = {"ttf.journey": "way"}
    assert logs == [
        ("signup", {**way, "ttf.milestone": "signup", "ttf.elapsed.minutes": 0}),
        ("nothing", {}),
        (
            "project_created",
            {**way, "ttf.milestone": "project", "ttf.stage.minutes": 4, "ttf.elapsed.minutes": 4},
        ),
        ("project_created", {}),  # a later one reaches nothing
        ("signup", {"ttf.journey": "path", "ttf.milestone": "signup", "ttf.elapsed.minutes": 0}),
    ]
    (sent,) = [one.request for one in destination.came if one.signal == "traces"]
    span = sent.resource_spans[0].scope_spans[0].spans[0]
    page = {**way, "ttf.milestone": "page", "ttf.stage.minutes": 6, "ttf.elapsed.minutes": 10}
    assert told(span.attributes) == page
    done = {**way, "ttf.milestone": "done", "ttf.stage.minutes": 20, "ttf.elapsed.minutes": 30}
    assert [told(event.attributes) for event in span.events] == [{}, done]


@pytest.mark.slow
def test_each_key_of_a_user_has_minutes_of_its_own(tmp_path: Path, destination: GrpcDestination) -> None:
    journey = {
        "key": ["subject", "project.id"],
        "milestones": [
            {"name": "signup", "match": {"event": "signup"}, "shared": True},
            {"name": "project", "match": {"event": "project_created"}},
            {"name": "done", "match": {"event": "done"}},
        ],
    }
    exporter = {
        "endpoint": f"127.0.0.1:{destination.port}",
        "tls": {"insecure": True},
        "annotate": True,
    }
    config = tmp_path / "config.yaml"
    pipelines = {"logs": {"exporters": ["otlp"]}}
    given = {"exporters": {"otlp": exporter}, "service": {"pipelines": pipelines}}
    config.write_text(json.dumps({"journeys": {"way": journey}, **given}))
    sent = [("project_created", 4, "a"), ("project_created", 9, "b"), ("done", 30, "b"), ("done", 30, "a")]
    with ServerProcess(tmp_path / "data", config=config) as server:
        export(server, "logs", log("signup", 0))
        for name, minutes, project in sent:
            made = log(name, minutes)
            record = made.resource_logs[0].scope_logs[0].log_records[0]
            record.attributes.add(key="project.id").value.string_value = project
            export(server, "logs", made)
        wait_for(lambda: len(destination.taken) == 5, "all of them")
        assert server.terminate() == 0
    logs = [told(record.attributes) for record in log_records(destination.came)]
    assert [one.get("ttf.stage.minutes") for one in logs[1:]] == [4, 9, 21, 26]
    assert [one.get("ttf.elapsed.minutes") for one in logs[1:]] == [4, 9, 30, 30]
