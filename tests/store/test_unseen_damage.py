"""Commands beside, before and after a server leave a damaged file as it is: what is readable can still be rescued."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from machine import Machine
from world import START

from otel_ttf import ask_tracker
from otel_ttf.clock import ManualClock
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.mending import CannotMend, log_state, restore, salvage_store
from otel_ttf.pii.keys import new, parse
from otel_ttf.store.opening import saved_cursors
from otel_ttf.store.salvage import salvage

USERS = 60
KEYS = parse(new())


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A data directory as a kill leaves it: all requests in the write-ahead log, all journeys in that of the store."""
    (tmp_path / "live").mkdir()
    machine = Machine(tmp_path / "live")
    machine.world.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(USERS):
        await machine.send(("a", f"u{number}", number, {}))
        machine.world.send(("a", f"u{number}", number, {}))
    shutil.copytree(tmp_path / "live", tmp_path / "killed")
    await machine.log.close()
    machine.world.close()
    for file in (tmp_path / "killed").glob("*-shm"):
        file.unlink()
    return tmp_path / "killed"


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def flip(path: Path) -> None:
    """One bit in the middle of the write-ahead log."""
    content = bytearray(wal(path).read_bytes())
    content[len(content) // 2] ^= 1
    wal(path).write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def asked(kind: str) -> Callable[[Path], object]:
    return lambda store: ask_tracker.asked(store.parent, store, kind, [{"ids": [1]}])  # type: ignore[arg-type]


COMMANDS: dict[str, Callable[[Path], object]] = {
    "list": lambda store: ask_tracker.listed([store], 10),
    "show": lambda store: ask_tracker.shown(store, 1),
    "retry --all": lambda store: ask_tracker.ids([store]),
    "drop": asked("drop"),
    "recompute": asked("recompute"),
}


@pytest.mark.parametrize("harm", [flip, empty])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_question_to_a_damaged_store_leaves_it_to_salvage(killed, monkeypatch, command, harm):
    monkeypatch.setattr(ask_tracker, "LOOK_SECONDS", 0)
    store = killed / "store.db"
    harm(store)
    before = store.read_bytes(), wal(store).read_bytes()
    with pytest.raises(ask_tracker.Damaged, match="is damaged"):
        command(store)
    saved_cursors(store, "tracker")
    assert (store.read_bytes(), wal(store).read_bytes()) == before
    assert salvage(store, killed / "new.db").rows["journey"] >= USERS - 1


def test_a_question_that_only_reads_keeps_the_write_ahead_log(killed):
    store = killed / "store.db"
    before = wal(store).read_bytes()
    assert ask_tracker.listed([store], 10) == {"count": 0, "records": 0, "items": []}
    assert wal(store).read_bytes() == before


def test_a_store_that_looks_damaged_for_a_moment_is_asked_all_the_same(killed, monkeypatch):
    looks = iter(["it is being written", "it is being written", None])
    monkeypatch.setattr(ask_tracker, "unseen_damage", lambda *_, **__: next(looks))
    monkeypatch.setattr(ask_tracker, "LOOK_SECONDS", 0)
    assert ask_tracker.ids([killed / "store.db"]) == []


@pytest.mark.parametrize("harm", [flip, empty])
async def test_a_damaged_log_is_the_servers_to_mend_before_a_store_is_put_beside_it(killed, tmp_path, harm):
    shutil.copytree(killed, tmp_path / "copy")
    log, store = killed / "log.db", killed / "store.db"
    harm(log)
    before = log.read_bytes(), wal(log).read_bytes()
    for mend in (
        lambda: restore(tmp_path / "copy", store, log, KEYS, START),
        lambda: salvage_store(store, log, [], START, lambda done, total: None),
    ):
        with pytest.raises(CannotMend, match="start the server once"):
            mend()
    log_state(log)
    assert (log.read_bytes(), wal(log).read_bytes()) == before
    opened = SqliteLog.open(log, LogConfig(), ManualClock(START), free_space=lambda: 100 << 30)
    rows = [row for row in opened.read(0, rows=1000) if row.records]
    await opened.close()
    assert len(rows) >= USERS - 1
    restore(tmp_path / "copy", store, log, KEYS, START)
