"""`privacy.subject: keep`: ids are there in plain, loudly, and journeys are those of their owners."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess

from otel_ttf.cli import main
from otel_ttf.clock import SystemClock
from otel_ttf.log.base import Entry
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.pii.keys import parse
from otel_ttf.pii.pseudonym import TOKEN, Pseudonyms

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


def left_behind(folder: Path, **attributes: str) -> None:
    """A masked request in the log of a server that was killed before it followed it."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="signup")
    record.time_unix_nano = time.time_ns()
    for key, value in attributes.items():
        record.attributes.add(key=key.replace("__", ".")).value.string_value = value

    async def append() -> None:
        log = SqliteLog.open(folder / "log.db", LogConfig(), SystemClock())
        await log.append(Entry("logs", time.time_ns(), request.SerializeToString(), b"", 1))
        await log.close()

    asyncio.run(append())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "attribute", "after"),
    [
        pytest.param(["privacy.subject=hmac"], "user__id", [SETTING], id="to keep"),
        pytest.param([SETTING], "ttf__subject", ["privacy.subject=hmac"], id="from keep"),
        pytest.param(["subject.from=[user.id, crm.id]"], "crm__id", ["subject.from=[user.id]"], id="without one"),
    ],
)  # fmt: skip
def test_who_was_in_the_log_when_the_setting_changed_is_not_lost(tmp_path, before, attribute, after) -> None:
    with ServerProcess(tmp_path / "data", settings=before) as server:
        server.terminate()
        jane = Pseudonyms(parse((server.data_dir / "keys").read_text())).token("jane")
        left_behind(server.data_dir, **{attribute: jane})
        server.settings = tuple(after)
        code, said = server.refusal()
        assert code == 2
        assert f"not followed yet, with users in {attribute.replace('__', '.')}" in said
        server.settings = tuple(before)
        server.start()
        server.wait_caught_up()
        server.terminate()
        server.settings = tuple(after)
        server.start()
        assert server.get("/api/v1/ttf/jane").json["subject"] == jane


@pytest.mark.slow
def test_a_further_attribute_and_another_way_with_the_same_one_are_no_change(tmp_path) -> None:
    with ServerProcess(tmp_path / "data", settings=["subject.from=[user.id]"]) as server:
        for settings in (
            ["subject.from=[user.id, crm.id]"],
            ["subject.from=[user.id, crm.id]", "privacy.subject=encrypted"],
        ):
            server.terminate()
            jane = Pseudonyms(parse((server.data_dir / "keys").read_text())).token("jane")
            left_behind(server.data_dir, user__id=jane)
            server.settings = tuple(settings)
            server.start()
            server.wait_caught_up()
        assert server.get("/api/v1/ttf/jane").json["subject"] == jane
