"""The machine's wall clock is really put forward and back by an hour, while a server takes load or between two runs."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from books import Books
from ledger import MARK, Ledger, send_unanswered, sending
from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from server_process import ROOT, ServerProcess, wait_for

from otel_ttf.log.sqlite import CLOCK

PROGRAM = Path(__file__).with_name("wall_server.py")
LIBRARIES = [
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1"),
    *Path("/usr/local/lib").glob("faketime/libfaketimeMT.so.1"),
]
# Says how far the wall clock, CLOCK_BOOTTIME and the monotonic one move when the file says one hour.
PROBE = """
import os, sys, time
clocks = time.time, time.monotonic, lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
before = [clock() for clock in clocks]
with open(sys.argv[1], "w") as file:
    file.write("+3600\\n")
print(*(round(clock() - old) for clock, old in zip(clocks, before)))
"""
# Between two sweeps for overdue and expired, and some more.
SWEEP_SECONDS = 6.5


class Wall:
    """The wall clock of processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "wall"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """How far it is from the true one. In one step: nobody may read half a file."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+}\n")
        new.replace(self.file)


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    if not LIBRARIES:
        pytest.skip("libfaketime is missing: install it, e.g. 'apt-get install faketime'")
    wall = Wall(tmp_path)
    moved = subprocess.run(
        [sys.executable, "-c", PROBE, str(wall.file)],
        env=os.environ | wall.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    if moved.stdout.split() != ["3600", "0", "0"]:
        pytest.skip(f"libfaketime does not move the wall clock alone here: {moved.stdout or moved.stderr}")
    wall.set(0)
    return wall


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The built-in journey, of which somebody who began 50 minutes ago is overdue and expired in an hour."""
    journeys = yaml.safe_load((ROOT / "config.yaml").read_text())["journeys"]
    journeys["onboarding"] |= {"settle": "1s", "overdue": {"warning": "80m"}, "give_up_after": "100m"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"journeys": journeys}))
    return file


def no_trace(server: ServerProcess, ledger: Ledger) -> None:
    """Every event has its sender's time, and nobody was overdue."""
    with server.store() as store:
        kinds = {kind for (kind,) in store.execute("SELECT DISTINCT kind FROM transition")}
        events = store.execute("SELECT attributes, at, flags FROM event").fetchall()
    assert "started" in kinds
    assert kinds.isdisjoint({"overdue", "expired"})
    for attributes, at, flags in events:
        (mark,) = (a.value.string_value for a in KeyValueList.FromString(attributes).values if a.key == MARK)
        assert (at, flags) == (ledger.sent[mark].time, 0)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_hour_forward_and_back_changes_no_state(tmp_path: Path, wall: Wall, config: Path) -> None:
    ledger = Ledger(random.Random(12))
    server = ServerProcess(tmp_path / "data", config=config, program=[str(PROGRAM)])
    server.environment = wall.environment
    with server:
        books = Books(server, ledger)
        with sending(server, ledger, pause=0.05):
            time.sleep(1)
            for step in (3600, 0, -3600, 3600, -3600, 0):
                wall.set(step)
                wait_for(
                    lambda step=step: abs(server.metrics().total("otel_ttf_clock_step_seconds") - step) < 5,
                    f"a step of {step} s to be seen",
                )
                time.sleep(SWEEP_SECONDS if step in (3600, 0) else 1)
        send_unanswered(server, ledger)
        server.wait_caught_up()
        time.sleep(SWEEP_SECONDS)
        books.check_final()
        no_trace(server, ledger)
        assert server.printed().count("the wall clock has stepped") == 1
        assert server.terminate() == 0


def on_another_boot(data_dir: Path) -> None:
    """As if the machine had been booted since: the kernel names it otherwise, and its clock begins anew."""
    with closing(sqlite3.connect(data_dir / "log.db", isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 'x' || value WHERE name = ?", (CLOCK,))
        assert db.execute("SELECT changes()").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("step", "end", "between"),
    [
        pytest.param(-3600, ServerProcess.terminate, lambda _: None, id="behind, after a stop"),
        pytest.param(4800, ServerProcess.kill, lambda _: None, id="ahead, after kill -9"),
        pytest.param(-3600, ServerProcess.kill, on_another_boot, id="behind, on another boot"),
    ],
)
def test_a_clock_that_is_wrong_at_a_restart_changes_no_state(
    tmp_path: Path,
    wall: Wall,
    config: Path,
    step: int,
    end: Callable[[ServerProcess], object],
    between: Callable[[Path], None],
) -> None:
    ledger = Ledger(random.Random(13))
    server = ServerProcess(tmp_path / "data", config=config, program=[str(PROGRAM)])
    server.environment = wall.environment
    with server:
        books = Books(server, ledger)
        with sending(server, ledger):
            time.sleep(1)
            end(server)
        between(server.data_dir)
        wall.set(step)
        server.start()
        with sending(server, ledger):
            time.sleep(1)
        send_unanswered(server, ledger)
        server.wait_caught_up()
        assert abs(server.metrics().total("otel_ttf_clock_step_seconds") - step) < 60
        time.sleep(SWEEP_SECONDS)
        books.check_final()
        no_trace(server, ledger)
        assert server.printed().count("the wall clock has stepped") == 1
        assert server.terminate() == 0
