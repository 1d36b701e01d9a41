"""What a write-ahead log looks like when it is damaged, and when the power went while it was written."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from otel_ttf.pages import PageFile

PAGE = 4096
FRAME = PAGE + 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose write-ahead log holds four transactions of one frame each."""
    with closing(sqlite3.connect(tmp_path / "open.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (a)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for number in range(4):
            db.execute("INSERT INTO t VALUES (?)", (number,))
        for end in ("", "-wal"):
            shutil.copy(f"{tmp_path}/open.db{end}", f"{tmp_path}/t.db{end}")
    return tmp_path / "t.db"


def change(path: Path, at: int, data: bytes) -> None:
    with path.with_name("t.db-wal").open("r+b") as file:
        file.seek(at)
        file.write(data)


def frame(number: int) -> int:
    return 32 + number * FRAME


def seen(path: Path) -> tuple[bool, int]:
    """Whether it is damaged, and how many frames count."""
    with closing(PageFile(path, page_size=PAGE)) as file:
        assert len(file.frames) == 4
        return file.wal_broken, sum(one.good for one in file.frames)


@pytest.mark.parametrize(
    ("at", "data", "expected"),
    [
        pytest.param(0, b"", (False, 4), id="whole"),
        pytest.param(frame(3) + 500, b"?", (False, 3), id="the last transaction may not have been synced"),
        pytest.param(
            frame(2) + 500, b"?", (True, 3), id="the one before was, and SQLite would leave both out"
        ),
        pytest.param(frame(0) + 500, b"?", (True, 3), id="the first one"),
        pytest.param(frame(1) + 16, b"????", (True, 2), id="a checksum: that of the next goes on from it"),
        pytest.param(5, b"?", (True, 4), id="the header"),
        pytest.param(0, bytes(32), (True, 3), id="the header was synced with the first transaction"),
    ],
)
def test_what_was_synced_and_is_not_whole_is_damage(path, at, data, expected):
    before = seen(path)
    assert before == (False, 4)
    change(path, at, data)
    broken, good = seen(path)
    assert (broken, good) == expected


def test_a_write_ahead_log_that_begins_anew_is_not_damaged(path):
    """The power went after the first frames, with new salts, and before the header."""
    with path.with_name("t.db-wal").open("rb") as file:
        salt = int.from_bytes(file.read(20)[16:])
    change(path, frame(0) + 8, (salt + 1).to_bytes(4) + b"new!")
    assert seen(path) == (False, 0)
