"""A sidecar: small messages, a small store that stays small under load and kill -9."""

from __future__ import annotations

import random
import time
from pathlib import Path

import grpc
import pytest
from ledger import EXPORT
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from server_process import ServerProcess, wait_for

MIB = 1 << 20
EVENTS = 50  # in a request
REQUESTS = 240


def sidecar(tmp_path: Path, *settings: str) -> ServerProcess:
    server = ServerProcess(tmp_path / "data", settings=settings)
    server.options = ("--preset", "sidecar")
    return server


def request(number: int, began: int) -> bytes:
    """Milestones of users of their own, 4 KB each that hardly shrink."""
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    noise = random.Random(number)
    for place in range(number * EVENTS, (number + 1) * EVENTS):
        record = records.add(time_unix_nano=began + place * 1_000_000, event_name="signup")
        words = " ".join(noise.choice(("lorem", "ipsum", "dolor", "sit", "amet")) for _ in range(700))
        values = {"user.id": f"traveller {place}", "number": str(place), "text": words}
        record.attributes.extend(
            KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in values.items()
        )
    return message.SerializeToString()


def on_disk(server: ServerProcess) -> int:
    return sum(file.stat().st_size for file in server.data_dir.glob("store.db*") if file.suffix != ".db-shm")


@pytest.mark.slow
def test_the_store_stays_small_under_load_and_kills_and_no_journey_goes(tmp_path: Path) -> None:
    began = time.time_ns() - 30 * 60 * 10**9
    with sidecar(tmp_path, "storage.max_size=32MiB") as server:
        channel = grpc.insecure_channel(server.grpc, options=[("grpc.max_reconnect_backoff_ms", 100)])
        export = channel.unary_unary(EXPORT)
        largest = 0
        for number in range(REQUESTS):
            if number in (REQUESTS * 3 // 4, REQUESTS * 7 // 8):
                assert server.metrics().total("otel_ttf_events_dropped_total") > 0
                server.kill()  # somewhere in the middle of storing, deleting, shrinking
                server.start()
            assert export(request(number, began), timeout=30, wait_for_ready=True) == b""
            largest = max(largest, on_disk(server))
        channel.close()
        server.wait_caught_up()
        wait_for(
            lambda: server.metrics().total("otel_ttf_store_size_bytes") <= 32 * MIB, "the store to shrink"
        )
        assert on_disk(server) <= 32 * MIB
        assert largest <= 40 * MIB  # what one transaction adds before it is looked again
        with server.store() as store:
            (journeys,) = store.execute("SELECT count(*) FROM journey WHERE touched IS NOT NULL").fetchone()
            (told,) = store.execute("SELECT count(*) FROM transition WHERE kind = 'started'").fetchone()
            times = [at for (at,) in store.execute("SELECT at FROM event ORDER BY id")]
        assert (journeys, told) == (EVENTS * REQUESTS, EVENTS * REQUESTS)
        assert server.metrics().total("ttf_started_total") == EVENTS * REQUESTS
        kept = [(at - began) // 1_000_000 for at in times]
        assert kept == list(range(EVENTS * REQUESTS - len(kept), EVENTS * REQUESTS))
        assert len(kept) > 1000
        assert server.printed().count("storage.max_size is reached") == 3  # once in each process
        assert server.metrics().total("otel_ttf_store_full") == 0
        assert server.terminate() == 0


def test_a_message_beyond_8_mib_is_refused_for_good_at_every_door(tmp_path: Path) -> None:
    large = bytes(9 * MIB)
    with sidecar(tmp_path) as server:
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(EXPORT)(large, timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for path, port, kind in (
            ("/v1/logs", server.http_port, "application/x-protobuf"),
            ("/v1/logs", server.api_port, "application/x-protobuf"),
            ("/api/v1/events", server.api_port, "application/json"),
        ):
            answer = server.request("POST", path, large, headers={"content-type": kind}, port=port)
            assert answer.status == 413, path
        assert server.get("/ready").status == 200
        assert "make storage.max_size smaller" not in server.printed()
