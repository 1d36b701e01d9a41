"""OTLP over gRPC keeps what every exporter has to, and what is its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from destinations import OK, Answer, Destination, GrpcDestination
from export_world import NAME, World, logs, until
from exporter_contract import FAST, ExporterContract
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from otel_ttf.exporters.base import DONE, Piece
from otel_ttf.exporters.otlp import ANSWER_BYTES
from otel_ttf.exporters.otlp_grpc import KINDS, METHODS, OtlpGrpcConfig, retry_info
from otel_ttf.log.base import LogRefused, Row


class TestOtlpGrpc(ExporterContract):
    def make(self) -> Destination:
        return GrpcDestination()

    def config(self, port: int, **given: Any) -> OtlpGrpcConfig:
        return OtlpGrpcConfig(endpoint=f"127.0.0.1:{port}", **{"tls": {"insecure": True}} | given)


def test_statuses_are_those_of_the_specification() -> None:
    retried = {code.name for code, kind in KINDS.items() if kind == "later"}
    assert retried == {
        *("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
    }


def test_what_it_asks_for_is_found_among_other_details() -> None:
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason="busy"))
    details[1].Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)))
    for told, seconds in ((details, 1.5), (details[:1], None)):
        status = status_pb2.Status(details=told).SerializeToString()
        assert retry_info([("grpc-status-details-bin", status)]) == seconds


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.open()
    yield world
    await world.close()


def _large_answer(raw: bytes, context: Any) -> bytes:
    return bytes(ANSWER_BYTES + 1)


def _many_trailers(raw: bytes, context: Any) -> bytes:
    context.set_trailing_metadata([(f"x-{number}", "y" * 1000) for number in range(100)])
    return b""


def _many_headers(raw: bytes, context: Any) -> bytes:
    context.send_initial_metadata([(f"x-{number}", "y" * 1000) for number in range(100)])
    return b""


def _request_too_large(raw: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "trying to send message larger than max")
    raise AssertionError


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(_large_answer, "taken", id="a message"),
        pytest.param(_many_trailers, "later", id="trailers without end"),
        pytest.param(_many_headers, "later", id="headers without end"),
        pytest.param(_request_too_large, "size", id="it is the request that is too large"),
    ],
)
async def test_an_answer_that_is_too_large_is_no_request_that_is(
    answer: Callable[[bytes, Any], bytes], kind: str
) -> None:
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    handler = {"Export": grpc.unary_unary_rpc_method_handler(answer)}
    service = METHODS["logs"].split("/")[1]
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handler)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sender = OtlpGrpcConfig(endpoint=f"127.0.0.1:{port}", tls={"insecure": True}).build("otlp")
    outcome = await sender.send([Piece(Row(1, 0, "logs", logs("r0"), b"", 1))])
    if kind == "taken":
        assert outcome == DONE
    elif kind == "later":
        assert (list(outcome.retry), outcome.barred, outcome.rejected) == ([0], False, {})
    else:
        assert (list(outcome.rejected), outcome.fault) == ([0], "size")
    await sender.close()
    server.stop(0)


async def test_headers_and_compression_go_along(world: World) -> None:
    destination = GrpcDestination()
    destination.start()
    given = FAST | {"headers": {"Authorization": "Bearer x"}, "tls": {"insecure": True}}
    world.start({NAME: OtlpGrpcConfig(endpoint=f"http://127.0.0.1:{destination.port}", **given)})
    await world.send("r0")
    await until(lambda: destination.taken)
    (came,) = destination.came
    assert came.headers["authorization"] == "Bearer x"
    assert came.headers["user-agent"].startswith("otel_ttf/")
    destination.stop()


async def test_a_destination_that_refuses_all_that_was_read_goes_on_behind_the_gap(world: World) -> None:
    """As a sender may bring about who has a lot of records that only the destination finds bad."""
    await world.reopen(max_size="1MiB", max_lag="200KiB")
    destination = GrpcDestination(judge=lambda came: Answer("bad") if "bad" in came.names else OK)
    destination.start()
    given = FAST | {"tls": {"insecure": True}, "sending_queue": {"batch": {"max_bytes": "1KiB"}}}
    world.start({NAME: OtlpGrpcConfig(endpoint=f"127.0.0.1:{destination.port}", **given)})
    async with asyncio.timeout(30):
        while "good" not in destination.taken:
            with suppress(LogRefused):
                name = "good" if world.log.gaps(NAME) else "bad"
                await world.append(logs(name, body=os.urandom(7000).hex()))
            await asyncio.sleep(0.01)
    await until(lambda: world.exporters[NAME].position == world.log.end())
    assert "beyond log.max_lag" in {letter.error for letter in world.letters()}
    destination.stop()


async def test_a_bad_request_of_any_size_holds_up_nothing(world: World) -> None:
    destination = GrpcDestination(judge=lambda came: Answer("bad") if "bad" in came.names else OK)
    destination.start()
    given = FAST | {"tls": {"insecure": True}, "sending_queue": {"batch": {"max_bytes": "1KiB"}}}
    world.start({NAME: OtlpGrpcConfig(endpoint=f"127.0.0.1:{destination.port}", **given)})
    await world.append(logs("bad", body="x" * (1 << 20)))
    await world.send("good")
    await until(lambda: world.exporters[NAME].position == 2)
    assert [(letter.error, letter.position) for letter in world.letters()] == [("INVALID_ARGUMENT", 1)]
    destination.stop()


def test_nothing_secret_is_shown() -> None:
    assert "hunter2" not in repr(OtlpGrpcConfig(endpoint="a:1", headers={"x-team": "hunter2"}))
