"""The embedded store's file: connections, many rows at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

_CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 4000
# More gain nothing, and older SQLite takes 999 values a statement.
ROWS_TOGETHER = 50


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection as every part of the store wants it. Only the tracker's may write."""
    # Whoever only reads makes no file where it was deleted.
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if writer else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        if writer:
            # Both only count on an empty file, before the first table.
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute("PRAGMA temp_store=MEMORY")
        else:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA cache_size=-4096")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def insert_rows(
    db: sqlite3.Connection, insert: str, width: int, rows: Sequence[tuple[object, ...]], fixed: str = ""
) -> None:
    """Many rows. fixed: values that are the same in all, behind the others, each with a comma in front.

    Several rows in one statement take a third less than one each.
    """
    one = f"({','.join('?' * width)}{fixed})"
    many = insert + ",".join([one] * ROWS_TOGETHER)
    whole = len(rows) // ROWS_TOGETHER * ROWS_TOGETHER
    for at in range(0, whole, ROWS_TOGETHER):
        db.execute(many, list(chain.from_iterable(rows[at : at + ROWS_TOGETHER])))
    db.executemany(insert + one, rows[whole:])
