"""`otel-ttf dead-letters` on a data directory without a server; with one: tests/end_to_end."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otel_ttf.cli import main
from otel_ttf.log.lock import lock_directory
from otel_ttf.migrate import migrate
from otel_ttf.store.exports import FIRST_LETTER, Cursor, ExportBook
from otel_ttf.store.quarantine import DeadLetter
from otel_ttf.store.sqlite import SCHEMA, SqliteStore

ARRIVAL = 1_790_000_000 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "store.db")
    yield store
    store.close()


@pytest.fixture
def full(store: SqliteStore) -> SqliteStore:
    store.begin()
    store.quarantine.add(
        [
            DeadLetter(
                None, "log", 3, 4, "logs", ARRIVAL, b"\x0a\x00", bytes(20), "KeyError", "a.py:1", 0, ARRIVAL
            ),
            DeadLetter(
                None, "log", 5, 0, "traces", ARRIVAL, b"\xff\x1b", b"", "Malformed", "b.py:2", 2, ARRIVAL, 7
            ),
        ]
    )
    store.commit()
    return store


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", *arguments, "--data-dir", str(folder)])


def test_a_store_that_no_server_of_this_version_has_opened(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        migrate(db, tmp_path / "store.db", SCHEMA, until=6)
    done = run(tmp_path, "list")
    assert done.exit_code == 1
    assert "start this version's server on it once" in done.stderr


def test_list(full: SqliteStore, tmp_path: Path) -> None:
    text = run(tmp_path, "list").stdout
    for part in ("KeyError", "b.py:2", "traces", "2026-09-21 14:13:20Z", "8 records are set aside"):
        assert part in text
    told = json.loads(run(tmp_path, "list", "--format", "json").stdout)
    assert (told["count"], told["records"]) == (2, 8)
    assert told["items"][0] == {
        "id": 1,
        "consumer": "tracker",
        "error": "KeyError",
        "place": "a.py:1",
        "tries": 0,
        "signal": "logs",
        "arrived_at": "2026-09-21T14:13:20.000000000Z",
        "set_aside_at": "2026-09-21T14:13:20.000000000Z",
        "log_position": 3,
        "log_place": 4,
        "records": 1,
    }


def test_nothing_is_set_aside(store: SqliteStore, tmp_path: Path) -> None:
    assert run(tmp_path, "list").stdout == "Nothing is set aside.\n"
    assert json.loads(run(tmp_path, "drop", "--all", "--format", "json").stdout)["done"] == []


def test_show(full: SqliteStore, tmp_path: Path) -> None:
    sound = json.loads(run(tmp_path, "show", "1").stdout)
    assert (sound["record"], sound["bytes"], sound["event_ids"]) == (
        {"resourceLogs": [{}]},
        None,
        ["00" * 16],
    )
    broken = json.loads(run(tmp_path, "show", "2").stdout)
    assert (broken["record"], broken["bytes"]) == (None, "ff1b")
    missing = run(tmp_path, "show", "3")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "dead-letters list" in missing.stderr


def test_letters_of_exporters_stand_with_the_others(full: SqliteStore, tmp_path: Path) -> None:
    book = ExportBook(tmp_path / "exporters.db")
    letter = DeadLetter(
        *(
            None,
            "log",
            9,
            2,
            "metrics",
            ARRIVAL,
            b"",
            b"",
            "HTTP 400",
            "its destination",
            0,
            ARRIVAL,
        ),
        consumer="otlp/eu",
    )
    book.save(Cursor("otlp/eu", "log", 9, 90), [letter])
    told = json.loads(run(tmp_path, "list", "--format", "json").stdout)
    assert (told["count"], [item["id"] for item in told["items"]]) == (3, [1, 2, FIRST_LETTER])
    assert told["items"][2]["consumer"] == "otlp/eu"
    assert "otlp/eu" in run(tmp_path, "list").stdout
    assert json.loads(run(tmp_path, "show", str(FIRST_LETTER)).stdout)["error"] == "HTTP 400"
    done = run(tmp_path, "retry", "1", str(FIRST_LETTER), "--format", "json")
    assert json.loads(done.stdout)["pending"]
    tasks = full.tasks.next(), book.task()
    assert [task and task.what for task in tasks] == [{"ids": [1]}, {"ids": [FIRST_LETTER]}]
    assert run(tmp_path, "show", str(FIRST_LETTER + 1)).exit_code == 1
    book.close()


@pytest.mark.parametrize("kind", ["retry", "drop"])
def test_without_a_server_it_is_noted(full: SqliteStore, tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, kind, "2", "1", "2")
    assert (done.exit_code, done.stdout) == (
        0,
        f"Noted: no server runs on {tmp_path}; it is done when one starts. "
        f"otel-ttf dead-letters list --data-dir {tmp_path} lists what is still set aside then.\n",
    )
    task = full.tasks.next()
    assert task is not None
    assert (task.kind, task.what) == (kind, {"ids": [2, 1]})
    assert len(full.quarantine.ids()) == 2


@pytest.mark.parametrize("kind", ["retry", "drop"])
def test_an_id_that_is_not_there_is_named_and_nothing_is_done(
    full: SqliteStore, tmp_path: Path, kind: str
) -> None:
    done = run(tmp_path, kind, "2", "7", "999")
    assert done.exit_code == 1
    assert done.stderr == (
        "otel-ttf: no records have the ids 7, 999, so nothing was done: "
        f"see otel-ttf dead-letters list --data-dir {tmp_path}\n"
    )
    assert full.tasks.next() is None


def test_an_id_that_somebody_else_took_meanwhile_is_named(
    full: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = [{"done": [1], "unknown": [2], "failed": {}}]
    monkeypatch.setattr("otel_ttf.ask_tracker.asked", lambda *_: answer)
    done = run(tmp_path, "drop", "1", "2")
    assert (done.exit_code, done.stdout) == (1, "1 dropped.\n")
    assert "no record has the id 2 any more, the others were done" in done.stderr
    assert run(tmp_path, "drop", "--all").exit_code == 0, "none is left, as was asked"


def test_a_server_that_does_not_come_to_it_is_said(
    full: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_ttf.ask_tracker.WAIT_SECONDS", 0.1)
    with lock_directory(tmp_path):
        done = run(tmp_path, "drop", "--all")
    assert done.exit_code == 0
    assert "/ready" in done.stdout


@pytest.mark.parametrize("arguments", [("retry",), ("drop",), ("retry", "1", "--all"), ("show", "x")])
def test_a_wrong_call_is_exit_code_2(full: SqliteStore, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments).exit_code == 2


def test_what_is_no_data_directory_is_said(tmp_path: Path) -> None:
    assert "--data-dir" in run(tmp_path / "elsewhere", "list").stderr
    assert "--data-dir" in run(tmp_path, "list").stderr
    assert not (tmp_path / "store.db").exists()


def test_of_a_damaged_store_the_ways_on_can_be_pasted(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_ttf.ask_tracker.LOOK_SECONDS", 0)
    store.close()
    (tmp_path / "store.db").write_bytes(b"x" * 9000)
    said = run(tmp_path, "list").stderr
    for way in ("restore FILE", "salvage"):
        assert f"`otel-ttf {way} --data-dir {tmp_path}`" in said


def test_a_store_of_an_older_version_is_said(store: SqliteStore, tmp_path: Path) -> None:
    store.db.execute("DROP TABLE quarantine")
    assert "older otel_ttf" in run(tmp_path, "list").stderr
