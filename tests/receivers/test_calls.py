"""gRPC calls whose message does not come, or is one of too many at a time."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from serving import Serving

from otel_ttf.log.base import LogRefused
from otel_ttf.memory import collect
from otel_ttf.receivers.answers import bad_data
from otel_ttf.receivers.calls import AT_ONCE, CROWD, TICK, Calls
from otel_ttf.receivers.otlp_grpc import SERVICES, GrpcConfig, _abort, serve

EXPORT = f"/{SERVICES['logs']}/Export"
MIB = 1 << 20


@pytest.fixture
def channel(server: Serving) -> Iterator[grpc.Channel]:
    config = GrpcConfig(endpoint="127.0.0.1:0", message_timeout="300ms")
    running = server.call(lambda: serve(config, server.intake))
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        yield channel
    server.call(lambda: running.stop(1))


def test_a_call_whose_message_does_not_come_is_asked_to_come_again(server, channel):
    over = threading.Event()

    def never() -> Iterator[bytes]:
        over.wait(20)
        yield b""

    before = server.count("telemetry_errors_total", reason="refused")
    try:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(EXPORT)(never(), timeout=20)
    finally:
        over.set()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the message has not come within 0.3 seconds" in caught.value.details()
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[0].Unpack(error_details_pb2.RetryInfo())
    assert server.count("telemetry_errors_total", reason="refused") == before + 1
    assert channel.unary_unary(EXPORT)(b"", timeout=20) == b""


def test_a_call_without_a_message_is_refused_for_good(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(EXPORT)(iter(()), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected a message" in caught.value.details()


class Waiting:
    """A call whose message comes when it is told, or which is ended."""

    def __init__(self, peer: str = "ipv4:10.0.0.1:1") -> None:
        self.from_ = peer
        self.come = asyncio.Event()
        self.ended: LogRefused | None = None

    def peer(self) -> str:
        return self.from_

    async def read(self) -> bytes:
        await self.come.wait()
        if self.ended is not None:
            raise self.ended
        return b"message"


class Crowd:
    """Calls that wait, beside a process that has grown by so much."""

    def __init__(self, number: int, *peers: str) -> None:
        self.size: int | None = 100 * MIB
        self.calls = Calls(30.0, 512 * MIB, self._end, resident=lambda: self.size)  # type: ignore[arg-type]
        self.waiting = [Waiting() for _ in range(number)] + [Waiting(peer) for peer in peers]
        self._tasks: list[asyncio.Task[bytes | None]] = []

    async def _end(self, call: Waiting, refused: LogRefused) -> None:
        call.ended = refused
        call.come.set()

    async def __aenter__(self) -> Crowd:
        await self.calls.look()  # with nobody there: this is what is usual
        self._tasks = [
            asyncio.create_task(self.calls.message(call))  # type: ignore[arg-type]
            for call in self.waiting
        ]
        await asyncio.sleep(TICK * 1.5)
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self.waiting:
            call.come.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ended(self) -> list[bool]:
        return [call.ended is not None for call in self.waiting]


async def looked(crowd: Crowd) -> None:
    await crowd.calls.look()
    await asyncio.sleep(0.01)


@pytest.fixture
def usual() -> Iterator[tuple[int, int, int]]:
    """How often Python's collector looks."""
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)


async def test_while_many_wait_no_collection_looks_at_many_objects(usual):
    collect(in_steps=False)
    rarely = gc.get_threshold()
    async with Crowd(CROWD + 1) as crowd:
        first, second, _ = gc.get_threshold()
        assert first * second < rarely[0]
        crowd.waiting[0].come.set()
        await looked(crowd)
        await looked(crowd)
        assert gc.get_threshold() == rarely


async def test_while_many_end_others_get_their_turn():
    async with Crowd(20 * AT_ONCE) as crowd:
        crowd.size += 1024 * MIB
        most = seen = 0

        async def other() -> None:
            nonlocal most, seen
            while True:
                ended = sum(crowd.ended())
                most, seen = max(most, ended - seen), ended
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await looked(crowd)
        task.cancel()
        assert sum(crowd.ended()) == 10 * AT_ONCE
        assert most <= 2 * AT_ONCE


async def test_the_longest_on_their_way_end_when_the_process_has_grown_too_much():
    async with Crowd(5) as crowd:
        crowd.size += 512 * MIB
        await looked(crowd)
        assert crowd.ended() == [False] * 5
        crowd.size += MIB
        await looked(crowd)
        assert crowd.ended() == [True] * 3 + [False] * 2
        assert crowd.waiting[0].ended.retry_after == 5.0
        assert "more than 512 MiB" in crowd.waiting[0].ended.reason


async def test_of_many_on_their_way_those_of_whoever_has_most_end_first():
    honest, beside = "ipv4:10.0.0.2:1", "ipv4:10.0.0.1:2"
    async with Crowd(0, honest, beside, *["ipv4:10.0.0.1:1"] * 3) as crowd:
        crowd.size += 600 * MIB
        await looked(crowd)
        assert crowd.ended() == [False, False, True, True, True]
        await looked(crowd)
        assert crowd.ended() == [True, False, True, True, True]


async def test_what_an_attack_leaves_behind_is_no_room_for_the_next_one():
    async with Crowd(2) as crowd:
        crowd.size += 600 * MIB
        await looked(crowd)
        await looked(crowd)
        assert crowd.ended() == [True, True]
        crowd.size -= 200 * MIB
        await looked(crowd)  # nobody is there any more, and gRPC has not let go of all of it
        late = Waiting()
        task = asyncio.create_task(crowd.calls.message(late))  # type: ignore[arg-type]
        await asyncio.sleep(TICK * 1.5)
        crowd.size += 200 * MIB
        await looked(crowd)
        assert late.ended is not None
        await asyncio.gather(task, return_exceptions=True)


async def test_a_call_that_has_just_come_stays():
    async with Crowd(1) as crowd:
        young = Waiting()
        task = asyncio.create_task(crowd.calls.message(young))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        crowd.size += 1024 * MIB
        await crowd.calls.look()
        await looked(crowd)
        assert crowd.ended() == [True]
        assert young.ended is None
        young.come.set()
        assert await task == b"message"


async def test_a_process_that_has_grown_by_itself_ends_nobody():
    async with Crowd(2) as crowd:
        for call in crowd.waiting:
            call.come.set()
        await asyncio.sleep(0)
        crowd.size += 2048 * MIB  # of users, say
        await crowd.calls.look()
        task = asyncio.create_task(crowd.calls.message(Waiting()))  # type: ignore[arg-type]
        await asyncio.sleep(TICK * 1.5)
        await looked(crowd)
        assert not task.done()
        task.cancel()


def test_our_log_has_no_line_for_each_peer_that_goes_away(channel, caplog):
    library = logging.getLogger("grpc._cython.cygrpc")
    for error in (grpc.aio.InternalError("Failed grpc_call_start_batch"), ValueError("ours")):
        try:
            raise error
        except (grpc.aio.InternalError, ValueError):
            library.exception("raised by servicer method")
    assert [type(record.exc_info[1]) for record in caplog.records] == [ValueError]


async def test_a_refusal_that_nobody_hears_is_no_error():
    class Gone:
        async def abort(self, *_: object) -> None:
            raise grpc.aio.InternalError("Failed grpc_call_start_batch")

    with pytest.raises(asyncio.CancelledError):  # which gRPC takes for the end of the call
        await _abort(Gone(), bad_data("x"))  # type: ignore[arg-type]


async def test_where_the_system_does_not_say_how_large_the_process_is_only_time_counts():
    async with Crowd(2) as crowd:
        crowd.size = None
        await looked(crowd)
        assert crowd.ended() == [False] * 2


async def test_a_peer_that_does_not_hear_its_end_keeps_nobody_waiting():
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    size = 100 * MIB
    calls = Calls(30.0, 512 * MIB, never, resident=lambda: size)
    await calls.look()
    waiting = [Waiting() for _ in range(2)]
    tasks = [asyncio.create_task(calls.message(call)) for call in waiting]  # type: ignore[arg-type]
    await asyncio.sleep(TICK * 1.5)
    size += 1024 * MIB
    async with asyncio.timeout(5):
        await calls.look()
        await calls.look()
    # It is told to come again, so what it sends after all must not be taken.
    waiting[0].come.set()
    with pytest.raises(LogRefused, match="too late"):
        await tasks[0]
    tasks[1].cancel()
