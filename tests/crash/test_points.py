"""kill -9 at chosen points, under load: nothing that was answered OK is lost, nothing is counted twice.

CRASH_ROUNDS=10 goes through the points so often, each time at another of its occurrences; CRASH_SEED=N repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from books import Books
from ledger import Ledger, sending
from server_process import ServerProcess, wait_for

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
# Seconds: somebody sends, then nobody does, for some work comes only then, or only after more of both.
UNDER_LOAD, PAUSES = 2.5, (1, 2, 4, 8, 16)
# Who has not come through an hour after the signup is overdue soon after; of the ledger's users, who signed up 50
# minutes ago, most are on some level.
SETTINGS = (
    "journeys.onboarding.settle=0s",
    "journeys.onboarding.overdue={warning: 40m, critical: 49m, escalation: 50m}",
)
# Point -> how often it may come before: drawn anew each time.
POINTS = [
    pytest.param({"call": "otel_ttf.log.sqlite_file:LogFile.insert"}, 30, id="in the log, not answered"),
    pytest.param({"file": "log.db", "sql": "INSERT INTO entry"}, 30, id="not in the log yet"),
    pytest.param(
        {"file": "log.db", "sql": "DELETE FROM entry", "after": True}, 2, id="rows of the log deleted"
    ),
    pytest.param({"call": "otel_ttf.log.sqlite_file:LogFile.delete"}, 2, id="deleted, not told"),
    pytest.param(
        {"file": "log.db", "sql": "PRAGMA incremental_vacuum", "after": True}, 1, id="log cut shorter"
    ),
    pytest.param({"file": "log.db", "sql": "PRAGMA wal_checkpoint", "after": True}, 1, id="log's WAL copied"),
    pytest.param({"file": "store.db", "sql": "BEGIN", "after": True}, 10, id="the tracker has begun"),
    pytest.param(
        {"file": "store.db", "sql": "INSERT INTO (event|transition)", "after": True}, 10, id="half taken"
    ),
    pytest.param(
        {"file": "store.db", "sql": "(INSERT INTO|REPLACE INTO) (counter|rollup)"}, 10, id="half counted"
    ),
    pytest.param({"file": "store.db", "sql": "REPLACE INTO cursor"}, 10, id="taken, cursor not moved"),
    pytest.param({"file": "store.db", "sql": "COMMIT"}, 10, id="not committed"),
    pytest.param({"call": "otel_ttf.tracker.loop:Tracker._transact"}, 10, id="committed, the log not told"),
    pytest.param(
        {"file": "store.db", "sql": ".*'overdue'", "after": True}, 2, id="the sweep tells who is overdue"
    ),
]
# Each migration is a transaction of its own, before and after its last statement.
STARTS = [
    pytest.param({"file": file, "sql": "PRAGMA user_version=", "after": after}, id=f"{file}, {when}")
    for file in ("log.db", "store.db", *(("consent.db", "vault.db") if ROUNDS > 1 else ()))
    for when, after in (("in a migration", False), ("at its end", True))
]


class DyingServer(ServerProcess):
    """Dies at a point; without one it is a server like any other."""

    point: dict[str, Any] | None = None

    def command(self) -> list[str]:
        command = super().command()
        if self.point is None:
            return command
        assert command[1:3] == ["-m", "otel_ttf"]
        return [sys.executable, str(Path(__file__).with_name("dying.py")), *command[3:]]

    def launch_until(self, point: dict[str, Any]) -> None:
        self.point, self.environment = point, {"DIE_AT": json.dumps(point)}
        self.launch()
        self.point, self.environment = None, {}

    def dies_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self.running.wait(seconds)
        return self.running.returncode is not None

    def wait_dead(self) -> None:
        wait_for(lambda: self.running.poll() is not None, f"the server to die; it said {self.printed()}", 30)
        assert self.running.returncode == -9, self.printed()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start has made."""
    with ServerProcess(tmp_path_factory.mktemp("begun") / "data", settings=SETTINGS) as server:
        assert server.terminate() == 0
    return server.data_dir


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * ROUNDS)
@pytest.mark.parametrize(("point", "most"), POINTS)
def test_nothing_is_lost_or_doubled_by_a_kill(
    tmp_path: Path, begun: Path, point: dict[str, Any], most: int
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(SEED)
    ledger = Ledger(rng)
    server = DyingServer(Path(shutil.copytree(begun, tmp_path / "data")), settings=SETTINGS)
    books = Books(server, ledger)
    with ExitStack() as end:
        end.push(server)
        for past in range(ROUNDS):
            if past:
                server.terminate()
            server.launch_until(point | {"nth": rng.randint(1, most)})
            for pause in PAUSES:
                with sending(server, ledger):
                    server.dies_within(UNDER_LOAD)
                if server.dies_within(pause):
                    break
            server.wait_dead()
            if rng.random() < 0.3:
                # A second one in a row: somewhere in what the start has to mend.
                server.launch_until({"file": ".db", "sql": "", "nth": rng.randint(1, 120)})
                server.wait_dead()
            server.start()
            server.wait_caught_up()
            books.check()
        books.settle()
        assert server.terminate() == 0


@pytest.mark.slow
@pytest.mark.parametrize("point", STARTS)
def test_a_first_start_that_was_killed_is_followed_by_one_that_works(
    tmp_path: Path, point: dict[str, Any]
) -> None:
    rng = random.Random(SEED)
    ledger = Ledger(rng)
    server = DyingServer(tmp_path / "data", settings=("privacy.subject=encrypted",))
    server.launch_until(point)
    server.wait_dead()
    with server:
        books = Books(server, ledger)
        with sending(server, ledger):
            wait_for(lambda: len(ledger.acknowledged) > 50, "some answers")
        books.settle()
