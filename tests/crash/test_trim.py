"""kill -9 while the store is made smaller: each step has happened or has not, and no journey goes."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import grpc
import pytest
from ledger import EXPORT, MINUTE
from server_process import wait_for
from test_points import DyingServer
from test_sidecar import EVENTS, MIB, on_disk, request

REQUESTS = 220
# In the order in which they come: what was committed before a kill stays so.
POINTS = [
    {"file": "store.db", "sql": "DELETE FROM event", "after": True},
    {"call": "otel_ttf.store.events:Events.drop_oldest"},
    {"file": "store.db", "sql": "DELETE FROM resource"},
    {"file": "store.db", "sql": "PRAGMA incremental_vacuum", "after": True},
    {"call": "otel_ttf.store.sqlite:SqliteStore.shrink", "nth": 2},
    {"file": "store.db", "sql": "PRAGMA wal_checkpoint", "after": True},
]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_store_that_is_killed_while_it_shrinks_is_whole_and_shrinks_on(tmp_path: Path) -> None:
    began = time.time_ns() - MINUTE
    server = DyingServer(tmp_path / "data")
    with server:
        with grpc.insecure_channel(server.grpc) as channel:
            for number in range(REQUESTS):
                channel.unary_unary(EXPORT)(request(number, began), timeout=30)
        server.wait_caught_up()
        assert server.terminate() == 0
        assert on_disk(server) > 40 * MIB
        server.settings = ("storage.max_size=32MiB",)
        for point in POINTS:
            server.launch_until(point)
            server.wait_dead()
            whole(server)
        server.start()
        wait_for(lambda: on_disk(server) <= 32 * MIB, "the store to shrink", timeout=30)
        assert server.metrics().total("ttf_started_total") == REQUESTS * EVENTS
        assert server.terminate() == 0
    kept = whole(server)
    assert kept == list(range(REQUESTS * EVENTS - len(kept), REQUESTS * EVENTS))
    assert len(kept) > 1000


def whole(server: DyingServer) -> list[int]:
    """Fails unless every journey is there, and every event that is has its resource; numbers of the events."""
    with server.store() as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for table in ("journey", "transition"):
            assert count(store, table) == REQUESTS * EVENTS
        assert count(store, "event WHERE resource NOT IN (SELECT id FROM resource)") == 0
        return [number - 1 for (number,) in store.execute("SELECT id FROM event ORDER BY id")]


def count(store: sqlite3.Connection, what: str) -> int:
    (found,) = store.execute(f"SELECT count(*) FROM {what}").fetchone()
    return int(found)
