"""`otel-ttf check-data`: whatever is changed is found, and nothing else."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from log_contract import entry
from sqlite_logs import SqliteLogs
from world import World

from otel_ttf.cli import main
from otel_ttf.companions import Companions
from otel_ttf.journey.definition import default_onboarding
from otel_ttf.log.lock import in_use
from otel_ttf.mending import log_state
from otel_ttf.migrate import migrate
from otel_ttf.remembered import remember
from otel_ttf.store.consent import SqliteBook
from otel_ttf.store.exports import Cursor, ExportBook
from otel_ttf.store.exports_rescue import OURS, SCHEMA
from otel_ttf.store.opening import NOTE
from otel_ttf.store.quarantine import DeadLetter

JOURNEY = default_onboarding()
NAMES = [milestone.name for milestone in JOURNEY.milestones]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data directory in which a server has worked: some of the log is followed, some is not."""
    logs = SqliteLogs(tmp_path)
    log = await logs.open()
    log.register("tracker", 0, required=True)
    for _ in range(5):
        await log.append(entry(b"payload " * 100))
    world = World(tmp_path, JOURNEY)
    for user in range(20):
        world.send(
            *[
                (name, f"user-{user}", user + 7.0 * i, {"plan": "pro"})
                for i, name in enumerate(NAMES[: user % 6])
            ]
        )
    world.store.begin()
    world.store.save_cursor("tracker", log.log_id, 3)
    world.store.commit()
    remember(logs.path, NOTE, world.store.store_id)
    exported(tmp_path, Cursor("otlp:logs", log.log_id, 4, 4))
    await log.close()
    world.close()
    consent = tmp_path / "consent.db"
    Companions(logs.path, world.path).opened(consent, partial(SqliteBook, consent)).close()
    return tmp_path


def exported(folder: Path, cursor: Cursor) -> None:
    book = ExportBook(folder / "exporters.db")
    letter = DeadLetter(
        *(None, cursor.log_id, 2, 0, "logs", 1, b"\n\0", b"", "HTTP 400", "its destination", 0, 1),
        consumer="otlp:logs",
    )
    book.save(cursor, [letter])
    book.close()


def beyond_the_log(folder: Path) -> None:
    log = log_state(folder / "log.db")
    assert log is not None
    exported(folder, Cursor("otlp:logs", log.log_id, 9, 9))


def check(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check-data", "--data-dir", str(folder)])
    return done.exit_code, done.output


def test_what_a_server_leaves_is_fine(folder):
    before = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    code, said = check(folder)
    assert code == 0, said
    assert "store.db: figures against journeys: fine" in said
    assert said.endswith("All is fine.\n")
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.name in before}
    assert after == before


def test_a_file_of_exporters_that_no_server_of_this_version_has_opened_is_fine(folder):
    (folder / "exporters.db").unlink()
    with closing(sqlite3.connect(folder / "exporters.db", isolation_level=None)) as db:
        migrate(db, folder / "exporters.db", SCHEMA, ours=OURS, until=1)
        db.execute("INSERT INTO cursor VALUES ('otlp', 'log', 2, 2)")
        db.execute(
            "INSERT INTO quarantine VALUES (NULL, 'log', 2, 0, 'logs', 1, x'0a00', x'', 'HTTP 400', 'x', 0, 1, 'otlp')"
        )
    code, said = check(folder)
    assert code == 0, said


def sql(name: str, statement: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with closing(sqlite3.connect(folder / name, isolation_level=None)) as db:
            db.execute(statement)

    return harm


def page(name: str, number: int, size: int) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.seek(number * size)
            file.write(bytes(size))

    return harm


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(
            sql("log.db", "UPDATE entry SET arrival = 1 WHERE position = 2"),
            "position 2 is damaged",
            id="row",
        ),
        pytest.param(
            sql("log.db", "DELETE FROM entry WHERE position = 2"), "positions 2 to 2 are missing", id="hole"
        ),
        pytest.param(
            sql("log.db", "DELETE FROM entry WHERE position = 5"), "the last position to be 5", id="end"
        ),
        pytest.param(
            sql("log.db", "DELETE FROM entry WHERE position < 5"), "positions 4 to 4 are gone", id="gone"
        ),
        pytest.param(
            sql("store.db", "UPDATE cursor SET position = 9"), "the log to reach position 9", id="cursor"
        ),
        pytest.param(
            sql("store.db", "UPDATE cursor SET log_id = 'other'"), None, id="another log's cursor, all there"
        ),
        pytest.param(
            sql("store.db", "DELETE FROM resource"), "events whose resource is not there", id="resource"
        ),
        pytest.param(
            sql("store.db", "DELETE FROM transition WHERE position = 3"),
            "1 transitions are missing",
            id="fact",
        ),
        pytest.param(
            sql("store.db", "UPDATE counter SET value = value + 1 WHERE metric = 'ttf_started_total'"),
            "ttf_started_total of journey onboarding: expected 16 by its transitions, found 17",
            id="counter",
        ),
        pytest.param(
            sql("store.db", "DELETE FROM histogram WHERE labels LIKE '%agent%'"),
            "ttf_stage_minutes of journey onboarding, stage agent: expected",
            id="histogram",
        ),
        pytest.param(
            sql("store.db", "UPDATE journey SET day = day + 1 WHERE id = 4"), "2 of 2 figures", id="day"
        ),
        pytest.param(sql("store.db", "DELETE FROM journey WHERE id = 4"), "1 of 1 figures", id="journey"),
        pytest.param(
            sql("store.db", "UPDATE meta SET value = 'x'"),
            "is not the one that has followed",
            id="another store",
        ),
        pytest.param(
            lambda folder: (folder / "consent.db").unlink(), "consent.db is missing", id="consent.db"
        ),
        pytest.param(page("store.db", 7, 4096), "store.db: pages and indices:\n  ", id="page of the store"),
        pytest.param(
            sql("exporters.db", "UPDATE cursor SET position = position + 1"),
            "row otlp:logs of table cursor is damaged",
            id="exporter's cursor",
        ),
        pytest.param(
            beyond_the_log,
            "exporter otlp:logs: expected the log to reach position 9, found its end at 5",
            id="exporter beyond the log",
        ),
        pytest.param(
            sql("exporters.db", "UPDATE quarantine SET signal = 'x'"),
            "row 1000000001 of table quarantine cannot be read",
            id="letter",
        ),
        pytest.param(
            page("exporters.db", 1, 4096), "exporters.db: pages and indices:\n  ", id="page of exporters"
        ),
        pytest.param(page("log.db", 4, 16384), "log.db: pages and indices:\n  ", id="page of the log"),
        pytest.param(
            lambda folder: (folder / "store.db").write_bytes(b"x" * 9999),
            "the file is no SQLite database",
            id="garbage",
        ),
        pytest.param(lambda folder: (folder / "store.db").unlink(), "store.db is not there", id="no store"),
    ],
)
def test_what_is_changed_is_found(folder, harm, said):
    harm(folder)
    code, output = check(folder)
    assert "Traceback" not in output
    if said is None:
        assert code == 0, output
    else:
        assert code == 1
        assert said in output


def test_a_server_that_runs_is_seen_by_its_lock(tmp_path):
    assert not in_use(tmp_path)
    with (tmp_path / "lock").open("w") as held:
        assert not in_use(tmp_path)
        fcntl.flock(held, fcntl.LOCK_EX)
        assert in_use(tmp_path)


UNREADABLE = {
    "times": ("journey", "reached = substr(reached, 2)"),
    "touches of another shape": ("journey", "segments = '{\"plan\":7}'"),
    "a list for touches": ("journey", "segments = '[]'"),
    "text that is no UTF-8": ("journey", "segments = CAST(x'7b22ff22' AS TEXT)"),
    "no token": ("journey", "subject = 'ada'"),
    "another's token": ("event", "subject_hash = subject_hash + 1"),
    "cells": ("rollup", "cells = substr(cells, 2)"),
    "labels without a journey": ("counter", "labels = '{}'"),
    "definition": ("definition", "canonical = '{}'"),
    "buckets": ("histogram", "counts = '7'"),
    "cursor": ("cursor", "position = 'x'"),
    "stages": ("transition", "closed = '[7]'"),
    "corrections": ("transition", "changed = '[[1'"),
    "names": ("seen", "matched = '{}'"),
}


@pytest.mark.parametrize(("table", "change"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_value_that_nobody_wrote_is_named_and_salvage_leaves_it_out(folder, table, change):
    sql("store.db", f"UPDATE {table} SET {change}")(folder)
    code, output = check(folder)
    assert code == 1
    assert f" of table {table}: what stands in column {change.split()[0]} cannot be read" in output

    done = CliRunner().invoke(main, ["salvage", "--data-dir", str(folder)])
    assert done.exit_code == 0, done.output
    World(folder, JOURNEY).jobs(1000)
    code, output = check(folder)
    assert code == 0, output
    assert "store.db: each row: fine" in output
    assert "known since it was found: store.db was salvaged (" in output


def test_a_store_that_was_salvaged_and_not_started_yet_is_fine(folder):
    assert CliRunner().invoke(main, ["salvage", "--data-dir", str(folder)]).exit_code == 0
    code, output = check(folder)
    assert code == 0, output
    assert "known since it was found" not in output, "nothing was lost"


def test_a_store_of_an_older_version_has_lost_nothing(folder):
    sql("store.db", "DROP TABLE loss")(folder)
    code, output = check(folder)
    assert code == 0, output
