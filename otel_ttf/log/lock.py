"""One server for one data directory."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_ttf.files import barred

_TRIES = 5
_PAUSE_SECONDS = 0.02


class DirectoryLocked(Exception):
    """The data directory cannot be ours; the message says why and what to do."""


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Makes the directory if need be and holds it for this process.

    The kernel lets go of it however the process ends, so a lock is never left over.
    Raises DirectoryLocked: another server works on it, or it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        # A directory with data in it is mended: another one would be without that.
        mend = barred(path) or barred(path / "lock") or "choose another one with --data-dir"
        raise DirectoryLocked(f"{path} cannot be the data directory ({_said(error)}): {mend}") from None
    try:
        try:
            _lock(file)
        except BlockingIOError:
            # The number is there to help; it is the lock that counts.
            number = os.read(file, 20).decode("ascii", "replace").strip()
            holder = f"another otel_ttf server (process {number})" if number else "another otel_ttf server"
            raise DirectoryLocked(
                f"{holder} works on {path}: stop it, or choose another directory with --data-dir"
            ) from None
        except OSError as error:
            raise DirectoryLocked(
                f"{path} cannot be locked ({_said(error)}): choose one on a local disk with --data-dir"
            ) from None
        with suppress(OSError):  # on a full disk there is no room for the number
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def _lock(file: int) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It may be `in_use` that holds it, for a moment.
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def in_use(path: Path) -> bool:
    """Whether a server works on the directory."""
    try:
        file = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared: who asks at the same moment is no server.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _said(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
