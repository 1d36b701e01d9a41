"""Power cuts at random moments under load: what was not synced is gone, and nothing that was answered OK is.

CRASH_CUTS=1000 cuts more often; CRASH_SEED=N repeats the random choices of a run.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from books import Books
from ledger import Ledger, sending
from power import Disk, compiler
from server_process import ServerProcess

CUTS = int(os.environ.get("CRASH_CUTS", "8"))
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 32))))


@pytest.mark.skipif(sys.platform != "linux", reason="unsynced.c knows Linux only")
@pytest.mark.skipif(compiler() is None, reason="there is no C compiler: install gcc")
@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * CUTS)
def test_a_power_cut_loses_nothing_that_was_answered_ok_and_counts_nothing_twice(tmp_path: Path) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(SEED)
    ledger = Ledger(rng)
    server = ServerProcess(tmp_path / "data")
    disk = Disk(server.data_dir, tmp_path)
    server.environment = disk.environment
    lost = 0
    with server:
        books = Books(server, ledger)
        for _ in range(CUTS):
            with sending(server, ledger):
                time.sleep(rng.uniform(0.05, 0.8))
                server.kill()
                lost += disk.cut_power(rng)
                if rng.random() < 0.4:
                    # Once more, while it mends what the first one has left.
                    server.launch()
                    time.sleep(rng.uniform(0.5, 1.5))
                    server.kill()
                    lost += disk.cut_power(rng)
            server.start()
            server.wait_caught_up()
            books.check()
        books.settle()
        assert server.terminate() == 0
    assert lost, "no write was ever taken away: the test has cut nothing"
