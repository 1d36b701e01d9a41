"""The tracker's thread over a real log and a real store: crashes, restarts, defects, and what time it is."""

from __future__ import annotations

import asyncio
import sqlite3

from machine import Machine, until
from world import RULES, START

from otel_ttf.otlp.events import extract
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.units import DAY, MINUTE, SECOND


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
        machine.manual.advance(90 * SECOND)
        tracker = machine.made()
        assert tracker.as_of() == (START, 90.0)
        tracker.start()
        machine.tracker = tracker
        await machine.taken(last)
        assert tracker.as_of() == (START + 90 * SECOND, 0.0)

    async def test_it_never_goes_back(self, machine: Machine) -> None:
        tracker = machine.made()
        machine.manual.advance(MINUTE)
        assert tracker.as_of() == (START + MINUTE, 0.0)
        machine.manual.advance(-30 * SECOND)
        assert tracker.as_of() == (START + MINUTE, 0.0)
        await machine.send(("a", "late in the log", 0, {}))
        machine.manual.advance(2 * MINUTE)
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
        machine.manual.advance(25 * MINUTE)
        await self._sweep(machine)
        assert self._overdue(machine) == 0
        machine.steady.now += MINUTE
        machine.manual.stepped = True
        await self._sweep(machine)
        assert self._overdue(machine) == 0
        machine.manual.stepped = False
        machine.steady.now += 6 * SECOND
        await until(lambda: self._overdue(machine) == 1)

    async def test_a_clock_that_was_put_back_stops_no_sweep(self, machine: Machine) -> None:
        machine.manual.advance(2 * DAY)
        machine.start()
        machine.steady.now += 2 * MINUTE
        await self._sweep(machine)
        machine.manual.advance(-2 * DAY)
        await machine.taken(await machine.send(("a", "ada", 0, {})))
        machine.manual.advance(25 * MINUTE)
        machine.steady.now += 6 * SECOND
        await until(lambda: self._overdue(machine) == 1)
