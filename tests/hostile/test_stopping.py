"""SIGTERM while requests are on their way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import DATA, END_HEADERS, HEADERS, block, frame, greeted, message
from decoding import request
from doors import DOORS, Door, port
from server_process import ServerProcess

from otel_ttf.otlp.wire import delimited

HALF = "half"
WHOLE = "whole"
MEDIA = {"http": ("/v1/logs", "application/x-protobuf"), "rest": ("/api/v1/events", "application/json")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as running:
        yield running


def body(door: Door, name: str) -> bytes:
    """A request with one event."""
    if door == "rest":
        return b'{"events":[{"event_name":"%b","event_type":"x"}]}' % name.encode()
    return request(delimited(12, name.encode()))


def begun(server: ServerProcess, door: Door) -> socket.socket:
    """A connection on which all of a request has come but for its last byte."""
    content = body(door, HALF)
    if door == "grpc":
        peer = greeted(server.grpc_port)
        peer.sendall(frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1, message(content)[:-1]))
        return peer
    path, media = MEDIA[door]
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    peer = socket.create_connection(("127.0.0.1", port(server, door)), 10)
    peer.sendall(head.encode() + content[:-1])
    return peer


def everything(peer: socket.socket) -> bytes:
    """What comes until the other side closes."""
    got = b""
    peer.settimeout(20)
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65536):
            got += part
    return got


@pytest.mark.slow
def test_what_has_half_arrived_at_sigterm_is_not_answered_ok(server: ServerProcess) -> None:
    peers = {door: begun(server, door) for door in DOORS}
    time.sleep(0.2)
    answers: dict[str, bytes] = {}

    def listen(door: Door) -> None:
        answers[door] = everything(peers[door])

    listeners = [threading.Thread(target=listen, args=(door,)) for door in DOORS]
    for listener in listeners:
        listener.start()
    for door in ("http", "rest"):  # these are in the log, and were told so
        path, media = MEDIA[door]
        answer = server.request(
            "POST", path, body(door, WHOLE), headers={"content-type": media}, port=port(server, door)
        )
        assert answer.status == 200
    assert server.terminate() == 0
    for listener in listeners:
        listener.join(20)
    for peer in peers.values():
        peer.close()
    assert set(answers) == set(DOORS)
    assert b"HTTP/1.1 2" not in answers["http"] + answers["rest"]
    assert b"grpc-status\x010" not in answers["grpc"]
    assert "Traceback" not in server.printed()
    server.start()
    server.wait_caught_up()
    with server.store() as store:
        names = store.execute("SELECT name FROM event").fetchall()
    assert sorted(names) == [(WHOLE,)] * 2
