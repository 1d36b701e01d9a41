"""Rows that are readable in a damaged store, copied into a new one."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from otel_ttf.migrate import migrate
from otel_ttf.pages import PageFile, Value
from otel_ttf.pii.pseudonym import is_token
from otel_ttf.store.opening import PAGE_SIZE
from otel_ttf.store.sqlite import SCHEMA
from otel_ttf.store.sqlite_rows import READERS, UNREADABLE, subject_hash
from otel_ttf.swap import begun

PROGRESS_EVERY = 256  # pages
_TYPES: Mapping[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "REAL": (float, int),
    "TEXT": (str,),
    "BLOB": (bytes,),
}

Progress = Callable[[int, int], object]  # pages done, and of how many


@dataclass(slots=True)
class Salvaged:
    """What was found. rows: by table. damaged: pages of which nothing, or not everything, could be read.

    harmed: tables that lack something, as far as can be told; "?": pages that nobody knows whose they are
    """

    rows: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    harmed: set[str] = field(default_factory=set)


class Table:
    """How a table's rows stand in its pages, and how they are written. names: of columns, as they stand there."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        columns = [
            row[1:] for row in db.execute(f"PRAGMA table_info({name})")
        ]  # name, type, notnull, default, pk
        (self.keyed,) = db.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).fetchone()
        if self.keyed:  # the primary key stands first
            columns.sort(key=lambda column: column[4] or math.inf)
        self.name = name
        self.names: list[str] = [column[0] for column in columns]
        self.types = [_TYPES[column[1]] for column in columns]
        self.needed = [bool(column[2]) for column in columns]
        self.id = next((i for i, column in enumerate(columns) if column[4] and not self.keyed), None)
        self.subject = self.names.index("subject") if "subject" in self.names else None
        self.hash = self.names.index("subject_hash") if "subject_hash" in self.names else None
        # Many values are the same: what one says is found out once.
        self.readers = [
            (self.names.index(column), lru_cache(maxsize=512)(read))
            for column, read in READERS.get(name, {}).items()
        ]
        self._fitting: set[tuple[type, ...]] = set()  # types of the values of a row that fit

    def insert(self, width: int) -> str:
        return f"INSERT OR IGNORE INTO {self.name} ({','.join(self.names[:width])}) VALUES ({','.join('?' * width)})"

    def row(self, rowid: int | None, values: list[Value]) -> list[Value] | None:
        """As it is inserted; None: it is no row of this table."""
        if len(values) > len(self.names) or (rowid is None) != bool(self.keyed):
            return None
        if self.id is not None and self.id < len(values):
            if values[self.id] is not None:
                return None
            values[self.id] = rowid
        return values if self.unreadable(values) is None else None

    def unreadable(self, values: Sequence[object]) -> str | None:
        """The first column of a row in which nothing of ours wrote what stands there."""
        kinds = (*map(type, values),)
        if kinds not in self._fitting:
            for place, (value, types, needed) in enumerate(
                zip(values, self.types, self.needed, strict=False)
            ):
                if not isinstance(value, types) and (needed or value is not None):
                    return self.names[place]
            self._fitting.add(kinds)
        if self.subject is not None:
            subject = values[self.subject] if self.subject < len(values) else None
            if isinstance(subject, str) and not is_token(subject):
                return self.names[self.subject]
            if (
                self.hash is not None
                and isinstance(subject, str)
                and values[self.hash] != subject_hash(subject)
            ):
                return self.names[self.hash]  # by which nobody would find it
        for place, read in self.readers:
            try:
                read(values[place])
            except (*UNREADABLE, IndexError):
                return self.names[place]
        return None


def salvage(path: Path, target: Path, progress: Progress = lambda _, __: None) -> Salvaged:
    """Copies what is readable of a store, which nobody has open, into a new file. Raises sqlite3.Error, OSError."""
    found = Salvaged()
    with (
        closing(PageFile(path, page_size=PAGE_SIZE)) as file,
        closing(begun(target, file.page_size)) as db,
    ):
        db.execute("PRAGMA cache_size=-200000")  # rows come in any order of the indices
        migrate(db, target, SCHEMA, until=file.user_version() or None)
        # Where a new store has its tables: there the old one had them too, if its first page is damaged.
        usual: dict[str, int] = dict(
            db.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
        )
        # SQLite's own table of last ids follows from the rows.
        tables = {name: Table(db, name) for name in usual if not name.startswith("sqlite_")}
        owners, bad = file.owners(file.roots(usual))
        db.execute("BEGIN")
        for done, (number, name) in enumerate(owners.items()):
            if not done % PROGRESS_EVERY:
                progress(done, len(owners))
            if name in tables:
                _copy(db, file, number, tables[name], found, bad)
        progress(len(owners), len(owners))
        db.execute("COMMIT")
    found.damaged = len(bad)
    # A page that is damaged does not say whose it was.
    found.harmed |= {owners.get(number, "?") for number in bad}
    return found


def _copy(
    db: sqlite3.Connection, file: PageFile, number: int, table: Table, found: Salvaged, bad: set[int]
) -> None:
    by_width: dict[int, list[Sequence[Value]]] = {}
    for rowid, values in file.rows(number, bad=bad.add):
        row = table.row(rowid, values)
        if row is None:
            bad.add(number)
        else:
            by_width.setdefault(len(row), []).append(row)
    for width, rows in by_width.items():
        if width:
            found.rows[table.name] += db.executemany(table.insert(width), rows).rowcount
