"""A SQLite file of ours and the disk below it: how much it takes, how it shrinks, what went wrong."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

# What SQLite's error names begin with -> what operators are told.
TROUBLES = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk cannot be written or read",
    "SQLITE_READONLY": "the file is read-only",
    "SQLITE_BUSY": "another program holds the file locked",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is no SQLite database",
}


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes. pages: those that hold something; free: other pages of the file; wal: the write-ahead log."""

    pages: int
    free: int
    wal: int

    @property
    def total(self) -> int:
        """What the directory shows, once the write-ahead log has been copied into the file."""
        return self.pages + self.free + self.wal


def disk_use(db: sqlite3.Connection, path: Path) -> DiskUse:
    """What a file in WAL mode takes now; some microseconds. Raises sqlite3.Error, OSError."""
    (count,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (page,) = db.execute("PRAGMA page_size").fetchone()
    wal = path.with_name(path.name + "-wal").stat().st_size
    return DiskUse((count - free) * page, free * page, wal)


def vacuum(db: sqlite3.Connection, pages: int) -> None:
    """Gives free pages back, in one transaction; the file is shorter once they are out of the write-ahead log."""
    # A statement that gives rows without columns: `execute` would end after the first, which is one page.
    db.executescript(f"PRAGMA incremental_vacuum({pages:d})")


def empty_wal(db: sqlite3.Connection) -> None:
    """Copies the write-ahead log into the file and cuts it to nothing, unless somebody reads from it just now."""
    (timeout,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute("PRAGMA busy_timeout=0")
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.execute(f"PRAGMA busy_timeout={timeout:d}")


def trouble(error: sqlite3.Error | OSError) -> str:
    """What went wrong, for operators."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    name = getattr(error, "sqlite_errorname", "")
    told = next((text for prefix, text in TROUBLES.items() if name.startswith(prefix)), str(error))
    return f"{told} ({name})" if name else told
