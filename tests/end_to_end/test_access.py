"""Who gets in: every door and path of a running server, with keys and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from issuer import AUDIENCE, LocalIssuer
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as ByHttp
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from server_process import ROOT, Answer, ServerProcess, command_on, wait_for

from otel_ttf.api.front import needed

OWN = "zq-own-key-of-the-environment-0815"
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF = "application/x-protobuf"
EVENT = {"events": [{"event_name": "signup", "event_type": "x", "user_id": "ada"}]}


def make_key(folder: Path, *options: str) -> str:
    """A new API key."""
    folder.mkdir(parents=True, exist_ok=True)
    done = command_on(folder, "api-keys", "new", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def id_of(key: str) -> str:
    return key.split("_")[1]


class Doors:
    """A server with keys: one to send, one to ask, one for all."""

    def __init__(self, server: ServerProcess, keys: Mapping[str, str]) -> None:
        self.server = server
        self.keys = keys

    def key(self, scope: str | None) -> dict[str, str]:
        """Headers with the key of that scope."""
        return {"x-api-key": self.keys[scope]} if scope else {}

    def ask(self, method: str, path: str, key: Mapping[str, str], body: bytes | None = None) -> Answer:
        media = {"content-type": "application/json"} if body is not None else {}
        return self.server.request(method, path, body, headers={**media, **key})

    def otlp(self, port: int, key: Mapping[str, str], body: bytes | None = None) -> Answer:
        sent = one() if body is None else body
        headers = {"content-type": PROTOBUF, **key}
        return self.server.request("POST", "/v1/logs", sent, headers=headers, port=port)

    def call(self, *metadata: tuple[str, str], body: bytes | None = None) -> grpc.RpcError | bytes:
        with grpc.insecure_channel(self.server.grpc) as channel:
            try:
                return channel.unary_unary(EXPORT)(body or one(), timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                return error

    def refused(self, door: str, reason: str) -> float:
        answer = self.ask("GET", "/metrics", self.key("admin")).body.decode()
        wanted = f'otel_ttf_access_refused_total{{door="{door}",reason="{reason}"}} '
        (line,) = [line for line in answer.splitlines() if line.startswith(wanted)]
        return float(line.rpartition(" ")[2])


def one(user: str = "ada", name: str = "signup") -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=name)
    record.time_unix_nano = time.time_ns()
    record.attributes.add(key="user.id").value.string_value = user
    return request.SerializeToString()


def details_of(error: grpc.RpcError) -> status_pb2.Status:
    (details,) = [value for name, value in error.trailing_metadata() if name == "grpc-status-details-bin"]
    return status_pb2.Status.FromString(details)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("access") / "data"
    keys = {scope: make_key(folder, "--scope", scope) for scope in ("ingest", "read", "admin")}
    settings = ("service.telemetry.logs.level=debug", "auth.refusals_per_second=1000")
    server = ServerProcess(folder, settings=settings)
    server.environment = {"TELEMETRY_API_KEY": OWN}
    with server:
        yield Doors(server, keys)


def test_every_path_of_the_api_asks_who_it_is_but_for_those_that_tell_nothing(doors):
    document = doors.ask("GET", "/openapi.json", {}).json
    paths = [(method.upper(), path) for path, ops in document["paths"].items() for method in ops]
    assert len(paths) >= 10
    for method, path in paths:
        need = needed(method, path)
        path = path.replace("{", "").replace("}", "")
        answer = doors.ask(method, path, {}, b"{}" if method == "POST" else None)
        assert (answer.status == 401) == (need is not None), path
        if need is None:
            continue
        assert answer.headers["www-authenticate"] == 'Bearer realm="otel-ttf"'
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == "urn:otel-ttf:problem:unauthenticated"
        others = {"ingest", "read"} - {need}
        assert [doors.ask(method, path, doors.key(other)).status for other in others] == [403] * len(others)
        for enough in (need, "admin"):
            assert doors.ask(method, path, doors.key(enough)).status not in (401, 403)
    assert {path for method, path in paths if needed(method, path) is None} == {"/health", "/ready"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/API/v1/ttf"),
        ("GET", "//api/v1/ttf"),
        ("GET", "/health/../api/v1/ttf"),
        ("GET", "/docs/../api/v1/ttf"),
        ("GET", "/api/v1/ttf/"),
        ("HEAD", "/api/v1/ttf"),
        ("GET", "/api/v1/ttf?x-api-key=KEY"),
        ("DELETE", "/api/v1/ttf/ada"),
        ("POST", "/api/v1/events/"),
        ("POST", "/metrics"),
        ("OPTIONS", "/api/v1/ttf"),
        ("TRACE", "/api/v1/ttf"),
        ("PUT", "/-/reload"),
    ],
)
def test_there_is_no_way_round(doors, method, path):
    answer = doors.ask(method, path.replace("KEY", doors.keys["admin"]), {})
    assert answer.status in ((401, 404) if path.startswith("/docs/") else (401,))


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/traces", "/v1/metrics", "/v1/nothing", "/v1/"])
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_every_path_of_otlp_asks_who_it_is_on_both_ports(doors, method, path):
    for port in (doors.server.http_port, doors.server.api_port):
        answer = doors.server.request(method, path, headers={"content-type": PROTOBUF}, port=port)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="otel-ttf"'
        assert status_pb2.Status.FromString(answer.body).code == code_pb2.UNAUTHENTICATED


def test_keys_open_the_doors_that_they_are_for(doors):
    server = doors.server
    for key, status in (("ingest", 200), ("admin", 200), ("read", 403)):
        assert doors.otlp(server.http_port, doors.key(key)).status == status
        assert doors.otlp(server.api_port, doors.key(key)).status == status
        assert (
            doors.ask("POST", "/api/v1/events", doors.key(key), json.dumps(EVENT).encode()).status == status
        )
        got = doors.call(("x-api-key", doors.keys[key]))
        assert got == b"" if status == 200 else got.code() is grpc.StatusCode.PERMISSION_DENIED
    bearer = {"authorization": f"Bearer {OWN}"}
    assert doors.otlp(server.http_port, bearer).status == 200
    assert doors.ask("GET", "/api/v1/ttf/ada", bearer).status == 200
    assert doors.ask("POST", "/api/v1/subjects/resolve", doors.key("read"), b'{"ids": ["ada"]}').status == 200
    assert doors.call(("authorization", f"Bearer {OWN}")) == b""


def test_grpc_says_unauthenticated_and_does_not_ask_to_come_again(doors):
    before = doors.refused("grpc", "unauthenticated")
    for metadata in ((), (("x-api-key", "wrong"),), (("authorization", "Bearer a"), ("x-api-key", OWN))):
        error = doors.call(*metadata)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error.details() == "expected an API key or token that is valid here, see docs/security.md"
    for service in ("trace.v1.TraceService", "metrics.v1.MetricsService"):
        with grpc.insecure_channel(doors.server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert doors.refused("grpc", "unauthenticated") == before + 5


def test_telemetry_that_comes_by_the_port_of_the_api_is_refused_at_that_door(doors):
    for door, port in (("api", doors.server.api_port), ("http", doors.server.http_port)):
        other = "http" if door == "api" else "api"
        before = doors.refused(door, "unauthenticated"), doors.refused(other, "unauthenticated")
        assert doors.otlp(port, {"x-api-key": "wrong"}).status == 401
        after = doors.refused(door, "unauthenticated"), doors.refused(other, "unauthenticated")
        assert after == (before[0] + 1, before[1])


def test_wrong_keys_from_one_address_are_held_up_at_every_door_and_right_ones_at_none(tmp_path):
    with server_of(tmp_path, "auth.refusals_per_second=0.1", own=OWN) as server:
        doors = Doors(server, {"admin": OWN, "ingest": OWN})
        wrong = {"x-api-key": "wrong"}
        said = [doors.otlp(server.http_port, wrong).status for _ in range(8)]
        assert said == [401] * 6 + [429] * 2
        answer = doors.otlp(server.http_port, wrong)
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert status_pb2.Status.FromString(answer.body).code == code_pb2.RESOURCE_EXHAUSTED
        info = error_details_pb2.RetryInfo()
        error = doors.call(("x-api-key", "wrong"))
        status = details_of(error)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (status.code, status.details[0].Unpack(info)) == (code_pb2.RESOURCE_EXHAUSTED, True)
        assert 0 < info.retry_delay.ToMilliseconds() <= 10_000
        for port in (server.http_port, server.api_port):
            assert doors.otlp(port, wrong).status == 429
        problem = doors.ask("GET", "/api/v1/ttf", wrong)
        assert (problem.status, problem.json["type"]) == (429, "urn:otel-ttf:problem:too-many-requests")
        assert "retry-after" in problem.headers
        assert doors.ask("GET", "/health", {}).status == doors.ask("GET", "/ready", {}).status == 200
        assert doors.ask("GET", "/api/v1/ttf", doors.key("admin")).status == 200
        assert doors.otlp(server.http_port, doors.key("ingest")).status == 200
        assert doors.call(("x-api-key", OWN)) == b""
        assert doors.refused("grpc", "too_often") == 1


def test_the_answer_is_the_same_whatever_is_wrong(doors, tmp_path):
    folder = doors.server.data_dir
    expired = make_key(folder, "--scope", "read", "--expires", "1s")
    revoked = make_key(folder, "--scope", "read")
    assert command_on(folder, "api-keys", "revoke", id_of(revoked)).returncode == 0
    good = doors.keys["read"]
    for ended in (expired, revoked):
        wait_for(
            lambda ended=ended: doors.ask("GET", "/api/v1/ttf", {"x-api-key": ended}).status == 401,
            "the end of a key",
        )
    answers = set()
    for key in (None, "", "wrong", good[:-1], f"{good[:-2]}aa", expired, revoked, "x" * 20_000, "a.b.c"):
        answer = doors.ask("GET", "/api/v1/ttf", {} if key is None else {"x-api-key": key})
        told = {name: value for name, value in answer.headers.items() if name != "date"}
        document = {
            name: value for name, value in answer.json.items() if name not in ("as_of", "lag_seconds")
        }
        answers.add((answer.status, json.dumps(told), json.dumps(document)))
    assert len(answers) == 1


def test_a_body_is_not_read_for_who_may_not_send(doors):
    # A gibibyte is announced, and none of it comes: whoever waits for it answers after 30 seconds.
    for path, port in (("/v1/logs", doors.server.http_port), ("/api/v1/events", doors.server.api_port)):
        began = time.monotonic()
        headers = {"content-length": str(1 << 30), "content-encoding": "gzip"}
        answer = doors.server.request("POST", path, headers=headers, port=port, timeout=5)
        assert time.monotonic() - began < 5
        assert answer.status == 401
        assert answer.headers["connection"] == "close"


def test_ready_tells_details_to_those_who_may_ask_and_health_anybody(doors):
    assert doors.ask("GET", "/health", {}).json == {"status": "ok"}
    before = doors.refused("api", "unauthenticated")
    for key in ({}, {"x-api-key": "wrong"}, doors.key("ingest")):
        assert doors.ask("GET", "/ready", key).json == {"status": "ready"}
    assert doors.refused("api", "unauthenticated") == before
    assert doors.ask("GET", "/ready", doors.key("read")).json == {
        "status": "ready",
        "reasons": [],
        "notes": [],
    }


def test_the_health_service_of_grpc_is_open(doors):
    with grpc.insecure_channel(doors.server.grpc) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"


def test_keys_are_made_rotated_and_revoked_while_the_server_runs(doors):
    folder = doors.server.data_dir

    def status(key: str) -> int:
        return doors.otlp(doors.server.http_port, {"x-api-key": key}).status

    old = make_key(folder, "--name", "shop")
    wait_for(lambda: status(old) == 200, "a new key")
    done = command_on(folder, "api-keys", "rotate", id_of(old), "--overlap", "1h")
    new = done.stdout.strip()
    wait_for(lambda: status(new) == 200, "the key in its place")
    assert status(old) == 200
    listed = {
        row["id"]: row
        for row in json.loads(command_on(folder, "api-keys", "list", "--format", "json").stdout)
    }
    assert listed[id_of(new)]["name"] == "shop"
    assert listed[id_of(old)]["expires"] is not None
    assert listed[id_of(new)]["expires"] is None
    command_on(folder, "api-keys", "revoke", id_of(old))
    wait_for(lambda: status(old) == 401, "the end of the old one")
    assert status(new) == 200
    metrics = doors.ask("GET", "/metrics", doors.key("read")).body.decode()
    assert f'otel_ttf_api_key_requests_total{{key="{id_of(new)}"}}' in metrics


def test_a_broken_file_of_keys_changes_nothing_and_is_said_once(doors):
    folder = doors.server.data_dir
    file = folder / "api-keys"
    good = file.read_bytes()

    def metric() -> float:
        body = doors.ask("GET", "/metrics", doors.key("read")).body.decode()
        return float(body.split('otel_ttf_files_last_reload_successful{what="api_keys"} ')[1].split("\n")[0])

    reasons = (
        "line 1: expected a key",
        "found nothing: put it back",
        ": expected a key as `otel-ttf",
        "put it back",
    )
    harms = (
        lambda: file.write_text("zq-no-keys"),
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(good[: good.index(b"\n", -20) - 20]),
        file.unlink,
    )
    try:
        for harm, reason in zip(harms, reasons, strict=True):
            harm()
            wait_for(lambda: metric() == 0, "the metric", 15)
            time.sleep(2)
            assert doors.otlp(doors.server.http_port, doors.key("ingest")).status == 200
            (note,) = doors.ask("GET", "/ready", doors.key("read")).json["notes"]
            assert note.startswith("API keys: the files that are there now cannot be used")
            assert reason in note
            file.write_bytes(good)
            wait_for(lambda: metric() == 1, "the metric", 15)
            assert doors.ask("GET", "/ready", doors.key("read")).json["notes"] == []
    finally:
        file.write_bytes(good)
    said = [line for line in doors.server.printed().splitlines() if "changed files cannot be used" in line]
    assert [reason in line for reason, line in zip(reasons, said, strict=True)] == [True] * 4


def test_a_file_that_is_empty_for_a_moment_locks_nobody_out_and_all_keys_may_be_taken_away(tmp_path):
    folder = tmp_path / "data"
    key = make_key(folder)
    server = ServerProcess(folder)
    file = folder / "api-keys"
    good = file.read_bytes()
    with server:
        doors = Doors(server, {"ingest": key})
        for seconds in (0.5, 2.5):
            file.write_bytes(b"")
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                assert doors.otlp(server.http_port, doors.key("ingest")).status == 200
            file.write_bytes(good)
        assert command_on(folder, "api-keys", "revoke", id_of(key)).returncode == 0
        wait_for(
            lambda: doors.otlp(server.http_port, doors.key("ingest")).status == 401, "the last key's end"
        )


def test_a_start_with_an_empty_file_of_keys_is_refused(tmp_path):
    server = server_of(tmp_path)
    server.data_dir.mkdir()
    file = server.data_dir / "api-keys"
    file.touch()
    code, said = server.refusal()
    assert (code, f"auth: {file}: expected keys" in said) == (2, True)


def test_only_a_key_that_is_trusted_writes_tokens(doors):
    trusted = make_key(doors.server.data_dir, "--trusted-tokens")
    doors.otlp(doors.server.http_port, doors.key("ingest"), one("bea"))
    read = doors.key("read")

    def journey(path: str) -> Any:
        answer = doors.ask("GET", path, read)
        return answer.json if answer.status == 200 else {}

    wait_for(lambda: journey("/api/v1/ttf/bea").get("subject"), "the user")
    token = journey("/api/v1/ttf/bea")["subject"]
    doors.otlp(doors.server.http_port, doors.key("ingest"), one(token, "project_created"))
    doors.call(("x-api-key", doors.keys["ingest"]), body=one(token, "project_created"))
    wait_for(lambda: journey(f"/api/v1/ttf/{token}").get("user_id"), "an id that looks like a token")
    assert journey("/api/v1/ttf/bea")["ttf_project_minutes"] is None
    wait_for(lambda: doors.call(("x-api-key", trusted), body=one(token, "agent_created")) == b"", "the key")

    def reached() -> set[str]:
        return {stage["name"] for stage in journey("/api/v1/ttf/bea")["stages"] if stage["reached_at"]}

    wait_for(lambda: reached() == {"agent"}, "the milestone")


def test_commands_ask_with_a_key_and_say_what_is_missing(doors):
    def asked(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "otel_ttf", "ttf", "--summary"],
            env={**os.environ, "TELEMETRY_API_URL": doors.server.api_url, **env},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert asked(TELEMETRY_API_KEY=doors.keys["read"] + "\n").returncode == 0
    for env, said in (
        ({}, "set TELEMETRY_API_KEY"),
        ({"TELEMETRY_API_KEY": "wrong"}, "wants a good API key"),
        ({"TELEMETRY_API_KEY": doors.keys["ingest"]}, "--scope read"),
    ):
        done = asked(**env)
        assert (done.returncode, said in done.stderr) == (1, True)
        assert not any(key in done.stderr for key in doors.keys.values())


def test_limits_of_a_key_are_told_as_senders_understand_them(doors):
    key = make_key(doors.server.data_dir, "--requests-per-second", "0.2")
    wait_for(lambda: doors.otlp(doors.server.http_port, {"x-api-key": key}).status == 200, "the key")
    answer = doors.otlp(doors.server.http_port, {"x-api-key": key})
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    status = status_pb2.Status.FromString(answer.body)
    info = error_details_pb2.RetryInfo()
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert status.details[0].Unpack(info)
    assert 0 < info.retry_delay.ToMilliseconds() <= 5000
    error = doors.call(("x-api-key", key))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status = details_of(error)
    assert (status.code, status.details[0].Unpack(info)) == (code_pb2.UNAVAILABLE, True)
    rest = doors.ask("POST", "/api/v1/events", {"x-api-key": key}, json.dumps(EVENT).encode())
    assert (rest.status, rest.json["type"]) == (429, "urn:otel-ttf:problem:too-many-requests")
    assert "retry-after" in rest.headers


@pytest.mark.parametrize("door", ["grpc", "http"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_comes_again_when_a_limit_has_held_it_up_and_loses_nothing(doors, door):
    key = make_key(doors.server.data_dir, "--requests-per-second", "1")
    wait_for(lambda: doors.otlp(doors.server.http_port, {"x-api-key": key}).status == 200, "the key")
    shown = {"x-api-key": key}
    exporter = (
        ByGrpc(doors.server.grpc, insecure=True, headers=shown)
        if door == "grpc"
        else ByHttp(f"{doors.server.http_url}/v1/logs", headers=shown)
    )
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    limited = doors.refused(door, "limited")
    for number in range(8):  # five may come at once
        provider.get_logger("shop").emit(
            LogRecord(event_name="signup", attributes={"user.id": f"by-{door}-{number}"})
        )
    provider.shutdown()
    assert doors.refused(door, "limited") > limited
    users = [f"/api/v1/ttf/by-{door}-{number}" for number in range(8)]
    wait_for(
        lambda: {doors.ask("GET", user, doors.key("read")).status for user in users} == {200}, "all users"
    )


def test_no_key_stands_anywhere_in_plain(doors):
    doors.ask("GET", f"/api/v1/ttf?key={doors.keys['read']}", doors.key("read"))
    doors.ask("GET", f"/api/v1/ttf/{doors.keys['read']}", {})
    leak = {"authorization": f"Bearer {doors.keys['admin']}", "x-api-key": doors.keys["admin"]}
    doors.ask("POST", "/api/v1/events", leak, b"{")
    metrics = doors.ask("GET", "/metrics", doors.key("read")).body
    secrets = [key.split("_")[2].encode() for key in doors.keys.values()] + [OWN.encode()]
    files = [path for path in doors.server.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 5
    for content in (metrics, doors.server.printed().encode(), *(path.read_bytes() for path in files)):
        assert not any(secret in content for secret in secrets)


# Starts.


def server_of(folder: Path, *settings: str, own: str | None = None) -> ServerProcess:
    server = ServerProcess(folder / "data", settings=settings)
    server.environment = {"TELEMETRY_API_KEY": own} if own is not None else {}
    return server


@pytest.mark.parametrize(
    ("settings", "own", "said"),
    [
        pytest.param(["auth.required=true"], None, "make one with `otel-ttf api-keys new", id="no key"),
        pytest.param(["auth.keys_file=/nowhere/keys"], None, "/nowhere/keys is not there", id="no file"),
        pytest.param([], "short", "TELEMETRY_API_KEY: expected at least 16", id="a short key"),
        pytest.param(
            ["api.endpoint=0.0.0.0:0"],
            None,
            "auth: {required: true}",
            id="a door to others, and nobody asked",
        ),
        pytest.param(
            ["api.endpoint=0.0.0.0:0", "auth.required=false"], OWN, "auth: {required: true}", id="nor wanted"
        ),
    ],
)
def test_a_start_that_would_let_in_anybody_or_nobody_is_refused(tmp_path, settings, own, said):
    code, printed = server_of(tmp_path, *settings, own=own).refusal()
    assert code == 2
    assert said in printed


def test_a_door_to_others_needs_no_insecure_where_they_are_asked(tmp_path):
    with server_of(tmp_path, "api.hosts=[ttf.example]", own=OWN) as server:
        server.settings = (*server.settings, "api.endpoint=0.0.0.0:0")
        assert subprocess.run(
            [sys.executable, "-m", "otel_ttf", "validate", "--set", "api.endpoint=0.0.0.0:0"],
            env={"TELEMETRY_API_KEY": OWN, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            check=False,
        ).returncode == 0  # fmt: skip
        assert server.get("/api/v1/ttf").status == 401
        assert server.request("GET", "/health", headers={"host": "ttf.example"}).status == 200


def test_keys_that_are_gone_are_not_taken_for_none(tmp_path):
    server = server_of(tmp_path)
    make_key(server.data_dir)
    with server:
        assert server.get("/api/v1/ttf").status == 401
        server.terminate()
    (server.data_dir / "api-keys").unlink()
    code, said = server.refusal()
    assert code == 2
    assert "api-keys is gone, and with it who may send and ask" in said
    server.settings = ("auth.required=false",)
    with server:
        assert server.get("/api/v1/ttf").status == 200
        server.terminate()


def test_the_demo_sends_with_the_key_of_the_environment(tmp_path):
    server = server_of(tmp_path, own=OWN)
    server.options = ["--demo"]
    server.headers = {"x-api-key": OWN}
    with server:
        wait_for(lambda: server.get("/api/v1/ttf/demo-0001").status == 200, "a user of the demo", 30)
        server.terminate()
    make_key(server.data_dir)
    server.environment = {}
    code, said = server.refusal()
    assert (code, "set TELEMETRY_API_KEY" in said) == (2, True)


def test_without_keys_nobody_is_asked(tmp_path):
    with server_of(tmp_path) as server:
        assert server.get("/api/v1/ttf").status == 200
        assert server.get("/ready").json == {"status": "ready", "reasons": [], "notes": []}


# Tokens of an issuer.


def test_tokens_of_an_issuer_open_the_doors_that_they_are_for(tmp_path):
    with LocalIssuer() as issuer:
        oidc = f"auth.oidc={{issuer_url: '{issuer.url}', audience: [{AUDIENCE}]}}"
        with server_of(tmp_path, oidc) as server:
            doors = Doors(server, {})

            def bearer(**claims: Any) -> dict[str, str]:
                return {"authorization": f"Bearer {issuer.token(**claims)}"}

            assert doors.ask("GET", "/api/v1/ttf", {}).status == 401
            assert doors.ask("GET", "/api/v1/ttf", bearer()).status == 200
            assert doors.ask("GET", "/api/v1/ttf", bearer(aud="another")).status == 401
            assert doors.otlp(server.http_port, bearer()).status == 403
            sends = bearer(scope="otel-ttf.ingest")
            assert doors.otlp(server.http_port, sends).status == 200
            assert doors.call(("authorization", sends["authorization"])) == b""
            assert doors.ask("GET", "/api/v1/ttf", {"x-api-key": issuer.token()}).status == 200
            own = make_key(server.data_dir, "--scope", "read")
            wait_for(
                lambda: doors.ask("GET", "/api/v1/ttf", {"x-api-key": own}).status == 200, "a key beside it"
            )
            metrics = doors.ask("GET", "/metrics", bearer()).body.decode()
            assert 'otel_ttf_api_key_requests_total{key="token"} ' in metrics
            assert 'otel_ttf_files_last_reload_successful{what="issuer_keys"} 1.0' in metrics
            assert issuer.token().split(".")[1][:40] not in server.printed()


def test_while_an_issuer_cannot_be_asked_nobody_is_sent_away_for_good(tmp_path):
    with LocalIssuer() as issuer:
        issuer.trouble = 500
        oidc = f"auth.oidc={{issuer_url: '{issuer.url}', audience: [{AUDIENCE}]}}"
        with server_of(tmp_path, oidc, own=OWN) as server:
            doors = Doors(server, {})
            bearer = {"authorization": f"Bearer {issuer.token()}"}
            answer = doors.ask("GET", "/api/v1/ttf", bearer)
            assert (answer.status, answer.json["type"]) == (503, "urn:otel-ttf:problem:unavailable")
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert (
                doors.call(("authorization", bearer["authorization"])).code() is grpc.StatusCode.UNAVAILABLE
            )
            assert doors.ask("GET", "/api/v1/ttf", {"x-api-key": OWN}).status == 200
            assert server.printed().count("keys of the issuer cannot be fetched") == 1


# Pages of others.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="no browser"),
        pytest.param({"sec-fetch-site": "same-origin", "origin": "http://OWN"}, 200, id="a page of ours"),
        pytest.param({"sec-fetch-site": "none"}, 200, id="what somebody has typed"),
        pytest.param({"origin": "http://OWN"}, 200, id="a page of ours in an old browser"),
        pytest.param(
            {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403, id="a stranger's"
        ),
        pytest.param({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:1"}, 403, id="another port"),
        pytest.param({"origin": "https://evil.example"}, 403, id="a stranger's in an old browser"),
        pytest.param({"origin": "null"}, 403, id="a file, or a frame without an origin"),
        pytest.param(
            {"sec-fetch-site": "cross-site", "x-api-key": "any"}, 200, id="with a key, which no form has"
        ),
    ],
)
def test_pages_of_others_change_nothing(keyless, headers, status):
    own = f"127.0.0.1:{keyless.api_port}"
    told = {name: value.replace("OWN", own) for name, value in headers.items()}
    sent = json.dumps(EVENT).encode()
    answer = keyless.request(
        "POST", "/api/v1/events", sent, headers={"content-type": "application/json", **told}
    )
    assert answer.status == status
    assert keyless.request("GET", "/api/v1/ttf", headers=told).status == 200


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_of(tmp_path_factory.mktemp("keyless")) as server:
        yield server


# Names.


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "a b", ""]
)
def test_a_page_of_a_stranger_whose_name_means_this_machine_gets_nothing(doors, host):
    before = doors.refused("api", "host"), doors.refused("http", "host")
    key = doors.key("admin")
    for method, path in (
        ("GET", "/api/v1/ttf"),
        ("GET", "/health"),
        ("POST", "/api/v1/events"),
        ("GET", "/docs"),
    ):
        answer = doors.ask(method, path, {"host": host, **key})
        assert (answer.status, answer.json["type"]) == (421, "urn:otel-ttf:problem:misdirected")
    for port in (doors.server.http_port, doors.server.api_port):
        answer = doors.otlp(port, {"host": host, **key})
        assert answer.status == 421
        assert "hosts" in status_pb2.Status.FromString(answer.body).message
    assert (doors.refused("api", "host"), doors.refused("http", "host")) == (before[0] + 5, before[1] + 1)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080", "localhost.", "10.1.2.3"]
)
def test_names_that_nobody_else_can_have_are_taken(doors, host):
    assert doors.ask("GET", "/api/v1/ttf", {"host": host, **doors.key("read")}).status == 200
    assert doors.otlp(doors.server.http_port, {"host": host, **doors.key("ingest")}).status == 200
