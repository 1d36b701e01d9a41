"""Logs in SQLite files, for tests."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from log_contract import START, entry

from otel_ttf.clock import ManualClock
from otel_ttf.log.base import LogRefused
from otel_ttf.log.sqlite import LogConfig, SqliteLog

KIB = 1 << 10
MIB = 1 << 20


class SqliteLogs:
    """Opens log.db of a directory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.clock = ManualClock(START)
        self.free = 100 << 30
        self._opened: list[SqliteLog] = []

    async def open(self, **config: Any) -> SqliteLog:
        log = SqliteLog.open(self.path, LogConfig(**config), self.clock, free_space=lambda: self.free)
        self._opened.append(log)
        return log

    async def close(self) -> None:
        for log in self._opened:
            await log.close()

    def sql(self, statement: str) -> list[Any]:
        """What another program finds in the file, or does to it."""
        with sqlite3.connect(self.path, isolation_level=None) as other:
            found = other.execute(statement).fetchall()
        other.close()
        return found


def noise(size: int) -> bytes:
    """Bytes that don't compress."""
    return os.urandom(size)


async def filled(log: SqliteLog, size: int, reads: str | None = None) -> LogRefused:
    """Appends entries of a size until one is refused; `reads` keeps up with them."""
    try:
        for _ in range(1000):
            position = await log.append(entry(noise(size)))
            if reads is not None:
                log.release(reads, position)
    except LogRefused as refused:
        return refused
    raise AssertionError("never refused")
