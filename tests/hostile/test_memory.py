"""Many large requests at once: memory stays bounded, and goes back afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from doors import EXPORT, MIB, accepted, everybody_is_served, memory_bounded, resident
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from server_process import ServerProcess, wait_for

SENDERS = 8
SIZE = 60 * MIB
TEXT = "nothing of interest in this line, and so on; " * 45


@pytest.fixture
def server(tmp_path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as running:
        yield running


def large() -> tuple[bytes, int]:
    """(a request, its records)."""
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    count = SIZE // len(TEXT)
    for _ in range(count):
        records.add().body.string_value = TEXT
    return message.SerializeToString(), count


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_senders_of_60_mib(server):
    raw, records = large()
    refusals: list[status_pb2.Status] = []
    failures: list[BaseException] = []

    def sender() -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.grpc, options=options) as channel:
            export = channel.unary_unary(EXPORT)
            for _ in range(100):
                try:
                    export(raw, timeout=200)
                except grpc.RpcError as error:
                    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
                    refusals.append(status_pb2.Status.FromString(details))
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        failures.append(error)
                        return
                    time.sleep(1)  # sooner than it was told
                else:
                    return

    with memory_bounded(server, 1024 - 100):
        senders = [threading.Thread(target=sender) for _ in range(SENDERS)]
        for thread in senders:
            thread.start()
        time.sleep(0.5)
        everybody_is_served(server)
        for thread in senders:
            thread.join()
    assert failures == []
    for refusal in refusals:
        retry = error_details_pb2.RetryInfo()
        assert refusal.details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() > 0
    assert accepted(server) == SENDERS * records + 3  # none twice, none lost, and those of `everybody`
    wait_for(lambda: resident(server) < 200 * MIB, "the memory to go back", timeout=30, pause=0.5)
    everybody_is_served(server)
