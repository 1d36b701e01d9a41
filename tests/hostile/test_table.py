"""The table of hostile inputs, against a server as users start it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doors import (
    CANARY,
    DOORS,
    VICTIM,
    Attack,
    accepted,
    attacking,
    everybody_is_served,
    memory_bounded,
    send,
    wait_followed,
)
from row import Row, Seen, Stored
from server_process import ServerProcess
from table import ELSEWHERE, ROWS, WAITING

MEANWHILE = 3  # times that everybody is served while an attack goes on
IDLE_SECONDS = 1.0
OTHERS = "a"  # the event of those who are served


@pytest.fixture(scope="module")
def attacked(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server, with a user who has signed up."""
    event = {"event_name": "signup", "event_type": "x", "user_id": VICTIM}
    assert server.post_json("/api/v1/events", {"events": [event]}).status == 200
    server.wait_caught_up()
    everybody_is_served(server)
    return server


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.number} {row.door}: {row.name}") for row in ROWS]
)
def test_a_hostile_input_does_what_it_may_and_no_more(attacked: ServerProcess, row: Row) -> None:
    server = attacked
    before = accepted(server)
    last = newest(server)
    with memory_bounded(server, row.mib):
        if isinstance(row.sent, Attack):
            with attacking(server, row.sent.name):
                for _ in range(MEANWHILE):
                    time.sleep(row.sent.seconds / MEANWHILE)
                    everybody_is_served(server)
                    before += len(DOORS)
        else:
            began = server.cpu_seconds()
            reply = send(server, row.door, row.sent)
            if row.effect is not None or row.stored:
                wait_followed(server)
            assert server.cpu_seconds() - began < row.seconds
            assert reply.answer in (row.answer if isinstance(row.answer, tuple) else (row.answer,))
            assert row.says in reply.body.decode(errors="replace")
        assert accepted(server) - before == row.stored
    if row.effect is not None:
        row.effect(Seen(server, reply, stored(server, last)))
    if row.stored:
        server.metrics()  # can be read
    everybody_is_served(server)
    nothing_is_told(server)
    if isinstance(row.sent, Attack):
        is_idle_again(server)


def test_who_is_waited_for_is_given_up_and_nobody_waits_with_them(attacked: ServerProcess) -> None:
    before = accepted(attacked)
    with memory_bounded(attacked, 32), ThreadPoolExecutor(len(WAITING)) as pool:
        replies = [pool.submit(send, attacked, row.door, row.sent) for row in WAITING]
        everybody_is_served(attacked)
        assert [reply.result().answer for reply in replies] == [row.answer for row in WAITING]
    assert accepted(attacked) - before == len(DOORS)
    everybody_is_served(attacked)
    nothing_is_told(attacked)


def nothing_is_told(server: ServerProcess) -> None:
    """The server runs, and in its log stands nothing of what was sent, no error of ours, and no line for each."""
    assert server.running.poll() is None
    printed = server.printed()
    for text in (CANARY, "Traceback", " [error ", "Invalid HTTP request"):
        assert text not in printed
    assert re.search(r"^[IWEF]\d{4} ", printed, re.MULTILINE) is None  # as gRPC writes by itself


def newest(server: ServerProcess) -> int:
    """The number of the last event in the store."""
    with server.store() as store:
        (last,) = store.execute("SELECT max(id) FROM event").fetchone()
    return int(last or 0)


def stored(server: ServerProcess, last: int) -> list[Stored]:
    """The events behind that one, but for those of who is served."""
    with server.store() as store:
        rows = store.execute(
            "SELECT name, subject, at, arrival, flags, attributes FROM event WHERE id > ? AND name != ?",
            (last, OTHERS),
        )
        return [Stored(*row) for row in rows]


def is_idle_again(server: ServerProcess) -> None:
    """Raises AssertionError unless the processor is left alone within a few seconds."""
    for _ in range(5):
        began = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        if server.cpu_seconds() - began < IDLE_SECONDS / 4:
            return
    pytest.fail("the server is still busy")


def test_every_row_has_a_name_of_its_own() -> None:
    names = [(row.number, row.door, row.name) for row in (*WAITING, *ROWS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("number", "test"), [(number, test) for number, tests in ELSEWHERE.items() for test in tests]
)
def test_what_is_no_request_is_tested_elsewhere(number: int, test: str) -> None:
    file, _, name = test.partition("::")
    text = (Path(__file__).parents[1] / file).read_text()
    assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), number
