"""A journey is computed anew while the server runs, is killed, and goes on."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_disk import MIB, CannotBreak, FaultyDisk, small_disk
from server_process import ROOT, ServerProcess, command_on, wait_for

SECOND = 10**9
JOURNEY = """\
journeys:
  trip:
    milestones:
      - {name: start, match: {event: start}}
      - {name: end, match: {event: [%s]}, target: 5m}
"""
USERS = 3000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with prepared(ServerProcess(tmp_path / "data", config=tmp_path / "config.yaml")) as running:
        yield running


@contextmanager
def prepared(server: ServerProcess) -> Iterator[ServerProcess]:
    """Runs it: of all users there are two events, of which the journey's new version has only the first in its rows."""
    file = server.config
    assert file is not None
    file.write_text(JOURNEY % "end")
    with server as running:
        now = time.time_ns()
        for first in range(0, USERS, 500):
            send(
                running,
                [
                    (f"u{n}", name, now - (600 - place * 60) * SECOND)
                    for n in range(first, first + 500)
                    for place, name in enumerate(("start", "arrive"))
                ],
            )
        running.wait_caught_up()
        file.write_text(JOURNEY % "end, arrive")
        assert running.request("POST", "/-/reload").status == 200
        wait_for(lambda: running.get("/api/v1/ttf").status == 200, "the figures of the new version")
        yield running


def send(server: ServerProcess, events: list[tuple[str, str, int]]) -> None:
    told = [
        {"event_type": "t", "event_name": name, "user_id": user, "timestamp": at, "event_id": f"{user}{name}"}
        for user, name, at in events
    ]
    assert server.post_json("/api/v1/events", {"events": told}).status == 200


def rebuild(server: ServerProcess, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", "rebuild", *more, "--data-dir", str(server.data_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def completed(server: ServerProcess) -> int:
    answer = server.get("/api/v1/ttf")
    assert answer.status == 200, "figures were not answered"
    count: int = answer.json["journeys"][0]["completed"]
    return count


def whole(server: ServerProcess) -> None:
    """All are complete, told once, and no counter has moved."""
    assert completed(server) == USERS
    metrics = server.metrics()
    assert metrics.total("ttf_started_total") == USERS
    assert metrics.total("ttf_completion_total") == 0
    wait_for(lambda: _rows(server, "SELECT count(*) FROM rebuild") == 0, "what was to go")
    assert (
        _rows(server, "SELECT count(*) FROM journey WHERE definition NOT IN (SELECT id FROM definition)") == 0
    )
    assert _rows(server, "SELECT count(*) - count(DISTINCT id) FROM transition") == 0
    assert _rows(server, "SELECT count(*) FROM transition WHERE kind = 'completed' AND backfilled") == USERS
    assert _rows(server, "SELECT count(*) FROM transition WHERE kind = 'completed' AND NOT backfilled") == 0


def _rows(server: ServerProcess, sql: str) -> int:
    with server.store() as db:
        (count,) = db.execute(sql).fetchone()
    return int(count)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_figures_are_those_of_before_until_it_takes_over_while_events_come_in(server: ServerProcess) -> None:
    seen: set[int] = set()
    stop = threading.Event()
    failed: list[object] = []

    def ask() -> None:
        number = 0
        try:
            while not stop.is_set():
                seen.add(completed(server))
                number += 1
                send(server, [(f"u{number}", "other", time.time_ns())])
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        done = rebuild(server)
    finally:
        stop.set()
        asking.join()
    assert (done.returncode, done.stdout) == (0, "Computed anew: trip.\n"), done.stderr
    assert failed == []
    assert seen <= {0, USERS}
    whole(server)
    assert server.get("/api/v1/ttf/u7").json["ttf_end_minutes"] == 1.0
    # Of the same definition it changes nothing.
    assert rebuild(server, "trip").returncode == 0
    whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_again_and_again_it_goes_on_where_it_was(server: ServerProcess) -> None:
    assert rebuild(server, "--no-wait").stdout == "Begun: trip.\n"
    for kill in range(3):
        time.sleep(0.05)
        server.kill()
        if not kill:
            checked = command_on(server.data_dir, "check-data", "--config", str(server.config))
            assert checked.returncode == 0, checked.stdout
        server.start()
        assert completed(server) in (0, USERS)
    wait_for(lambda: completed(server) == USERS, "the rebuild", timeout=60)
    whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_salvage_in_the_middle_loses_nothing_but_the_rebuild(server: ServerProcess) -> None:
    rebuild(server, "--no-wait")
    server.kill()
    salvaged = command_on(server.data_dir, "salvage", "--config", str(server.config))
    assert salvaged.returncode == 0, salvaged.stderr
    assert _rows(server, "SELECT count(*) FROM rebuild") == 0
    checked = command_on(server.data_dir, "check-data", "--config", str(server.config))
    assert checked.returncode == 0, checked.stdout
    server.start()
    wait_for(lambda: server.get("/api/v1/ttf").status == 200, "the figures")
    assert rebuild(server).returncode == 0
    whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_store_that_cannot_be_written_keeps_the_figures_and_goes_on(server: ServerProcess) -> None:
    """Another process holds the store for longer than SQLite waits: as on a full disk, nothing can be written."""
    with sqlite3.connect(server.data_dir / "store.db", isolation_level=None, timeout=30) as other:
        rebuild(server, "--no-wait")
        other.execute("BEGIN IMMEDIATE")
        assert completed(server) in (0, USERS)
        time.sleep(1)
        other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: completed(server) == USERS, "the rebuild", timeout=60)
    whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_cannot_be_is_said(server: ServerProcess) -> None:
    done = rebuild(server, "nowhere")
    assert (done.returncode, done.stderr) == (1, "otel-ttf: no such journey: nowhere; followed are trip.\n")
    server.terminate()
    later = rebuild(server)
    assert later.returncode == 0
    assert later.stdout.startswith("Noted: no server runs on ")
    server.start()
    wait_for(lambda: completed(server) == USERS, "the rebuild", timeout=60)
    whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_disk_that_fills_up_meanwhile_leaves_the_figures_of_before_and_it_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path / "data", config=tmp_path / "config.yaml")
    try:
        disk = FaultyDisk(server.data_dir, tmp_path)
    except CannotBreak as missing:
        pytest.skip(str(missing))
    server.environment = disk.environment
    with prepared(server):
        disk.control.sync_ms = 300  # each of its transactions takes so long at least
        assert rebuild(server, "--no-wait").stdout == "Begun: trip.\n"
        wait_for(
            lambda: _rows(server, "SELECT count(*) FROM rebuild WHERE place > 0 AND phase = 'walking'") == 1,
            "its first steps",
        )
        disk.control.write_error = errno.ENOSPC
        wait_for(lambda: server.get("/ready").status == 503, "that it is said")
        reasons = " ".join(server.get("/ready").json["reasons"])
        assert "the store cannot be written" in reasons
        assert "make room" in reasons
        assert completed(server) == 0
        assert _rows(server, "SELECT count(*) FROM rebuild") == 1
        # A kill in the middle of it, too.
        server.kill()
        disk.control.write_error = disk.control.sync_ms = 0
        server.start()
        wait_for(lambda: completed(server) == USERS, "the rebuild", timeout=60)
        whole(server)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_where_there_is_no_room_for_it_it_does_not_begin_and_says_what_is_missing(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk", 200 * MIB) as disk:
            server = ServerProcess(disk.folder / "data", config=tmp_path / "config.yaml")
            server.output = tmp_path / "out"
            with prepared(server):
                disk.fill(leave=65 * MIB)
                done = rebuild(server)
                assert done.returncode == 1
                assert (
                    "3000 journeys stand in the store twice for a while, which takes 1.7MiB; the disk has"
                    in (done.stderr)
                )
                assert "above 64MiB that have to stay free: make room first" in done.stderr
                assert completed(server) == 0
                disk.make_room()
                assert rebuild(server).returncode == 0
                whole(server)
    except CannotBreak as missing:
        pytest.skip(str(missing))
