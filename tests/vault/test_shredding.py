"""After a destruction no byte of the wrapped key is left, whatever the file went through; rotations in between."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from otel_ttf.pii.sealed import Destroyed
from otel_ttf.vault import open_vault
from otel_ttf.vault.local import add_newest
from otel_ttf.vault.rotate import ROWS, rotate

from .conftest import JANE, token


def bytes_of(folder: Path) -> bytes:
    """All that the vault's files hold, free pages included."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob("vault.db*")))


def test_no_byte_of_a_destroyed_key_is_left_in_file_or_write_ahead_log(tmp_path, vault, open_it):
    vault.remember({JANE: "jane"})
    (row,) = vault.file.rows([JANE]).values()
    assert row.wrapped.data in bytes_of(tmp_path)
    other = open_it()  # a server that goes on reading
    other.seal(JANE, "p", "x")
    vault.destroy([JANE])
    left = bytes_of(tmp_path)
    assert row.wrapped.data not in left
    assert not any(row.wrapped.data[n : n + 8] in left for n in range(0, len(row.wrapped.data) - 8, 4))
    assert row.sealed_id not in left


def test_no_copy_stays_behind_in_a_file_that_grew_and_was_rotated(tmp_path, vault):
    """Every page was split and written anew many times: old wraps of all keys, and of all versions, are gone."""
    chance = random.Random(7)
    order = list(range(3000))
    chance.shuffle(order)
    subjects = [token(number) for number in order]
    for start in range(0, len(subjects), 500):
        part = subjects[start : start + 500]
        vault.prepare(part[::2])
        vault.remember({subject: "user-" * chance.randrange(1, 30) + subject for subject in part})
    first = {subject: row.wrapped.data for subject, row in vault.file.rows(subjects).items()}
    gone_early = subjects[::3]
    vault.destroy(gone_early)
    rotate(vault.file, vault.master)
    second = {subject: row.wrapped.data for subject, row in vault.file.rows(subjects).items() if row.wrapped}
    assert len(first) == 3000
    assert len(second) == 2000
    gone_late = subjects[1::3]
    vault.destroy(gone_late)
    left = bytes_of(tmp_path)
    assert [subject for subject, wrapped in first.items() if wrapped in left] == []
    live = {subject for subject, wrapped in second.items() if wrapped in left}
    assert live == set(subjects[2::3])


def test_a_rotation_does_not_bring_back_what_is_destroyed_meanwhile(tmp_path, vault, open_it):
    subjects = [token(number) for number in range(ROWS)]
    sealed = {subject: vault.seal(subject, "p", "x") for subject in subjects}
    other = open_it()
    unwrap = vault.master.unwrap
    told: list[int] = []

    def slow(wrapped, context):
        if not told:
            told.append(1)
            other.destroy([subjects[0]])  # read by the rotation already
        return unwrap(wrapped, context)

    vault.master.unwrap = slow
    rotate(vault.file, vault.master)
    fresh = open_it()
    with pytest.raises(Destroyed):
        fresh.open(subjects[0], "p", sealed[subjects[0]])
    assert fresh.open(subjects[1], "p", sealed[subjects[1]]) == "x"
    assert fresh.file.counts().live == ROWS - 1


def test_the_old_master_key_is_needed_no_more_after_a_rotation(tmp_path, vault, open_it):
    sealed = vault.seal(JANE, "p", "text")
    rotate(vault.file, vault.master)
    file = tmp_path / "master_key"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    file.write_text(lines[0] + "\n")
    assert open_it().open(JANE, "p", sealed) == "text"


def test_a_line_that_was_added_by_hand_is_taken_and_no_other_is_made(tmp_path, vault):
    vault.seal(JANE, "p", "text")
    add_newest(tmp_path / "master_key")
    newest = vault.master.newest()
    rotate(vault.file, vault.master)
    assert vault.master.newest() == newest
    assert vault.file.counts().masters == {newest: 1}


def test_a_rotation_killed_in_the_middle_is_finished_by_the_next_and_all_is_readable_in_between(tmp_path):
    subjects = [token(number) for number in range(20 * ROWS)]
    with closing(open_vault(None, tmp_path)) as vault:
        vault.prepare(subjects)
        sealed = {subject: vault.seal(subject, "p", subject) for subject in subjects[::50]}
    command = [sys.executable, "-m", "otel_ttf", "keys", "rotate", "--data-dir", str(tmp_path)]
    for_kill = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    with closing(sqlite3.connect(f"file:{tmp_path / 'vault.db'}?mode=ro", uri=True, timeout=10)) as db:
        while not (done := db.execute("SELECT count(*) FROM subject WHERE generation = 2").fetchone()[0]):
            assert time.monotonic() < deadline
            assert for_kill.poll() is None, for_kill.stderr.read()
    for_kill.kill()
    for_kill.communicate()
    with closing(open_vault(None, tmp_path)) as vault:
        counts = vault.file.counts()
        assert 0 < done <= counts.live - counts.stale < counts.live == len(subjects)
        assert all(vault.open(subject, "p", text) == subject for subject, text in sealed.items())
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "An interrupted rotation was finished." in again.stdout
    with closing(open_vault(None, tmp_path)) as vault:
        counts = vault.file.counts()
        assert (counts.stale, list(counts.masters)) == (0, [vault.master.newest()])
        assert all(vault.open(subject, "p", text) == subject for subject, text in sealed.items())
