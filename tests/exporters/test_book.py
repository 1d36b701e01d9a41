"""exporters.db: cursors and letters in one transaction, and what becomes of a file that is damaged or gone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from otel_ttf.store.base import StoreRefused
from otel_ttf.store.exports import FIRST_LETTER, PARTIAL, PARTIAL_BYTES, Cursor, ExportBook
from otel_ttf.store.quarantine import DeadLetter

CURSOR = Cursor("otlp", "log", 7, 70)


def letter(error: str = "HTTP 400", payload: bytes = b"\x0a\x00", arrival: int = 1) -> DeadLetter:
    return DeadLetter(
        None, "log", 7, 0, "logs", arrival, payload, b"", error, "its destination", 0, 1, 3, "otlp"
    )


def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    book = ExportBook(tmp_path / "exporters.db")
    book.save(CURSOR, [letter()])
    book.close()
    book = ExportBook(tmp_path / "exporters.db")
    assert book.cursor("otlp", "log") == CURSOR
    assert book.cursor("otlp", "another log") is None
    (found,) = book.letters([FIRST_LETTER])
    assert (found.id, found.consumer) == (FIRST_LETTER, "otlp")
    assert book.counts() == {"otlp": 3}
    assert book.expire(1, 0) == {}
    assert book.expire(2, 0) == {"otlp": 3}
    book.close()


def test_requests_that_were_refused_in_part_push_out_no_other(tmp_path: Path) -> None:
    book = ExportBook(tmp_path / "exporters.db")
    book.save(CURSOR, [letter()])
    for _ in range(12):
        assert book.save(CURSOR, [letter(f"{PARTIAL}: 1 of 9 records", bytes(1 << 20))]) == 0
    found = book.letters(range(FIRST_LETTER, FIRST_LETTER + 13))
    assert len(found) == 13
    assert found[0].payload == b"\x0a\x00"
    assert sum(len(one.payload) for one in found[1:]) == PARTIAL_BYTES
    assert found[-1].payload == b""
    book.close()


def test_a_damaged_file_is_kept_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "exporters.db"
    path.write_bytes(b"no database at all" * 1000)
    book = ExportBook(path)
    assert book.cursor("otlp", "log") is None
    book.close()
    (kept,) = tmp_path.glob("exporters.db.damaged-*")
    assert kept.read_bytes().startswith(b"no database")


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "exporters.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    with pytest.raises(StoreRefused, match="move it away"):
        ExportBook(path)


def test_a_file_that_is_taken_away_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "exporters.db"
    book = ExportBook(path)
    book.save(CURSOR, [letter()])
    path.unlink()
    book.save(Cursor("other", "log", 1, None))
    book.close()
    book = ExportBook(path)
    assert book.cursor("otlp", "log") == CURSOR
    assert book.cursor("other", "log") == Cursor("other", "log", 1, None)
    assert book.counts() == {"otlp": 3}
    book.close()
