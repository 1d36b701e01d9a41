"""What is read from files, and read again when these change, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")
SETTLE_SECONDS = 1.0  # for which a change has to stand
_log = structlog.get_logger()


class Unusable(Exception):
    """Files that cannot be used; the message says why and what to do, and nothing of what is in them."""


class Watched(Generic[T]):
    """`value` is what was read last that could be used; `trouble` is why what is there now cannot, or None.

    what    it is, for our log and the metric
    paths   of the files, in the order in which `read` gets their bytes; it raises Unusable
    absent  what counts while files are not there at first; None: they have to be
    change  is called with each new value
    told    is called with whether the files that are there now could be used
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[..., T],
        *,
        absent: T | None = None,
        change: Callable[[T], object] = lambda _: None,
        told: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """Raises Unusable."""
        self.what = what
        self._paths = paths
        self._read = read
        self._change = change
        self._told = told
        # What stands there in the place of what was read, by its hash, and what of it cannot be used.
        self._new: bytes | None = None
        self._bad: bytes | None = None
        self.trouble: str | None = None
        found = self._contents = self._looked()
        self._absent = absent is not None and isinstance(found, FileNotFoundError)
        if absent is not None and self._absent:
            self.value = absent
        elif isinstance(found, OSError):
            raise Unusable(_why(found))
        else:
            self.value = read(*found)
        told(True)

    def look(self) -> bool:
        """Reads the files again if they have changed; whether there is nothing more to wait for.

        A file may be half written, or empty for a moment, and a certificate and its key are written one after the
        other: a change counts, or is said to be unusable, when it still stands there at the next look.
        """
        found = self._looked()
        if found == self._contents or (self._absent and isinstance(found, FileNotFoundError)):
            self._new = None
            self._good()
            return True
        mark = sha256(repr(found).encode()).digest()
        if mark != self._new:
            self._new = mark
            return False
        if mark != self._bad:
            self._take(found, mark)
        return True

    def _take(self, found: tuple[bytes, ...] | OSError, mark: bytes) -> None:
        try:
            if isinstance(found, OSError):
                raise Unusable(_why(found))
            value = self._read(*found)
            self._change(value)
        except Exception as error:  # noqa: BLE001 - if it ended the watch, nobody would hear that nothing is read any more
            self._bad = mark
            self.trouble = str(error) if isinstance(error, Unusable) else type(error).__name__
            self._told(False)
            _log.error(
                "changed files cannot be used: what was read before stays",
                what=self.what,
                reason=self.trouble,
            )
            return
        self._contents, self._absent, self.value = found, False, value
        self._good()
        _log.info("read changed files", what=self.what)

    def _good(self) -> None:
        self._new = self._bad = self.trouble = None
        self._told(True)

    def _looked(self) -> tuple[bytes, ...] | OSError:
        try:
            return tuple(path.read_bytes() for path in self._paths)
        except OSError as error:
            return error


def _why(error: OSError) -> str:
    return f"{error.filename}: {(error.strerror or 'it cannot be read').lower()}: put it back, or let this user read it"


@asynccontextmanager
async def watching(each: Sequence[tuple[Watched[T], float]]) -> AsyncIterator[None]:
    """Meanwhile all are looked at, each in its interval (seconds), and what has changed once more a moment later."""

    async def watch(watched: Watched[T], seconds: float) -> None:
        settled = True
        while True:
            await asyncio.sleep(seconds if settled else min(seconds, SETTLE_SECONDS))
            settled = await asyncio.to_thread(watched.look)

    tasks = [asyncio.create_task(watch(watched, seconds)) for watched, seconds in each]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
