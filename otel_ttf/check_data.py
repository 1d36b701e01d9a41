"""`otel-ttf check-data`: everything that can be checked about a data directory, without changing any of it.

A server may run beside it: each file is read in one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import zstandard

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.companions import LOSSES, Companions
from otel_ttf.files import LOG_FILE
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.rollup import add, share, unpack
from otel_ttf.journey.state import State, timeline
from otel_ttf.journey.times import unpack_times
from otel_ttf.log.base import LogDamaged, Lost
from otel_ttf.log.lock import in_use
from otel_ttf.log.rescue import note
from otel_ttf.log.sqlite_file import ENTRIES, LOST, Stored, opened
from otel_ttf.mending import log_state
from otel_ttf.pages import unseen_damage
from otel_ttf.remembered import remembered
from otel_ttf.sqlite_disk import not_utf8, read_only, trouble
from otel_ttf.store import losses
from otel_ttf.store.exports import FILE as EXPORTS
from otel_ttf.store.exports_rescue import completed, plausible
from otel_ttf.store.losses import Loss
from otel_ttf.store.opening import NOTE, PAGE_SIZE, identity
from otel_ttf.store.salvage import Table
from otel_ttf.store.sqlite import tables
from otel_ttf.store.sqlite_rows import unpack_key, unpack_segments
from otel_ttf.tracker.derived import EXPIRED_STATE
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.tracker.writes import with_level

# Tables without a rowid: what names a row of theirs and is nobody's data.
NAMED = {
    "rollup": "definition || ', ' || day || ', ' || combo",
    "counter": "metric",
    "histogram": "metric",
    "seen": "kind",
    "label": "journey",
    "cursor": "consumer",
    "key_seen": "purpose",
    "meta": "name",
    "excluded": "since",
}
_NO_TEXT = object()
AT_MOST = 20  # sentences of one check
EVERY = 1000  # rows between reports of progress

Progress = Callable[[int, int | None], object]  # rows done, and of how many, if that is known
Said = Iterator[str]

# Those that are computed anew stand beside their version for a while.
_DEFINITIONS = "SELECT id FROM definition UNION SELECT beside FROM rebuild"
# Rows that must be where others point at: what is told, how to find it.
REFERENCES = {
    "events whose resource is not there": "FROM event WHERE resource NOT IN (SELECT id FROM resource)",
    "journeys whose version is not there": f"FROM journey WHERE definition NOT IN ({_DEFINITIONS})",
    "journeys whose segments' values are not there": (
        # Those of a version whose figures are being counted anew get their place with that.
        "FROM journey WHERE combo IS NOT NULL AND combo NOT IN (SELECT id FROM combo)"
        " AND definition NOT IN (SELECT id FROM definition WHERE recounting IS NOT NULL)"
    ),
    "figures whose version is not there": f"FROM rollup WHERE definition NOT IN ({_DEFINITIONS})",
    "transitions that stand there twice": "FROM (SELECT 1 FROM transition GROUP BY id HAVING count(*) > 1)",
}


@dataclass(frozen=True, slots=True)
class Directory:
    """path: the data directory; store: its store.db, which may lie elsewhere; given: the command's options."""

    path: Path
    store: Path
    journeys: Sequence[Journey]
    given: Given = NOTHING_GIVEN

    @property
    def log(self) -> Path:
        return self.path / LOG_FILE


def checks(directory: Directory) -> list[tuple[str, Callable[[Progress], Said]]]:
    """(what is checked, how): each gives a sentence for each thing that is wrong."""
    found: list[tuple[str, Callable[[Progress], Said]]] = []
    for path in (directory.log, directory.store, *(directory.path / name for name in (*LOSSES, EXPORTS))):
        if path.exists():
            found.append((f"{path.name}: pages and indices", _whole(path, directory)))
    found += [
        ("log.db: each request, and that none is missing", lambda progress: _requests(directory, progress)),
        ("how far the log was followed", lambda _: _cursors(directory)),
        ("store.db: each row", lambda progress: _rows(directory, progress)),
        ("store.db: what points at what", lambda _: _references(directory)),
        ("store.db: counters against transitions", lambda _: _counters(directory)),
        ("store.db: figures against journeys", lambda progress: _figures(directory, progress)),
        ("consent.db, vault.db: those that were here", lambda _: _companions(directory)),
    ]
    if (directory.path / EXPORTS).exists():
        found.append(("exporters.db: each row, and how far exporters are", lambda _: _exports(directory)))
    return found


def notes(directory: Directory) -> list[str]:
    """What was lost before, and known since."""
    with _reading(directory.log) as log, _reading(directory.store) as store:
        return [
            *[note(Lost(*row)) for row in log.execute(LOST)],
            *map(losses.told, _known_losses(store)),
        ]


def _known_losses(db: sqlite3.Connection) -> list[Loss]:
    """None in a store of an older version."""
    there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'loss'").fetchone()
    return losses.losses(db) if there else []


def said(check: Callable[[Progress], Said], progress: Progress) -> list[str]:
    """The first sentences of a check; what cannot be read at all is one, too."""
    found: list[str] = []
    try:
        for sentence in check(progress):
            if len(found) == AT_MOST:
                return [*found, "and more"]
            found.append(sentence)
    except Exception as error:  # noqa: BLE001 - damage may look like anything
        found.append(f"cannot be read: {trouble(error)}")
    return found


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """One snapshot. Raises sqlite3.Error."""
    with closing(read_only(path)) as db:
        db.execute("BEGIN")
        yield db


def _whole(path: Path, directory: Directory) -> Callable[[Progress], Said]:
    def check(progress: Progress) -> Said:
        # SQLite takes the first page from the write-ahead log, and that as far as it is sound, and says nothing.
        if not in_use(directory.path) and (damage := unseen_damage(path, page_size=PAGE_SIZE)):
            yield f"{path}: {damage}"
        with _reading(path) as db:
            for (sentence,) in db.execute(f"PRAGMA integrity_check({AT_MOST + 1})"):
                if sentence != "ok":
                    yield from str(sentence).splitlines()

    return check


def _requests(directory: Directory, progress: Progress) -> Said:
    unpacker = zstandard.ZstdDecompressor()
    with _reading(directory.log) as db:
        known = [Lost(*row) for row in db.execute(LOST)]
        (total,) = db.execute("SELECT count(*) FROM entry").fetchone()
        before = records = None
        for done, row in enumerate(db.execute(f"{ENTRIES} ORDER BY position")):
            stored = Stored(*row)
            if not done % EVERY:
                progress(done, total)
            try:
                opened(stored, unpacker)
            except LogDamaged as error:
                yield str(error)
            gap = before is not None and stored.position != before + 1
            if gap and before is not None and not _known(known, before + 1, stored.position - 1):
                yield f"positions {before + 1} to {stored.position - 1} are missing"
            if not gap and records is not None and stored.records_before != records:
                yield f"position {stored.position}: expected {records} records before it, found {stored.records_before}"
            before, records = stored.position, stored.records_before + stored.records
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        if before is not None and (row is None or row[0] != before):
            yield f"expected the last position to be {row[0] if row else 'known'}, found {before}"


def _known(lost: Iterable[Lost], first: int, last: int) -> bool:
    return any(one.first <= first and (one.last or 0) >= last for one in lost)


def _cursors(directory: Directory) -> Said:
    before = log_state(directory.log)
    found = identity(directory.store)
    after = log_state(directory.log)
    if before is None or after is None:
        yield f"{directory.log} cannot be read"
        return
    known = remembered(directory.log, NOTE)
    if known is not None and found.id != known:
        yield f"{directory.store} is not the one that has followed this log before"
    position = found.position(before.log_id, CONSUMER)
    if position is None:
        if before.gone:
            yield f"{directory.store} has not read this log, of which positions up to {before.gone} are gone"
    elif position < before.gone:
        yield f"requests at positions {position + 1} to {before.gone} are gone before they were followed"
    elif position > after.end:
        yield f"expected the log to reach position {position}, to which it was followed, found its end at {after.end}"


def _rows(directory: Directory, progress: Progress) -> Said:
    """That every value is one that we could have written there."""
    known = {name for name in tables() if not name.startswith("sqlite_")}
    with _reading(directory.store) as db:
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        for name in [name for (name,) in found if name in known]:
            table = Table(db, name)
            db.text_factory = str
            try:
                yield from list(islice(_unreadable(db, table, progress), AT_MOST + 1))
            except sqlite3.OperationalError as error:
                if not not_utf8(error):
                    raise
                # Once more, slower: SQLite says so of no certain row.
                db.text_factory = _text
                yield from _unreadable(db, table, progress)


def _unreadable(db: sqlite3.Connection, table: Table, progress: Progress) -> Said:
    name = table.name
    (total,) = db.execute(f"SELECT count(*) FROM {name}").fetchone()
    rows = db.execute(f"SELECT {NAMED.get(name, 'rowid')}, {','.join(table.names)} FROM {name}")
    for done, (row, *values) in enumerate(rows):
        if not done % EVERY:
            progress(done, total)
        if column := table.unreadable(values):
            yield f"row {row} of table {name}: what stands in column {column} cannot be read"


def _text(data: bytes) -> object:
    """Bytes that are no UTF-8 are of no type that a column may have."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NO_TEXT


def _references(directory: Directory) -> Said:
    with _reading(directory.store) as db:
        for what, rows in REFERENCES.items():
            (count,) = db.execute(f"SELECT count(*) {rows}").fetchone()
            if count:
                yield f"{count} {what}"
        known = [gap for loss in _known_losses(db) for gap in loss.gaps]
        for first, last in losses.unknown(losses.gaps(db), known):
            yield f"{last - first + 1} transitions are missing, at positions {first} to {last}"


def _counters(directory: Directory) -> Said:
    with _reading(directory.store) as db:
        beyond = losses.counted_beyond(_known_losses(db))
        found = losses.counts(db)
    for key, (told, counted) in found.items():
        lost = beyond.get(key, 0)
        if told + lost != counted:
            metric, journey, stage = key
            of = f"journey {journey}" + (f", stage {stage}" if stage else "")
            also = f" and {lost} that a salvage found counted besides" if lost else ""
            yield f"{metric} of {of}: expected {told} by its transitions{also}, found {counted}"


def _figures(directory: Directory, progress: Progress) -> Said:
    with _reading(directory.store) as db:
        for journey in directory.journeys:
            row = db.execute(
                "SELECT id, recounting FROM definition WHERE journey = ? AND version = ? AND derived = ? AND current",
                (journey.name, journey.version, journey.derived),
            ).fetchone()
            # With other settings than those of --config the next start counts them anew.
            if row is not None and row[1] is None:
                yield from _figures_of(db, journey, row[0], progress)


def _figures_of(db: sqlite3.Connection, journey: Journey, definition: int, progress: Progress) -> Said:
    names = [segment.attribute for segment in journey.segments]
    scanned: dict[tuple[int | None, int | None], dict[int, int]] = {}
    (total,) = db.execute("SELECT count(*) FROM journey WHERE definition = ?", (definition,)).fetchone()
    for done, (key, reached, segments, told, stage, day, combo) in enumerate(
        db.execute(
            "SELECT key, reached, segments, told, state, day, combo FROM journey WHERE definition = ?",
            (definition,),
        )
    ):
        if not done % EVERY:
            progress(done, total)
        if "" in unpack_key(key):
            continue
        line = timeline(journey, State(unpack_times(reached), unpack_segments(names, segments)))
        part = share(journey, line, expired=stage == EXPIRED_STATE)
        if part is not None:
            add(scanned.setdefault((day, combo), {}), with_level(journey, part.cells, stage, told), 1)
    for day, combo, cells in db.execute(
        "SELECT day, combo, cells FROM rollup WHERE definition = ?", (definition,)
    ):
        add(scanned.setdefault((day, combo), {}), unpack(cells), -1)
    wrong: Mapping[object, object] = {place: cells for place, cells in scanned.items() if any(cells.values())}
    if wrong:
        yield (
            f"journey {journey.name}: {len(wrong)} of {len(scanned)} figures (of a day and segments' values) are not "
            f"what its {total} journeys say"
        )


def _companions(directory: Directory) -> Said:
    companions = Companions(directory.log, directory.store, given=directory.given)
    for name in LOSSES:
        if sentence := companions.wrong(directory.path / name):
            yield sentence


def _exports(directory: Directory) -> Said:
    path = directory.path / EXPORTS
    with _reading(path) as db:
        cursors = [completed("cursor", row) for row in db.execute("SELECT * FROM cursor")]
        for id_, *row in db.execute("SELECT * FROM quarantine"):
            if not plausible("quarantine", completed("quarantine", [None, *row])):
                yield f"row {id_} of table quarantine cannot be read"
    log = log_state(directory.log)
    for row in cursors:
        if not plausible("cursor", row):
            yield f"{path}: row {row[0]} of table cursor is damaged"
        elif log is not None and row[1] == log.log_id and row[2] > log.end:
            yield f"exporter {row[0]}: expected the log to reach position {row[2]}, found its end at {log.end}"
