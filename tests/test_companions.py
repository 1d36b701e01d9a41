"""A consent.db or vault.db that is gone, or is another's, is noticed; a directory that never had one starts."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from otel_ttf.companions import LOSSES, CompanionLost, Companions
from otel_ttf.log.sqlite_file import LogFile
from otel_ttf.store.consent import SqliteBook
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.vault.file import VaultFile

FIRST = 1  # the schema of both before there were ids
KINDS = {"consent.db": SqliteBook, "vault.db": VaultFile}


class Folder:
    """A data directory with a copy of how it was, and another one. What is done to it has a word each."""

    def __init__(self, path: Path, name: str = "consent.db") -> None:
        self.path, self.name = path / "data", name
        self.copy, self.other = path / "copy", path / "other"
        for folder in (self.path, self.other):
            folder.mkdir()
        with closing(KINDS[name](self.other / name)):
            pass
        self.lost = ""  # what a start that was refused said

    def start(self, *accepted: str, noting: bool = True) -> bool:
        """As a server starts. noting: it is not killed between making the file and noting it."""
        file = self.path / self.name
        books = self.path / "log.db", self.path / "store.db"
        LogFile(books[0]).close()
        SqliteStore(books[1]).close()
        companions = Companions(*books, accepted=accepted)
        try:
            companions.opened(file, partial(KINDS[self.name], file), note=noting).close()
        except CompanionLost as lost:
            self.lost = str(lost)
            return False
        return True

    def do(self, step: str) -> bool:
        """Whether a start was possible, if it is one."""
        match step.split():
            case ["start"]:
                return self.start()
            case ["start,", "killed", "before", "the", "note"]:
                return self.start(noting=False)
            case ["start,", "loss", "accepted"]:
                return self.start(self.lost.rpartition(" ")[2].strip("`"))
            case ["lose", name]:
                for file in self.path.glob(f"{name}*"):
                    file.unlink()
            case ["copy"]:
                shutil.rmtree(self.copy, ignore_errors=True)
                shutil.copytree(self.path, self.copy)
            case ["put", "back", "all"]:
                shutil.rmtree(self.path)
                shutil.copytree(self.copy, self.path)
            case ["put", "back", name]:
                shutil.copy(self.copy / name, self.path / name)
            case ["take", "another's", name]:
                shutil.copy(self.other / name, self.path / name)
            case ["take", "an", "empty", name]:
                (self.path / name).write_bytes(b"")
            case ["forget", "the", "notes"]:  # as an older version left it
                for book in ("log.db", "store.db"):
                    with closing(sqlite3.connect(self.path / book)) as db, db:
                        db.execute("DELETE FROM meta")
            case _:
                raise AssertionError(step)
        return True

    def take_from_before(self) -> None:
        """A copy of the file that an older version made, without an id."""
        self.do(f"lose {self.name}")
        with closing(KINDS[self.name](self.path / self.name)):
            pass
        with closing(sqlite3.connect(self.path / self.name, isolation_level=None)) as db:
            db.execute("DROP TABLE identity")
            db.execute(f"PRAGMA user_version={FIRST}")

    def version(self) -> int:
        with closing(sqlite3.connect(self.path / self.name)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("history", "starts"),
    [
        pytest.param("start", True, id="the first start"),
        pytest.param("start; start", True, id="the next one"),
        pytest.param("start; lose FILE; start", False, id="the file is gone"),
        pytest.param("start; lose FILE; lose log.db; start", False, id="and the log"),
        pytest.param("start; lose FILE; lose store.db; start", False, id="and the store"),
        pytest.param("start; lose FILE; lose log.db; lose store.db; start", True, id="all is new"),
        pytest.param("start; take another's FILE; start", False, id="another directory's file"),
        pytest.param("start; take an empty FILE; start", False, id="an empty file"),
        pytest.param("start; copy; lose FILE; start; put back FILE; start", True, id="put back from a copy"),
        pytest.param("start; copy; start; put back all; start", True, id="all put back"),
        pytest.param("start; copy; put back all; lose FILE; start", False, id="a copied directory"),
        pytest.param("start; forget the notes; start; lose FILE; start", False, id="an upgrade notes it"),
        pytest.param("start; forget the notes; lose FILE; start", True, id="an upgrade that had none yet"),
        pytest.param("start, killed before the note; start", True, id="kill -9 before the note"),
        pytest.param("start, killed before the note; start; lose FILE; start", False, id="it is noted later"),
        pytest.param("start; lose FILE; start; start, loss accepted", True, id="the loss is accepted"),
        pytest.param("start; lose FILE; start; start, loss accepted; start", True, id="once is enough"),
        pytest.param(
            "start; lose FILE; start; start, loss accepted; lose FILE; start, loss accepted", False,
            id="once is once",
        ),
        pytest.param("start; take another's FILE; start; start, loss accepted; start", True, id="another's is taken"),
        pytest.param("start; copy; start; lose log.db; lose store.db; start; start", True, id="log and store are new"),
    ],
)  # fmt: skip
def test_what_happened_and_whether_it_starts(tmp_path, name, history, starts):
    folder = Folder(tmp_path, name)
    steps = history.replace("FILE", name).split("; ")
    for step in steps[:-1]:
        folder.do(step)
    assert folder.do(steps[-1]) is starts
    if not starts:
        assert folder.lost.startswith(str(folder.path / name))
        assert LOSSES[name] in folder.lost
        assert "Put it back" in folder.lost
        assert "otel-ttf run --accept-loss " in folder.lost


STEPS = (
    "start", "start", "start, killed before the note", "start, loss accepted", "lose consent.db", "lose log.db",
    "lose store.db", "copy", "put back all", "take another's consent.db",
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=8))
def test_a_start_that_is_not_told_to_never_begins_with_another_file_than_the_last(tmp_path_factory, steps):
    folder = Folder(tmp_path_factory.mktemp("any"))
    folder.do("start")
    folder.do("copy")
    file = folder.path / "consent.db"
    for step in steps:
        books = [folder.path / "log.db", folder.path / "store.db"]
        noted = Companions(*books).known("consent.db")
        there = file.exists()
        if not folder.do(step):
            assert noted
            continue
        if step.startswith("start") and "accepted" not in step:
            with closing(SqliteBook(file)) as book:
                assert not noted or (there and book.file_id in noted)


@pytest.mark.parametrize("given", ["", "a", "0123456"])
def test_a_few_letters_accept_nothing(tmp_path, given):
    folder = Folder(tmp_path)
    folder.start()
    folder.do("lose consent.db")
    whole = Companions(folder.path / "log.db").known("consent.db")[0]
    assert not folder.start(whole[: len(given)])


def test_what_cannot_be_noted_is_no_start(tmp_path):
    folder = Folder(tmp_path)
    folder.start()
    folder.do("forget the notes")
    books = folder.path / "nowhere" / "log.db", folder.path / "store.db"
    file = folder.path / "consent.db"
    with pytest.raises(
        CompanionLost, match=r"log\.db: .*: it cannot be noted that consent\.db belongs to it"
    ):
        Companions(*books).opened(file, partial(SqliteBook, file))


@pytest.mark.parametrize("name", KINDS)
def test_a_copy_from_before_there_were_ids_says_so_and_is_taken_when_told_to(tmp_path, name):
    folder = Folder(tmp_path, name)
    folder.start()
    folder.take_from_before()
    assert not folder.start()
    assert "was copied before such files had ids" in folder.lost
    assert "nothing in it is lost" in folder.lost
    assert LOSSES[name] not in folder.lost
    assert folder.version() == FIRST, "a refused file is left as it is"
    with capture_logs() as told:
        assert folder.do("start, loss accepted")
    assert [(each["log_level"], each["event"].split(";")[0]) for each in told] == [
        ("warning", "taken as the one that was here")
    ]
    assert folder.version() > FIRST
    assert folder.start()


@pytest.mark.parametrize("name", KINDS)
def test_the_id_of_a_file_that_was_not_closed_is_read(tmp_path, name):
    folder = Folder(tmp_path, name)
    file = folder.path / name
    books = folder.path / "log.db", folder.path / "store.db"
    LogFile(books[0]).close()
    SqliteStore(books[1]).close()
    with closing(Companions(*books).opened(file, partial(KINDS[name], file))):
        shutil.copytree(folder.path, folder.copy)
    shutil.rmtree(folder.path)
    folder.copy.rename(folder.path)
    assert (folder.path / f"{name}-wal").stat().st_size
    assert folder.start()


def test_a_loss_is_accepted_also_where_the_file_is_not_needed(tmp_path):
    folder = Folder(tmp_path, "vault.db")
    folder.start()
    folder.do("lose vault.db")
    books, file = (folder.path / "log.db", folder.path / "store.db"), folder.path / "vault.db"
    said = Companions(*books).not_needed(file)
    assert said is not None
    wrong = Companions(*books, accepted=["0" * 8])
    assert wrong.not_needed(file) is not None
    assert wrong.unused() == ["0" * 8]
    with capture_logs() as told:
        right = Companions(*books, accepted=[said.rpartition(" ")[2].strip("`")])
        assert right.missing(file) == said
        assert right.not_needed(file) is None
    assert [each["log_level"] for each in told] == ["error"]
    assert right.unused() == []
    assert Companions(*books).not_needed(file) is None


@pytest.mark.parametrize("given", ["0123456", "0123456789"])
def test_an_accepted_id_that_fits_no_lost_file_is_told(tmp_path, given):
    folder = Folder(tmp_path)
    folder.start()
    books, file = (folder.path / "log.db", folder.path / "store.db"), folder.path / "consent.db"
    companions = Companions(*books, accepted=[given])
    companions.opened(file, partial(SqliteBook, file)).close()
    assert companions.unused() == [given]
    folder.do("lose consent.db")
    assert not folder.start(given)
    assert f"--accept-loss {given} is not its id" in folder.lost
