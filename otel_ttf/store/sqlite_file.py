"""The embedded store's file: connections and migrations."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from otel_ttf.store.base import StoreRefused

_SCHEMA = "otel_ttf.store.schema"
_CACHE_KIB = 16 * 1024


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection as every part of the store wants it. Only the tracker's may write."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    if writer:
        # Both only count on an empty file, before the first table.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store=MEMORY")
    else:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA cache_size=-4096")
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Runs the numbered migrations that the file lacks. Raises StoreRefused for a file of a newer version."""
    scripts = sorted(
        (entry for entry in resources.files(_SCHEMA).iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    (have,) = connection.execute("PRAGMA user_version").fetchone()
    newest = int(scripts[-1].name[:4])
    if have > newest:
        raise StoreRefused(
            f"{path}: written by a newer otel_ttf (schema {have}, this one knows {newest}): "
            "upgrade otel_ttf, or start with another data directory"
        )
    for script in scripts:
        number = int(script.name[:4])
        if number > have:
            # One script, one transaction: a kill in the middle leaves the version before.
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script.read_text()}\nPRAGMA user_version={number};\nCOMMIT;"
            )
