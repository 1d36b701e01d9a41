"""Exporters of a running server: killed, stopped, without its files, towards another otel_ttf and a real Collector."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from destinations import OK, Answer, GrpcDestination
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ROOT, ServerProcess, command_on, free_ports, wait_for

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
COLLECTOR = ROOT / ".tools" / "otelcol"


def request(*names: str, user: str = "") -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    for name in names:
        record = records.add(event_name=name, time_unix_nano=time.time_ns())
        if user:
            record.attributes.add(key="user.id").value.string_value = user
    return made


def send(server: ServerProcess, made: ExportLogsServiceRequest) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(EXPORT)(made.SerializeToString(), timeout=10)


def exporting(port: int, **given: Any) -> list[str]:
    """Settings for an exporter `otlp` of logs to a port."""
    config = {
        "endpoint": f"127.0.0.1:{port}",
        "tls": {"insecure": True},
        "start_at": "beginning",
        "retry_on_failure": {"initial_interval": "50ms", "max_interval": "500ms"},
    } | given
    return [f"exporters.otlp={json.dumps(config)}", "service.pipelines.logs.exporters=[otlp]"]


@pytest.fixture
def destination() -> Iterator[GrpcDestination]:
    made = GrpcDestination()
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)  # five starts
def test_kill_9_loses_nothing_that_was_answered_ok(tmp_path: Path, destination: GrpcDestination) -> None:
    random = Random(13)
    destination.judge = lambda _: OK if random.random() < 0.8 else Answer("later")
    answered: list[str] = []
    with ServerProcess(tmp_path / "data", settings=exporting(destination.port)) as server:
        for round_ in range(4):
            until = time.monotonic() + 1 + random.random()
            with grpc.insecure_channel(server.grpc) as channel:
                number = 0
                while time.monotonic() < until:
                    names = [f"{round_}.{number}.{at}" for at in range(10)]
                    channel.unary_unary(EXPORT)(request(*names).SerializeToString(), timeout=10)
                    answered += names
                    number += 1
            server.kill()
            server.start()
        wait_for(lambda: set(destination.counts) >= set(answered), "everything to arrive", 30)
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the cursor")
        twice = sum(count - 1 for count in destination.counts.values())
        assert twice < len(answered) / 4, "of four kills each costs what was on its way"
        before = len(destination.came)
        assert server.terminate() == 0
        server.start()
        send(server, request("last"))
        wait_for(lambda: "last" in destination.counts, "the last one")
        assert len(destination.came) == before + 1, "after a stop nothing is sent again"
        assert server.terminate() == 0


@pytest.mark.slow
def test_who_refuses_everything_gets_it_later_also_over_kill_9(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    destination.judge = lambda _: Answer("bad")
    settings = exporting(destination.port, sending_queue={"batch": {"min_size": 1}})
    with ServerProcess(tmp_path / "data", settings=settings) as server:
        for round_ in range(2):
            for number in range(10):
                send(server, request(f"{round_}.{number}"))
            before = len(destination.came)
            wait_for(lambda: "refuses everything" in str(server.get("/ready").json["notes"]), "a note")
            wait_for(lambda before=before: len(destination.came) > before + 10, "some more refusals")
            assert server.get("/ready").status == 200
            assert server.metrics().total("otel_ttf_exporter_refusing", exporter="otlp") == 1
            assert server.metrics().total("otel_ttf_quarantine_records", consumer="otlp:logs") == 0
            server.kill()
            server.start()
        destination.judge = lambda _: OK
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "all of it")
        assert server.get("/ready").json["notes"] == []
        assert server.terminate() == 0
    assert destination.counts == {f"{round_}.{n}": 1 for round_ in range(2) for n in range(10)}


@pytest.mark.slow
def test_what_waited_for_an_exporter_with_one_cursor_for_all_signals_is_sent(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    destination.judge = lambda came: Answer("later") if "waits" in came.names else OK
    with ServerProcess(tmp_path / "data", settings=exporting(destination.port, start_at="end")) as server:
        for name in ("sent", "waits"):
            send(server, request(name))
            wait_for(lambda name=name: any(name in came.names for came in destination.came), name)
        server.wait_caught_up()
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 1, "the cursor")
        assert server.terminate() == 0
        # As it was when all signals shared one.
        for file, statement in (
            ("exporters.db", "UPDATE cursor SET consumer = 'otlp', sum = NULL"),
            ("log.db", "UPDATE consumer SET name = 'otlp' WHERE name = 'otlp:logs'"),
        ):
            with closing(sqlite3.connect(server.data_dir / file)) as db, db:
                assert db.execute(statement).rowcount == 1
        destination.judge = lambda _: OK
        server.start()
        wait_for(lambda: destination.counts["waits"] == 1, "what waited")
        assert server.terminate() == 0
    assert destination.counts == {"sent": 1, "waits": 1}


@pytest.mark.slow
def test_a_lost_store_and_a_deleted_file_of_cursors_change_nothing(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    with ServerProcess(tmp_path / "data", settings=exporting(destination.port)) as server:
        send(server, request("a"))
        wait_for(lambda: destination.counts["a"] == 1, "a")
        (server.data_dir / "exporters.db").unlink()
        wait_for(lambda: (server.data_dir / "exporters.db").exists(), "the file to be written again")
        send(server, request("then"))
        wait_for(lambda: destination.counts["then"] == 1, "what comes then")
        assert server.terminate() == 0
        for file in server.data_dir.glob("store.db*"):
            file.unlink()
        server.options = ["--accept-empty-store", ""]
        server.start()
        send(server, request("b"))
        wait_for(lambda: destination.counts["b"] == 1, "b")
        assert server.terminate() == 0
    assert destination.counts == {"a": 1, "then": 1, "b": 1}
    assert "cannot be written" not in server.printed()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_a_damaged_file_of_cursors_is_mended_and_costs_no_record(
    tmp_path: Path, destination: GrpcDestination, killed: bool
) -> None:
    answered = [f"event {number}" for number in range(60)]
    with ServerProcess(tmp_path / "data", settings=exporting(destination.port)) as server:
        for name in answered[:20]:
            send(server, request(name))
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the cursor")
        for part in ("", "-wal"):
            file = server.data_dir / f"exporters.db{part}"
            file.write_bytes(Random(1).randbytes(file.stat().st_size))
        for name in answered[20:40]:
            send(server, request(name))
        wait_for(lambda: set(answered[:40]) <= set(destination.counts), "what came then")
        server.kill() if killed else server.terminate()
        assert killed or command_on(server.data_dir, "check-data").returncode in (0, 1)
        server.start()
        ready = server.get("/ready")
        assert (ready.status, ready.json["reasons"]) == (200, [])
        for name in answered[40:]:
            send(server, request(name))
        wait_for(lambda: set(answered) <= set(destination.counts), "all of it")
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the cursor")
        assert "exporters.db was damaged" in server.printed()
        assert server.terminate() == 0
        assert command_on(server.data_dir, "check-data").returncode == 0
    assert max(destination.counts.values()) <= (2 if killed else 1)


@pytest.mark.slow
def test_without_exporters_nothing_of_them_is_there(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        send(server, request("a"))
        assert not (server.data_dir / "exporters.db").exists()
        assert b"exporter" not in server.get("/metrics").body
        maps = Path(f"/proc/{server.running.pid}/task")
        names = {(task / "comm").read_text().strip() for task in maps.iterdir()}
        assert "exporters" not in names
        assert server.terminate() == 0


@pytest.mark.slow
def test_a_dead_destination_fails_no_probe_and_delays_no_stop(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ServerProcess(tmp_path / "data", settings=exporting(port)) as server:
        send(server, request("a"))
        wait_for(lambda: server.get("/ready").json["notes"] != [], "a note")
        ready = server.get("/ready")
        assert (ready.status, ready.json["reasons"]) == (200, [])
        assert "exporter otlp" in ready.json["notes"][0]
        assert server.metrics().total("otel_ttf_consumer_lag_records", consumer="otlp:logs") == 1
        server.wait_caught_up()
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 8, "of 10 s"


@pytest.mark.slow
def test_dead_letters_of_an_exporter_on_the_command_line(
    tmp_path: Path, destination: GrpcDestination
) -> None:
    destination.judge = lambda came: Answer("bad") if "poison" in came.names else OK
    with ServerProcess(tmp_path / "data", settings=exporting(destination.port)) as server:
        send(server, request("a", "poison", "b"))
        wait_for(
            lambda: server.metrics().total("otel_ttf_quarantine_records", consumer="otlp:logs") == 1,
            "a letter",
        )
        assert sorted(destination.taken) == ["a", "b"]
        assert "dead letters" in server.get("/ready").json["notes"][0]
        listed = json.loads(command_on(server.data_dir, "dead-letters", "list", "--format", "json").stdout)
        (letter,) = listed["items"]
        assert (letter["consumer"], letter["error"]) == ("otlp:logs", "INVALID_ARGUMENT")
        destination.judge = lambda _: OK
        done = command_on(server.data_dir, "dead-letters", "retry", "--all", "--format", "json")
        assert json.loads(done.stdout)["done"] == [letter["id"]]
        assert "poison" in destination.taken
        assert (
            server.metrics().total("otel_ttf_quarantine_total", consumer="otlp:logs", action="retried") == 1
        )
        assert "secret words" not in server.printed()
        assert server.terminate() == 0


@pytest.mark.slow
def test_what_must_not_be_sold_stays_here(tmp_path: Path, destination: GrpcDestination) -> None:
    ours = "processors.mask.keys=[{key: plan.code, action: encrypt, vendors: drop}, {key: shared, action: encrypt}]"
    settings = [*exporting(destination.port, vendor=True), ours]
    with ServerProcess(tmp_path / "data", settings=settings) as server:
        made = request("kept", user="eve")
        record = made.resource_logs[0].scope_logs[0].log_records[0]
        record.attributes.add(key="ttf.do_not_sell").value.bool_value = True
        send(server, made)
        made = request("sold", user="jane")
        for key in ("plan.code", "shared"):
            record = made.resource_logs[0].scope_logs[0].log_records[0]
            record.attributes.add(key=key).value.string_value = "p-4711"
        send(server, made)
        wait_for(lambda: "sold" in destination.counts, "what may go")
        (came,) = destination.came
        (record,) = came.request.resource_logs[0].scope_logs[0].log_records
        assert [pair.key for pair in record.attributes] == ["user.id", "shared"]
        assert record.attributes[1].value.string_value.startswith("e1_")
        assert destination.taken == ["sold"]
        assert server.metrics().total("otel_ttf_exporter_withheld_records_total") == 1
        assert server.terminate() == 0


@pytest.mark.slow
def test_another_otel_ttf_has_the_same_journeys_whatever_way_events_come(tmp_path: Path) -> None:
    second = ServerProcess(tmp_path / "second", settings=["receivers.otlp.trusted_tokens=true"])
    settings = exporting(second.grpc_port, event_ids=True)
    with second, ServerProcess(tmp_path / "first", settings=settings) as first:
        for number in range(20):
            send(first, request("signup", user=f"u{number}"))
        wait_for(lambda: second.metrics().total("ttf_started_total") == 20, "all journeys")
        ids = []
        for server in (first, second):
            server.wait_caught_up()
            with server.store() as store:
                ids.append(store.execute("SELECT event_id, subject FROM event ORDER BY event_id").fetchall())
        assert ids[0] == ids[1]
        assert len(ids[0]) == 20
        # Sent once more, since nobody knows that it was: it counts once.
        assert first.terminate() == 0
        first.settings = tuple(exporting(second.grpc_port, event_ids=True, endpoint=second.grpc))
        first.start()
        send(first, request("signup", user="u20"))
        wait_for(lambda: second.metrics().total("ttf_started_total") == 21, "the new one")
        with second.store() as store:
            assert store.execute("SELECT count(*) FROM event").fetchone() == (21,)
        assert first.terminate() == 0


@pytest.mark.slow
@pytest.mark.skipif(not COLLECTOR.exists(), reason="no Collector: scripts/get-peers")
@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_a_real_collector_takes_it_and_sends_it_on(tmp_path: Path, kind: str) -> None:
    behind = GrpcDestination()
    behind.start()
    (port,) = free_ports(1)
    config = tmp_path / "collector.yaml"
    config.write_text(
        f"""
receivers: {{otlp: {{protocols: {{{kind}: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: "127.0.0.1:{behind.port}", tls: {{insecure: true}}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_grpc]}}}}
"""
    )

    def collector() -> subprocess.Popen[bytes]:
        with (tmp_path / "collector.out").open("ab") as output:
            return subprocess.Popen([COLLECTOR, "--config", config], stdout=output, stderr=output)

    settings = exporting(port)
    if kind == "http":
        given = {"endpoint": f"http://127.0.0.1:{port}", "start_at": "beginning"}
        settings = [f"exporters.otlphttp={json.dumps(given)}", "service.pipelines.logs.exporters=[otlphttp]"]
    running = collector()
    try:
        with ServerProcess(tmp_path / "data", settings=settings) as server:
            for number in range(20):
                send(server, request(f"a{number}", f"b{number}"))
            wait_for(lambda: len(behind.counts) == 40, "what was sent", 20)
            running.terminate()
            running.wait(20)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda number: send(server, request(f"c{number}")), range(20)))
            running = collector()
            wait_for(lambda: len(behind.counts) == 60, "what waited", 30)
            assert set(behind.counts.values()) == {1}
            assert server.terminate() == 0
    finally:
        running.kill()
        running.wait()
        behind.stop()


def test_conditions_say_which_exporter_gets_what(tmp_path: Path, destination: GrpcDestination) -> None:
    second = GrpcDestination()
    second.start()
    ports = {"otlp/milestones": destination.port, "otlp/rest": second.port}
    condition = {"event": ["signup", "done"]}
    only = {"otlp/milestones": condition, "otlp/rest": {"not": condition}}
    configs = {
        name: {"endpoint": f"127.0.0.1:{port}", "tls": {"insecure": True}, "only": only[name]}
        for name, port in ports.items()
    }
    settings = [f"exporters.{name}={json.dumps(config)}" for name, config in configs.items()]
    settings.append("service.pipelines.logs.exporters=[otlp/milestones, otlp/rest]")
    try:
        with ServerProcess(tmp_path / "data", settings=settings) as server:
            send(server, request("signup", "viewed", "done", user="jane"))
            send(server, request("viewed", user="eve"))
            send(server, request("signup", user="bob"))
            wait_for(lambda: len(destination.taken) == 3 and len(second.taken) == 2, "all records")
            assert sorted(destination.taken) == ["done", "signup", "signup"]
            assert second.taken == ["viewed", "viewed"]
            assert server.metrics().total("otel_ttf_exporter_elsewhere_records_total") == 5
            wait_for(lambda: server.get("/ready").status == 200, "ready")
    finally:
        second.stop()
