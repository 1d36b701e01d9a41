"""A damaged log.db: every row that is readable goes into a new one, which takes its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import zstandard

from otel_ttf.log.base import LogDamaged, LogError, Lost
from otel_ttf.log.sqlite_file import (
    COLUMNS,
    INSERT,
    OURS,
    PAGE_SIZE,
    SCRIPTS,
    LogFile,
    Stored,
    opened,
)
from otel_ttf.migrate import migrate
from otel_ttf.pages import PageFile
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.swap import begun, drafted, finish, put
from otel_ttf.units import SECOND

SIGNALS = ("logs", "traces", "metrics")
# Column types of the small tables; the last one may be None.
_TABLES: Mapping[str, tuple[type, ...]] = {
    "log": (str, int, int, int),
    "consumer": (str, int, int, str),
    "gap": (str, int, int, int),
    "meta": (str, str),
    "sqlite_sequence": (str, int),
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    """What others know of a log.

    log_id     "": nobody knows
    positions  consumer -> how far it has dealt with rows
    end        the last position that is known to have been given away
    """

    log_id: str = ""
    positions: Mapping[str, int] = field(default_factory=dict)
    end: int = 0


NOTHING_KNOWN = Known()


def open_or_rescue(path: Path, known: Known, now: int) -> LogFile:
    """The log, a new one with what was readable where it is damaged. Raises LogError.

    A log that is missing or empty though others know of one is rescued, too: with nothing to read.
    """
    try:
        finish(path)
        if known.log_id and not (path.exists() and path.stat().st_size):
            raise LogDamaged(f"{path}: missing or empty, though the store has read it")
        file = LogFile(path)
    except LogDamaged as error:
        return rescue(path, known, now, str(error))
    except OSError as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{path}: {trouble(error)}: {remedy(error, 'mend it', path)}") from None
    if file.log_id == known.log_id:
        followed = max(known.positions.values(), default=0)
        if file.bounds.end < followed:
            # An older copy: it would give positions away again, and what comes would be taken for followed.
            reason = f"{path}: ends at position {file.bounds.end}, though it was followed to {followed}: an older copy"
            file.close()
            return rescue(path, known, now, reason)
        # A consumer's own word counts more: no row may go because of a number that is damaged.
        file.consumers = [
            replace(one, position=known.positions.get(one.name, one.position)) for one in file.consumers
        ]
    return file


def rescue(path: Path, known: Known, now: int, reason: str) -> LogFile:
    """Copies what is readable, puts it in the log's place and opens that; nobody has the file open.

    A kill leaves the old file or the new one. Raises LogError.
    """
    log.error("log.db is damaged: what is readable is copied into a new one", reason=reason)
    try:
        with drafted(path) as made:
            rows, lost = _copy(path, made, known, now)
            kept = put(path, "damaged", now)
    except (sqlite3.Error, OSError) as error:
        raise LogError(
            f"{reason}; what is readable cannot be copied: {trouble(error)}: make room on that disk, or move the file "
            "away, with what was not read yet"
        ) from None
    log.error(
        "log.db was damaged: what was readable is in a new one",
        kept=str(kept) if kept else None,
        requests=rows,
        lost=[told(one) for one in lost] or "nothing",
    )
    try:
        return LogFile(path)
    except LogDamaged as error:
        raise LogError(f"{error}: also after a rescue: the disk or the memory fails") from None


def told(lost: Lost) -> str:
    """For operators: what is gone."""
    if lost.last is None:
        return f"all from position {lost.first} on, nobody knows how many"
    place = f"position {lost.first}" if lost.first == lost.last else f"positions {lost.first} to {lost.last}"
    return place if lost.records is None else f"{place} ({lost.records} records)"


def note(lost: Lost) -> str:
    """For operators, in /ready: what is gone, since when, and what can be done about it."""
    when = datetime.fromtimestamp(lost.found // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = {
        "damaged": "could not be read out of a damaged log.db",
        "missed": "were followed after store.db was copied and are no longer in log.db",
    }
    return (
        f"requests that were answered OK, {told(lost)}, {what[lost.why]} ({when}): what senders still have "
        "they may send again, nothing counts twice"
    )


def _copy(path: Path, target: Path, known: Known, now: int) -> tuple[int, list[Lost]]:
    """(rows, what is lost of those that somebody still needs). Raises sqlite3.Error, OSError."""
    with (
        closing(PageFile(path, page_size=PAGE_SIZE)) as file,
        closing(begun(target, PAGE_SIZE)) as db,
    ):
        migrate(db, target, SCRIPTS, ours=OURS)
        db.execute("BEGIN")
        small, unread = _small_tables(file, _roots(db))
        if known.log_id and any(log_id != known.log_id for log_id, *_ in small["log"]):
            known = NOTHING_KNOWN  # it is of another log
        positions = dict(known.positions)
        for name, position, required, on_lag in small["consumer"]:
            positions.setdefault(name, position)
            db.execute("INSERT INTO consumer VALUES (?, ?, ?, ?)", (name, positions[name], required, on_lag))
        db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", small["meta"])
        db.executemany("INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?)", small["gap"])
        before = [Lost(*row) for row in small["lost"]]
        floor = min(positions.values(), default=0)
        insert = INSERT.replace("INSERT", "INSERT OR IGNORE") + f"({','.join('?' * COLUMNS)})"
        for row in _entries(file, floor):
            db.execute(insert, row)
        ends = [seq for name, seq in small["sqlite_sequence"] if name == "entry"]
        (last,) = db.execute("SELECT max(position) FROM entry").fetchone()
        end = max([known.end, last or 0, *positions.values(), *ends])
        # Without the sequence, or with one that is too old, rows may have stood behind the last that is known.
        behind = max(ends, default=0) < max(positions.values(), default=0)
        open_end = ("sqlite_sequence" in unread or behind) and not known.end
        lost = _lost(db, floor if positions else None, end, before, now, open_end=open_end)
        db.executemany(
            "INSERT OR IGNORE INTO lost (first, last, records, found, why) VALUES (?, ?, ?, ?, ?)",
            [astuple(one) for one in (*before, *lost)],
        )
        if end > max(last or 0, floor):
            # Rows at the end are gone: one that holds nothing lets consumers get past them.
            db.execute(insert, _nothing(db, end, now))
        for log_id, records, stored, _ in small["log"]:
            db.execute("UPDATE log SET id = ?, records = ?, stored = ?", (log_id, records, stored))
        if known.log_id:
            db.execute("UPDATE log SET id = ?", (known.log_id,))
        db.execute("DELETE FROM sqlite_sequence")
        db.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (end,))
        (rows,) = db.execute("SELECT count(*) FROM entry WHERE records > 0").fetchone()
        db.execute("COMMIT")
    return rows, lost


def _roots(db: sqlite3.Connection) -> dict[str, int]:
    """Where a new log has its tables: where the old one had them, too, if its first page is damaged."""
    return dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall())


def _small_tables(file: PageFile, roots: Mapping[str, int]) -> tuple[dict[str, list[Any]], set[str]]:
    """(table -> rows, tables of which something could not be read)."""
    roots = file.roots(roots)
    found: dict[str, list[Any]] = {"lost": []}
    unread = set()
    for name, types in _TABLES.items():
        bad: set[int] = set()
        found[name] = [
            values
            for number in file.tree(roots[name], bad.add)
            for _, values in file.rows(number, bad=bad.add)
            if len(values) == len(types) and all(map(isinstance, values, types))
        ]
        if bad:
            unread.add(name)
    for number in file.tree(roots["lost"]):
        for _, values in file.rows(number):
            if len(values) == 5:
                first, why, last, records, when = values  # the primary key stands first
                if isinstance(first, int) and isinstance(when, int) and why in ("damaged", "missed"):
                    found["lost"].append((first, last, records, when, why))
    found["log"] = [row for row in found["log"] if len(row[0]) == 32][:1]
    return found, unread


def _entries(file: PageFile, floor: int) -> Iterator[Stored]:
    """Rows beyond a position, each checked; in no order, some several times."""
    unpacker = zstandard.ZstdDecompressor()
    for number, image in file.images():
        for rowid, values in file.rows(number, image):
            if (
                rowid is None
                or rowid <= floor
                or len(values) not in (COLUMNS - 1, COLUMNS)
                or values[0] is not None
            ):
                continue
            stored = Stored(rowid, *[*values[1:], None][: COLUMNS - 1])  # type: ignore[arg-type]
            if not _plausible(stored):
                continue
            try:
                opened(stored, unpacker)
            except LogDamaged:
                continue
            yield stored


def _plausible(row: Stored) -> bool:
    numbers = (row.arrival, row.size, row.records, row.records_before, row.stored_before, row.packed)
    return (
        all(isinstance(value, int) and value >= 0 for value in numbers)
        and row.signal in SIGNALS
        and row.packed <= 1
        and isinstance(row.ids, bytes)
        and isinstance(row.payload, bytes)
    )


def _lost(
    db: sqlite3.Connection, floor: int | None, end: int, before: Sequence[Lost], now: int, *, open_end: bool
) -> list[Lost]:
    """Positions beyond `floor` (None: from the first row on) that are in no row and were not known to be lost."""
    found: list[Lost] = []
    position, records = floor, None
    for at, held, held_before in db.execute(
        "SELECT position, records, records_before FROM entry ORDER BY position"
    ):
        if position is not None and at > position + 1:
            between = None if records is None else max(0, held_before - records)
            found.append(Lost(position + 1, at - 1, between, now, "damaged"))
        position, records = at, held_before + held
    position = position or 0
    if end > position:
        found.append(Lost(position + 1, end, None, now, "damaged"))
    if open_end:
        found.append(Lost(end + 1, None, None, now, "damaged"))
    return list(_without(found, before))


def _without(found: Iterable[Lost], before: Sequence[Lost]) -> Iterator[Lost]:
    for one in found:
        parts = [one]
        for other in before:
            if other.why == "damaged" and other.last is not None:
                parts = [left for part in parts for left in _cut(part, other.first, other.last)]
        yield from parts


def _cut(one: Lost, first: int, last: int) -> Iterator[Lost]:
    if one.last is None or last < one.first or first > one.last:
        yield one
        return
    if one.first < first:
        yield replace(one, last=first - 1, records=None)
    if one.last > last:
        yield replace(one, first=last + 1, records=None)


def _nothing(db: sqlite3.Connection, position: int, now: int) -> tuple[object, ...]:
    last = db.execute(
        "SELECT records_before + records, stored_before + length(ids) + length(payload) FROM entry"
        " ORDER BY position DESC LIMIT 1"
    ).fetchone()
    records, stored = last or db.execute("SELECT records, stored FROM log").fetchone()
    return position, now, "logs", 0, 0, records, stored, 0, b"", b"", None
