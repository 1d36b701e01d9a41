"""exporters.db: cursors and letters in one transaction, and what becomes of a file that is damaged or gone."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from harm import DAMAGES

from otel_ttf.store import exports
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.exports import FIRST_LETTER, PARTIAL, PARTIAL_BYTES, PARTIAL_LETTERS, Cursor, ExportBook
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


def test_signals_go_on_where_all_of_the_exporter_was(tmp_path: Path) -> None:
    book = ExportBook(tmp_path / "exporters.db")
    book.save(CURSOR, [letter()])
    for _ in range(2):
        book.part("otlp", ["otlp:logs", "otlp:traces"])
        for consumer in ("otlp:logs", "otlp:traces"):
            assert book.cursor(consumer, "log") == Cursor(consumer, "log", 7, 70)
        assert book.last("otlp") is None
        assert book.counts() == {"otlp:logs": 3}
    book.save(further := Cursor("otlp:logs", "log", 8, 80))
    book.part("otlp", ["otlp:logs", "otlp:traces"])
    assert book.cursor("otlp:logs", "log") == further
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


LETTERS, SAVES = 40, 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a file as a stop leaves it, and as a kill does: some of it in the write-ahead log."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "live").mkdir()
    book = ExportBook(folder / "live" / "exporters.db")
    book.save(CURSOR, [letter(payload=bytes([number]) * 500) for number in range(LETTERS // 2)])
    book._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for position in range(1, SAVES + 1):
        for consumer in ("a", "b"):
            book.save(Cursor(consumer, "log", position, 10 * position))
    book.save(CURSOR, [letter(payload=bytes([number]) * 500) for number in range(LETTERS // 2, LETTERS)])
    shutil.copytree(folder / "live", folder / "killed", ignore=lambda *_: ["exporters.db-shm"])
    book.close()
    (folder / "live").rename(folder / "closed")
    return folder


def is_as_it_was_once(book: ExportBook) -> None:
    """No cursor is ahead, or of a place where none was."""
    for consumer in ("a", "b"):
        found = book.cursor(consumer, "log")
        assert found is None or (found.records == 10 * found.position and 0 < found.position <= SAVES)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("state", "file"), [("closed", "db"), ("killed", "db"), ("killed", "wal")])
@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_file_what_is_readable_is_kept(
    made: Path, tmp_path: Path, damage: str, state: str, file: str, seed: int
) -> None:
    shutil.copytree(made / state, tmp_path / "data")
    path = tmp_path / "data" / "exporters.db"
    harmed = path.with_name("exporters.db-wal") if file == "wal" else path
    content = bytearray(harmed.read_bytes())
    DAMAGES[damage](random.Random(f"{damage} {state} {file} {seed}"), content, 4096)
    harmed.write_bytes(content)
    book = ExportBook(path)
    is_as_it_was_once(book)
    ids = range(FIRST_LETTER, FIRST_LETTER + LETTERS)
    found = book.letters(ids)
    if "bit" not in damage:
        assert {one.payload for one in found} <= {bytes([number]) * 500 for number in range(LETTERS)}
    if damage in ("a bit", "a page of zeros") and file == "db":
        assert len(found) >= LETTERS - 16, "those of a page or two"
    book.save(CURSOR, [letter()])
    assert book.cursor("otlp", "log") == CURSOR
    assert len(book.letters(ids)) >= len(found), "its id was nobody's"
    book.close()
    if book.rescued:
        (kept,) = (one for one in path.parent.glob("exporters.db.damaged-*") if one.suffix.endswith("Z"))
        assert kept.name in book.rescued
    book = ExportBook(path)
    assert book.rescued is None
    assert book.cursor("otlp", "log") == CURSOR
    book.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_damaged_while_it_is_open_is_mended(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(exports, "MEND_EVERY", 0)
    shutil.copytree(made / "closed", tmp_path / "data")
    path = tmp_path / "data" / "exporters.db"
    book = ExportBook(path)
    content = bytearray(path.read_bytes())
    DAMAGES[damage](random.Random(damage), content, 4096)
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    for position in range(SAVES, SAVES + 5):
        book._db.execute("PRAGMA shrink_memory")  # else it is noticed with the next start
        book.save(Cursor("c", "log", position, None), [letter(payload=bytes(5000))])
        book.counts()
        is_as_it_was_once(book)
    assert book.rescued or damage not in ("everything", "emptied")
    book.close()
    book = ExportBook(path)
    is_as_it_was_once(book)
    assert book.cursor("c", "log") in (Cursor("c", "log", SAVES + 4, None), None)
    book.close()


def test_a_position_in_which_a_bit_has_changed_is_none(tmp_path: Path) -> None:
    """SQLite does not notice."""
    book = ExportBook(tmp_path / "exporters.db")
    book.save(CURSOR)
    book._db.execute("UPDATE cursor SET position = position + 1024")
    assert book.cursor("otlp", "log") is None
    assert "row otlp of table cursor" in (book.rescued or "")
    book.close()


def test_a_destination_that_refuses_a_part_of_each_request_fills_no_disk(tmp_path: Path) -> None:
    book = ExportBook(tmp_path / "exporters.db")
    book.save(CURSOR, [letter()])
    book.save(CURSOR, [letter(f"{PARTIAL}: 1 of 9 records", b"") for _ in range(PARTIAL_LETTERS)])
    assert book.save(CURSOR, [letter(f"{PARTIAL}: 1 of 9 records", b"")] * 3) == 9, "each stands for three"
    assert book.counts() == {"otlp": 3 * (1 + PARTIAL_LETTERS)}
    assert book.letters([FIRST_LETTER]) != [], "none of the others goes for them"
    book.close()


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
