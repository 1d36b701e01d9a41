"""Puts a new database in an old one's place; the old one is kept aside, with its write-ahead log.

A kill at any point leaves the old one, or is finished by whoever opens the file next (`finish`). The new one's
name tells where the old one goes: `log.db.new-damaged-20261126T121839Z` makes `log.db.damaged-20261126T121839Z`.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from otel_ttf.files import sync_folder

# In this order: a new file must never stand beside an old write-ahead log, which SQLite would play into it.
_PARTS = ("", "-journal", "-wal")
_NEW, _DRAFT = ".new-", ".draft"


def draft(path: Path) -> Path:
    """Where the new file is made; what was left there goes. Raises OSError."""
    made = path.with_name(path.name + _DRAFT)
    for part in (*_PARTS, "-shm"):
        made.with_name(made.name + part).unlink(missing_ok=True)
    return made


def put(path: Path, why: str, now: int) -> Path | None:
    """Puts the draft, a closed database, in the file's place. Raises OSError.

    why  what the old one is, a word for its name; now: unix ns
    Returns where the old one is; None: there was none.
    """
    made = path.with_name(path.name + _DRAFT)
    handle = os.open(made, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    made.rename(path.with_name(f"{path.name}{_NEW}{why}-{stamp(now)}"))
    sync_folder(path.parent)
    return finish(path)


def finish(path: Path) -> Path | None:
    """Finishes what a kill left of `put`; where the old file is now, if anything was to do. Raises OSError."""
    aside = None
    for new in sorted(path.parent.glob(f"{path.name}{_NEW}*")):
        aside = set_aside(path, new.name.removeprefix(path.name + _NEW))
        sync_folder(path.parent)
        new.rename(path)
        sync_folder(path.parent)
    return aside


def set_aside(path: Path, word: str) -> Path | None:
    """Renames a database; its new name, None: there is none. Raises OSError."""
    aside = path.with_name(f"{path.name}.{word}")
    number = 1
    while aside.exists() and path.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{word}-{number}")
    for part in _PARTS:
        file = path.with_name(path.name + part)
        if file.exists():
            file.rename(aside.with_name(aside.name + part))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside if aside.exists() else None


def stamp(now: int) -> str:
    """An instant, unix ns, as names of files have it."""
    return datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """All that a connection sees, as a file without a write-ahead log. Raises sqlite3.Error."""
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        source.backup(db)
        db.execute("PRAGMA journal_mode=DELETE")
