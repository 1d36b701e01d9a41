"""Puts a new database in an old one's place; the old one is kept aside, with its write-ahead log.

A kill at any point leaves the old one, or is finished by whoever opens the file next (`finish`). The new one's
name tells where the old one goes: `log.db.new-damaged-20261126T121839Z` makes `log.db.damaged-20261126T121839Z`.
The newest few of each kind are kept: they hold what the old one held.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from otel_ttf.files import sync_folder

# In this order: a new file must never stand beside an old write-ahead log, which SQLite would play into it.
_PARTS = ("", "-journal", "-wal")
_NEW, _DRAFT = ".new-", ".draft"
KEPT = 2  # of those that are set aside, of each kind
FOUND = "found"  # what stood under the name of a file that was written again
_STAMP = r"(\d{8}T\d{6}Z)(?:-(\d+))?"


def draft(path: Path) -> Path:
    """Where the new file is made; what was left there goes. Raises OSError."""
    made = path.with_name(path.name + _DRAFT)
    for part in (*_PARTS, "-shm"):
        made.with_name(made.name + part).unlink(missing_ok=True)
    return made


def begun(made: Path, page_size: int) -> sqlite3.Connection:
    """A new database that is `put` in a file's place once it is filled and closed. Raises sqlite3.Error."""
    db = sqlite3.connect(made, isolation_level=None)
    db.execute(f"PRAGMA page_size={page_size}")
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    # `put` syncs it as a whole before it gets its name.
    db.execute("PRAGMA journal_mode=OFF")
    db.execute("PRAGMA synchronous=OFF")
    return db


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """`draft`, and what was not put in the file's place goes. Raises OSError."""
    made = draft(path)
    try:
        yield made
    finally:
        with suppress(OSError):
            draft(path)


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
    """Renames a database; its new name, None: there is none. word: its kind and `stamp`. Raises OSError.

    Older ones of that kind are deleted, except for the newest; so is a write-ahead log that was found without its
    file, since what it held was written again.
    """
    aside = path.with_name(f"{path.name}.{word}")
    number = 1
    while aside.exists() and path.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{word}-{number}")
    orphaned = word.startswith(FOUND) and not path.exists() and not aside.exists()
    for part in _PARTS:
        file = path.with_name(path.name + part)
        if orphaned:
            file.unlink(missing_ok=True)
        elif file.exists():
            file.rename(aside.with_name(aside.name + part))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    _thin_out(path, word, aside.name)
    return aside if aside.exists() else None


def _thin_out(path: Path, word: str, newest: str) -> None:
    kind = f"{path.name}.{re.sub(f'{_STAMP}$', '', word)}"
    parts = "|".join(filter(None, _PARTS))
    found: dict[tuple[str, int], list[Path]] = {}
    for file in path.parent.glob(f"{path.name}.*"):
        match = re.fullmatch(f"({re.escape(kind)}{_STAMP})(?:{parts})?", file.name)
        if match and match[1] != newest:  # whose stamp may be older: clocks are put back
            found.setdefault((match[2], int(match[3] or 1)), []).append(file)
    for old in sorted(found)[: 1 - KEPT]:
        for file in sorted(found[old], reverse=True):  # a -wal first: alone it is of no use
            file.unlink(missing_ok=True)


def stamp(now: int) -> str:
    """An instant, unix ns, as names of files have it."""
    return datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def write_again(source: sqlite3.Connection, path: Path, now: int, *, mode: int = 0o644) -> Path | None:
    """Puts all that a connection sees under the name from which its file, or its write-ahead log, was taken away.

    Whoever has the old one open closes it after that: SQLite would copy into what stands there now.
    now: unix ns; mode: who may read it, less the umask. Returns where the file is that stood there instead.
    Raises sqlite3.Error, OSError.
    """
    with drafted(path) as made:
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        copy_database(source, made)
        return put(path, FOUND, now)


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """All that a connection sees, as a file without a write-ahead log. Raises sqlite3.Error."""
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        source.backup(db)
        db.execute("PRAGMA journal_mode=DELETE")
