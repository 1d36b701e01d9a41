"""Books of consent: in memory, and on a disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from book_contract import BOB, DENY, EVE, GRANT, JANE, NO_SALE, SALE, BookContract, at

from otel_ttf.pii.consent import DENIED, NOT_FOR_SALE, Book, ConsentRefused
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.consent import SqliteBook


class TestInMemory(BookContract):
    @pytest.fixture
    def make(self) -> Callable[..., Book]:
        return Book


class TestOnDisk(BookContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Callable[..., Book]]:
        made: list[SqliteBook] = []
        numbers = count()

        def make(**options: int) -> SqliteBook:
            made.append(SqliteBook(tmp_path / f"consent{next(numbers)}.db", **options))
            return made[-1]

        yield make
        for book in made:
            book.close()

    def test_what_was_saved_is_there_after_a_crash(self, tmp_path):
        path = tmp_path / "consent.db"
        book = SqliteBook(path)
        book.save(book.join({JANE: DENY, BOB: NO_SALE, EVE: GRANT}))
        # Nothing is closed: the files are taken as they lie on the disk.
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in tmp_path.glob("consent.db*"):
            (copy / file.name).write_bytes(file.read_bytes())
        book.close()
        with closing(SqliteBook(copy / "consent.db")) as again:
            assert again.exceptions == {JANE: DENIED, BOB: NOT_FOR_SALE}
            # A grant is no exception, but it is known: an older denial does not count.
            again.save(again.join({EVE: at(5, DENY), BOB: at(5, SALE)}))
            assert again.exceptions == {JANE: DENIED, BOB: NOT_FOR_SALE}

    def test_one_save_takes_what_others_have_said_along(self, tmp_path):
        with closing(SqliteBook(tmp_path / "consent.db")) as book:
            first, second = book.join({JANE: DENY}), book.join({BOB: DENY})
            book.save(second)
            book.save(first)
        with closing(SqliteBook(tmp_path / "consent.db")) as again:
            assert again.flags([JANE]) == again.flags([BOB]) == DENIED

    def test_a_failed_save_asks_to_come_again_and_the_next_one_makes_up_for_it(self, tmp_path):
        path = tmp_path / "consent.db"
        with closing(SqliteBook(path)) as book:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                book._db.execute("PRAGMA busy_timeout=0")
                other.execute("BEGIN IMMEDIATE")
                number = book.join({JANE: DENY})
                with pytest.raises(ConsentRefused, match=r"consent\.db"):
                    book.save(number)
                other.execute("ROLLBACK")
            assert book.flags([JANE]) == DENIED
            book.save(book.join({BOB: DENY}))
        with closing(SqliteBook(path)) as again:
            assert again.exceptions == {JANE: DENIED, BOB: DENIED}

    @pytest.mark.parametrize("parts", [("-wal",), ("", "-wal", "-shm"), ("",)], ids="+".join)
    def test_a_file_that_is_deleted_while_it_is_open_is_written_again(self, tmp_path, parts):
        path, copy = tmp_path / "consent.db", tmp_path / "copy"
        with closing(SqliteBook(path)) as book:
            book.save(book.join({JANE: DENY}))
            for part in parts:
                path.with_name(path.name + part).unlink()
            book.save(book.join({BOB: NO_SALE}))
            path.unlink()
            book.mend()
            assert book.state(EVE) == (0, 0)
            copy.mkdir()  # as after a kill
            for file in tmp_path.glob("consent.db*"):
                shutil.copy(file, copy)
        for folder in (copy, tmp_path):
            with closing(SqliteBook(folder / "consent.db")) as again:
                assert again.exceptions == {JANE: DENIED, BOB: NOT_FOR_SALE}
                assert again.file_id == book.file_id

    def test_a_full_disk_asks_to_come_again(self, tmp_path):
        with closing(SqliteBook(tmp_path / "consent.db")) as book:
            (pages,) = book._db.execute("PRAGMA page_count").fetchone()
            book._db.execute(f"PRAGMA max_page_count={pages}")
            number = book.join({b"u1_abcd_%032d" % n: DENY for n in range(1000)})
            with pytest.raises(ConsentRefused, match="full"):
                book.save(number)

    def test_another_file_is_refused_and_left_alone(self, tmp_path):
        path = tmp_path / "consent.db"
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE mine (a)")
        with pytest.raises(StoreRefused, match="not a consent file"):
            SqliteBook(path)
        path.write_bytes(b"no database at all, but long enough to be looked at as one" * 40)
        with pytest.raises(StoreRefused, match=r"consent\.db"):
            SqliteBook(path)

    def test_a_damaged_file_is_named_with_what_it_holds(self, tmp_path):
        path = tmp_path / "consent.db"
        path.write_bytes(b"\xa5" * 4096)
        with pytest.raises(
            StoreRefused, match=r"consent\.db: .* who has denied their consent is in this file"
        ):
            SqliteBook(path)

    def test_a_file_of_a_newer_version_is_refused(self, tmp_path):
        path = tmp_path / "consent.db"
        SqliteBook(path).close()
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version=99")
        with pytest.raises(StoreRefused, match="newer otel_ttf"):
            SqliteBook(path)

    def test_the_umask_says_who_may_read_it(self, tmp_path):
        before = os.umask(0o077)
        try:
            SqliteBook(tmp_path / "consent.db").close()
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "consent.db").stat().st_mode) == 0o600
