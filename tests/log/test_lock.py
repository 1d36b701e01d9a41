"""One server on one data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from otel_ttf.log.lock import DirectoryLocked, in_use, lock_directory

HOLD = """
import sys, time
from pathlib import Path
from otel_ttf.log.lock import lock_directory
with lock_directory(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_died(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with (
            pytest.raises(DirectoryLocked, match=rf"process {first.pid}\).*--data-dir") as refused,
            lock_directory(tmp_path),
        ):
            pass
        assert str(tmp_path) in str(refused.value)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with lock_directory(tmp_path):
        pass


def test_whether_a_server_has_it_can_be_asked(tmp_path):
    assert not in_use(tmp_path)
    with lock_directory(tmp_path):
        assert in_use(tmp_path)
    assert not in_use(tmp_path)


def test_the_directory_is_made(tmp_path):
    with lock_directory(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_the_lock_is_given_back(tmp_path):
    for _ in range(2):
        with lock_directory(tmp_path):
            pass


def test_a_place_that_can_be_no_directory_is_said_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DirectoryLocked, match=r"not a directory.*--data-dir"),
        lock_directory(tmp_path / "file" / "data"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_said_with_what_to_do(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DirectoryLocked, match=r"permission denied.*chmod u\+rwX"), lock_directory(tmp_path):
        pass
