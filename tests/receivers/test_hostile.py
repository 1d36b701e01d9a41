"""What no client library sends: raw sockets, slow peers, bombs. The server answers, and stays up."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import requests
from bombs import gzip_bomb, zstd_bomb
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from serving import Serving, records, serving

from otel_ttf.receivers import http_server
from otel_ttf.receivers.otlp_grpc import SERVICES
from otel_ttf.receivers.otlp_http import HttpConfig

MIB = 1 << 20
HEAD = b"POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        yield connection


def answer(
    connection: socket.socket, whole: Callable[[bytes], bool] = lambda got: b"\r\n\r\n" in got
) -> bytes:
    """What comes until the server closes, or it is all that is waited for."""
    got = b""
    connection.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        while not whole(got) and (part := connection.recv(1 << 20)):
            got += part
    return got


def until(happened: Callable[[], bool]) -> None:
    """Waits for it."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answers(count: int) -> Callable[[bytes], bool]:
    """So many heads of answers."""
    return lambda got: got.count(b"\r\n\r\n") >= count


def well(server: Serving) -> bool:
    """The next request of somebody else is answered."""
    headers = {"content-type": "application/x-protobuf"}
    answered = requests.post(server.url("/v1/logs"), b"", headers=headers, timeout=20).status_code
    with grpc.insecure_channel(server.grpc_target) as channel:
        channel.unary_unary(f"/{SERVICES['logs']}/Export")(b"", timeout=20)
    return answered == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"\x00" * 100, 400, id="zeros"),
        pytest.param(b"GET\r\n\r\n", 400, id="half a request line"),
        pytest.param(HEAD + b"content-length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(HEAD + b"content-length: 1e3\r\n\r\n", 400, id="no number as length"),
        pytest.param(
            HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="two lengths"
        ),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, id="no number as chunk"),
        pytest.param(HEAD + b"content-length: 3\r\n\r\n\xff\xff\xff", 400, id="garbage as body"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 200, id="no chunks"),
        pytest.param(HEAD + b"content-length: 0\r\n\r\n" * 1, 200, id="nothing"),
        pytest.param(
            HEAD + b"expect: 100-continue\r\ncontent-length: 999999999\r\n\r\n",
            413,
            id="may I send a gigabyte",
        ),
        pytest.param(
            HEAD + b"upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
            200,
            id="upgrade",
        ),
        pytest.param(HEAD + b"x: " + b"y" * 400_000, 431, id="endless header"),
    ],
)
def test_garbage_over_http(server, sent, status):
    with connected(server.otlp_port) as connection:
        connection.sendall(sent)
        first = answer(connection).split(b"\r\n")[0]
    assert first.startswith(b"HTTP/1.1 %d" % status)
    assert well(server)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP/1.1"),
        pytest.param(os.urandom(5000), id="noise"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), id="zeros behind the preface"),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 2000,
            id="two thousand settings",
        ),
    ],
)
def test_garbage_over_grpc(server, sent):
    with connected(server.grpc.port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        connection.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while connection.recv(65536):
                pass
    assert well(server)


@pytest.mark.parametrize(
    ("first", "part"),
    [
        pytest.param(b"1;x=", b"y" * 50_000, id="a chunk's extension"),
        pytest.param(b"0\r\n", b"x: " + b"y" * 50_000 + b"\r\n", id="trailers"),
        pytest.param(b"0\r\nx: ", b"y" * 50_000, id="one trailer"),
    ],
)
def test_what_is_no_body_does_not_go_on_for_ever(server, first, part):
    with connected(server.otlp_port) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + first)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(part)
                time.sleep(0.002)
            pytest.fail("the server read on")
    assert well(server)


def test_a_body_in_a_hundred_thousand_chunks(server):
    with connected(server.otlp_port) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"1\r\n\x00\r\n" * 100_000 + b"0\r\nx: y\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 400")
    assert well(server)


def one_record() -> bytes:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(event_name="a")
    return request.SerializeToString()


UPGRADE = (
    b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)


@pytest.mark.parametrize(
    ("more", "first"),
    [
        pytest.param(b"", b"HTTP/1.1 200", id="plain"),
        pytest.param(b"connection: close\r\n", b"HTTP/1.1 200", id="closing"),
        pytest.param(b"expect: 100-continue\r\n", b"HTTP/1.1 100", id="asking"),
    ],
)
def test_a_client_that_would_rather_speak_http_2_loses_nothing(server, more, first):
    body = one_record()
    lengths = HEAD + more + UPGRADE + b"content-length: %d\r\n\r\n" % len(body) + body
    chunks = (
        HEAD + more + UPGRADE + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )
    for whole in (lengths, chunks):
        for cut in (len(whole), len(HEAD), whole.index(b"h2c"), whole.index(b"\r\n\r\n") + 4, len(whole) - 3):
            with server.stored() as rows, connected(server.otlp_port) as connection:
                connection.sendall(whole[:cut])
                time.sleep(0.02)
                connection.sendall(whole[cut:])
                got = answer(connection, answers(2 if more.startswith(b"expect") else 1))
                assert got.startswith(first)
            assert [len(records([row])) for row in rows] == [1]


def test_many_such_requests_in_one_packet(server):
    body = one_record()
    before = server.count("telemetry_events_total", signal="logs")
    with connected(server.otlp_port) as connection:
        connection.sendall((HEAD + UPGRADE + b"content-length: %d\r\n\r\n" % len(body) + body) * 200)
        assert answer(connection, answers(200)).count(b"HTTP/1.1 200") == 200
    assert server.count("telemetry_events_total", signal="logs") - before == 200


def test_two_requests_in_one_packet_get_two_answers(server):
    with connected(server.otlp_port) as connection:
        connection.sendall((HEAD + b"content-length: 0\r\n\r\n") * 2)
        assert answer(connection, answers(2)).count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_goes_away_is_no_error(server):
    before = [server.count("telemetry_errors_total", reason=reason) for reason in ("internal", "malformed")]
    with connected(server.otlp_port) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\nhalf")
    assert well(server)
    assert [server.count("telemetry_errors_total", reason=r) for r in ("internal", "malformed")] == before
    assert server.intake.in_flight.used == 0


def test_a_body_that_does_not_come_is_given_up(tmp_path):
    with (
        serving(tmp_path, HttpConfig(body_timeout="300ms")) as server,
        connected(server.otlp_port) as connection,
    ):
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\nhalf")
        got = answer(connection, lambda got: b"within" in got)
        assert got.startswith(b"HTTP/1.1 408")
        assert b"within 0.3 s" in got
        assert well(server)


def test_headers_that_do_not_come_are_given_up(server, monkeypatch):
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.3)
    with connected(server.otlp_port) as silent, connected(server.otlp_port) as slow:
        for byte in HEAD[:5]:
            slow.sendall(bytes([byte]))
            time.sleep(0.05)
        assert answer(slow).startswith(b"HTTP/1.1 408")
        assert answer(silent).startswith(b"HTTP/1.1 408")


def test_an_endless_body_ends_at_the_limit(tmp_path):
    with (
        serving(tmp_path, HttpConfig(max_request_body_size="1MiB")) as server,
        connected(server.otlp_port) as connection,
    ):
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(chunk)
            pytest.fail("the server read on")
        assert server.intake.in_flight.used == 0
        assert well(server)


def test_a_body_cut_short_by_our_end_may_come_again(tmp_path):
    ours = contextlib.ExitStack()
    server = ours.enter_context(serving(tmp_path))
    with connected(server.otlp_port) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\nhalf")
        until(lambda: server.intake.in_flight.used > 0)
        closing = threading.Thread(target=ours.close)
        closing.start()
        assert answer(connection).startswith(b"HTTP/1.1 503")
        closing.join(10)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A server of its own, whose memory can be measured: (process, ports of gRPC, OTLP/HTTP, API)."""
    script = Path(__file__).parent / "serving.py"
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("process"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield running, [int(port) for port in running.stdout.readline().split()]
        running.communicate(timeout=20)


def peak(process: subprocess.Popen[str]) -> int:
    """Greatest resident memory so far, bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("port", "path", "media", "encoding", "make"),
    [
        pytest.param(1, "/v1/logs", "application/x-protobuf", "gzip", gzip_bomb, id="protobuf, gzip"),
        pytest.param(1, "/v1/logs", "application/json", "zstd", zstd_bomb, id="JSON, zstd"),
        pytest.param(2, "/api/v1/events", "application/json", "gzip", gzip_bomb, id="REST, gzip"),
    ],
)
def test_a_gibibyte_of_zeros_over_http(process, port, path, media, encoding, make):
    running, ports = process
    before = peak(running)
    headers = {"content-type": media, "content-encoding": encoding}
    url = f"http://127.0.0.1:{ports[port]}{path}"
    assert requests.post(url, make(1024), headers=headers, timeout=20).status_code == 413
    assert peak(running) - before < 96 * MIB
    assert requests.post(url, gzip.compress(b"x"), headers=headers, timeout=5).status_code == 400


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_half_a_gibibyte_of_zeros_over_grpc(process):
    running, ports = process
    before = peak(running)
    with grpc.insecure_channel(
        f"127.0.0.1:{ports[0]}", options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        call = channel.unary_unary(f"/{SERVICES['logs']}/Export")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(512 * MIB), timeout=40, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata() or ())
        assert peak(running) - before < 96 * MIB
        assert call(b"", timeout=5) == b""
