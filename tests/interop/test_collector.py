"""A real OpenTelemetry Collector stands before the server, configured as collector-config/ says."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
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


class Collector:
    """The Collector on its queue's folder. grpc: host:port of its OTLP/gRPC; restarts keep it."""

    def __init__(self, folder: Path, config: str, target: str, compression: str) -> None:
        ports = free_ports(2)
        self.grpc = f"127.0.0.1:{ports[0]}"
        self._environment = {
            "COLLECTOR_QUEUE": str(folder / "queue"),
            "COLLECTOR_GRPC": self.grpc,
            "COLLECTOR_HTTP": f"127.0.0.1:{ports[1]}",
            "OTEL_TTF": target,
            "COMPRESSION": compression,
        }
        self._command = [str(OTELCOL), "--config", str(ROOT / "collector-config" / config)]
        # Its own metrics would want a port of their own.
        self._command += ["--set", "service.telemetry.metrics.level=none"]
        self._output = folder / "collector.out"
        self.start()

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=os.environ | self._environment, stdout=output, stderr=output
            )
        with closing(grpc.insecure_channel(self.grpc)) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def sending(
    folder: Path, server: ServerProcess, config: str, compression: str
) -> Iterator[tuple[Collector, Callable[[int], None]]]:
    """A Collector before the server, and what sends it the request of that number, which it takes."""
    if not OTELCOL.exists():
        pytest.skip(".tools/otelcol is not built: ./scripts/get-senders collector, which needs Go")
    start = time.time_ns() - 30 * MINUTE
    target = server.http_url if "http" in config else server.grpc
    with closing(Collector(folder, config, target, compression)) as collector:

        def send(number: int) -> None:
            with closing(grpc.insecure_channel(collector.grpc)) as channel:
                answer = LogsServiceStub(channel).Export(request(number, start), timeout=30)
            assert not answer.partial_success.rejected_log_records

        yield collector, send


def assert_all_once(server: ServerProcess, requests: int) -> None:
    users = requests * USERS_OF_ONE
    wait_for(lambda: counted(server)[0] >= len(EVENTS) * users, "all events", timeout=120, pause=0.2)
    server.wait_caught_up()
    assert counted(server) == (len(EVENTS) * users, users)
    assert server.get("/api/v1/ttf/user-0").json["ttf_project_minutes"] == pytest.approx(4)


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


WAYS = [
    pytest.param("to-otel-ttf.yaml", "gzip", id="gRPC, gzip"),
    pytest.param("to-otel-ttf-http.yaml", "gzip", id="HTTP, gzip"),
    pytest.param("to-otel-ttf-http.yaml", "zstd", id="HTTP, zstd"),
]


@pytest.mark.parametrize(("config", "compression"), WAYS)
def test_nothing_is_lost_or_doubled_when_the_server_stops_and_dies(
    tmp_path: Path, config: str, compression: str
) -> None:
    with (
        ServerProcess(tmp_path / "data") as server,
        sending(tmp_path, server, config, compression) as (_, send),
    ):
        for number in range(REQUESTS):
            if number == REQUESTS // 3:
                assert server.terminate() == 0
            elif number == REQUESTS // 2:
                server.start()
            elif number == 2 * REQUESTS // 3:
                server.kill()
            elif number == 5 * REQUESTS // 6:
                server.start()
            send(number)
            time.sleep(0.02)
        assert_all_once(server, REQUESTS)


@pytest.mark.parametrize(("config", "compression"), WAYS)
def test_what_the_collector_has_answered_ok_survives_its_own_end(
    tmp_path: Path, config: str, compression: str
) -> None:
    """It is killed while the server takes what it sends, and while the server is away."""
    with (
        ServerProcess(tmp_path / "data") as server,
        sending(tmp_path, server, config, compression) as (collector, send),
    ):
        for number in range(REQUESTS):
            if number == REQUESTS // 2:
                server.kill()
            if number in (REQUESTS // 4, 3 * REQUESTS // 4):
                collector.kill()
                collector.start()
            send(number)
        server.start()
        assert_all_once(server, REQUESTS)
