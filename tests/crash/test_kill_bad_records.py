"""kill -9 while bad records are looked for and put back: every event counts once, whichever way it took."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from books import Books
from ledger import Ledger, send_unanswered, sending
from server_process import ServerProcess, wait_for
from test_dead_letters import PLANTED, dead_letters

KILLS = 4


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_records_that_were_set_aside_and_retried_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "planted"
    flag.write_text(r"mark-\d*[37]7(?!\d)")  # one event in fifty
    monkeypatch.setenv("PLANTED", str(flag))
    rng = random.Random(7)
    ledger = Ledger(rng)
    with ServerProcess(tmp_path / "data", program=[str(PLANTED)]) as server:
        books = Books(server, ledger)
        for _ in range(KILLS):
            with sending(server, ledger):
                # Three tries take 0.7 s: some kills come before, some while the records are looked for.
                time.sleep(rng.uniform(0.3, 1.8))
                server.kill()
            server.start()
        send_unanswered(server, ledger)
        server.wait_caught_up(60)
        aside = dead_letters(server, "list")["count"]
        with server.store() as store:
            (stored,) = store.execute("SELECT count(*) FROM event").fetchone()
        bad = sum(mark.endswith(("37", "77")) for mark in ledger.sent)
        assert bad > 0
        assert stored == len(ledger.sent) - bad
        assert aside >= bad  # a request that was sent again is in the log twice

        flag.unlink()
        server.kill()
        assert dead_letters(server, "retry", "--all")["pending"]
        for _ in range(2):
            server.launch()
            time.sleep(rng.uniform(0.2, 1.5))
            server.kill()
        server.start()
        wait_for(lambda: dead_letters(server, "list")["count"] == 0, "the retry", 30, 0.5)
        books.check_final()
        assert server.terminate() == 0
