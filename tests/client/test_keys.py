"""A server that asks for API keys, and journeys with keys of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from server_process import ServerProcess, wait_for

from otel_ttf.client import TelemetryClient, TelemetryError, UserUnknown

ClientOf = Callable[..., TelemetryClient]
KEY = "a-key-of-this-test-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("guarded") / "data")
    server.environment = {"TELEMETRY_API_KEY": KEY}
    with server:
        yield server


def known(client: TelemetryClient, user: str) -> bool:
    try:
        return client.get_ttf_metrics(user).state == "in_progress"
    except UserUnknown:
        return False


def test_with_the_key_events_are_taken_and_questions_answered(
    guarded: ServerProcess, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_API_KEY", KEY)
    # As the server's documentation tells other SDKs: with two credentials ours would be refused.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-api-key={KEY}")
    client = client_of(guarded.api_url)
    client.track_ttf_milestone("signup", "with-a-key")
    assert client.flush_events()
    wait_for(lambda: known(client, "with-a-key"), "the journey")
    assert client.check_ttf_alerts("with-a-key") == []


@pytest.mark.parametrize("key", [None, "another-key-0123456789"])
def test_without_it_events_wait_and_questions_say_what_is_missing(
    guarded: ServerProcess, client_of: ClientOf, caplog: pytest.LogCaptureFixture, key: str | None
) -> None:
    client = client_of(guarded.api_url, api_key=key)
    client.track_ttf_milestone("signup", "without-a-key")
    wait_for(lambda: "set TELEMETRY_API_KEY (api_key=) to a key that may send" in caplog.text, "the warning")
    assert client.counts.waiting == 1
    with pytest.raises(TelemetryError, match="401: the API key is missing or not known") as raised:
        client.get_ttf_metrics("without-a-key")
    assert raised.value.status == 401
    assert "another-key" not in caplog.text + str(raised.value)


JOURNEY = """
journeys:
  project:
    key: [subject, project.id]
    milestones:
      - {name: created, match: {event: created}}
      - {name: first_build, stage: build, match: {event: build}, target: 10m}
    overdue: {warning: 20m}
    settle: 1s
"""


def test_of_several_journeys_of_a_user_each_can_be_asked_for(tmp_path: Path, client_of: ClientOf) -> None:
    (tmp_path / "c.yaml").write_text(JOURNEY)
    began = datetime.now(UTC) - timedelta(minutes=30)
    with ServerProcess(tmp_path / "data", config=tmp_path / "c.yaml") as server:
        client = client_of(server.api_url)
        for project in (7, 8):
            client.track_event("created", "milestone", "ada", {"project.id": project}, timestamp=began)
        built = began + timedelta(minutes=4)
        client.track_event("build", "milestone", "ada", {"project.id": 8}, timestamp=built)
        assert client.flush_events()
        server.wait_caught_up()
        first, second = (client.get_ttf_metrics("ada", key={"project.id": part}) for part in ("7", "8"))
        assert (first.key, first.keys, first.ttf_build_minutes) == (("7",), 2, None)
        assert (second.key, second.keys, second.ttf_build_minutes) == (("8",), 2, pytest.approx(4))
        assert [(alert.key, alert.level) for alert in client.check_ttf_alerts("ada")] == [(("7",), "warning")]
        with pytest.raises(TelemetryError, match="400: key: no such part"):
            client.get_ttf_metrics("ada", key={"order.id": "1"})
