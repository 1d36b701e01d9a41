"""What is added, dropped and sampled, through a running server: senders get OK, and figures stay right."""

from __future__ import annotations

import json
from pathlib import Path

from disk import contents
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess

from otel_ttf.client import TelemetryClient
from otel_ttf.pii.keys import parse
from otel_ttf.processors.sample import Share

USERS = [f"user-{number}" for number in range(60)]


def send(server: ServerProcess, name: str, user: str, **attributes: str) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=name)
    for key, value in {"user.id": user, **attributes}.items():
        record.attributes.add(key=key).value.string_value = value
    media = {"content-type": "application/x-protobuf"}
    answer = server.request("POST", "/v1/logs", request.SerializeToString(), headers=media)
    assert (answer.status, answer.body) == (200, b""), "whatever becomes of it, its sender gets OK"


def test_a_lookup_makes_a_segment_and_a_filter_spares_milestones(tmp_path: Path) -> None:
    table = tmp_path / "accounts.csv"
    table.write_text("id,plan\nada,gold\n")
    lookup = {"file": str(table), "column": "id", "from": ["user.id"], "columns": {"plan": "account.plan"}}
    rule = {"name": "quiet", "drop": {"attributes": {"level": "debug"}}}
    settings = [
        f"processors.enrich.lookups.accounts={json.dumps(lookup)}",
        f"processors.filter.rules={json.dumps([rule])}",
        "journeys.onboarding.segments=[account.plan]",
    ]
    with ServerProcess(tmp_path / "data", settings=settings) as server:
        send(server, "signup", "ada", level="debug")
        send(server, "noise_that_goes", "bob", level="debug")
        server.wait_caught_up()
        answer = server.get("/api/v1/ttf/ada").json
        assert (answer["state"], answer["segments"]) == ("in_progress", {"account.plan": "gold"})
        metrics = server.get("/metrics").body.decode()
        assert 'otel_ttf_filtered_total{action="spared",rule="quiet"} 1.0' in metrics
        assert 'otel_ttf_filtered_total{action="dropped",rule="quiet"} 1.0' in metrics
        assert "noise_that_goes" not in server.get("/api/v1/events/names").body.decode()
        assert server.terminate() == 0
        assert [name for name, data in contents(server.data_dir) if b"noise_that_goes" in data] == []


def test_a_share_of_the_users_is_followed_and_answers_say_so(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=["processors.sample={by: subject, ratio: 0.5}"]) as server:
        for user in USERS:
            send(server, "signup", user)
            send(server, "project_created", user)
        server.wait_caught_up()
        share = Share(parse((server.data_dir / "keys").read_text()), b"subject", 0.5)
        inside = [user for user in USERS if share.holds(user.encode())]
        figures = server.get("/api/v1/ttf").json
        assert (figures["sampled"], figures["weight"]) == (0.5, 2.0)
        assert figures["journeys"][0]["started"] == len(inside)
        for user in USERS:
            status = server.get(f"/api/v1/ttf/{user}").status
            assert status == (200 if user in inside else 404)
        with TelemetryClient(api_url=server.api_url) as client:
            assert client.get_ttf_metrics(inside[0]).weight == 2.0
        metrics = server.get("/metrics").body.decode()
        assert "otel_ttf_followed_subjects_ratio 0.5" in metrics
        assert f'otel_ttf_sampled_out_total{{by="subject"}} {2.0 * (len(USERS) - len(inside))}' in metrics


def test_a_changed_share_leaves_the_weight_of_who_started_before(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("processors: {sample: {by: subject, ratio: 0.25}}")
    with ServerProcess(tmp_path / "data", config=file) as server:

        def weights(users: list[str]) -> set[float]:
            for user in users:
                send(server, "signup", user)
            server.wait_caught_up()
            answers = [server.get(f"/api/v1/ttf/{user}") for user in users]
            return {one.json["weight"] for one in answers if one.status == 200}

        assert weights(USERS[:30]) == {4.0}
        file.write_text("{}")
        assert server.request("POST", "/-/reload").status == 200
        assert weights(USERS[30:]) == {1.0}
        server.kill()
        server.start()
        # Of the first ones those that were left out come late, and count for themselves.
        assert weights(USERS[:30]) == {4.0, 1.0}
        figures = server.get("/api/v1/ttf").json
        assert (figures["sampled"], figures["weight"]) == (1.0, None)
        assert figures["sampled_since"] is not None


def test_a_start_without_a_file_that_is_needed_says_what_to_do(tmp_path: Path) -> None:
    lookup = {"file": "no.csv", "column": "id", "from": ["user.id"], "columns": {"plan": "account.plan"}}
    settings = [f"processors.enrich.lookups.a={json.dumps(lookup)}"]
    server = ServerProcess(tmp_path / "data", settings=settings).launch()
    assert server.process is not None
    assert server.process.wait(30) == 2
    said = server.printed()
    assert "processors.enrich.lookups.a.file: no.csv: expected a file, found none: put it there" in said
