"""The table of hostile inputs, against a server as users start it."""

from __future__ import annotations

import time

import pytest
from doors import CANARY, Attack, accepted, attacking, everybody_is_served, memory_bounded, send
from table import ROWS, Row

MEANWHILE = 3  # times that everybody is served while an attack goes on
IDLE_SECONDS = 2.0


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{row.number} {row.door}: {row.name}") for row in ROWS]
)
def test_a_hostile_input_does_what_it_may_and_no_more(server, row: Row):
    everybody_is_served(server)
    before = accepted(server)
    with memory_bounded(server, row.mib):
        if isinstance(row.sent, Attack):
            with attacking(server, row.sent.name):
                for _ in range(MEANWHILE):
                    time.sleep(row.sent.seconds / MEANWHILE)
                    everybody_is_served(server)
                    before += 3
        else:
            began = server.cpu_seconds()
            answer = send(server, row.door, row.sent)
            assert server.cpu_seconds() - began < row.seconds
            assert answer in (row.answer if isinstance(row.answer, tuple) else (row.answer,))
        assert accepted(server) - before == row.stored
    everybody_is_served(server)
    assert server.running.poll() is None
    assert CANARY not in server.printed()
    assert "Traceback" not in server.printed()
    assert " [error " not in server.printed()
    assert "Invalid HTTP request" not in server.printed()  # a line for each would fill the disk
    if isinstance(row.sent, Attack):
        is_idle_again(server)


def is_idle_again(server) -> None:
    """Raises AssertionError unless the processor is left alone within a few seconds."""
    for _ in range(5):
        began = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        if server.cpu_seconds() - began < IDLE_SECONDS / 4:
            return
    pytest.fail("the server is still busy")


def test_every_row_has_a_name_of_its_own():
    names = [(row.number, row.door, row.name) for row in ROWS]
    assert len(set(names)) == len(names)
