"""What other programs, the disk and kill -9 can do to the event log."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from log_contract import entry, until
from sqlite_logs import KIB, noise

from otel_ttf.log import sqlite, sqlite_file
from otel_ttf.log.base import LogRefused

FOREVER = 600.0  # seconds


@pytest.mark.parametrize(
    "statement", ["BEGIN; SELECT * FROM entry", "BEGIN IMMEDIATE"], ids=["read", "write"]
)
async def test_a_long_transaction_of_a_reader_or_of_the_store_delays_no_answer(
    logs, tmp_path, monkeypatch, statement
):
    """A reader of log.db holds its snapshot; the tracker writes store.db."""
    monkeypatch.setattr(sqlite_file, "LOCK_SECONDS", FOREVER)  # whoever waits for a lock is not answered
    log = await logs.open()
    log.register("tracker", 0, required=True)
    await log.append(entry())
    path = logs.path if "SELECT" in statement else tmp_path / "store.db"
    other = sqlite3.connect(path, isolation_level=None)
    for part in statement.split("; "):
        other.execute(part).fetchone()
    async with asyncio.timeout(40):
        for i in range(30):
            log.release("tracker", await log.append(entry(noise(20 * KIB))))
            if i % 10 == 0:
                await asyncio.sleep(0.3)  # long enough to delete and to empty the write-ahead log
    other.execute("ROLLBACK")
    other.close()


async def test_a_file_that_another_program_locks_is_refused_until_it_is_free(logs):
    log = await logs.open()
    await log.append(entry())
    other = sqlite3.connect(logs.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogRefused, match="another program holds the file locked"):
        await log.append(entry())
    assert "locked" in str(log.refusing())
    assert [row.position for row in log.read(0)] == [1]
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: log.refusing() is None)
    assert await log.append(entry()) == 2


async def test_closing_does_not_wait_for_a_writer_that_stands_still(logs, monkeypatch):
    monkeypatch.setattr(sqlite_file, "LOCK_SECONDS", FOREVER)
    monkeypatch.setattr(sqlite, "CLOSE_SECONDS", 0.2)
    log = await logs.open()
    await log.append(entry())
    other = sqlite3.connect(logs.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(log.append(entry()))
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(LogRefused, match="stopping"):
        await task
    assert log._thread.is_alive()  # it waits for the lock still
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: not log._thread.is_alive())


async def test_a_file_that_was_moved_away_is_not_written_on(logs):
    log = await logs.open()
    await log.append(entry())
    logs.path.rename(logs.path.with_name("gone"))
    await until(log.refusing)
    with pytest.raises(LogRefused):
        await log.append(entry())


DISK_FULL = """
import asyncio, os, resource, sys
from pathlib import Path
from otel_ttf.clock import SystemClock
from otel_ttf.log.base import Entry, LogRefused
from otel_ttf.log.sqlite import LogConfig, SqliteLog

async def main():
    log = SqliteLog.open(Path(sys.argv[1]), LogConfig(), SystemClock())
    log.register("tracker", 0, required=True)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, most))
    acknowledged = {}
    refusal = None
    while refusal is None:
        payload = os.urandom(50_000)
        results = await asyncio.gather(
            *(log.append(Entry("logs", 1, payload, b"", 1)) for _ in range(3)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, int):
                acknowledged[result] = payload
            elif isinstance(result, LogRefused):
                refusal = result.reason
            else:
                raise result
    assert log.refusing() == refusal, (log.refusing(), refusal)
    rows = {row.position: row.payload for row in log.read(0, rows=1000, size=1 << 30)}
    assert rows == acknowledged, (len(rows), len(acknowledged))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    async with asyncio.timeout(10):
        while log.refusing():
            await asyncio.sleep(0.02)
    assert await log.append(Entry("logs", 1, b"after", b"", 1)) == len(acknowledged) + 1
    await log.close()
    print(len(acknowledged), refusal)

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_loses_nothing_and_is_recovered_from(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "log.db")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    acknowledged, _, reason = done.stdout.splitlines()[-1].partition(" ")
    assert int(acknowledged) > 3
    assert reason.startswith(f"the event log cannot be written: {tmp_path / 'log.db'}: the disk")


WRITER = """
import asyncio, hashlib, os, sys
from pathlib import Path
from otel_ttf.clock import SystemClock
from otel_ttf.log.base import Entry
from otel_ttf.log.sqlite import LogConfig, SqliteLog

async def client(log, i):
    while True:
        payload = os.urandom(1 + (i * 997) % 5000) * (i % 3 + 1)
        position = await log.append(Entry("logs", 1, payload, b"", 1))
        log.release("tracker", position - 2000)
        line = f"{position} {hashlib.sha256(payload).hexdigest()}\\n"
        os.write(1, line.encode())

async def main():
    log = SqliteLog.open(Path(sys.argv[1]), LogConfig(), SystemClock())
    log.register("tracker", 0, required=True)
    await asyncio.gather(*(client(log, i) for i in range(16)))

asyncio.run(main())
"""


def written_until_killed(path: Path, seconds: float) -> dict[str, str]:
    """position -> digest of everything that a process had the log's OK for when it was killed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        threading.Timer(seconds, process.kill).start()
        lines += process.stdout.readlines()
    return dict(line.decode().split() for line in lines if line.endswith(b"\n"))


@pytest.mark.parametrize("seconds", [0.1, 0.5])
async def test_kill_9_loses_nothing_that_was_acknowledged(logs, seconds):
    acknowledged = written_until_killed(logs.path, seconds)
    log = await logs.open()
    stored, position = {}, 0
    while rows := log.read(position, rows=1000):
        stored |= {str(row.position): hashlib.sha256(row.payload).hexdigest() for row in rows}
        position = rows[-1].position
    first = min(map(int, stored))
    assert list(map(int, stored)) == list(range(first, log.end() + 1))
    kept = {position: digest for position, digest in acknowledged.items() if int(position) >= first}
    assert kept
    assert kept.items() <= stored.items()
    assert max(map(int, acknowledged)) <= log.end()
    assert first <= max(1, max(map(int, acknowledged)) - 2000 + 1)
    assert await log.append(entry()) == log.end()
