"""What a start makes of the store.db that it finds: never silently empty, never another's."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from otel_ttf.log.sqlite_file import LogFile
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.opening import StoreLost, open_store, saved_cursors


class Folder:
    """A data directory as a server leaves it; `start` is its next one."""

    def __init__(self, path: Path) -> None:
        self.store, self.log = path / "store.db", path / "log.db"
        file = LogFile(self.log)
        self.log_id = file.log_id
        file.close()

    def start(self, *, followed: bool = False) -> str:
        """The id of the store that was opened. Raises StoreLost, StoreRefused."""
        with closing(open_store(self.store, self.log, self.log_id, followed=followed)) as store:
            store.begin()
            store.save_cursor("tracker", self.log_id, 7)
            store.commit()
            return store.store_id

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.store, isolation_level=None)) as db:
            db.execute(statement)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_new_directory_gets_a_new_store_and_the_next_start_the_same(folder):
    assert folder.start() == folder.start(followed=True)
    assert saved_cursors(folder.store, "tracker") == (folder.log_id, {"tracker": 7})


def write(content: Callable[[bytes], bytes]) -> Callable[[Folder], object]:
    return lambda folder: folder.store.write_bytes(content(folder.store.read_bytes()))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(lambda folder: folder.store.unlink(), "missing or empty", id="missing"),
        pytest.param(write(lambda old: b""), "missing or empty", id="empty"),
        pytest.param(write(lambda old: b"garbage" * 9999), "is damaged", id="garbage"),
        pytest.param(write(lambda old: b"X" + old[1:]), "is damaged", id="another first byte"),
        pytest.param(write(lambda old: old[:3000]), "is damaged", id="cut short in the first page"),
        pytest.param(write(lambda old: old[:9000]), "is damaged", id="cut short"),
        pytest.param(
            write(lambda old: old[:4096] + random.Random(1).randbytes(len(old) - 4096)),
            "is damaged",
            id="garbage pages",
        ),
        pytest.param(write(lambda old: bytes(len(old))), "is damaged", id="zeros"),
        pytest.param(
            lambda folder: folder.sql("UPDATE meta SET value = 'another'"),
            "is not the one that was here",
            id="another's",
        ),
    ],
)
def test_a_store_that_is_not_as_it_was_is_lost_and_left_as_it_is(folder, harm, said):
    folder.start()
    harm(folder)
    before = folder.store.read_bytes() if folder.store.exists() else None
    for _ in range(2):
        with pytest.raises(StoreLost, match=said) as lost:
            folder.start()
        assert "otel-ttf salvage" in str(lost.value)
    assert (folder.store.read_bytes() if folder.store.exists() else None) == before


def test_a_store_without_one_of_its_tables_is_damaged(folder):
    folder.start()
    folder.sql("DROP TABLE journey")
    with pytest.raises(StoreLost, match="no such table: journey"):
        folder.start()


def test_a_log_that_was_followed_before_stores_had_ids_has_one_all_the_same(folder):
    with pytest.raises(StoreLost, match="missing"):
        folder.start(followed=True)


def test_a_store_from_before_there_were_ids_is_taken_by_its_cursor(folder):
    folder.start()
    folder.sql("DELETE FROM meta")
    assert folder.start() == folder.start()


def test_a_newer_store_is_refused_as_ever(folder):
    folder.start()
    folder.sql("PRAGMA user_version=99")
    with pytest.raises(StoreRefused, match="newer otel_ttf"):
        folder.start()


def test_a_damaged_write_ahead_log_is_told_where_sqlite_would_leave_it_out(folder, tmp_path):
    folder.start()
    other = tmp_path / "other"
    other.mkdir()
    with closing(open_store(folder.store, folder.log, folder.log_id, followed=True)) as store:
        for position in (8, 9):
            store.begin()
            store.save_cursor("tracker", folder.log_id, position)
            store.commit()
        for file in folder.store.parent.glob("*.db*"):
            shutil.copy(file, other)
    wal = other / "store.db-wal"
    content = bytearray(wal.read_bytes())
    folder.store, folder.log = other / "store.db", other / "log.db"
    assert saved_cursors(folder.store, "tracker")[1] == {"tracker": 9}
    content[32 + 24 + 100] ^= 1
    wal.write_bytes(content)
    with pytest.raises(StoreLost, match="write-ahead log has other checksums"):
        folder.start()
