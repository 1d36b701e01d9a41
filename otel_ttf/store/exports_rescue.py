"""A damaged exporters.db: cursors and letters that are readable go into a new one, which takes its place."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from otel_ttf.migrate import migrate
from otel_ttf.otlp.wire import SIGNALS
from otel_ttf.pages import PageFile, Value
from otel_ttf.store.quarantine import COLUMNS
from otel_ttf.swap import begun, drafted, put

OURS = 0x6F747478, "a file of exporters"  # "ottx"
SCHEMA = resources.files("otel_ttf.store") / "export_schema"
PAGE_SIZE = 4096
LETTER = (*COLUMNS[:-1], "consumer", COLUMNS[-1])  # as they stand in the file
_TYPES: Mapping[str, tuple[Any, ...]] = {
    "cursor": (str, str, int, int | None, int | None),
    "quarantine": (type(None), str, int, int, str, int, bytes, bytes, str, str, int, int, str, int),
    "sqlite_sequence": (str, int),
}
# What rows have in a last column that was added after they were written.
_ADDED: Mapping[str, Value] = {"quarantine": 1}


@dataclass(frozen=True, slots=True)
class Rescued:
    """kept: where the old file is. cursors, letters: how many of them were readable."""

    kept: Path | None
    cursors: int
    letters: int


def cursor_sum(consumer: str, log_id: str, position: int, records: int | None) -> int:
    """CRC-32 over the other columns of a row."""
    return zlib.crc32(f"{consumer}\0{log_id}\0{position}\0{records}".encode())


def rescue(path: Path, now: int) -> Rescued:
    """Copies what is readable, and puts it in the file's place; nobody has it open. now: unix ns.

    What operators asked for meanwhile is left out. A kill leaves the old file or the new one. Raises sqlite3.Error,
    OSError.
    """
    with drafted(path) as made:
        with closing(PageFile(path, page_size=PAGE_SIZE)) as file, closing(begun(made, PAGE_SIZE)) as db:
            migrate(db, made, SCHEMA, ours=OURS)
            tables = "SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"
            usual = dict(db.execute(tables).fetchall())
            roots = {name: root for name, root in file.roots(usual).items() if name in _TYPES}
            db.execute("BEGIN")
            marks = ",".join("?" * len(LETTER))
            insert = {
                "cursor": "INSERT OR IGNORE INTO cursor VALUES (?, ?, ?, ?, ?)",
                "quarantine": f"INSERT OR IGNORE INTO quarantine ({', '.join(LETTER)}) VALUES ({marks})",
                "sqlite_sequence": "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1",
            }
            for name, rowid, values in _rows(file, roots):
                db.execute(insert[name], [rowid, *values[1:]] if name == "quarantine" else values)
            counts = [
                db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("cursor", "quarantine")
            ]
            db.execute("COMMIT")
        return Rescued(put(path, "damaged", now), *counts)


def _rows(file: PageFile, roots: dict[str, int]) -> Iterator[tuple[str, int | None, list[Value]]]:
    """(table, rowid, columns) of those that we could have written, as they are now: older images hold what was dealt
    with meanwhile."""
    owners, _ = file.owners(roots)
    for number, name in owners.items():
        for rowid, values in file.rows(number):
            values = completed(name, values)
            if plausible(name, values):
                yield name, rowid, values


def completed(table: str, values: Sequence[Any]) -> list[Any]:
    """A row as it is now, also of a file from before its last column was added."""
    return [*values, *([_ADDED.get(table)] if len(values) == len(_TYPES[table]) - 1 else [])]


def plausible(table: str, values: Sequence[Value]) -> bool:
    """Whether we could have written such a row."""
    types = _TYPES[table]
    if len(values) != len(types) or not all(map(isinstance, values, types)):
        return False
    if table == "cursor":
        *columns, sum_ = values
        return sum_ is None or sum_ == cursor_sum(*columns)  # type: ignore[arg-type]
    return table != "quarantine" or values[4] in SIGNALS
