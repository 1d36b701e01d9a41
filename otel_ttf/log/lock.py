"""One server for one data directory."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DirectoryLocked(Exception):
    """Another server works on the directory; the message says what to do."""


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Holds the directory for this process; the kernel lets go of it however the process ends.

    Raises DirectoryLocked.
    """
    with (path / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryLocked(
                f"another otel_ttf server works on {path}; stop it, or choose another directory with --data-dir"
            ) from None
        yield
