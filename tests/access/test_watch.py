"""Files that change: what can be used counts from then on, and what cannot leaves what was."""

from __future__ import annotations

import pytest

from otel_ttf.access.watch import Unusable, Watched


class Files:
    """Two files that belong together: both hold the same word."""

    def __init__(self, folder, **options):
        self.paths = [folder / "a", folder / "b"]
        self.good: list[bool] = []
        self.changes: list[str] = []
        self.options = {"told": self.good.append, "change": self.changes.append, **options}

    def write(self, a: str, b: str | None = None) -> None:
        for path, text in zip(self.paths, (a, a if b is None else b), strict=True):
            path.write_text(text)

    def watched(self) -> Watched[str]:
        def read(a: bytes, b: bytes) -> str:
            if a != b:
                raise Unusable("expected the same word twice")
            return a.decode()

        return Watched("words", self.paths, read, **self.options)


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path)
    made.write("one")
    return made


def test_what_is_there_at_first_counts(files):
    assert files.watched().value == "one"
    assert (files.good, files.changes) == ([True], [])


def test_a_change_counts_when_it_stands_at_two_looks(files):
    watched = files.watched()
    assert watched.look()
    files.write("two")
    assert not watched.look()
    assert watched.value == "one"
    assert watched.look()
    assert watched.value == "two"
    assert watched.look()
    assert files.changes == ["two"]


def test_what_stands_there_for_a_moment_does_not_count(files):
    watched = files.watched()
    for moment in ("", "tw"):
        files.write(moment)
        assert not watched.look()
    files.write("two")
    assert not watched.look()
    assert watched.value == "one"
    assert watched.look()
    assert (watched.value, files.changes, all(files.good)) == ("two", ["two"], True)


@pytest.mark.parametrize("harm", ["unequal", "gone", "a folder"])
def test_what_cannot_be_used_leaves_what_was_and_is_told_at_the_second_look(files, harm):
    watched = files.watched()
    if harm == "unequal":
        files.write("two", "three")
    else:
        files.paths[1].unlink()
        if harm == "a folder":
            files.paths[1].mkdir()
    watched.look()
    assert files.good == [True]
    assert watched.trouble is None
    watched.look()
    assert files.good == [True, False]
    assert watched.trouble
    watched.look()
    assert (watched.value, files.changes) == ("one", [])
    assert files.good == [True, False]
    if harm == "a folder":
        files.paths[1].rmdir()
    files.write("one")
    watched.look()
    assert (files.good[-1], watched.trouble) == (True, None)
    assert files.changes == []


def test_what_can_be_used_counts_behind_what_could_not(files):
    watched = files.watched()
    for words in (("two", "three"), ("two", "four"), ("two", "two")):
        files.write(*words)
        watched.look()
        watched.look()
    assert (watched.value, watched.trouble) == ("two", None)
    assert files.good == [True, False, False, True]


def test_files_that_are_written_one_after_the_other_are_no_trouble(files):
    watched = files.watched()
    for number in range(5):
        files.paths[0].write_text(f"word {number}")
        watched.look()
        files.paths[1].write_text(f"word {number}")
        watched.look()
        watched.look()
        assert watched.value == f"word {number}"
    assert all(files.good)


def test_a_defect_in_reading_is_told_and_ends_no_watch(files):
    def change(word: str) -> None:
        if word == "two":
            raise KeyError(word)
        files.changes.append(word)

    files.options["change"] = change
    watched = files.watched()
    files.write("two")
    watched.look()
    watched.look()
    assert (watched.value, files.good) == ("one", [True, False])
    files.write("three")
    watched.look()
    watched.look()
    assert (watched.value, files.changes, files.good[-1]) == ("three", ["three"], True)


@pytest.mark.parametrize("there", [0, 1])
def test_what_is_not_there_at_first_is_refused(tmp_path, there):
    files = Files(tmp_path)
    for path in files.paths[:there]:
        path.write_text("one")
    with pytest.raises(Unusable, match="no such file or directory: put it back"):
        files.watched()


def test_what_may_be_absent_at_first_may_not_go_later(tmp_path):
    files = Files(tmp_path, absent="")
    watched = files.watched()
    watched.look()
    assert watched.value == ""
    files.write("one")
    watched.look()
    watched.look()
    assert watched.value == "one"
    for path in files.paths:
        path.unlink()
    watched.look()
    watched.look()
    assert (watched.value, files.good[-1]) == ("one", False)
