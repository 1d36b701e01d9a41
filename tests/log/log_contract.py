"""What every event log has to keep. An implementation inherits the tests and brings the fixture `logs`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from otel_ttf.clock import ManualClock
from otel_ttf.log.base import Entry, EventLog, LogError, LogRefused
from otel_ttf.units import SECOND

START = 1_767_268_800 * SECOND


class Logs(Protocol):
    """Opens one and the same log, again and again."""

    clock: ManualClock

    async def open(self) -> Any: ...


def entry(payload: bytes = b"x", **given: Any) -> Entry:
    return Entry(**{"signal": "logs", "arrival": START, "ids": b"", "records": 1, "payload": payload} | given)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Waits for something that happens by itself. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def append_all(log: EventLog, entries: list[Entry]) -> list[int]:
    return list(await asyncio.gather(*(log.append(each) for each in entries)))


async def leave_two_rows_for_an_exporter(logs: Logs) -> None:
    """Three are written, of which an exporter that blocks has released the first; the log is closed again."""
    log = await logs.open()
    log.register("tracker", 0, required=True)
    log.register("exporter", 0, required=False, on_lag="block")
    await append_all(log, [entry() for _ in range(3)])
    log.release("exporter", 1)
    await log.close()


class EventLogContract:
    @pytest.mark.parametrize(
        "given",
        [
            pytest.param(entry(b""), id="empty payload"),
            pytest.param(entry(b"\x0a\x00"), id="a few bytes"),
            pytest.param(entry(b"GET /projects 200 " * 20_000, records=1000), id="what compresses"),
            pytest.param(entry(bytes(range(256)) * 10, ids=b"\x00\x00\x00\x01" + b"i" * 16), id="with ids"),
            pytest.param(entry(signal="traces", arrival=START + 1, records=7), id="traces"),
        ],
    )
    @pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
    async def test_what_was_appended_is_read(self, logs: Logs, given: Entry, again: bool) -> None:
        log = await logs.open()
        position = await log.append(given)
        if again:
            await log.close()
            log = await logs.open()
        (row,) = log.read(0)
        assert (row.position, row.arrival, row.signal) == (position, given.arrival, given.signal)
        assert (row.payload, row.ids, row.records) == (given.payload, given.ids, given.records)

    async def test_each_row_knows_how_many_records_came_before_it(self, logs: Logs) -> None:
        log = await logs.open()
        await append_all(log, [entry(records=records) for records in (3, 1, 5)])
        assert [row.before for row in log.read(0)] == [0, 3, 4]
        await log.close()
        log = await logs.open()
        assert [row.before for row in log.read(0)] == [0, 3, 4]

    async def test_it_knows_how_far_its_consumers_are(self, logs: Logs) -> None:
        await leave_two_rows_for_an_exporter(logs)
        log = await logs.open()
        assert (log.position("exporter"), log.position("nobody")) == (1, None)

    async def test_concurrent_appends_get_consecutive_positions_of_their_own(self, logs: Logs) -> None:
        log = await logs.open()
        positions = await append_all(log, [entry(b"%d" % i) for i in range(300)])
        assert sorted(positions) == list(range(1, 301))
        rows = log.read(0, rows=1000)
        assert [rows[position - 1].payload for position in positions] == [b"%d" % i for i in range(300)]
        assert log.end() == 300

    @pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
    @pytest.mark.parametrize(
        ("limits", "lengths"),
        [
            pytest.param({"rows": 4}, [4, 4, 2], id="rows"),
            pytest.param({"size": 3000}, [3, 3, 3, 1], id="bytes"),
            pytest.param({"size": 1}, [1] * 10, id="at least one"),
            pytest.param({}, [10], id="all"),
        ],
    )
    async def test_reading_in_pieces_gives_the_whole(
        self, logs: Logs, limits: dict[str, int], lengths: list[int], again: bool
    ) -> None:
        log = await logs.open()
        await append_all(log, [entry(b"%04d" % i * 250) for i in range(10)])
        if again:
            await log.close()
            log = await logs.open()
        pieces, position = [], 0
        while rows := log.read(position, **limits):
            pieces.append(rows)
            position = rows[-1].position
        assert [len(piece) for piece in pieces] == lengths
        assert [row for piece in pieces for row in piece] == log.read(0)

    async def test_an_empty_log(self, logs: Logs) -> None:
        log = await logs.open()
        assert (log.end(), log.read(0), log.oldest(0), log.lag(0)) == (0, [], None, (0, 0.0))
        assert log.refusing() is None
        assert not log.wait(0, 0.01)

    async def test_lag_counts_records_and_the_age_of_the_oldest(self, logs: Logs) -> None:
        log = await logs.open()
        for i, records in enumerate([3, 5, 7]):
            await log.append(entry(arrival=START + i * SECOND, records=records))
        logs.clock.advance(10 * SECOND)
        assert [log.lag(after) for after in range(4)] == [(15, 10.0), (12, 9.0), (7, 8.0), (0, 0.0)]
        assert [log.oldest(after) for after in (0, 2, 3)] == [START, START + 2 * SECOND, None]
        await log.close()
        log = await logs.open()
        assert [log.lag(after) for after in range(4)] == [(15, 10.0), (12, 9.0), (7, 8.0), (0, 0.0)]

    async def test_an_age_is_never_below_zero(self, logs: Logs) -> None:
        log = await logs.open()
        await log.append(entry(arrival=START + SECOND))
        assert log.lag(0) == (1, 0.0)

    async def test_waiting_ends_when_something_comes(self, logs: Logs) -> None:
        log = await logs.open()
        waiting = asyncio.create_task(asyncio.to_thread(log.wait, 0, 600.0))
        await asyncio.sleep(0.05)
        await log.append(entry())
        async with asyncio.timeout(20):
            assert await waiting
        assert log.wait(0, 0)

    async def test_a_view_is_handed_over_but_not_stored(self, logs: Logs) -> None:
        log = await logs.open()
        view = object()
        await log.append(entry(view=view))
        assert log.read(0)[0].view is view
        await log.close()
        log = await logs.open()
        assert log.read(0)[0].view is None

    async def test_the_log_keeps_its_id(self, logs: Logs) -> None:
        log = await logs.open()
        log_id = log.log_id
        assert log_id
        await log.close()
        assert (await logs.open()).log_id == log_id

    async def test_rows_stay_until_the_slowest_required_consumer_is_past_them(self, logs: Logs) -> None:
        log = await logs.open()
        log.register("tracker", 0, required=True)
        log.register("events", 0, required=True)
        await append_all(log, [entry() for _ in range(5)])
        log.release("tracker", 4)
        log.release("events", 2)
        await until(lambda: [row.position for row in log.read(0)] == [3, 4, 5])
        log.release("events", 1)  # never back
        log.release("events", 5)
        await until(lambda: [row.position for row in log.read(0)] == [5])

    async def test_positions_and_sums_go_on_after_truncation_to_empty(self, logs: Logs) -> None:
        log = await logs.open()
        log.register("tracker", 0, required=True)
        await append_all(log, [entry(records=2) for _ in range(5)])
        log.release("tracker", 5)
        await until(lambda: not log.read(0))
        await log.close()
        log = await logs.open()
        assert (log.end(), log.lag(0)) == (5, (0, 0.0))
        assert log.register("tracker", 5, required=True) == 5
        assert await log.append(entry(records=3)) == 6
        assert [row.position for row in log.read(5)] == [6]
        assert log.lag(5) == (3, 0.0)

    @pytest.mark.parametrize(
        ("saved", "goes_on_from"),
        [
            pytest.param(4, 4, id="where it was"),
            pytest.param(0, 3, id="rows are gone: at the first that is left"),
            pytest.param(9, 5, id="beyond the end: at the end"),
        ],
    )
    async def test_a_consumer_goes_on(self, logs: Logs, saved: int, goes_on_from: int) -> None:
        log = await logs.open()
        log.register("tracker", 0, required=True)
        await append_all(log, [entry() for _ in range(5)])
        log.release("tracker", 3)
        await until(lambda: [row.position for row in log.read(0)] == [4, 5])
        await log.close()
        log = await logs.open()
        assert log.register("tracker", saved, required=True) == goes_on_from

    async def test_after_a_restart_rows_wait_for_a_consumer_that_has_not_come_back(self, logs: Logs) -> None:
        await leave_two_rows_for_an_exporter(logs)
        log = await logs.open()
        assert log.register("tracker", 3, required=True) == 3
        await until(lambda: [row.position for row in log.read(0)] == [2, 3])
        await asyncio.sleep(0.4)
        assert [row.position for row in log.read(0)] == [2, 3]
        assert sorted(log.consumers()) == ["exporter", "tracker"]
        log.forget("exporter")
        await until(lambda: not log.read(0))

    async def test_releasing_without_having_registered_is_a_mistake(self, logs: Logs) -> None:
        log = await logs.open()
        with pytest.raises(KeyError):
            log.release("nobody", 1)

    async def test_a_cancelled_append_breaks_nobody_elses(self, logs: Logs) -> None:
        log = await logs.open()
        tasks = [asyncio.create_task(log.append(entry(b"%d" % i))) for i in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        stored = {row.position: row.payload for row in log.read(0)}
        for i, result in enumerate(results):
            if i % 3:
                assert stored[result] == b"%d" % i
            else:
                assert isinstance(result, asyncio.CancelledError)
        assert await log.append(entry()) == log.end()

    async def test_closing_writes_what_was_handed_over(self, logs: Logs) -> None:
        log = await logs.open()
        tasks = [asyncio.create_task(log.append(entry())) for _ in range(50)]
        await asyncio.sleep(0)
        await log.close()
        assert sorted(await asyncio.gather(*tasks)) == list(range(1, 51))
        assert (await logs.open()).end() == 50

    async def test_a_closed_log_refuses(self, logs: Logs) -> None:
        log = await logs.open()
        await log.append(entry())
        await log.close()
        await log.close()
        with pytest.raises(LogRefused) as refused:
            await log.append(entry())
        assert refused.value.reason == log.refusing()
        with pytest.raises(LogError):
            log.gaps("tracker")

    async def test_many_threads_read_while_it_is_written(self, logs: Logs) -> None:
        log = await logs.open()
        log.register("tracker", 0, required=True)
        seen: list[list[bytes]] = [[] for _ in range(3)]

        def follow(into: list[bytes]) -> None:
            position = 0
            while len(into) < 200 and log.wait(position, 10.0):
                rows = log.read(position, rows=7)
                into += [row.payload for row in rows]
                position = rows[-1].position

        threads = [threading.Thread(target=follow, args=(into,)) for into in seen]
        for thread in threads:
            thread.start()
        for i in range(20):
            await append_all(log, [entry(b"%d" % (10 * i + k)) for k in range(10)])
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert all(len(into) == 200 and into == seen[0] for into in seen)
