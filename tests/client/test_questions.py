"""get_ttf_metrics and check_ttf_alerts: answers with types, or an error that says what to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from answering import Answering, FakeServer
from server_process import ServerProcess, free_ports

from otel_ttf.client import TelemetryClient, TelemetryError, UserUnknown
from otel_ttf.client.tell import MESSAGES
from otel_ttf.client.user import UserId

ClientOf = Callable[..., TelemetryClient]
NOW = datetime.now(UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_a_journey_that_is_complete_and_late_by_stage(server: ServerProcess, client_of: ClientOf) -> None:
    client = client_of(server.api_url)
    for name, minutes in (
        ("signup", 130),
        ("first_project_created", 126),
        ("first_agent_created", 118),
        ("first_workflow_executed", 100),
        ("first_success_event", 80),
    ):
        client.track_ttf_milestone(name, "done", timestamp=ago(minutes))
    client.track_event("signup", user_id="stuck", timestamp=ago(130))
    assert client.flush_events()
    server.wait_caught_up()
    done = client.get_ttf_metrics("done")
    assert [
        done.ttf_project_minutes,
        done.ttf_agent_minutes,
        done.ttf_workflow_minutes,
        done.ttf_success_minutes,
    ] == [pytest.approx(minutes) for minutes in (4, 8, 18, 20)]
    assert (done.ttf_complete_minutes, done.ttf_efficiency_score) == (
        pytest.approx(50),
        pytest.approx(95.8, abs=0.05),
    )
    assert (done.state, done.started_at) == ("completed", ago(130))
    assert [stage.name for stage in done.stages] == ["project", "agent", "workflow", "success"]
    with pytest.raises(
        AttributeError, match="ttf_pay_minutes: no such stage of onboarding; known: ttf_project_minutes"
    ):
        _ = done.ttf_pay_minutes
    alert = client.check_ttf_alerts("stuck")[0]
    assert (alert.journey, alert.stage, alert.since) == ("onboarding", "project", alert.since)
    assert alert.message
    assert client.check_ttf_alerts("done") == []


async def test_the_same_without_blocking_the_loop(server: ServerProcess, client_of: ClientOf) -> None:
    client = client_of(server.api_url)
    client.track_event("signup", user_id="async")
    assert await client.aflush_events()
    await asyncio.to_thread(server.wait_caught_up)
    metrics, alerts = await asyncio.gather(
        client.aget_ttf_metrics("async"), client.acheck_ttf_alerts("async")
    )
    same = client.get_ttf_metrics("async", journey="onboarding")
    assert (metrics, alerts) == (replace(same, as_of=metrics.as_of, lag_seconds=metrics.lag_seconds), [])


@pytest.mark.parametrize("user", ["a/b", "..", ".", "a?b#c", "ü %2F", "a b", 7, UUID(int=7)])
def test_any_user_id_can_be_asked_for(server: ServerProcess, client_of: ClientOf, user: UserId) -> None:
    client = client_of(server.api_url)
    client.track_event("signup", user_id=user)
    assert client.flush_events()
    server.wait_caught_up()
    assert client.get_ttf_metrics(user).user_id == str(user)
    assert client.check_ttf_alerts(user) == []


def test_who_has_no_milestone_is_an_error_of_its_own(server: ServerProcess, client_of: ClientOf) -> None:
    with pytest.raises(UserUnknown) as raised:
        client_of(server.api_url).get_ttf_metrics("who-is-this")
    assert (raised.value.status, raised.value.kind) == (404, "no-milestone")
    assert "who-is-this" not in str(raised.value)


def test_what_the_server_says_is_in_the_error(server: ServerProcess, client_of: ClientOf) -> None:
    client = client_of(server.api_url)
    with pytest.raises(TelemetryError, match="404: no such journey; known: onboarding") as raised:
        client.check_ttf_alerts("ada", journey="pay")
    assert raised.value.kind == "unknown-journey"
    with pytest.raises(TelemetryError, match="404: onboarding has no such version; known: "):
        client.get_ttf_metrics("ada", version="00000000")


@pytest.mark.parametrize(
    ("answering", "says"),
    [
        (Answering(401), "401: the API key is missing or not known: set TELEMETRY_API_KEY"),
        (Answering(403), "403: the API key may not ask"),
        (Answering(200, b"<html>"), "expected an answer of otel-ttf, found another"),
        (Answering(200, b'{"user_id": "ada"}'), "expected an answer of otel-ttf, found another"),
        (
            Answering(301, headers={"Location": "http://127.0.0.1:9/"}),
            "301: no answer of otel-ttf: is the address right?",
        ),
        (Answering(502, b"<html>"), "502: no answer of otel-ttf"),
        (Answering(cut=True), "no connection"),
        (Answering(hold=threading.Event()), "no answer within 0.2 s: is the server running"),
    ],
)
def test_an_answer_that_is_none_says_what_was_found(
    fake: FakeServer, client_of: ClientOf, answering: Answering, says: str
) -> None:
    fake.always = answering
    with pytest.raises(TelemetryError, match=re.escape(says)) as raised:
        client_of(fake.url, timeout=0.2 if answering.hold else 20).get_ttf_metrics("ada")
    assert "ada" not in str(raised.value)
    assert f"{fake.url}/api/v1/ttf/{{user_id}}" in str(raised.value)


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = [
    pytest.param(b"H", id="the first line"),
    pytest.param(OK + b"x: y", id="a header"),
    pytest.param(OK + b"content-length: 1000000\r\n\r\n[", id="a body of a known length"),
    pytest.param(OK + b"\r\n[", id="a body until the end"),
    pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n0", id="the length of a chunk"),
    pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n1\r\n[\r\n0\r\nx", id="a trailer"),
]


@pytest.mark.parametrize("dripped", DRIPS)
async def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_any_longer(
    fake: FakeServer, client_of: ClientOf, dripped: bytes
) -> None:
    fake.always = Answering(dripped=dripped)
    client = client_of(fake.url, timeout=0.5)
    with pytest.raises(TelemetryError, match=r"no answer within 0\.5 s"):
        client.get_ttf_metrics("ada")
    with pytest.raises(TelemetryError, match=r"no answer within 0\.5 s"):
        await client.acheck_ttf_alerts("ada")


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        pytest.param(bytes(5 << 20), {}, "an answer of more than 4 MiB", id="much"),
        pytest.param(
            gzip.compress(bytes(64 << 20)),
            {"content-encoding": "gzip"},
            "expected an answer of otel-ttf, found another",
            id="a bomb",
        ),
    ],
)
def test_an_answer_without_measure_is_none(
    fake: FakeServer, client_of: ClientOf, body: bytes, headers: dict[str, str], says: str
) -> None:
    fake.always = Answering(200, body, headers)
    client = client_of(fake.url, timeout=20)
    with pytest.raises(TelemetryError, match="an answer"):
        client.get_ttf_metrics("ada")  # with what has to be imported
    tracemalloc.start()
    with pytest.raises(TelemetryError, match=says):
        client.get_ttf_metrics("ada")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert fake.came[-1].headers["accept-encoding"] == "identity"


def test_of_several_addresses_the_first_that_answers_is_asked(
    fake: FakeServer, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.always = Answering(200, b"[]")
    right = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(fake.url.rpartition(":")[2])))
    wrong = (*right[:4], ("127.0.0.1", free_ports(1)[0]))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [wrong, right, wrong])
    assert client_of("http://ttf.example:1").check_ttf_alerts("ada") == []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [wrong, wrong])
    with pytest.raises(TelemetryError, match=r"no connection \(ConnectionRefusedError\)"):
        client_of("http://ttf.example:1").check_ttf_alerts("ada")


def test_retry_after_is_in_the_error(fake: FakeServer, client_of: ClientOf) -> None:
    problem = json.dumps({"type": "urn:otel-ttf:problem:counting-anew", "detail": "not now"}).encode()
    fake.always = Answering(503, problem, {"Retry-After": "7"})
    with pytest.raises(TelemetryError, match="503: not now") as raised:
        client_of(fake.url).get_ttf_metrics("ada")
    assert (raised.value.retry_after, raised.value.kind) == (7, "counting-anew")


def test_nobody_there_is_an_error_that_names_the_address(client_of: ClientOf) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(
        TelemetryError, match=f"GET {url}/.*: no connection .*: is the server running, and is TELEMETRY"
    ):
        client_of(url).check_ttf_alerts("ada")


@pytest.mark.parametrize("user", ["", "  ", None, True, b"x", "\ud800", "x" * 513])
def test_a_user_who_cannot_be_is_an_error(fake: FakeServer, client_of: ClientOf, user: Any) -> None:
    with pytest.raises(TelemetryError, match="user_id: expected"):
        client_of(fake.url).get_ttf_metrics(user)
    assert fake.came == []


def test_questions_bring_the_key_and_no_other_header_of_the_environment(
    fake: FakeServer, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_API_KEY", "the-key")
    fake.always = Answering(200, b"[]")
    assert client_of(fake.url).check_ttf_alerts("ada", journey="onboarding") == []
    (came,) = fake.came
    assert came.path == "/api/v1/ttf/ada/alerts?journey=onboarding"
    assert came.headers["authorization"] == "Bearer the-key"


def test_whatever_the_client_says_is_documented_with_what_to_do() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
    for _, text in MESSAGES.values():
        part = max(text.split("%s"), key=len).strip(" :,")
        assert f"`{part}`" in page, part
