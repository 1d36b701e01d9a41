"""Consent through the doors: who has denied leaves no trace on the disk, over kill -9 and restarts."""

from __future__ import annotations

import json
import shlex
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from disk import contents
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess

from otel_ttf.otlp.leaving import MARK
from otel_ttf.pii.keys import parse
from otel_ttf.pii.pseudonym import Pseudonyms

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
MINUTE = 60 * 10**9

# Sends one event of a user, with attributes and headers; fails unless it is answered OK, without a rejection.
Send = Callable[..., None]


def otlp(name: str, user: str, **attributes: Any) -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=name)
    record.time_unix_nano = time.time_ns() - MINUTE
    for key, value in {"user.id": user, **attributes}.items():
        record.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def by_grpc(server: ServerProcess, name: str, user: str, headers: Any = (), **attributes: str) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(LOGS)
        assert call(otlp(name, user, **attributes), metadata=tuple(headers), timeout=10) == b""


def by_http(server: ServerProcess, name: str, user: str, headers: Any = (), **attributes: str) -> None:
    media = {"content-type": "application/x-protobuf", **dict(headers)}
    raw = otlp(name, user, **attributes)
    answer = server.request("POST", "/v1/logs", raw, headers=media, port=server.http_port)
    assert (answer.status, answer.body) == (200, b"")


def by_rest(server: ServerProcess, name: str, user: str, headers: Any = (), **attributes: str) -> None:
    event = {"event_name": name, "event_type": "x", "user_id": user, "properties": attributes}
    body = json.dumps({"events": [event]}).encode()
    media = {"content-type": "application/json", **dict(headers)}
    answer = server.request("POST", "/api/v1/events", body, headers=media)
    assert (answer.status, answer.json) == (200, {"accepted": 1, "rejected": []})


DOORS = (by_grpc, by_http, by_rest)


def token(server: ServerProcess, user: str) -> bytes:
    return Pseudonyms(parse((server.data_dir / "keys").read_text())).token(user).encode()


def traces(server: ServerProcess, user: str) -> set[str]:
    """Files of the data directory that hold the subject, but for that which holds the consent itself."""
    wanted = token(server, user)
    files = [(name, data) for name, data in contents(server.data_dir) if not name.startswith("consent.db")]
    return {name.split(" at ")[0] for name, data in files if wanted in data}


def test_who_has_denied_leaves_no_trace_also_after_kill_9(tmp_path: Path) -> None:
    denied = [f"jane {send.__name__}" for send in DOORS] + [f"user-{number}" for number in range(10)]
    with ServerProcess(tmp_path / "data") as server:
        for send, user in zip(DOORS, denied, strict=False):
            send(server, "signup", f"bob {send.__name__}")
            send(server, "consent_updated", user, consent="deny")
            send(server, "signup", user)
        server.wait_caught_up()
        metrics = server.metrics()
        assert metrics.total("otel_ttf_consent_total", statement="deny") == len(DOORS)
        assert metrics.total("otel_ttf_consent_dropped_total", action="drop") == 2 * len(DOORS)
        assert metrics.total("telemetry_errors_total") == 0
        # Those that were left out were answered OK, too.
        assert metrics.total("telemetry_events_total", signal="logs") == 3 * len(DOORS)
        for user in denied[len(DOORS) :]:
            by_http(server, "consent_updated", user, consent="deny")
        server.kill()

        server.start()
        for user in denied:
            by_http(server, "first_project_created", user)
            assert server.get(f"/api/v1/ttf/{quote(user)}").status == 404
        server.wait_caught_up()
        assert server.metrics().total("otel_ttf_consent_dropped_total", action="drop") == len(denied)
        by_rest(server, "consent_updated", denied[0], consent="grant")
        by_rest(server, "signup", denied[0])
        server.wait_caught_up()
        assert server.get(f"/api/v1/ttf/{quote(denied[0])}").json["state"] == "in_progress"
        assert server.terminate() == 0
        assert {user: files for user in denied[1:] if (files := traces(server, user))} == {}
        for send in DOORS:
            assert "store.db" in traces(server, f"bob {send.__name__}"), "the search finds nothing at all"


def test_anonymised_it_counts_and_moves_no_journey(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=["processors.consent.on_deny=anonymise"]) as server:
        by_rest(server, "consent_updated", "jane", consent="deny")
        by_rest(server, "signup", "jane")
        server.wait_caught_up()
        assert server.get("/api/v1/ttf/jane").status == 404
        assert server.metrics().total("telemetry_events_total", signal="logs") == 2
        names = {one["name"]: one["count"] for one in server.get("/api/v1/events/names").json["names"]}
        assert names == {"consent_updated": 1, "signup": 1}
        assert server.terminate() == 0
        assert traces(server, "jane") == set()


@pytest.mark.parametrize("send", DOORS)
def test_gpc_by_header_marks_what_its_users_send_from_now_on(server: ServerProcess, send: Send) -> None:
    jane, bob = f"jane, gpc {send.__name__}", f"bob, gpc {send.__name__}"
    send(server, "first_agent_created", jane, headers=[("sec-gpc", "0")])
    send(server, "signup", jane, headers=[("sec-gpc", "1")])
    send(server, "first_project_created", jane)
    send(server, "signup", bob)
    server.wait_caught_up()
    assert marked(server, jane) == {"first_agent_created": 0, "signup": 1, "first_project_created": 1}
    assert marked(server, bob) == {"signup": 0}


def marked(server: ServerProcess, user: str) -> dict[str, int]:
    """Events of the store -> whether they or their resource have the mark."""
    query = (
        "SELECT name, instr(attributes, :mark) > 0 OR instr(bytes, :mark) > 0"
        " FROM event JOIN resource ON resource.id = event.resource WHERE subject = :subject"
    )
    told = {"mark": MARK.encode(), "subject": token(server, user).decode()}
    with closing(sqlite3.connect(server.data_dir / "store.db")) as store:
        return dict(store.execute(query, told).fetchall())


def test_without_the_file_of_consent_there_is_no_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.data_dir.mkdir()
    (server.data_dir / "consent.db").write_bytes(b"not a database, and long enough to be looked at" * 50)
    code, said = server.refusal()
    assert code == 2
    assert "consent.db" in said


@pytest.mark.slow
def test_a_lost_file_of_consent_is_no_start_until_the_loss_is_accepted(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        by_rest(server, "consent_updated", "jane", consent="deny")
        server.kill()
        for file in server.data_dir.glob("consent.db*"):
            file.unlink()
        code, said = server.refusal()
        assert (code, said.count("\n")) == (2, 1), said
        assert "consent.db is missing, and there was one: without it whoever has denied" in said
        accept = shlex.split(said.rpartition("`otel-ttf run ")[2].partition("`")[0])
        server.options = accept
        server.start()
        assert "loss accepted" in server.printed()
        server.terminate()
        server.options = []
        server.start()


@pytest.mark.slow
def test_a_lost_vault_is_no_start_where_it_is_needed_and_else_warned_about(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", settings=["privacy.subject=encrypted"]) as server:
        server.terminate()
        for file in server.data_dir.glob("vault.db*"):
            file.unlink()
        code, said = server.refusal()
        assert code == 2
        assert "vault.db is missing" in said
        server.settings = ()
        server.start()
        assert "vault.db is missing" in server.printed()
