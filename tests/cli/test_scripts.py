"""The scripts are plain sh, work from anywhere, and are quick and quiet when nothing changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_posix_sh_and_executable(script):
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_the_makefile_calls_the_scripts():
    text = (ROOT / "Makefile").read_text()
    assert "./scripts/$@" in text
    assert {"run", "test", "check"} <= set(text.split())


@pytest.fixture
def checkout(tmp_path):
    """A place with scripts and pyproject.toml alone; runs setup with chosen commands named as Pythons."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    commands = tmp_path / "commands"
    commands.mkdir()

    def setup(**pythons: str) -> subprocess.CompletedProcess[str]:
        for name in ("python3.13", "python3.12", "python3.11", "python3"):
            command = commands / name
            command.write_text("#!/bin/sh\n" + pythons.get(name.replace(".", "_"), "exit 127") + "\n")
            command.chmod(0o755)
        return subprocess.run(
            ["sh", str(tmp_path / "scripts" / "setup")],
            env={"PATH": f"{commands}:/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    return setup


def test_no_python_is_said_in_one_sentence(checkout):
    result = checkout(python3="exit 1")
    assert result.returncode == 1
    assert result.stderr.startswith("setup: Python 3.11 or newer is needed and none was found")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_venv_module_is_said_in_one_sentence(checkout):
    lacking = f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"'
    result = checkout(python3_12=lacking, python3="exit 1")
    assert (result.returncode, result.stderr) == (
        1,
        "setup: python3.12 has no venv module: install it, e.g. 'apt install python3.12-venv'.\n",
    )


def test_nothing_is_done_when_nothing_changed(checkout, tmp_path):
    stamp = tmp_path / ".venv" / "installed"
    binary = tmp_path / ".venv" / "bin"
    binary.mkdir(parents=True)
    (binary / "python").symlink_to(sys.executable)
    written = subprocess.run(
        ["sh", "-c", "{ cat pyproject.toml; .venv/bin/python -V; pwd; } | cksum"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    stamp.write_text(written.stdout)
    result = checkout()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
