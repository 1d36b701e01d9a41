"""The table `meta` of log.db and store.db: what is to be remembered, by name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from otel_ttf.sqlite_disk import WAIT_SECONDS, read_only

_READ = "SELECT value FROM meta WHERE name = ?"


def remembered(book: Path, name: str) -> str | None:
    """None: nothing. Raises sqlite3.Error: there is no such file or table, or it cannot be read."""
    with closing(read_only(book)) as db:
        row = db.execute(_READ, (name,)).fetchone()
    return None if row is None else str(row[0])


def remember(book: Path, name: str, value: str) -> None:
    """Synced when it returns; nothing is written where it stands already. Raises sqlite3.Error."""
    with closing(sqlite3.connect(book, isolation_level=None, timeout=WAIT_SECONDS)) as db:
        if db.execute(_READ, (name,)).fetchone() != (value,):
            db.execute("PRAGMA synchronous=FULL")
            db.execute("REPLACE INTO meta VALUES (?, ?)", (name, value))


def forget(book: Path, name: str) -> None:
    """Synced when it returns. Raises sqlite3.Error."""
    with closing(sqlite3.connect(book, isolation_level=None, timeout=WAIT_SECONDS)) as db:
        db.execute("PRAGMA synchronous=FULL")
        db.execute("DELETE FROM meta WHERE name = ?", (name,))
