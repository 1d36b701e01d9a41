"""The tracker's thread over a real log and a real store: crashes, restarts, defects, and what time it is."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
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
            assert str(tracker.failing).startswith(
                f"the store cannot be written: {machine.world.path}: no such table"
            )
            # Between its tries the tracker holds no lock.
            other.execute("ALTER TABLE hidden RENAME TO seen")
        other.close()
        await machine.taken(last)
        await machine.stop()
        machine.once(1)
        assert machine.world.rows("SELECT value, place FROM label") == [("pro", 0)]

    @pytest.mark.parametrize("part", ["", "-wal"])
    async def test_a_store_that_was_deleted_and_has_no_room_is_written_again_later(
        self, machine: Machine, part: str
    ) -> None:
        path = machine.world.path
        last = await machine.send(("a", "ada", 0, {}))
        tracker = machine.start()
        await machine.taken(last)
        assert machine.world.counter("ttf_started_total") == 1
        in_the_way = path.with_name(f"{path.name}.draft")
        in_the_way.mkdir()  # as good as a full disk
        path.with_name(path.name + part).unlink()
        await until(lambda: "do not stop the server" in str(tracker.failing))
        in_the_way.rmdir()
        await machine.taken(await machine.send(("a", "bob", 1, {})))
        await until(lambda: tracker.failing is None)
        await machine.stop()
        machine.once(2)
        await machine.restart()  # kill -9
        machine.once(2)


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


class TestDamagedRows:
    @pytest.mark.parametrize(
        ("harm", "said"),
        [
            pytest.param(
                "UPDATE journey SET segments = CAST(CAST('{\"plan\":[1,\"pr' AS BLOB) || x'ff' AS TEXT)",
                "a text in column segments is damaged",
                id="no UTF-8",
            ),
            pytest.param(
                "UPDATE journey SET segments = '{\"plan\":[1'", "row 1 of table journey", id="no JSON"
            ),
            pytest.param(
                "UPDATE journey SET segments = '{\"plan\":7}'", "row 1 of table journey", id="other JSON"
            ),
            pytest.param(
                "UPDATE journey SET reached = substr(reached, 2)", "row 1 of table journey", id="times"
            ),
            pytest.param("UPDATE rollup SET cells = x'00'", "of table rollup", id="figures"),
            pytest.param(
                "UPDATE histogram SET counts = '[0,'",
                "row ttf_stage_minutes of table histogram",
                id="buckets",
            ),
            pytest.param("UPDATE seen SET matched = '7'", "row event of table seen", id="names"),
        ],
    )
    async def test_a_row_nobody_wrote_so_is_damage_and_blames_no_record(
        self, machine: Machine, harm: str, said: str
    ) -> None:
        machine.start()
        await machine.taken(await machine.send(("a", "ada", 0, {"plan": "pro"}), ("b", "ada", 1, {})))
        await machine.stop()
        machine.world.store.db.execute(harm)
        machine.world.follower.counts.forget()  # as after a start
        tracker = machine.start()
        await machine.send(("c", "ada", 2, {}), ("a", "ben", 0, {"plan": "pro"}), ("b", "ben", 1, {}))
        await until(lambda: tracker.failing is not None)
        await machine.stop()
        assert tracker.failing is not None
        assert "is damaged" in tracker.failing
        assert said in tracker.failing
        assert "otel-ttf salvage" in tracker.failing
        assert "plan" not in tracker.failing
        assert tracker.set_aside == 0
        assert tracker.position == 1

    async def test_a_sweep_that_fails_delays_no_rows(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = 0

        def sweep(*_: object, **__: object) -> bool:
            nonlocal tries
            tries += 1
            raise ZeroDivisionError

        monkeypatch.setattr(machine.world.follower, "sweep", sweep)
        tracker = machine.start()
        # Its pauses double: were rows to wait for them, the ninth would come after 25 s, and `taken` gives up.
        for user in range(200):
            await machine.taken(await machine.send(("a", f"user-{user}", 0, {})))
        assert tries < 20
        assert tracker.failing is not None
        assert "ZeroDivisionError" in tracker.failing
        assert "report it with the place" in tracker.failing
        monkeypatch.undo()
        await until(lambda: tracker.failing is None)
        machine.once(200)
