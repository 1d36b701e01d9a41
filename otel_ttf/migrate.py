"""Numbered SQL scripts, NNNN_name.sql, bring a file of SQLite to the schema that this version knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path


class SchemaRefused(Exception):
    """The file is not one of ours, or of a newer version; the message says which and what to do."""


def migrate(
    db: sqlite3.Connection,
    path: Path,
    scripts: Traversable,
    *,
    ours: tuple[int, str] | None = None,
    until: int | None = None,
) -> None:
    """Runs the scripts that the file lacks; its `user_version` is the number of the last that it has.

    Each is one transaction: a kill in the middle leaves the version before. Two processes may open a new file at
    once: the second finds the work done. ours: application_id, and what the file is called: a file with tables
    and another id is somebody else's. until: the last script to run. The connection has isolation_level None.
    Raises SchemaRefused, sqlite3.Error.
    """
    if ours is not None:
        application, what = ours
        if _pragma(db, "application_id") != application and _tables(db):
            raise SchemaRefused(f"{path}: not {what} of otel_ttf: move it away")
    numbered = sorted((int(file.name[:4]), file) for file in scripts.iterdir() if file.name.endswith(".sql"))
    version, newest = _pragma(db, "user_version"), numbered[-1][0]
    if version > newest:
        raise SchemaRefused(
            f"{path}: written by a newer otel_ttf (schema {version}, this one knows {newest}): "
            "upgrade otel_ttf, or start with another data directory"
        )
    for number, script in numbered:
        if number <= version or (until is not None and number > until):
            continue
        with transaction(db):
            if _pragma(db, "user_version") >= number:
                continue
            for statement in _statements(script.read_text()):
                db.execute(statement)
            if ours is not None:
                db.execute(f"PRAGMA application_id={ours[0]}")
            db.execute(f"PRAGMA user_version={number}")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when anything goes wrong between."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _tables(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: executescript would end the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
