"""`otel-ttf recompute` on a data directory without a server; with one: tests/end_to_end."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otel_ttf.cli import main
from otel_ttf.log.lock import lock_directory
from otel_ttf.pii.keys import new, parse
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.sqlite import SqliteStore

TOKEN = "u1_ab2c_abcdefghijklmnopqrstuvwxyz234567"
AT = 1_790_000_000 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    (tmp_path / "keys").write_text(new())
    store = SqliteStore(tmp_path / "store.db")
    yield store
    store.close()


def run(folder: Path, *arguments: str, config: Sequence[str] = ()) -> Result:
    return CliRunner().invoke(main, ["recompute", "--data-dir", str(folder), *config, *arguments])


def answered(store: SqliteStore, folder: Path, answer: Any, *arguments: str) -> Result:
    """What the command says when a server gives this answer."""

    def serve() -> None:
        while (task := store.tasks.next()) is None:
            pass
        store.begin()
        store.tasks.answer(task.id, answer)
        store.commit()

    with lock_directory(folder):
        server = threading.Thread(target=serve)
        server.start()
        done = run(folder, *arguments)
        server.join()
    return done


def test_it_is_asked_by_pseudonym(store: SqliteStore, tmp_path: Path) -> None:
    done = run(tmp_path, " alice ", "--without", "AB" * 16, "--dry-run")
    assert (done.exit_code, done.stdout[:7]) == (0, "Noted: ")
    tokens = Pseudonyms(parse((tmp_path / "keys").read_text())).tokens("alice")
    task = store.tasks.next()
    assert task is not None
    assert (task.kind, task.what) == (
        "recompute",
        {"subjects": tokens, "without": "AB" * 16, "dry_run": True},
    )
    assert b"alice" not in b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))


def test_what_has_changed(store: SqliteStore, tmp_path: Path) -> None:
    milestone = {"milestone": "signup", "before": AT, "after": None, "event_id": "ab" * 16}
    journey = {"journey": "trip", "subject": TOKEN, "key": [], "changed": True, "milestones": [milestone]}
    done = answered(store, tmp_path, {"refused": None, "journeys": [journey]}, "--token", TOKEN)
    assert done.exit_code == 0
    for part in (f"{TOKEN} in trip: changed", "signup", "2026-09-21 14:13:20Z", "ab" * 16):
        assert part in done.stdout


def test_what_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    milestone = {"milestone": "signup", "before": AT, "after": AT, "event_id": "ab" * 16}
    journey = {"journey": "trip", "subject": TOKEN, "key": [], "changed": False, "milestones": [milestone]}
    done = answered(store, tmp_path, {"refused": "signup is missing", "journeys": [journey]}, "alice")
    assert (done.exit_code, done.stderr) == (1, "otel-ttf: signup is missing.\n")
    assert "ab" * 16 in done.stdout, "for --without"


@pytest.mark.parametrize("user", ["alice", "-a b's"])
def test_where_no_server_runs_the_way_to_see_the_outcome_can_be_pasted(
    store: SqliteStore, tmp_path: Path, user: str
) -> None:
    done = run(
        tmp_path, *(["--", user] if user[0] == "-" else [user]), config=("--set", "subject.normalise=lower")
    )
    (command,) = re.findall("Then (otel-ttf .*) shows the journey", done.stdout)
    words = shlex.split(command)[1:]
    assert words[words.index("--set") :][:2] == ["--set", "subject.normalise=lower"]
    assert "`what an operator asked for`" in done.stdout
    asked = store.tasks.next()
    assert asked is not None
    store.begin()
    store.tasks.answer(asked.id, {})
    store.commit()
    CliRunner().invoke(main, words)
    again = store.tasks.next()
    assert again is not None
    assert again.what == asked.what | {"dry_run": True}


def test_a_defect_is_said(store: SqliteStore, tmp_path: Path) -> None:
    done = answered(store, tmp_path, {"failure": "KeyError at a.py:1"}, "alice")
    assert done.exit_code == 1
    assert "KeyError at a.py:1" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nobody"),
        pytest.param(("alice", "--token", TOKEN), id="two"),
        pytest.param(("--token", "alice"), id="no pseudonym"),
        pytest.param((" ",), id="an empty id"),
        pytest.param(("alice", "--without", "12"), id="no event id"),
    ],
)
def test_a_wrong_call_is_exit_code_2(store: SqliteStore, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments).exit_code == 2
    assert store.tasks.next() is None
