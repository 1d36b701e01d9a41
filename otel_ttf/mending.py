"""`otel-ttf restore` and `otel-ttf salvage`: another store.db in the place of one that is damaged or gone.

No server runs meanwhile. The old file is kept beside the new one, and a kill leaves one or the other.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.journey.definition import Journey
from otel_ttf.log.sqlite_file import PAGE_SIZE as LOG_PAGE_SIZE
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.pages import is_damage, unseen_damage
from otel_ttf.pii.keys import Keys, fingerprint
from otel_ttf.remaking import (
    count_anew,
    count_transitions,
    forget_unknown,
    mend_references,
    remake,
)
from otel_ttf.remembered import remember
from otel_ttf.sqlite_disk import read_only, trouble
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.losses import Loss, counted_beyond, counts, gaps, note, unknown
from otel_ttf.store.opening import NOTE, PAGE_SIZE, Identity, identity
from otel_ttf.store.salvage import Progress, Salvaged, salvage
from otel_ttf.store.sqlite import SCHEMA, SqliteStore, wrong_keys
from otel_ttf.swap import drafted, finish, put
from otel_ttf.tracker.loop import CONSUMER


class CannotMend(Exception):
    """The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What log.db holds: positions after `gone`, up to `end`."""

    log_id: str
    gone: int
    end: int


@dataclass(frozen=True, slots=True)
class Mended:
    """kept: where the old file is. cursor: how far the new store has followed this log; None: it knows another."""

    kept: Path | None
    cursor: int | None
    log: LogState | None


def restore(
    source: Path, path: Path, book: Path, keys: Keys, now: int, given: Given = NOTHING_GIVEN
) -> Mended:
    """Puts a copy of a store in its place. source: its file, or a data directory. Raises CannotMend.

    keys   with which the server will write into it
    given  the command's options, for what an operator is told to type
    """
    if source.is_dir():
        source = source / path.name
    if not source.is_file():
        raise CannotMend(f"{source}: there is no such file: name a copy of store.db or of a data directory")
    if path.exists() and source.samefile(path):
        raise CannotMend(f"{source} is the store itself: name a copy of it")
    try:
        _check_log(book)
        with drafted(path) as made:
            shutil.copyfile(source, made)
            with suppress(FileNotFoundError):
                shutil.copyfile(_wal(source), _wal(made))
            told = _ready(source, made, keys, given)
            return _put(made, path, book, told, "replaced", now)
    except OSError as error:
        raise CannotMend(f"{error.filename or source}: {(error.strerror or str(error)).lower()}") from None


def _check_log(book: Path) -> None:
    """Raises CannotMend, OSError: SQLite would lose what is readable of a damaged one."""
    if harm := unseen_damage(book, page_size=LOG_PAGE_SIZE):
        raise CannotMend(
            f"{book} is damaged ({harm}): start the server once, it mends log.db, and stop it again"
        )


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _ready(source: Path, made: Path, keys: Keys, given: Given) -> Identity:
    """Makes a closed store of today's version of the copy, once it is known to be whole. Raises CannotMend."""
    other = f"take an older copy, or use `{given.command('salvage')}`"
    if not made.stat().st_size or unseen_damage(made, page_size=PAGE_SIZE):
        raise CannotMend(f"{source} is damaged, too: {other}")
    try:
        found = identity(made)
        with closing(sqlite3.connect(made, isolation_level=None)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise CannotMend(f"{source} is damaged, too ({said}): {other}")
            migrate(db, source, SCHEMA)
            wrong = wrong_keys(db, fingerprint(keys.event), [fingerprint(key) for key in keys.subjects])
            if wrong:
                raise CannotMend(f"{source}: {wrong}; nothing was replaced")
            # Another id than its original has, whose loss may have been accepted, by an option that still stands there.
            db.execute("DELETE FROM meta WHERE name = 'id'")
            db.execute("PRAGMA journal_mode=DELETE")
        _closed(made)
    except sqlite3.Error as error:
        if is_damage(error):
            raise CannotMend(f"{source} is damaged, too ({trouble(error)}): {other}") from None
        raise CannotMend(f"{source} cannot be read as a store.db of otel_ttf: {trouble(error)}") from None
    except (SchemaRefused, StoreRefused) as error:
        raise CannotMend(str(error)) from None
    return found


def _closed(made: Path) -> None:
    """With an id, and without a write-ahead log."""
    SqliteStore(made).close()
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=DELETE")


def _put(made: Path, path: Path, book: Path, told: Identity, why: str, now: int) -> Mended:
    """made: the draft. Raises OSError, CannotMend."""
    log = log_state(book)
    if book.exists():
        new = identity(made)
        try:
            remember(
                book, NOTE, str(new.id)
            )  # first: with it the old file is refused, not taken for this one
        except sqlite3.Error as error:
            raise CannotMend(
                f"{book}: {trouble(error)}: start the server once, which mends it, and stop it again"
            ) from None
    cursor = told.position(log.log_id, CONSUMER) if log is not None else None
    return Mended(put(path, why, now), cursor, log)


def log_state(book: Path) -> LogState | None:
    """None: there is no log, or it cannot be read."""
    with (
        suppress(sqlite3.Error),
        closing(read_only(book)) as db,
    ):
        (log_id,) = db.execute("SELECT id FROM log").fetchone()
        (first,) = db.execute("SELECT min(position) FROM entry").fetchone()
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        end = row[0] if row else 0
        return LogState(log_id, end if first is None else first - 1, end)
    return None


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """rebuilt: journeys made again from transitions. without: rows that were left out, since nobody knows
    of which journey they are. missing: transitions between others that are not there."""

    found: Salvaged
    rebuilt: int
    without: int
    missing: int
    mended: Mended


def salvage_store(
    path: Path,
    book: Path,
    journeys: Sequence[Journey],
    now: int,
    progress: Progress,
    given: Given = NOTHING_GIVEN,
) -> SalvageReport:
    """Puts a new store with all that is readable in the old one's place. given: see restore. Raises CannotMend."""
    try:
        finish(path)
        if not path.exists() and not _wal(path).exists():
            raise CannotMend(f"{path}: there is no such file: use `{given.command('restore FILE')}`")
        _check_log(book)
        with drafted(path) as made:
            harmed = unseen_damage(path, page_size=PAGE_SIZE) is not None
            found = salvage(path, made, progress)
            with closing(SqliteStore(made)) as store:
                store.begin()
                without = forget_unknown(store)
                rebuilt = sum(remake(store, journey, now) for journey in journeys)
                mend_references(store)
                if found.harmed & {"counter", "histogram", "?"}:
                    count_transitions(store, journeys)
                count_anew(store, journeys)
                _mend_cursor(store, book)
                loss = _loss(store, found, now, harmed=harmed)
                if loss is not None:
                    note(store.db, loss)
                store.commit()
            _closed(made)
            mended = _put(made, path, book, identity(made), "damaged", now)
            missing = loss.transitions if loss is not None else 0
            return SalvageReport(found, rebuilt, without, missing, mended)
    except StoreRefused as error:
        raise CannotMend(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise CannotMend(f"{path}: {trouble(error)}: make room on that disk, or restore a copy") from None


def _loss(store: SqliteStore, found: Salvaged, now: int, *, harmed: bool) -> Loss | None:
    """What cannot be read any more, and what that leaves between counters and transitions; None: nothing is lost.

    harmed  something was wrong with the files: transitions that came last may be missing where no page says so
    """
    beyond = {key: counted - told for key, (told, counted) in counts(store.db).items() if counted != told}
    loss = Loss(now, "salvaged", found.damaged, tuple(sorted(found.harmed)), tuple(gaps(store.db)), beyond)
    known = [gap for one in store.losses for gap in one.gaps]
    fewer = harmed and beyond != counted_beyond(store.losses)
    return loss if found.damaged or unknown(loss.gaps, known) or fewer else None


def _mend_cursor(store: SqliteStore, book: Path) -> None:
    """Where it is lost how far the log was followed, the log knows: at least so far."""
    if store.db.execute("SELECT 1 FROM cursor WHERE consumer = ?", (CONSUMER,)).fetchone():
        return
    log = log_state(book)
    with suppress(sqlite3.Error), closing(read_only(book)) as db:
        row = db.execute("SELECT position FROM consumer WHERE name = ?", (CONSUMER,)).fetchone()
        if log is not None and row is not None:
            store.save_cursor(CONSUMER, log.log_id, row[0])
