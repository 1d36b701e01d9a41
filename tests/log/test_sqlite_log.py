"""The event log in SQLite: the contract, the file, room, and consumers that fall behind."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from log_contract import EventLogContract, append_all, entry, leave_two_rows_for_an_exporter, until
from sqlite_logs import KIB, MIB, filled, noise

from otel_ttf.log.base import Gap, LogError, LogRefused
from otel_ttf.log.sqlite_file import Bounds


class TestContract(EventLogContract):
    pass


# The file


async def test_the_file_is_what_durability_and_shrinking_need(logs):
    await logs.open()
    assert logs.sql("PRAGMA journal_mode") == [("wal",)]
    assert logs.sql("PRAGMA auto_vacuum") == [(2,)]  # incremental


async def test_rows_that_are_being_deleted_are_no_damage(logs, monkeypatch):
    """A reader may find them gone before the writer has noted it."""
    await leave_two_rows_for_an_exporter(logs)
    found = []

    def reading(bounds, name, value):
        if name == "gone" and value == 1:
            found.append([row.position for row in log.read(0)])
        Bounds.__dict__[name].__set__(bounds, value)

    log = await logs.open()
    monkeypatch.setattr(Bounds, "__setattr__", reading)
    log.register("tracker", 3, required=True)
    await until(lambda: found)
    assert found == [[2, 3]]
    assert log.lost() == []
    assert not list(logs.path.parent.glob("log.db.*"))


async def test_payloads_are_packed_only_if_that_helps(logs):
    log = await logs.open()
    text, random, tiny = b"http.route=/projects " * 1000, noise(20_000), b"ab" * 50
    await append_all(log, [entry(text), entry(random), entry(tiny)])
    assert logs.sql("SELECT packed, bytes, length(payload) < bytes FROM entry") == [
        (1, len(text), 1),
        (0, len(random), 0),
        (0, len(tiny), 0),
    ]


async def test_the_file_shrinks_after_deleting(logs):
    log = await logs.open()
    log.register("tracker", 0, required=True)
    await append_all(log, [entry(noise(200 * KIB)) for _ in range(100)])
    await until(lambda: logs.path.stat().st_size > 15 * MIB)
    assert log.size() > 15 * MIB
    log.release("tracker", 100)
    await until(lambda: logs.path.stat().st_size < MIB)
    await until(lambda: log.size() < MIB)
    wal = logs.path.with_name("log.db-wal")
    await until(lambda: not wal.stat().st_size)


async def test_many_requests_wake_the_loop_once(logs, monkeypatch):
    log = await logs.open()
    loop = asyncio.get_running_loop()
    calls = []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: calls.append(args) or wake(*args))
    await append_all(log, [entry() for _ in range(500)])
    assert len(calls) <= 10


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param("PRAGMA user_version=9", "newer otel_ttf", id="of a newer version"),
        pytest.param("PRAGMA application_id=1", "not an event log", id="of another program"),
    ],
)
async def test_a_file_that_does_not_fit_is_refused_with_what_to_do(logs, make, said):
    log = await logs.open()
    await log.close()
    logs.sql(make)
    with pytest.raises(LogError, match=said) as refused:
        await logs.open()
    assert str(logs.path) in str(refused.value)


# Room


async def test_the_log_refuses_when_it_is_full_and_takes_again_when_it_is_not(logs):
    log = await logs.open(max_size=MIB)
    log.register("tracker", 0, required=True)
    refused = await filled(log, 50 * KIB)
    assert refused.reason.startswith("log.max_size: ")
    assert "tracker has not read them" in refused.reason
    assert refused.retry_after > 0
    assert "log.max_size" in str(log.refusing())
    await until(lambda: log.size() <= MIB)
    assert log.end() >= 8
    log.release("tracker", log.end())
    await until(lambda: log.refusing() is None)
    await log.append(entry(noise(50 * KIB)))


async def test_concurrent_appends_together_do_not_pass_the_limit(logs):
    log = await logs.open(max_size=2 * MIB)
    log.register("tracker", 0, required=True)
    entries = [log.append(entry(noise(50 * KIB))) for _ in range(100)]
    results = await asyncio.gather(*entries, return_exceptions=True)
    taken = [result for result in results if isinstance(result, int)]
    assert 0 < len(taken) * 50 * KIB <= 2 * MIB
    assert all(isinstance(result, int | LogRefused) for result in results)


async def test_what_is_larger_than_the_log_may_be_comes_into_an_empty_one(logs):
    log = await logs.open(max_size=MIB)
    log.register("tracker", 0, required=True)
    await log.append(entry(noise(2 * MIB)))
    with pytest.raises(LogRefused, match=r"log\.max_size"):
        await log.append(entry(noise(2 * MIB)))


async def test_it_refuses_before_the_disk_is_full(logs):
    log = await logs.open(min_free=64 * MIB)
    await log.append(entry())
    logs.free = 63 * MIB
    await until(log.refusing)
    with pytest.raises(LogRefused, match=r"log\.min_free: 63MiB are free") as refused:
        await log.append(entry())
    assert str(logs.path.parent) in refused.value.reason
    logs.free = 100 * MIB
    await until(lambda: log.refusing() is None)
    await log.append(entry())


async def test_a_large_request_is_counted_before_it_is_written(logs):
    logs.free = 70 * MIB
    log = await logs.open(min_free=64 * MIB)
    said = r"log\.min_free: 70MiB are free on .*, 64MiB have to stay free, beside 8MiB for what comes: "
    with pytest.raises(LogRefused, match=said):
        await log.append(entry(bytes(4 * MIB)))
    await log.append(entry(bytes(MIB)))


@pytest.mark.parametrize(
    ("total", "least"),
    [
        pytest.param(100 << 30, 256 * MIB, id="large disk: 256 MiB"),
        pytest.param(2 << 30, (2 << 30) // 20, id="small disk: 5 %"),
        pytest.param(512 * MIB, 64 * MIB, id="tiny disk: 64 MiB"),
    ],
)
async def test_how_much_stays_free_by_default(logs, monkeypatch, total, least):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(total, 0, total))
    logs.free = least + MIB
    log = await logs.open()
    await log.append(entry())
    logs.free = least - 1
    await until(log.refusing)


async def test_what_waits_in_memory_is_bounded(logs):
    log = await logs.open()
    payload = bytes(20 * MIB)
    results = await asyncio.gather(*(log.append(entry(payload)) for _ in range(5)), return_exceptions=True)
    assert [isinstance(result, int) for result in results] == [True, True, True, False, False]
    assert "wait to be written" in str(results[-1])
    await log.append(entry(payload))


# Consumers that fall behind


async def test_an_exporter_that_lies_too_far_behind_skips_and_the_gap_is_noted(logs):
    log = await logs.open(max_size=32 * MIB, max_lag=MIB)
    log.register("tracker", 0, required=True)
    log.register("exporter", 0, required=False)
    for _ in range(30):
        position = await log.append(entry(noise(100 * KIB), records=10))
        log.release("tracker", position)
    await until(lambda: log.gaps("exporter"))
    await until(lambda: len(log.read(0, rows=100)) <= 11)
    (gap,) = log.gaps("exporter")
    assert gap == Gap(1, 20, 200)
    assert log.read(0)[0].position == 21  # what is within max_lag stays
    assert log.gaps("tracker") == []
    log.release("exporter", 25)
    await until(lambda: log.read(0)[0].position == 26)
    for _ in range(20):
        log.release("tracker", await log.append(entry(noise(100 * KIB), records=10)))
    await until(lambda: len(log.gaps("exporter")) == 2)
    assert log.gaps("exporter")[1].first == 26


async def test_a_gap_that_goes_on_is_one_gap(logs):
    log = await logs.open(max_size=32 * MIB, max_lag=MIB)
    log.register("tracker", 0, required=True)
    log.register("exporter", 0, required=False)
    for turn in (1, 2, 3):
        for _ in range(20):
            log.release("tracker", await log.append(entry(noise(100 * KIB))))
        await until(lambda turn=turn: [gap.last for gap in log.gaps("exporter")] == [turn * 20 - 10])
    assert log.gaps("exporter") == [Gap(1, 50, 50)]
    await log.close()
    log = await logs.open(max_size=32 * MIB, max_lag=MIB)
    assert log.register("exporter", 0, required=False) == 50
    assert log.gaps("exporter") == [Gap(1, 50, 50)]


async def test_an_exporter_that_blocks_skips_nothing(logs):
    log = await logs.open(max_size=2 * MIB, max_lag=MIB)
    log.register("tracker", 0, required=True)
    log.register("exporter", 0, required=False, on_lag="block")
    refused = await filled(log, 100 * KIB, reads="tracker")
    assert "exporter has not read them" in refused.reason
    await asyncio.sleep(0.4)
    assert log.read(0)[0].position == 1
    assert log.gaps("exporter") == []


async def test_a_required_consumer_never_skips_and_makes_no_gap_for_others(logs):
    log = await logs.open(max_size=8 * MIB, max_lag=MIB)
    log.register("tracker", 0, required=True)
    log.register("exporter", 0, required=False)
    for _ in range(30):
        await log.append(entry(noise(100 * KIB)))
    await asyncio.sleep(0.4)
    assert log.read(0)[0].position == 1
    assert log.gaps("exporter") == []


async def test_rows_in_memory_and_rows_on_disk_follow_each_other(logs):
    log = await logs.open()
    log.register("tracker", 0, required=True)
    views = [object() for _ in range(10)]
    # 20,000 records are kept in memory; the fifth entry and what follows are read from the disk.
    await append_all(log, [entry(b"%d" % i, records=5000, view=view) for i, view in enumerate(views)])
    rows, position = [], 0
    while found := log.read(position):
        rows += found
        position = rows[-1].position
    assert [row.payload for row in rows] == [b"%d" % i for i in range(10)]
    assert [row.view for row in rows] == [*views[:4], *[None] * 6]
    log.release("tracker", 10)
    await log.append(entry(view=views[0]))
    assert log.read(10)[0].view is views[0]
