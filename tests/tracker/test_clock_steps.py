"""The wall clock steps by an hour, forward and back, under load or between two runs: senders' times count, and nobody
is overdue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, until
from world import START, Spec, journey

from otel_ttf.clock import SystemClock
from otel_ttf.log.sqlite import CLOCK
from otel_ttf.remembered import remembered
from otel_ttf.units import HOUR, MINUTE, SECOND

STEPS = {
    "none": (0, 0, 0, 0, 0, 0),
    "forward and back": (0, HOUR, HOUR, HOUR, 0, 0),
    "back and forward": (0, -HOUR, -HOUR, -HOUR, 0, 0),
    "to and fro": (0, HOUR, -HOUR, HOUR, -HOUR, 0),
}
ROUND = MINUTE
USERS = 12


class Walls:
    """A wall clock that is `step` away from the true time, and a steady one."""

    def __init__(self) -> None:
        self.steady = 0
        self.step = 0

    def wall(self) -> int:
        return START + self.steady + self.step


@pytest.fixture
async def stepping(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Runs a load, the wall clock being away by so much in each minute; the machine, when it has read everything.

    boots  one for each minute: it begins with a restart on that boot
    """
    machines: list[Machine] = []

    async def run(steps: tuple[int, ...], *, wait: int = 0, boots: Sequence[str] = ()) -> Machine:
        walls = Walls()
        folder = tmp_path / str(len(machines))
        folder.mkdir()
        trip = journey(overdue={"warning": 30 * MINUTE}, give_up_after=50 * MINUTE, settle=SECOND)
        machine = Machine(folder, trip, SystemClock(walls.wall, lambda: walls.steady))
        machines.append(machine)
        machine.start()

        async def pass_time(by: int) -> None:
            """Time goes on, and the next sweep comes and is through."""
            walls.steady += by
            machine.steady.now += by
            due = machine.steady.now
            await until(lambda: machine.tracker is not None and machine.tracker._sweep_next > due)

        for number, step in enumerate(steps):
            walls.step = step
            if boots:
                await machine.restart(
                    clock=lambda boot=boots[number]: SystemClock(
                        walls.wall, lambda: walls.steady, boot=boot, last=remembered(folder / "log.db", CLOCK)
                    )
                )
                machine.start()
            # Users who began ten minutes ago, each at another place of the way; some of what they send comes twice.
            specs: list[Spec] = []
            for n in range(USERS):
                at = number - 10 + n / 100
                specs.append(("a", f"u{number}-{n}", at, {"plan": f"p{n % 3}"}))
                if n % 3:
                    specs.append(("b", f"u{number}-{n}", at + 4, {}))
                if n % 3 == 2:
                    specs.append(("c", f"u{number}-{n}", at + 9, {}))
            await asyncio.gather(*(machine.send(*specs[at : at + 5]) for at in range(0, len(specs), 5)))
            again = await machine.send(*specs[::2])
            await machine.taken(again)
            await pass_time(ROUND)
        walls.step = 0
        await pass_time(ROUND)
        if wait:
            await pass_time(wait)
        await machine.stop()
        return machine

    yield run
    for machine in machines:
        await machine.stop(0)
        await machine.log.close()
        machine.world.close()


def told(machine: Machine) -> dict[str, object]:
    """All that rests on senders' times; `recorded` and `arrival` are ours."""
    rows = machine.world.rows
    return {
        "journeys": sorted(
            rows("SELECT subject, reached, segments, told, state, started, waiting, opened, day FROM journey")
        ),
        "transitions": sorted(
            rows("SELECT subject, kind, coalesce(milestone, level, ''), at, closed, changed FROM transition")
        ),
        "events": sorted(rows("SELECT event_id, at, flags FROM event")),
        "counters": sorted(rows("SELECT metric, labels, value FROM counter")),
        "histograms": sorted(rows("SELECT metric, labels, counts, total FROM histogram")),
        "rollup": sorted(rows("SELECT day, combo, cells FROM rollup")),
    }


@pytest.mark.parametrize("steps", [steps for steps in STEPS if steps != "none"])
async def test_an_hour_either_way_changes_nothing(stepping: Callable[..., Any], steps: str) -> None:
    without = told(await stepping(STEPS["none"]))
    machine = await stepping(STEPS[steps])
    assert told(machine) == without
    kinds = {kind for kind, *_ in machine.world.told()}
    assert kinds == {"started", "reached", "completed"}


@pytest.mark.parametrize(
    ("steps", "boots"),
    [
        pytest.param("forward and back", ("x",) * 6, id="forward and back, on one boot"),
        pytest.param("to and fro", ("x",) * 6, id="to and fro, on one boot"),
        pytest.param("back and forward", tuple("abcdef"), id="back and forward, each time on another boot"),
    ],
)
async def test_a_clock_that_is_wrong_at_a_restart_changes_nothing(
    stepping: Callable[..., Any], steps: str, boots: tuple[str, ...]
) -> None:
    without = told(await stepping(STEPS["none"]))
    machine = await stepping(STEPS[steps], boots=boots)
    assert told(machine) == without
    kinds = {kind for kind, *_ in machine.world.told()}
    assert kinds == {"started", "reached", "completed"}


async def test_the_same_load_is_overdue_and_expires_when_the_time_has_really_passed(
    stepping: Callable[..., Any],
) -> None:
    machine = await stepping(STEPS["none"], wait=30 * MINUTE)
    assert "overdue" in {kind for kind, *_ in machine.world.told()}
    machine = await stepping(STEPS["none"], wait=HOUR)
    assert "expired" in {kind for kind, *_ in machine.world.told()}
