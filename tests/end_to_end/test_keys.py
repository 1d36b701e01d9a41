"""The keys of a data directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
