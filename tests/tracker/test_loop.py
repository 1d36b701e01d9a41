"""The tracker's thread over a real log and a real store: crashes, restarts, defects, and what time it is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from world import RULES, START, Spec, World, journey, request

from otel_ttf.clock import ManualClock
from otel_ttf.log.base import Entry
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.otlp.events import extract
from otel_ttf.tracker.loop import CONSUMER, Tracker
from otel_ttf.units import DAY, MINUTE, SECOND


class Steady:
    """A clock that only a test moves; ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Machine:
    """A data directory with log and store; the tracker runs between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.steady = Steady()
        self.world = World(folder, journey())
        self.log = self._opened()
        self.tracker: Tracker | None = None

    def _opened(self) -> SqliteLog:
        return SqliteLog.open(self.folder / "log.db", LogConfig(), self.clock, free_space=lambda: 100 << 30)

    def made(self) -> Tracker:
        """A tracker that does not run."""
        return Tracker(
            self.log,
            self.world.store,
            self.world.follower,
            RULES,
            self.clock,
            retention=30 * DAY,
            max_size=10 << 30,
            dropped=lambda count: None,
            steady=self.steady,
        )

    def start(self) -> Tracker:
        self.tracker = self.made()
        self.tracker.start()
        return self.tracker

    async def stop(self, drain: float = 5.0) -> None:
        if self.tracker is not None:
            await asyncio.to_thread(self.tracker.stop, drain)
            self.tracker = None

    async def send(self, *specs: Spec) -> int:
        """One request into the log; its position."""
        payload, ids = request(specs)
        return await self.log.append(Entry("logs", self.clock.now(), payload, ids, len(specs)))

    async def restart(self, *, new_log: bool = False) -> None:
        """Everything is opened again; the tracker is not started."""
        await self.stop()
        await self.log.close()
        if new_log:
            for file in self.folder.glob("log.db*"):
                file.unlink()
        self.world.restart()
        self.log = self._opened()

    async def taken(self, position: int) -> None:
        """Waits until the tracker has taken the row."""
        assert self.tracker is not None
        await until(lambda: self.tracker is not None and self.tracker.position >= position)

    def once(self, users: int) -> None:
        """Every user's start was taken and counted exactly once."""
        assert self.world.rows("SELECT count(*), min(position), max(position) FROM transition") == [
            (users, 1, users)
        ]
        assert self.world.counter("ttf_started_total") == users
        assert self.world.rows("SELECT sum(count) FROM seen") == [(users,)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the tracker's thread sets no asyncio.Event
            await asyncio.sleep(0.005)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    await machine.stop(0)
    await machine.log.close()
    machine.world.close()


class TestOnce:
    async def test_a_crash_between_commit_and_release_repeats_nothing(self, machine: Machine) -> None:
        machine.log.register(CONSUMER, 0, required=True)
        for n in range(3):
            await machine.send(("a", f"u{n}", n, {}))
        store, rows = machine.world.store, machine.log.read(0)
        store.begin()
        machine.world.follower.take(
            [(row.arrival, extract(row.signal, row.payload, row.ids, row.arrival, RULES)) for row in rows],
            START,
        )
        store.save_cursor(CONSUMER, machine.log.log_id, rows[-1].position)
        store.commit()
        await machine.restart()
        assert len(machine.log.read(0)) == 3
        tracker = machine.start()
        assert tracker.position == rows[-1].position
        await machine.taken(await machine.send(("a", "last", 9, {})))
        await machine.stop()
        machine.once(4)

    async def test_a_restart_midway_goes_on_where_it_stopped(self, machine: Machine) -> None:
        machine.start()
        for n in range(5):
            last = await machine.send(("a", f"u{n}", n, {}))
        await machine.taken(last)
        await machine.stop()
        for n in range(5, 9):
            await machine.send(("a", f"u{n}", n, {}))
        await machine.restart()
        machine.start()
        await machine.taken(last + 4)
        await machine.stop()
        machine.once(9)

    async def test_another_log_starts_at_its_beginning(self, machine: Machine) -> None:
        machine.start()
        for n in range(3):
            last = await machine.send(("a", f"u{n}", n, {}))
        await machine.taken(last)
        await machine.restart(new_log=True)
        assert await machine.send(("a", "new", 0, {})) <= last
        machine.start()
        await machine.taken(1)
        await machine.stop()
        machine.once(4)

    async def test_stopping_takes_what_is_in_the_log(self, machine: Machine) -> None:
        for n in range(50):
            last = await machine.send(("a", f"u{n}", n, {}))
        tracker = machine.start()
        await machine.stop()
        assert tracker.position == last
        machine.once(50)


class TestTrouble:
    async def test_a_defect_in_a_row_is_told_and_loses_nothing(
        self, machine: Machine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = True

        def missing(milestone: str) -> None:
            if bad:
                raise KeyError("somebody@example.com")

        machine.world.follower._on_missing_subject = missing
        tracker = machine.start()
        await machine.taken(await machine.send(("a", "first", 0, {})))
        last = await machine.send(("a", "second", 1, {}), ("a", None, 1, {}))
        await until(lambda: tracker.failing is not None)
        assert tracker.failing is not None
        assert "KeyError" in tracker.failing
        assert "somebody" not in tracker.failing + capsys.readouterr().out
        assert tracker.as_of()[1] >= 0
        bad = False
        await machine.taken(last)
        await until(lambda: tracker.failing is None)
        await machine.stop()
        assert machine.world.counter("ttf_started_total") == 2
        assert machine.world.rows("SELECT sum(count) FROM seen") == [(3,)]

    async def test_a_store_that_cannot_be_written_for_a_while(self, machine: Machine) -> None:
        with sqlite3.connect(machine.world.path, timeout=5) as other:
            other.execute("ALTER TABLE seen RENAME TO hidden")
            other.commit()
            tracker = machine.start()
            last = await machine.send(("a", "ada", 0, {"plan": "pro"}))
            await until(lambda: tracker.failing is not None)
            assert tracker.position == 0
            # Between its tries the tracker holds no lock.
            other.execute("ALTER TABLE hidden RENAME TO seen")
        other.close()
        await machine.taken(last)
        await machine.stop()
        machine.once(1)
        assert machine.world.rows("SELECT value, place FROM label") == [("pro", 0)]


class TestAsOf:
    async def test_it_is_the_arrival_of_the_oldest_row_that_was_not_taken(self, machine: Machine) -> None:
        last = await machine.send(("a", "ada", 0, {}))
        machine.clock.advance(90 * SECOND)
        tracker = machine.made()
        assert tracker.as_of() == (START, 90.0)
        tracker.start()
        machine.tracker = tracker
        await machine.taken(last)
        assert tracker.as_of() == (START + 90 * SECOND, 0.0)

    async def test_it_never_goes_back(self, machine: Machine) -> None:
        tracker = machine.made()
        machine.clock.advance(MINUTE)
        assert tracker.as_of() == (START + MINUTE, 0.0)
        machine.clock.advance(-30 * SECOND)
        assert tracker.as_of() == (START + MINUTE, 0.0)
        await machine.send(("a", "late in the log", 0, {}))
        machine.clock.advance(2 * MINUTE)
        assert tracker.as_of() == (START + MINUTE, 90.0)


class TestOverdue:
    async def _sweep(self, machine: Machine) -> None:
        """Lets the next sweep happen, whatever it finds."""
        machine.steady.now += 6 * SECOND
        await machine.taken(await machine.send(("a", "somebody else", 1e6, {})))
        await asyncio.sleep(0.05)

    def _overdue(self, machine: Machine) -> int:
        return sum(kind == "overdue" for kind, _, _ in machine.world.told())

    async def test_it_waits_for_settle_after_our_start_and_for_a_clock_to_be_trusted(
        self, machine: Machine
    ) -> None:
        machine.start()
        await machine.taken(await machine.send(("a", "ada", 0, {})))
        machine.clock.advance(25 * MINUTE)
        await self._sweep(machine)
        assert self._overdue(machine) == 0
        machine.steady.now += MINUTE
        machine.clock.stepped = True
        await self._sweep(machine)
        assert self._overdue(machine) == 0
        machine.clock.stepped = False
        machine.steady.now += 6 * SECOND
        await until(lambda: self._overdue(machine) == 1)

    async def test_a_clock_that_was_put_back_stops_no_sweep(self, machine: Machine) -> None:
        machine.clock.advance(2 * DAY)
        machine.start()
        machine.steady.now += 2 * MINUTE
        await self._sweep(machine)
        machine.clock.advance(-2 * DAY)
        await machine.taken(await machine.send(("a", "ada", 0, {})))
        machine.clock.advance(25 * MINUTE)
        machine.steady.now += 6 * SECOND
        await until(lambda: self._overdue(machine) == 1)
