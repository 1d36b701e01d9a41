"""A real OpenTelemetry Collector stands before the server, configured as collector-config/ says."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from senders import ROOT
from server_process import ServerProcess, free_ports, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

OTELCOL = ROOT / ".tools" / "otelcol"
REQUESTS, USERS_OF_ONE = 150, 20
EVENTS = ("user_signed_up", "project_created")
MINUTE = 60 * 10**9


@contextmanager
def collector(folder: Path, config: str, target: str, **more: str) -> Iterator[str]:
    """The Collector on its queue's folder; host:port of its OTLP/gRPC."""
    if not OTELCOL.exists():
        pytest.skip(".tools/otelcol is not built: ./scripts/get-senders collector, which needs Go")
    ports = free_ports(2)
    environment = {
        "COLLECTOR_QUEUE": str(folder / "queue"),
        "COLLECTOR_GRPC": f"127.0.0.1:{ports[0]}",
        "COLLECTOR_HTTP": f"127.0.0.1:{ports[1]}",
        "OTEL_TTF": target,
        **more,
    }
    command = [str(OTELCOL), "--config", str(ROOT / "collector-config" / config)]
    # Its own metrics would want a port of their own.
    command += ["--set", "service.telemetry.metrics.level=none"]
    with (folder / "collector.out").open("ab") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
    try:
        with closing(grpc.insecure_channel(environment["COLLECTOR_GRPC"])) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield environment["COLLECTOR_GRPC"]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def request(number: int, start: int) -> ExportLogsServiceRequest:
    """Both events of twenty users."""
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    for user in range(number * USERS_OF_ONE, (number + 1) * USERS_OF_ONE):
        for place, name in enumerate(EVENTS):
            record = LogRecord(event_name=name, time_unix_nano=start + place * 4 * MINUTE)
            record.attributes.add(key="user.id").value.string_value = f"user-{user}"
            records.append(record)
    return made


def counted(server: ServerProcess) -> tuple[int, int]:
    """(events, journeys) of the store."""
    with server.store() as db:
        (events,) = db.execute("SELECT count(*) FROM event").fetchone()
        (journeys,) = db.execute("SELECT count(*) FROM journey").fetchone()
    return int(events), int(journeys)


@pytest.mark.parametrize(
    ("config", "protocol", "compression"),
    [
        pytest.param("to-otel-ttf.yaml", "grpc", "gzip", id="gRPC, gzip"),
        pytest.param("to-otel-ttf-http.yaml", "http", "gzip", id="HTTP, gzip"),
        pytest.param("to-otel-ttf-http.yaml", "http", "zstd", id="HTTP, zstd"),
    ],
)
def test_nothing_is_lost_or_doubled_when_the_server_stops_and_dies(
    tmp_path: Path, config: str, protocol: str, compression: str
) -> None:
    start = time.time_ns() - 30 * MINUTE
    with ServerProcess(tmp_path / "data") as server:
        target = server.grpc if protocol == "grpc" else server.http_url
        with (
            collector(tmp_path, config, target, COMPRESSION=compression) as before_it,
            closing(grpc.insecure_channel(before_it)) as channel,
        ):
            send = LogsServiceStub(channel).Export
            for number in range(REQUESTS):
                if number == REQUESTS // 3:
                    assert server.terminate() == 0
                elif number == REQUESTS // 2:
                    server.start()
                elif number == 2 * REQUESTS // 3:
                    server.kill()
                elif number == 5 * REQUESTS // 6:
                    server.start()
                answer = send(request(number, start), timeout=30)
                assert not answer.partial_success.rejected_log_records
                time.sleep(0.02)
            users = REQUESTS * USERS_OF_ONE
            wait_for(lambda: counted(server)[0] >= len(EVENTS) * users, "all events", timeout=120, pause=0.2)
            server.wait_caught_up()
        assert counted(server) == (len(EVENTS) * users, users)
        assert server.get("/api/v1/ttf/user-0").json["ttf_project_minutes"] == pytest.approx(4)
