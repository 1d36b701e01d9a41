"""`privacy.subject: keep`: ids are there in plain, loudly, and journeys are those of their owners."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess

from otel_ttf.cli import main
from otel_ttf.pii.pseudonym import TOKEN

SETTING = "privacy.subject=keep"
WARNING = "user ids are not masked"


@pytest.mark.slow
def test_users_are_found_by_their_ids_and_nobody_moves_anothers_journey(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=[SETTING]) as server:

        def send(name: str, user: str, **more: str) -> None:
            request = ExportLogsServiceRequest()
            record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=name)
            for key, value in {"user.id": user, **more}.items():
                record.attributes.add(key=key.replace("__", ".")).value.string_value = value
            media = {"content-type": "application/x-protobuf"}
            assert (
                server.request("POST", "/v1/logs", request.SerializeToString(), headers=media).status == 200
            )

        send("signup", "jane@example.com")
        server.wait_caught_up()
        jane = server.get("/api/v1/ttf/jane@example.com").json
        assert jane["state"] == "in_progress"
        assert TOKEN.fullmatch(jane["subject"])
        send("project_created", "eve", ttf__subject=jane["subject"])
        send("project_created", jane["subject"])
        server.wait_caught_up()
        after = server.get("/api/v1/ttf/jane@example.com").json
        assert (after["stages"], after["subject"]) == (jane["stages"], jane["subject"])
        send("project_created", "jane@example.com")
        server.wait_caught_up()
        assert server.get("/api/v1/ttf/jane@example.com").json["stages"] != jane["stages"]
        with server.store() as store:
            kept = [bytes(row[0]) for row in store.execute("SELECT attributes FROM event")]
        assert sum(b"jane@example.com" in one for one in kept) == 2, "this is what the warning is for"
        assert server.terminate() == 0
        assert server.printed().count(WARNING) == 2, "from the configuration, and in our log"
        server.start()
        assert server.printed().count(WARNING) == 4, "at every start"


def test_validate_says_so() -> None:
    said = CliRunner().invoke(main, ["validate", "--set", SETTING])
    assert said.exit_code == 0
    assert f"privacy.subject: {WARNING}" in said.stderr
