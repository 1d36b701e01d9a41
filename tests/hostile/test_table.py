"""The table of hostile inputs, against a server as users start it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import (
    CANARY,
    VICTIM,
    Attack,
    accepted,
    attacking,
    everybody_is_served,
    memory_bounded,
    send,
)
from row import Row, Seen, Stored
from server_process import ServerProcess
from table import ELSEWHERE, ROWS

MEANWHILE = 3  # times that everybody is served while an attack goes on
IDLE_SECONDS = 2.0
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
    if row.effect is not None:
        server.wait_caught_up()
    last = newest(server)
    with memory_bounded(server, row.mib):
        if isinstance(row.sent, Attack):
            with attacking(server, row.sent.name):
                for _ in range(MEANWHILE):
                    time.sleep(row.sent.seconds / MEANWHILE)
                    everybody_is_served(server)
                    before += 3
        else:
            began = server.cpu_seconds()
            reply = send(server, row.door, row.sent)
            if row.effect is not None:
                server.wait_caught_up(pause=0.01)
            assert server.cpu_seconds() - began < row.seconds
            assert reply.answer in (row.answer if isinstance(row.answer, tuple) else (row.answer,))
            assert row.says in reply.body.decode(errors="replace")
        assert accepted(server) - before == row.stored
    if row.effect is not None:
        row.effect(Seen(server, reply, stored(server, last)))
    everybody_is_served(server)
    assert server.running.poll() is None
    assert CANARY not in server.printed()
    assert "Traceback" not in server.printed()
    assert " [error " not in server.printed()
    assert "Invalid HTTP request" not in server.printed()  # a line for each would fill the disk
    if isinstance(row.sent, Attack):
        is_idle_again(server)


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
    names = [(row.number, row.door, row.name) for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("number", "test"), [(number, test) for number, tests in ELSEWHERE.items() for test in tests]
)
def test_what_is_no_request_is_tested_elsewhere(number: int, test: str) -> None:
    file, _, name = test.partition("::")
    text = (Path(__file__).parents[1] / file).read_text()
    assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), number
