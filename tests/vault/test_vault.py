"""Keys per subject: made once, on the disk, destroyed for good, by several threads and processes at once."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from otel_ttf.pii.sealed import Destroyed, Tampered, UnknownKey, VaultUnavailable
from otel_ttf.vault import Vault, VaultRefused, open_vault
from otel_ttf.vault.file import VaultFile
from otel_ttf.vault.local import LocalMaster
from otel_ttf.vault.rotate import rotate

from .conftest import JANE, JOHN, token


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """A master key that counts its unwraps."""

    remote = False

    def __init__(self, master: LocalMaster) -> None:
        self.master = master
        self.unwraps = 0
        for name in ("wrap", "knows", "newest", "close"):
            setattr(self, name, getattr(master, name))

    def unwrap(self, wrapped, context):
        self.unwraps += 1
        return self.master.unwrap(wrapped, context)


def timed(tmp_path: Path, open_it, **settings) -> tuple[Vault, Counting, Time]:
    open_it()
    master, time = Counting(LocalMaster(file=tmp_path / "master_key")), Time()
    return Vault(VaultFile(tmp_path / "vault.db"), master, now=time, **settings), master, time


def test_a_key_outlives_the_process(open_it):
    sealed = open_it().seal(JANE, "p", "text")
    assert open_it().open(JANE, "p", sealed) == "text"


def test_files_are_for_their_owner_alone(tmp_path, vault):
    vault.seal(JANE, "p", "text")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes.keys() >= {"vault.db", "vault.db-wal", "master_key"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("parts", [("-wal",), ("", "-wal", "-shm"), ("",)], ids="+".join)
def test_a_file_that_is_deleted_while_it_is_open_is_written_again(tmp_path, open_it, vault, parts):
    sealed = {subject: vault.seal(subject, "p", "text") for subject in (JANE, JOHN)}
    slot = vault.file.rows([JOHN])[JOHN].wrapped.data
    other = open_it()
    for part in parts:
        (tmp_path / f"vault.db{part}").unlink()
    with pytest.raises(VaultUnavailable, match="deleted or replaced"):
        vault.file.counts()
    vault.file.mend()
    with pytest.raises(VaultUnavailable, match="deleted or replaced"):
        other.file.counts()
    assert stat.S_IMODE((tmp_path / "vault.db").stat().st_mode) == 0o600
    again = open_it()
    assert [again.open(subject, "p", sealed[subject]) for subject in (JANE, JOHN)] == ["text"] * 2
    again.destroy([JOHN])
    assert vault.file.counts().destroyed == 1
    assert not [file.name for file in tmp_path.iterdir() if slot in file.read_bytes()], (
        "no copy is left of it"
    )


def test_what_is_written_while_the_file_is_deleted_is_not_told_as_done(tmp_path, vault):
    vault.seal(JANE, "p", "text")
    with pytest.raises(VaultUnavailable, match="deleted or replaced"), vault.file._ours():
        (tmp_path / "vault.db").unlink()
    vault.file.mend()
    assert vault.destroy([JANE]) == {JANE: True}


def test_another_file_in_its_place_is_kept_aside(tmp_path, vault):
    vault.seal(JANE, "p", "text")
    (tmp_path / "other").write_bytes(b"another file")
    (tmp_path / "other").rename(tmp_path / "vault.db")
    vault.file.mend()
    assert [file.read_bytes() for file in tmp_path.glob("vault.db.found-*Z")] == [b"another file"]
    assert vault.file.counts().live == 1


def test_neither_texts_nor_data_keys_nor_user_ids_are_in_the_files(tmp_path, vault):
    vault.remember({JANE: "jane-the-user-id"})
    vault.seal(JANE, "p", "the-text-that-was-sealed")
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"jane-the-user-id" not in everything
    assert b"the-text-that-was-sealed" not in everything


def test_a_destroyed_key_opens_and_seals_nothing_and_is_never_made_anew(open_it, vault):
    sealed = vault.seal(JANE, "p", "text")
    assert vault.destroy([JANE]) == {JANE: True}
    assert vault.destroy([JANE]) == {JANE: False}
    for one in (vault, open_it()):
        assert one.seal(JANE, "p", "text") is None
        one.remember({JANE: "jane"})
        one.prepare([JANE])
        with pytest.raises(Destroyed):
            one.open(JANE, "p", sealed)
        with pytest.raises(Destroyed):
            one.reveal(JANE)


def test_a_subject_without_a_key_gets_none_after_its_destruction(vault):
    assert vault.destroy([JANE]) == {JANE: False}
    assert vault.seal(JANE, "p", "text") is None


def test_a_key_that_another_process_destroys_stops_working_within_a_second(tmp_path, open_it):
    vault, _, time = timed(tmp_path, open_it)
    sealed, johns = vault.seal(JANE, "p", "text"), vault.seal(JOHN, "p", "his")
    open_it().destroy([JANE])
    time.now += 1.0
    with pytest.raises(Destroyed):
        vault.open(JANE, "p", sealed)
    assert vault.seal(JANE, "p", "text") is None
    assert vault.open(JOHN, "p", johns) == "his"
    vault.close()


def test_unknown_subjects_are_said_to_be_so(vault):
    sealed = vault.seal(JANE, "p", "text")
    with pytest.raises(UnknownKey):
        vault.open(JOHN, "p", sealed)
    with pytest.raises(UnknownKey):
        vault.reveal(JOHN)
    assert vault.file.counts().live == 1


def test_an_unwrapped_key_is_kept_for_a_while_and_then_asked_for_anew(tmp_path, open_it):
    vault, master, time = timed(tmp_path, open_it, keep_seconds=60)
    sealed = open_it().seal(JANE, "p", "text")
    for passed, unwraps in ((0, 1), (59, 1), (61, 2)):
        time.now = passed
        assert vault.open(JANE, "p", sealed) == "text"
        assert master.unwraps == unwraps
    vault.close()


def test_memory_holds_so_many_keys_and_those_used_last(tmp_path, open_it):
    vault, master, _ = timed(tmp_path, open_it, keys=10)
    vault.prepare(map(token, range(25)))
    for number in range(25):
        assert vault.seal(token(number), "p", "x") is not None
    assert len(vault._loaded) == 10
    before = master.unwraps
    vault.seal(token(24), "p", "x")
    vault.seal(token(15), "p", "x")
    assert master.unwraps == before
    vault.seal(token(14), "p", "x")
    assert master.unwraps == before + 1
    vault.close()


def test_user_ids_are_kept_once_and_revealed(open_it, vault):
    vault.seal(JOHN, "p", "had a key before its id came")
    vault.remember({JANE: "jane", JOHN: "jöhn"})
    vault.remember({JANE: "somebody else"})
    open_it().remember({JANE: "somebody else"})
    for one in (vault, open_it()):
        assert (one.reveal(JANE), one.reveal(JOHN)) == ("jane", "jöhn")
    vault.seal(token(3), "p", "x")
    assert vault.reveal(token(3)) is None
    assert vault.file.counts().ids == 2


def test_an_id_does_not_pass_for_a_value_nor_a_value_for_an_id(vault):
    vault.remember({JANE: "jane"})
    (row,) = vault.file.rows([JANE]).values()
    from otel_ttf.pii.sealed import to_text

    with pytest.raises(Tampered):
        vault.open(JANE, "user.id", to_text(row.sealed_id, vendors=True))


def test_rows_that_are_swapped_or_changed_open_nothing(tmp_path, open_it):
    one = open_it()
    sealed = one.seal(JANE, "p", "text")
    one.seal(JOHN, "p", "his")
    with closing(sqlite3.connect(tmp_path / "vault.db", isolation_level=None)) as db:
        db.execute("UPDATE data_key SET slot = (SELECT slot FROM data_key WHERE id = 2) WHERE id = 1")
    other = open_it()
    with pytest.raises(Tampered):
        other.open(JANE, "p", sealed)
    with pytest.raises(VaultUnavailable):  # and nothing passes unsealed, or under a key made anew
        other.seal(JANE, "p", "text")


def test_threads_make_one_key_per_subject(open_it):
    vaults = [open_it(), open_it()]
    subjects = [token(number) for number in range(40)]

    def work(number: int) -> list[tuple[str, str]]:
        vault = vaults[number % 2]
        if number % 3 == 0:
            vault.prepare(subjects)
        if number % 3 == 1:
            vault.remember({subject: subject[::-1] for subject in subjects})
        return [(subject, vault.seal(subject, "p", subject)) for subject in subjects]

    with ThreadPoolExecutor(8) as pool:
        sealed = [each for some in pool.map(work, range(24)) for each in some]
    fresh = open_it()
    assert all(fresh.open(subject, "p", text) == subject for subject, text in sealed)
    assert fresh.file.counts().live == fresh.file.counts().ids == 40


def test_a_full_disk_asks_to_come_again_and_what_was_sealed_stays(open_it, vault):
    sealed = vault.seal(JANE, "p", "text")
    (pages,) = vault.file._db.execute("PRAGMA page_count").fetchone()
    vault.file._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(VaultUnavailable, match="the disk is full") as caught:
        vault.prepare(map(token, range(10, 500)))
    assert caught.value.retry_after > 0
    assert vault.open(JANE, "p", sealed) == "text"
    vault.file._db.execute("PRAGMA max_page_count=100000")
    vault.prepare(map(token, range(10, 500)))
    assert vault.file.counts().live == 491


def test_a_file_that_was_replaced_takes_no_keys(tmp_path, vault):
    vault.seal(JANE, "p", "text")
    (tmp_path / "vault.db").rename(tmp_path / "elsewhere")
    with pytest.raises(VaultUnavailable):
        vault.seal(JOHN, "p", "text")
    (tmp_path / "vault.db").touch()
    with pytest.raises(VaultUnavailable, match="replaced"):
        vault.seal(JOHN, "p", "text")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda d: (d / "vault.db").write_bytes(b"x" * 9000), "no SQLite database", id="garbage"),
        pytest.param(lambda d: (d / "master_key").unlink(), "master_key is gone", id="no master key"),
        pytest.param(lambda d: (d / "master_key").write_text("x\n"), "line 1: expected base64", id="bad key"),
        pytest.param(
            lambda d: (d / "master_key").write_text("A" * 43 + "=\n"), "put it back", id="another key"
        ),
        pytest.param(
            lambda d: sqlite3.connect(d / "vault.db").execute("PRAGMA user_version=99").connection.close(),
            "newer otel_ttf",
            id="newer",
        ),
        pytest.param(
            lambda d: sqlite3.connect(d / "vault.db").execute("PRAGMA application_id=1").connection.close(),
            "not a vault",
            id="another database",
        ),
    ],
)
def test_a_vault_that_does_not_fit_is_refused_with_what_to_do(tmp_path, spoil, said):
    with closing(open_vault(None, tmp_path)) as vault:
        vault.seal(JANE, "p", "text")
    spoil(tmp_path)
    with pytest.raises(VaultRefused, match=said):
        open_vault(None, tmp_path)


def test_a_rotation_that_begins_while_a_key_is_made_wraps_that_one_anew(tmp_path, open_it):
    """A key under the old master key must not slip in behind the rotation."""
    vault = open_it()
    vault.seal(JANE, "p", "text")
    late = open_it()
    wrap = late.master.wrap

    def slow(data_key: bytes, context: str):
        wrapped = wrap(data_key, context)
        if context == JOHN and not rotated:
            rotated.append(rotate(vault.file, vault.master))
        return wrapped

    rotated: list[object] = []
    late.master.wrap = slow
    sealed = late.seal(JOHN, "p", "his")
    counts = vault.file.counts()
    assert counts.masters == {vault.master.newest(): 2}
    assert counts.stale == 0
    assert open_it().open(JOHN, "p", sealed) == "his"
