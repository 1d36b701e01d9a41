"""OTLP over HTTP keeps what every exporter has to, in both encodings, and what is its own."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from destinations import Destination, HttpDestination
from export_world import NAME, World, until
from exporter_contract import FAST, ExporterContract
from local_http import LocalHttp, Request, body_of, reply

from otel_ttf.exporters.base import DONE, Piece, Unreachable
from otel_ttf.exporters.otlp_http import KINDS, OtlpHttpConfig, retry_after
from otel_ttf.log.base import Row
from otel_ttf.store.tasks import Tasks


class TestOtlpHttp(ExporterContract):
    def make(self) -> Destination:
        return HttpDestination()

    def config(self, port: int, **given: Any) -> OtlpHttpConfig:
        return OtlpHttpConfig(endpoint=f"http://127.0.0.1:{port}", **given)


class TestOtlpHttpAsJson(TestOtlpHttp):
    def config(self, port: int, **given: Any) -> OtlpHttpConfig:
        return super().config(port, encoding="json", **given)


def test_statuses_are_those_of_the_specification() -> None:
    assert {status for status, kind in KINDS.items() if kind == "later"} == {429, 502, 503, 504}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"retry-after": "7"}, 7, id="seconds"),
        pytest.param(
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            30,
            id="a date counts from the answer's own",
        ),
        pytest.param({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0, id="a date that has passed"),
        pytest.param({b"retry-after": b"\xb2"}, None, id="a digit that is no number"),
        pytest.param({"retry-after": "soon"}, None, id="a word"),
        pytest.param(
            {"retry-after": f"Wed, 21 Oct {'9' * 30} 07:28:30 GMT"}, None, id="a year beyond all numbers"
        ),
        pytest.param({"retry-after": "-3"}, None, id="below 0"),
        pytest.param({"retry-after": "9" * 500}, 999999999, id="for ever"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_retry_after(headers: Any, seconds: float | None) -> None:
    assert retry_after(httpx2.Headers(headers)) == seconds


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.open()
    yield world
    await world.close()


async def test_headers_and_urls_are_as_configured(world: World) -> None:
    destination = HttpDestination()
    destination.start()
    url = f"http://127.0.0.1:{destination.port}"
    config = OtlpHttpConfig(
        endpoint="http://127.0.0.1:1", logs_endpoint=f"{url}/v1/logs", headers={"X-Team": "a"}, **FAST
    )
    world.start({NAME: config})
    await world.send("r0")
    await until(lambda: destination.taken)
    (came,) = destination.came
    assert came.headers["x-team"] == "a"
    assert came.headers["content-encoding"] == "gzip"
    destination.stop()


async def test_what_takes_long_to_prepare_holds_up_nobody_else(world: World) -> None:
    destination, prepared = HttpDestination(), threading.Event()
    destination.start()

    class Slow(OtlpHttpConfig):
        def prepare(self, row: Row) -> Row:
            assert prepared.wait(20)
            return row

    url = f"http://127.0.0.1:{destination.port}"
    world.start({NAME: Slow(endpoint=url, **FAST), "otlp/other": OtlpHttpConfig(endpoint=url, **FAST)})
    await world.send("r0")
    await until(lambda: destination.taken == ["r0"])
    prepared.set()
    await until(lambda: destination.taken == ["r0", "r0"])
    destination.stop()


async def test_a_letter_that_cannot_be_prepared_or_takes_long_holds_up_nobody(world: World) -> None:
    destination, prepared, broken = HttpDestination(), threading.Event(), threading.Event()
    destination.start()
    broken.set()

    class Odd(OtlpHttpConfig):
        def prepare(self, row: Row) -> Row:
            if broken.is_set():
                raise ValueError
            assert prepared.wait(20)
            return row

    def ask() -> int:
        (letter,) = world.letters()
        return Tasks(world.book._db).ask("retry", {"ids": [letter.id]}, 0)

    def answer(task: int) -> Any:
        return Tasks(world.book._db).answered(task)

    url = f"http://127.0.0.1:{destination.port}"
    world.start({NAME: Odd(endpoint=url, **FAST), "otlp/other": OtlpHttpConfig(endpoint=url, **FAST)})
    await world.send("r0")
    await until(world.letters)
    task = ask()
    await until(lambda: answer(task))
    (said,) = answer(task)["failed"].values()
    assert said.startswith("ValueError at ")
    broken.clear()
    task = ask()
    for name in ("r1", "r2"):
        await world.send(name)
        await until(lambda name=name: destination.counts[name] == 1)  # type: ignore[misc]
    assert answer(task) is None
    prepared.set()
    await until(lambda: answer(task))
    assert len(answer(task)["done"]) == 1
    assert destination.counts["r0"] == 2
    destination.stop()


def _redirect(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 308 Moved\r\nlocation: http://127.0.0.1:%d/v1/logs\r\ncontent-length: 0\r\n\r\n" % port)


def _choices(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 300 Many\r\nlocation: http://127.0.0.1:%d/v1/logs\r\ncontent-length: 0\r\n\r\n" % port)


def _chunks(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        send(b"1\r\nx\r\n" * 100)


def _headers(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    while True:
        send(b"x-a: " + b"y" * 1000 + b"\r\n")


def _trailers(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    while True:
        send(b"x-a: " + b"y" * 1000 + b"\r\n")


def _drip(send: Callable[[bytes], None], port: int) -> None:
    send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        send(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(_redirect, "HTTP 308", id="elsewhere"),
        pytest.param(_choices, "HTTP 300", id="elsewhere, of its choice"),
        pytest.param(_chunks, "taken", id="chunks without end"),
        pytest.param(_headers, "unreachable", id="headers without end"),
        pytest.param(_trailers, "unreachable", id="trailers without end"),
        pytest.param(_drip, "unreachable", id="a byte now and then"),
    ],
)
async def test_a_rude_destination_costs_little_and_learns_nothing(
    answer: Callable[[Callable[[bytes], None], int], None], outcome: str
) -> None:
    elsewhere, asked = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    elsewhere.setblocking(False)

    def serve() -> None:
        opened, _ = asked.accept()
        with opened, suppress(OSError):
            opened.recv(65536)
            answer(opened.sendall, elsewhere.getsockname()[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{asked.getsockname()[1]}"
    headers = {"authorization": "Bearer secret"}
    sender = OtlpHttpConfig(endpoint=url, headers=headers, timeout="1s").build("otlp_http")
    piece = Piece(Row(1, 0, "logs", b"", b"", 1))
    try:
        found = await sender.send([piece])
    except Unreachable:
        assert outcome == "unreachable"
    else:
        assert (found.why or "taken", found.barred) == (outcome, outcome.startswith("HTTP 3"))
    await sender.close()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive(), "the connection is closed"
    with pytest.raises(BlockingIOError):
        elsewhere.accept()
    elsewhere.close()
    asked.close()


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(JSON, b"[" * 100_000, id="nested for ever"),
        pytest.param(JSON, b'{"partialSuccess": {"rejectedLogRecords": 1e999}}', id="infinity"),
        pytest.param({"content-encoding": "gzip"}, b"not packed", id="not packed as it says"),
        pytest.param({"content-encoding": "gzip"}, gzip.compress(bytes(64 << 20)), id="a bomb"),
        pytest.param({}, bytes(64 << 20), id="much"),
        pytest.param({"set-cookie": "a=" + "x" * 1000}, b"", id="cookies"),
    ],
)
async def test_whatever_comes_with_an_ok_it_is_one(headers: dict[str, str], body: bytes) -> None:
    came = []

    class Server(LocalHttp):
        def answer(self, request: Request) -> None:
            body_of(request)
            came.append(request.headers)
            reply(request, 200, body, headers)

    with Server() as server:
        sender = OtlpHttpConfig(endpoint=server.address).build("otlp_http")
        piece = Piece(Row(1, 0, "logs", b"", b"", 1))
        tracemalloc.start()
        for _ in range(2):
            assert await sender.send([piece]) == DONE
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()
        assert "cookie" not in came[-1]
        await sender.close()
