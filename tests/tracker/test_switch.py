"""Other journeys while the tracker runs: between two batches, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

import pytest
from machine import Machine
from world import RULES, journey, milestone

from otel_ttf.journey.definition import Journey
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.loop import NotSwitched
from otel_ttf.units import DAY, MINUTE


async def switch(machine: Machine, *journeys: Journey, within: float = 10) -> None:
    def made(store: SqliteStore) -> Follower:
        return Follower(store, journeys, events="named", retention=30 * DAY)

    assert machine.tracker is not None
    await asyncio.to_thread(machine.tracker.switch, made, RULES, 30 * DAY, 10 << 30, within)


def other() -> Journey:
    """trip, whose second milestone is reached by x."""
    plain = journey()
    return journey(milestones=(plain.milestones[0], milestone("b", 5 * MINUTE, "x"), plain.milestones[2]))


def reached(machine: Machine, version: str) -> list[int]:
    return [
        sum(time != b"\x7f" + b"\xff" * 7 for time in (blob[at : at + 8] for at in range(0, len(blob), 8)))
        for (blob,) in machine.world.rows(
            "SELECT reached FROM journey JOIN definition ON definition.id = definition"
            f" WHERE version = '{version}'"
        )
    ]


async def test_what_comes_later_is_followed_by_the_new_journey(machine: Machine) -> None:
    machine.start()
    await machine.taken(await machine.send(("a", "ada", 0, {}), ("b", "ada", 1, {}), ("x", "ada", 2, {})))
    await switch(machine, other())
    await machine.taken(await machine.send(("x", "ada", 3, {}), ("b", "ada", 4, {})))
    await machine.stop()
    assert reached(machine, journey().version) == [2]
    assert reached(machine, other().version) == [2]
    assert machine.world.counter("ttf_started_total") == 1


async def test_rows_are_taken_once_however_often_it_switches(machine: Machine) -> None:
    machine.start()
    sent = []
    for number in range(40):
        sent.append(await machine.send(("a", f"u{number}", 0, {})))
        if number % 8 == 0:
            await switch(machine, journey() if number % 16 else other())
    await machine.taken(sent[-1])
    await machine.stop()
    assert machine.world.counter("ttf_started_total") == 40
    assert machine.world.rows("SELECT sum(count) FROM seen") == [(40,)]
    assert machine.world.rows("SELECT count(DISTINCT id), count(*) FROM transition") == [(40, 40)]


async def test_where_the_store_cannot_be_written_all_stays_as_it_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.start()

    def full(self: Follower, now: int) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Follower, "prepare", full)
        with pytest.raises(NotSwitched, match="store cannot be written"):
            await switch(machine, other())
    await machine.taken(await machine.send(("a", "ada", 0, {}), ("b", "ada", 1, {})))
    await machine.stop()
    assert reached(machine, journey().version) == [2]
    assert machine.world.rows("SELECT version FROM definition") == [(journey().version,)]


async def test_a_tracker_that_does_not_come_to_it_is_left_alone(machine: Machine) -> None:
    machine.tracker = machine.made()  # does not run
    with pytest.raises(NotSwitched, match=r"in 0\.05 s"):
        await switch(machine, other(), within=0.05)
    machine.tracker.start()
    await machine.taken(await machine.send(("a", "ada", 0, {})))
    await machine.stop()
    assert reached(machine, journey().version) == [1]


async def test_other_limits_count_from_then_on(machine: Machine) -> None:
    tracker = machine.start()

    def made(store: SqliteStore, journeys: Sequence[Journey] = (journey(),)) -> Follower:
        return Follower(store, journeys, events="none", retention=MINUTE)

    await asyncio.to_thread(tracker.switch, made, RULES, MINUTE, 64 << 20, 10)
    await machine.taken(await machine.send(("a", "ada", 0, {})))
    await machine.stop()
    assert machine.world.rows("SELECT count(*) FROM event") == [(0,)]
    assert tracker.upkeep._retention == MINUTE
