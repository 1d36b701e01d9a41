"""Files that a processor reads: at a start they must be good; one that changes is read again beside the traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from otel_ttf.processors.base import ProcessorRefused

T = TypeVar("T")
LOOK_SECONDS = 2.0  # between two looks at whether a file has changed

log = structlog.get_logger()


class Watched(Generic[T]):
    """What a file holds: `value` is replaced once a changed file has been read. An invalid one keeps the old.

    setting  where the file is configured, for errors
    read     raises ValueError with what was expected and found, OSError
    Raises ProcessorRefused.
    """

    def __init__(self, setting: str, path: Path, read: Callable[[Path], T]) -> None:
        self._setting = setting
        self._path = path
        self._read = read
        self._mark = _mark(path)
        self._next = time.monotonic() + LOOK_SECONDS
        self._reading: threading.Thread | None = None
        try:
            self.value = read(path)
        except (ValueError, OSError) as error:
            raise ProcessorRefused(f"{setting}: {path}: {_told(error)}") from None

    def look(self) -> None:
        """Whether the file has changed is asked every 2 s at most; it is read in a thread of its own."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        if (self._reading is None or not self._reading.is_alive()) and _mark(self._path) != self._mark:
            self._reading = threading.Thread(target=self.again, name="read again", daemon=True)
            self._reading.start()

    def again(self) -> None:
        """Reads the file again, and says how that went."""
        told = {"setting": self._setting, "path": str(self._path)}
        mark = _mark(self._path)
        try:
            value = self._read(self._path)
        except (ValueError, OSError) as error:
            self._mark = mark
            log.error(f"a changed file cannot be used, what was read before stays: {_told(error)}", **told)
            return
        # What was written to meanwhile may be half of it: the next look reads it again.
        if mark == _mark(self._path):
            self._mark, self.value = mark, value
            log.info("a changed file was read", **told)


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None without one."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _told(error: ValueError | OSError) -> str:
    match error:
        case FileNotFoundError():
            return "expected a file, found none: put it there, or take the setting out"
        case OSError():
            return f"expected a readable file, found: {(error.strerror or 'it cannot be read').lower()}: mend that"
        case _:
            return f"{error}: mend it"
