"""Whoever knows another user's token cannot write into that journey, however it is spelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from server_process import ServerProcess

MEDIA = {"content-type": "application/x-protobuf"}
Spelling = Callable[[str], AnyValue]


def text(token: str) -> AnyValue:
    return AnyValue(string_value=token)


def listed(*values: AnyValue) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=values))


@pytest.fixture(scope="module")
def victim(server: ServerProcess) -> str:
    """The token of a user who has signed up, no more."""
    signup = {"event_name": "signup", "event_type": "milestone", "user_id": "victim"}
    assert server.post_json("/api/v1/events", {"events": [signup]}).status == 200
    server.wait_caught_up()
    return str(server.get("/api/v1/ttf/victim").json["subject"])


def untouched(server: ServerProcess) -> bool:
    server.wait_caught_up()
    return server.get("/api/v1/ttf/victim").json["stages"][0]["reached_at"] is None


@pytest.mark.parametrize("key", ["user.id", "enduser.id", "user_id"])
@pytest.mark.parametrize("place", ["record", "scope", "resource", "twice"])
@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(text, id="as it is"),
        pytest.param(lambda token: text(f" {token}\n"), id="with blanks"),
        pytest.param(lambda token: listed(text(token)), id="a list of one"),
        pytest.param(lambda token: listed(listed(text(token))), id="a list in a list"),
        pytest.param(lambda token: listed(text(""), text(token)), id="a list of two"),
        pytest.param(lambda token: AnyValue(bytes_value=token.encode()), id="bytes"),
        pytest.param(
            lambda token: AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="", value=text(token))])),
            id="a map",
        ),
    ],
)
def test_a_forged_token_is_an_id_like_any_other(
    server: ServerProcess, victim: str, key: str, place: str, spelled: Spelling
) -> None:
    pair = KeyValue(key=key, value=spelled(victim))
    logs = ExportLogsServiceRequest()
    resource = logs.resource_logs.add()
    scope = resource.scope_logs.add()
    record = scope.log_records.add(event_name="project_created", time_unix_nano=time.time_ns())
    traces = ExportTraceServiceRequest()
    spans = traces.resource_spans.add()
    span = spans.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    event = span.events.add(name="project_created", time_unix_nano=time.time_ns())
    if place == "scope":
        scope.scope.attributes.append(pair)
        spans.scope_spans[0].scope.attributes.append(pair)
    elif place == "resource":
        resource.resource.attributes.append(pair)
        spans.resource.attributes.append(pair)
    else:
        for attributes in (record.attributes, span.attributes, event.attributes):
            attributes.extend([pair] * (2 if place == "twice" else 1))
    for path, request in (("/v1/logs", logs), ("/v1/traces", traces)):
        assert server.request("POST", path, request.SerializeToString(), headers=MEDIA).status == 200
    assert untouched(server)


def test_trust_in_otlp_is_none_in_rest(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=["receivers.otlp.trusted_tokens=true"]) as server:
        signup = {"event_name": "signup", "event_type": "milestone", "user_id": "victim"}
        assert server.post_json("/api/v1/events", {"events": [signup]}).status == 200
        server.wait_caught_up()
        token = str(server.get("/api/v1/ttf/victim").json["subject"])
        event = {"event_name": "project_created", "event_type": "milestone", "user_id": token}
        assert server.post_json("/api/v1/events", {"events": [event]}).status == 200
        assert untouched(server)
        logs = ExportLogsServiceRequest()
        record = logs.resource_logs.add().scope_logs.add().log_records.add(event_name="project_created")
        record.attributes.append(KeyValue(key="user.id", value=text(token)))
        body = logs.SerializeToString()
        assert server.request("POST", "/v1/logs", body, headers=MEDIA, port=server.api_port).status == 200
        assert not untouched(server)


@pytest.mark.parametrize("where", ["user_id", "property"])
def test_a_forged_token_by_rest(server: ServerProcess, victim: str, where: str) -> None:
    event: dict[str, object] = {"event_name": "project_created", "event_type": "milestone"}
    event |= {"user_id": victim} if where == "user_id" else {"properties": {"enduser.id": victim}}
    assert server.post_json("/api/v1/events", {"events": [event]}).status == 200
    assert untouched(server)
