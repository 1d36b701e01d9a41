"""What is set aside when a new file takes an old one's place: the newest two of each kind stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_ttf.swap import draft, drafted, finish, put
from otel_ttf.units import SECOND

BEGAN = 1_790_000_000 * SECOND


def replace(path: Path, content: str, why: str, seconds: int) -> Path | None:
    """Gives the file, and a write-ahead log to it."""
    draft(path).write_text(content)
    kept = put(path, why, BEGAN + seconds * SECOND)
    path.with_name(path.name + "-wal").write_text(content)
    return kept


def held(path: Path, kind: str) -> list[str]:
    """What stands in files of a kind that were set aside, the oldest first."""
    return [file.read_text() for file in sorted(path.parent.glob(f"{path.name}.{kind}-*Z*"))]


def test_older_ones_of_a_kind_go_with_their_write_ahead_logs(tmp_path):
    path = tmp_path / "log.db"
    for number in range(5):
        replace(path, str(number), "damaged", number)
    assert held(path, "damaged") == ["2", "2", "3", "3"]
    assert path.read_text() == "4"


def test_other_kinds_and_other_files_stay(tmp_path):
    path, other = tmp_path / "store.db", tmp_path / "store.db.mine-20200101T000000Z"
    other.write_text("mine")
    replace(path, "first", "replaced", 0)
    replace(path, "second", "replaced", 1)
    for number in range(4):
        replace(path, str(number), "damaged", 2 + number)
    assert held(path, "replaced") == ["first", "first"]
    assert other.read_text() == "mine"


def test_one_that_was_set_aside_just_now_stays_when_the_clock_was_put_back(tmp_path):
    path = tmp_path / "log.db"
    for number, seconds in enumerate((0, 10, 20, 5)):
        kept = replace(path, str(number), "damaged", seconds)
    assert kept is not None
    assert kept.read_text() == "2"
    assert held(path, "damaged") == ["2", "2", "1", "1"]


def test_several_in_one_second_are_two_as_well(tmp_path):
    path = tmp_path / "log.db"
    for number in range(5):
        replace(path, str(number), "damaged", 0)
    assert len(held(path, "damaged")) == 4
    assert "3" in held(path, "damaged"), "the last one"


def test_a_write_ahead_log_without_its_file_is_not_kept_once_it_is_written_again(tmp_path):
    path = tmp_path / "log.db"
    for why, kept in (("found", []), ("damaged", ["2"])):
        path.unlink(missing_ok=True)
        path.with_name("log.db-wal").write_text("2")
        draft(path).write_text("3")
        assert put(path, why, BEGAN + SECOND) is None
        assert [file.read_text() for file in tmp_path.glob(f"log.db.{why}-*-wal")] == kept
    assert path.read_text() == "3"


def test_a_kill_between_a_file_and_its_write_ahead_log_parts_them_not(tmp_path):
    path = tmp_path / "log.db"
    replace(path, "1", "found", 0)
    path.rename(tmp_path / "log.db.found-20260921T141320Z")
    (tmp_path / "log.db.new-found-20260921T141320Z").write_text("2")
    finish(path)
    assert held(path, "found") == ["1", "1"]
    assert path.read_text() == "2"


def test_a_draft_that_is_not_put_in_place_goes(tmp_path):
    path = tmp_path / "store.db"

    def refused() -> None:
        with drafted(path) as made:
            made.write_text("a whole copy")
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        refused()
    assert list(tmp_path.iterdir()) == []
