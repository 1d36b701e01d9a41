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
_log = structlog.get_logger()


class Unusable(Exception):
    """Files that cannot be used; the message says why and what to do, and nothing of what is in them."""


class Watched(Generic[T]):
    """`value` is what was read last that could be used.

    what    it is, for our log and the metric
    paths   of the files, in the order in which `read` gets their bytes; it raises Unusable
    absent  whether files that are not there at first are empty ones
    change  is called with each new value
    told    is called with whether the files that are there now could be used
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[..., T],
        *,
        absent: bool = False,
        change: Callable[[T], object] = lambda _: None,
        told: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """Raises Unusable."""
        self.what = what
        self._paths = paths
        self._read = read
        self._change = change
        self._told = told
        self._bad = b""  # what cannot be used, by its hash, and at how many looks it has stood there
        self._looks = 0
        found = self._looked()
        self._absent = absent and isinstance(found, FileNotFoundError)
        self._contents = tuple(b"" for _ in paths) if self._absent else found
        if isinstance(self._contents, OSError):
            raise Unusable(_why(self._contents))
        self.value = read(*self._contents)
        told(True)

    def look(self) -> None:
        """Reads the files again if they have changed.

        A certificate and its key, say, may be written one after the other: what cannot be used is told when it still
        stands there at the next look.
        """
        found = self._looked()
        if found == self._contents or (self._absent and isinstance(found, FileNotFoundError)):
            self._bad = b""
            self._told(True)
            return
        try:
            if isinstance(found, OSError):
                raise Unusable(_why(found))
            value = self._read(*found)
            self._change(value)
        except Exception as error:  # noqa: BLE001 - if it ended the watch, nobody would hear that nothing is read any more
            self._unusable(found, str(error) if isinstance(error, Unusable) else type(error).__name__)
            return
        self._contents, self._absent, self._bad, self.value = found, False, b"", value
        self._told(True)
        _log.info("read changed files", what=self.what)

    def _unusable(self, found: tuple[bytes, ...] | OSError, reason: str) -> None:
        mark = sha256(repr(found).encode()).digest()
        self._looks = self._looks + 1 if mark == self._bad else 1
        self._bad = mark
        if self._looks == 2:
            self._told(False)
            _log.error(
                "changed files cannot be used: what was read before stays", what=self.what, reason=reason
            )

    def _looked(self) -> tuple[bytes, ...] | OSError:
        try:
            return tuple(path.read_bytes() for path in self._paths)
        except OSError as error:
            return error


def _why(error: OSError) -> str:
    return f"{error.filename}: {(error.strerror or 'it cannot be read').lower()}: put it back, or let this user read it"


@asynccontextmanager
async def watching(each: Sequence[tuple[Watched[T], float]]) -> AsyncIterator[None]:
    """Meanwhile all are looked at, each in its interval (seconds)."""

    async def watch(watched: Watched[T], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(watched.look)

    tasks = [asyncio.create_task(watch(watched, seconds)) for watched, seconds in each]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
