"""A SQLite file of ours and the disk below it: how much it takes, how it shrinks, what went wrong."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from otel_ttf.files import barred

WAIT_SECONDS = 30  # for somebody who holds a file locked

# What SQLite's error names begin with -> what operators are told, and what they can do.
TROUBLES = {
    "SQLITE_FULL": ("the disk is full", "make room on it"),
    "SQLITE_IOERR": ("the disk cannot be written or read", "look whether it is full or broken"),
    "SQLITE_READONLY": ("the file is read-only", "let this user write it"),
    "SQLITE_BUSY": ("another program holds the file locked", "end that one"),
    "SQLITE_CANTOPEN": ("the file cannot be opened", "let this user read and write it, and its folder"),
    "SQLITE_CORRUPT": ("the file is damaged", ""),
    "SQLITE_NOTADB": ("the file is no SQLite database", ""),
}
# What the sqlite3 module says of bytes that changed in a text; then comes the text.
_NOT_UTF8 = re.compile(r"Could not decode to UTF-8 column '(\w*)'")


class RowDamaged(sqlite3.DatabaseError):
    """SQLite gives a row, but nothing of ours wrote it so: as damaged as a page.

    The message says which row it is, if that is known, and no value.
    """

    def __init__(self, table: str, row: object = None) -> None:
        which = "a row" if row is None else f"row {row}"
        super().__init__(f"{which} of table {table} cannot be read")


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


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file and its write-ahead log as they are. Raises sqlite3.Error."""
    if path.exists() and not path.stat().st_size:
        # Beside an empty file SQLite deletes a write-ahead log, also for whoever only reads.
        raise sqlite3.DatabaseError(f"{path}: the file is empty")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_SECONDS)


def nodes(path: Path) -> tuple[int, int]:
    """Inodes of a file in WAL mode and of its write-ahead log: both stay while it is open. Raises OSError."""
    return path.stat().st_ino, _wal(path).stat().st_ino


def moved(path: Path, was: tuple[int, int]) -> bool:
    """Whether one of the two is gone, or another one: what is written would not be found again. Raises OSError."""
    try:
        return nodes(path) != was
    except FileNotFoundError:
        return True


def disk_use(db: sqlite3.Connection, path: Path) -> DiskUse:
    """What a file in WAL mode takes now; some microseconds. Raises sqlite3.Error, OSError."""
    (count,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (page,) = db.execute("PRAGMA page_size").fetchone()
    return DiskUse((count - free) * page, free * page, _wal(path).stat().st_size)


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


def leave(db: sqlite3.Connection, path: Path) -> None:
    """Closes a connection to a file that is damaged as it is: its write-ahead log stays apart."""
    # The last to close would copy it into the file, unless it may not write.
    with suppress(sqlite3.Error), closing(read_only(path)) as last:
        with suppress(sqlite3.Error):
            last.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.close()
    db.close()


def check_writable(db: sqlite3.Connection) -> None:
    """Raises sqlite3.Error: nothing can be written, which opening a read-only file does not tell."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("BEGIN")
    try:
        db.execute(f"PRAGMA user_version={version:d}")  # BEGIN IMMEDIATE alone becomes a read
    finally:
        db.execute("ROLLBACK")


def trouble(error: BaseException | None) -> str:
    """What went wrong, for operators."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RowDamaged):
        return str(error)
    if column := not_utf8(error):
        return f"a text in column {column} is damaged, it is no UTF-8"
    told, _ = _known(error)
    name = getattr(error, "sqlite_errorname", "")
    if not name:  # the sqlite3 module's own words may quote what is stored
        return type(error).__name__
    return f"{told} ({name})" if told else str(error)


def not_utf8(error: BaseException | None) -> str | None:
    """The column in which a text is no UTF-8, if that is what is wrong."""
    found = _NOT_UTF8.match(str(error)) if isinstance(error, sqlite3.OperationalError) else None
    return found and (found[1] or "?")


def remedy(error: sqlite3.Error | OSError, other: str, path: Path) -> str:
    """What an operator can do about it. path: of the file. other: where it is nothing that comes from the disk."""
    return barred(path) or (other if isinstance(error, OSError) else _known(error)[1] or other)


def _known(error: BaseException | None) -> tuple[str, str]:
    name = getattr(error, "sqlite_errorname", "")
    return next((known for prefix, known in TROUBLES.items() if name.startswith(prefix)), ("", ""))


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
