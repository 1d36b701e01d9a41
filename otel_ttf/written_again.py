"""Files that were deleted or replaced while the server runs are written again from what it still holds open."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import structlog

from otel_ttf.sqlite_disk import remedy, trouble

EVERY = 1.0  # seconds; each file is asked for its name
TOLD = 60.0  # seconds

log = structlog.get_logger()


class Mendable(Protocol):
    path: Path

    def mend(self) -> None: ...


@asynccontextmanager
async def written_again(files: Sequence[Mendable]) -> AsyncIterator[None]:
    """Meanwhile, and once at its end, each file that was deleted or replaced is written again."""
    told: dict[Path, float] = {}

    def mend() -> None:
        for file in files:
            try:
                file.mend()
            except (sqlite3.Error, OSError) as error:
                now = time.monotonic()
                if now - told.get(file.path, -TOLD) >= TOLD:
                    told[file.path] = now
                    log.error(
                        "a file was deleted or replaced and cannot be written again: do not stop the server, what it "
                        "holds would be lost",
                        file=str(file.path),
                        reason=f"{trouble(error)}: {remedy(error, 'mend it', file.path)}",
                    )

    async def watch() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await asyncio.to_thread(mend)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await asyncio.to_thread(mend)
