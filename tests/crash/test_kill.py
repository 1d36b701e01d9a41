"""kill -9 at random moments under load: nothing that was answered OK is lost, nothing is counted twice.

CRASH_KILLS=1000 kills more often, .ci/run 30 times; CRASH_SEED=N repeats the random choices of a run.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from books import Books
from ledger import Ledger, sending
from server_process import ServerProcess

KILLS = int(os.environ.get("CRASH_KILLS", "6"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))
# On one data directory: what was sent is looked at after each kill, and grows.
ROUND = 100
ROUNDS = [min(ROUND, KILLS - done) for done in range(0, KILLS, ROUND)]


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * ROUND)
@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_kill_9_loses_nothing_that_was_answered_ok_and_counts_nothing_twice(
    tmp_path: Path, number: int
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(SEED + number)
    ledger = Ledger(rng)
    kills = 0
    with ServerProcess(tmp_path / "data") as server:
        books = Books(server, ledger)
        while kills < ROUNDS[number]:
            with sending(server, ledger):
                time.sleep(rng.uniform(0.05, 0.6))
                server.kill()
                kills += 1
            if kills < ROUNDS[number] and rng.random() < 0.4:
                # While it starts: with what the last one left in the log, or before it reads anything.
                server.launch()
                time.sleep(rng.uniform(0.0, 1.5))
                server.kill()
                kills += 1
            server.start()
            server.wait_caught_up()
            books.check()
        books.settle()
        assert server.terminate() == 0
