from __future__ import annotations

import contextlib
import re
import select
import socket

import pytest
from serving import serving
from test_hostile import HEAD, answer, connected

from otel_ttf.receivers import connections
from otel_ttf.receivers.connections import UNREAD, Connections, open_files, shares


class Connection:
    def __init__(self) -> None:
        self.told: bool | None = None  # when it was closed: whether as a new one
        self.given_up = False

    def make_room(self, *, new: bool) -> None:
        self.told = new

    def give_up(self) -> None:
        self.given_up = True


def test_the_one_that_is_idle_longest_makes_room():
    known = Connections(3)
    first, second, third, fourth = (Connection() for _ in range(4))
    for one in (first, second, third):
        known.opened(one)
    known.busy(first)
    known.idle(first)  # answered: it is the last now
    known.opened(fourth)
    assert [one.told for one in (first, second, third, fourth)] == [None, False, None, None]
    known.closed(second)
    assert known.open == 3


def test_those_that_never_had_a_request_go_first():
    known = Connections(3)
    good, *silent = (Connection() for _ in range(6))
    known.opened(good)
    known.busy(good)
    known.idle(good)
    for one in silent:
        known.opened(one)
    assert good.told is None
    assert [one.told for one in silent] == [False, False, False, None, None]
    for one in silent[3:]:
        known.busy(one)
    known.opened(Connection())
    assert good.told is False


def test_of_bodies_on_their_way_the_one_that_is_silent_longest_goes():
    known = Connections(2)
    first, second, third = (Connection() for _ in range(3))
    known.opened(first)
    known.opened(second)
    known.heard(first)
    known.opened(third)
    assert [one.told for one in (first, second, third)] == [None, False, None]
    known.heard(third)
    known.busy(third)
    known.heard(third)  # of the request behind it
    known.opened(Connection())
    assert [one.told for one in (first, third)] == [False, None]


def test_where_all_are_busy_the_new_one_goes():
    known = Connections(1)
    first, second, third = Connection(), Connection(), Connection()
    known.opened(first)
    known.busy(first)
    known.opened(second)
    assert (first.told, second.told) == (None, True)
    known.closed(second)
    known.idle(first)
    known.opened(third)
    assert (first.told, third.told) == (False, None)


def test_of_those_that_do_not_read_the_one_that_waits_longest_is_given_up():
    known = Connections(9)
    first, second, third, fourth = crowd = [Connection() for _ in range(4)]
    third_part = UNREAD // 3
    for one in crowd[:3]:
        known.stands(one, third_part)
    known.flows(first)
    known.stands(first, third_part)
    assert not any(one.given_up for one in crowd)
    known.stands(fourth, third_part)
    assert [one.given_up for one in crowd] == [False, True, False, False]
    known.closed(third)
    known.stands(second, third_part)
    assert [one.given_up for one in crowd] == [False, True, False, False]
    known.stands(fourth, 9 * UNREAD)  # alone it may be as large as it likes
    assert [one.given_up for one in crowd] == [True, True, False, False]


def test_answers_that_nobody_reads_take_no_more_memory_than_there_is(server, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD", 1 << 20)
    events = b'{"events":[' + b"0," * 99_999 + b"0]}"  # each of which is listed in the answer
    head = b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with contextlib.ExitStack() as peers:
        silent = []
        for _ in range(4):
            peer = peers.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", server.api_port))
            peer.sendall(head % len(events) + events)
            silent.append(peer)
            assert select.select([peer], [], [], 20)[0]  # the answer has begun
        with connected(server.api_port) as good:
            good.sendall(head % len(events) + events)
            assert whole(good)
        assert [whole(peer) for peer in silent[:2]] == [False] * 2


def whole(peer: socket.socket) -> bool:
    """Whether all of an answer comes."""

    def ended(got: bytes) -> bool:
        block, end, body = got.partition(b"\r\n\r\n")
        return bool(end) and len(body) == int(re.findall(rb"content-length: (\d+)", block)[0])

    return ended(answer(peer, ended))


SOON = HEAD + b"content-length: 9\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(SOON, id="no body"),
        pytest.param(SOON + b"half", id="half a body"),
        pytest.param(HEAD + b"content-length: 0\r\n\r\n" + SOON, id="behind a whole request"),
        pytest.param(
            HEAD.replace(b"/v1", b"/v9") + b"content-length: 9\r\n\r\n", id="answered before its body"
        ),
    ],
)
def test_connections_that_wait_for_a_body_make_room(tmp_path, sent):
    with serving(tmp_path, max_connections=5) as server, contextlib.ExitStack() as peers:
        for _ in range(8):
            peers.enter_context(connected(server.otlp_port)).sendall(sent)
        for _ in range(3):
            with connected(server.otlp_port) as good:
                good.sendall(HEAD + b"content-length: 0\r\n\r\n")
                assert answer(good).startswith(b"HTTP/1.1 200")
                peers.enter_context(connected(server.otlp_port)).sendall(sent)
                good.sendall(HEAD + b"content-length: 0\r\n\r\n")
                assert answer(good).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("files", [0, 64, 1024, 4096, 1 << 20])
def test_connections_leave_files_for_the_databases(files):
    http, grpc = shares(files)
    assert http >= 1
    assert grpc >= http
    assert files < 300 or 2 * http + grpc + 200 < files


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, before[1]), before[1]))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_header_block_that_comes_in_one_piece_has_a_limit_too(server):
    lines = b"".join(b"x%d: y\r\n" % number for number in range(10_000))
    with connected(server.otlp_port) as connection:
        connection.sendall(HEAD + lines + b"content-length: 0\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 431")
