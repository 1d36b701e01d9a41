"""The keys of a data directory."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from otel_ttf.pii.keys import fingerprint, new, parse
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.sqlite import SqliteStore


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail."""
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", "run", "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_lost_keys_are_not_made_anew_over_a_store_that_needs_them(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert "put it back from your copy" in ended.stderr
    assert not (tmp_path / "keys").exists()


def test_a_damaged_key_file_is_said_with_its_line_and_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("event not-base-64\n")
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert "line 1" in ended.stderr
    assert "not-base-64" not in ended.stderr


def test_a_new_newest_subject_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    text = new()
    keys = parse(text)
    with closing(SqliteStore(tmp_path / "store.db")) as store:
        store.check_keys(fingerprint(keys.event), [fingerprint(keys.subjects[0])], 1)
    event, subject = (line for line in text.splitlines() if not line.startswith("#"))
    newer = next(line for line in new().splitlines() if line.startswith("subject"))
    (tmp_path / "keys").write_text(f"{event}\n{newer}\n{subject}\n")
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert "subject keys cannot be rotated until identities can be joined" in ended.stderr
    assert fingerprint(keys.subjects[0]) in ended.stderr


@pytest.mark.parametrize(
    ("event", "subjects", "refused"),
    [
        pytest.param("e", ["a"], None, id="the same keys"),
        pytest.param("e", ["a", "old", "older"], None, id="old keys behind the newest"),
        pytest.param("e", ["b", "a"], "cannot be rotated", id="a new one before it"),
        pytest.param("e", ["old", "a"], "cannot be rotated", id="an old one before it"),
        pytest.param(
            "e", ["b"], "the subject key of fingerprint a, which is not among", id="another subject key"
        ),
        pytest.param(
            "f", ["a"], "the event key of fingerprint e, which is not among", id="another event key"
        ),
    ],
)
def test_which_keys_a_store_goes_on_with(
    tmp_path: Path, event: str, subjects: list[str], refused: str | None
) -> None:
    with closing(SqliteStore(tmp_path / "store.db")) as store:
        store.check_keys("e", ["a"], 1)
        if refused is None:
            store.check_keys(event, subjects, 2)
        else:
            with pytest.raises(StoreRefused, match=refused):
                store.check_keys(event, subjects, 2)
            store.check_keys("e", ["a"], 3)
