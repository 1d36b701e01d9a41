from __future__ import annotations

import contextlib

import pytest
from serving import serving
from test_hostile import HEAD, answer, connected

from otel_ttf.receivers.connections import Connections, open_files, shares


class Connection:
    def __init__(self) -> None:
        self.told: bool | None = None  # when it was closed: whether as a new one

    def make_room(self, *, new: bool) -> None:
        self.told = new


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
