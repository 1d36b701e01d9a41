"""Whether store.db is the one that was here, and whole as far as a start can tell; what to do where it is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.pages import unseen_damage
from otel_ttf.remembered import remember, remembered
from otel_ttf.sqlite_disk import RowDamaged, read_only, trouble
from otel_ttf.store.base import StoreDamaged, StoreRefused
from otel_ttf.store.losses import Loss, note
from otel_ttf.store.sqlite import SqliteStore, why_refused
from otel_ttf.swap import finish

PAGE_SIZE = 4096
NOTE = "file store.db"  # in log.db: the id of the store that has followed it


SHOWN = 8  # characters of an id


class StoreLost(Exception):
    """There is no store to follow journeys in; the message says why and which ways there are.

    id  of the store that is lost, or of the log where that is not known
    """

    def __init__(self, message: str, id_: str = "") -> None:
        super().__init__(message)
        self.id = id_


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store says of itself. id: None before there were ids. cursors: log_id -> consumer -> position."""

    id: str | None
    cursors: Mapping[str, Mapping[str, int]]

    def position(self, log_id: str, consumer: str) -> int | None:
        return self.cursors.get(log_id, {}).get(consumer)


def lost(path: Path, what: str, given: Given, id_: str) -> StoreLost:
    """With the ways on."""
    anew = given.command(f"run --accept-empty-store {id_[:SHOWN]}")
    return StoreLost(
        f"{path} {what}: nothing is followed, requests are taken until the log is full. Stop the server; "
        f"then `{given.command('restore FILE')}` takes a copy of it or of the data directory, "
        f"`{given.command('salvage')}` keeps what is readable, or `{anew}` begins anew, once, without all that was "
        "counted",
        id_,
    )


def open_store(
    path: Path, book: Path, log_id: str, *, followed: bool, given: Given = NOTHING_GIVEN
) -> SqliteStore:
    """The store, made where there was none yet.

    book      log.db, which remembers whose store followed it
    followed  whether anything of that log was followed already
    Raises StoreLost, StoreRefused.
    """
    id_ = log_id  # where nobody knows that of the store
    try:
        finish(path)
        known = remembered(book, NOTE)
        id_ = known or log_id
        if (known or followed) and (wrong := _wrong(path, known, log_id)):
            raise lost(path, wrong, given, id_)
        return make_store(path, book)
    except StoreDamaged as error:
        raise lost(path, f"is damaged ({trouble(error.__cause__)})", given, id_) from None
    except sqlite3.Error as error:
        why = why_refused(path, error)
        raise (
            lost(path, f"is damaged ({trouble(error)})", given, id_) if isinstance(why, StoreDamaged) else why
        ) from None
    except OSError as error:
        raise StoreRefused(f"{path}: {error.strerror}") from None


def make_store(path: Path, book: Path, loss: Loss | None = None) -> SqliteStore:
    """Opens or makes the store, and has its id noted. Raises StoreRefused, sqlite3.Error.

    loss  what was lost of the one before
    """
    store = SqliteStore(path)
    try:
        if loss is not None:  # before it is the one that was here
            note(store.db, loss)
            store.losses.append(loss)
        remember(book, NOTE, store.store_id)
    except sqlite3.Error:
        store.close()
        raise
    return store


def _wrong(path: Path, known: str | None, log_id: str) -> str | None:
    """Raises sqlite3.Error, OSError."""
    if not path.exists() or not path.stat().st_size:
        return "is missing or empty, and there was one"
    if harm := unseen_damage(path, page_size=PAGE_SIZE):
        return f"is damaged ({harm})"
    found = identity(path)
    if known and found.id != known and (found.id is not None or log_id not in found.cursors):
        return "is not the one that was here"
    return None


def identity(path: Path) -> Identity:
    """Read without changing anything. Raises sqlite3.Error, also where it is no store."""
    with closing(read_only(path)) as db:
        row = db.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
        cursors: dict[str, dict[str, int]] = {}
        for consumer, log_id, position in db.execute("SELECT consumer, log_id, position FROM cursor"):
            if type(position) is not int:
                raise RowDamaged("cursor", consumer)
            cursors.setdefault(log_id, {})[consumer] = position
    return Identity(row[0] if row else None, cursors)


def saved_cursors(path: Path, consumer: str) -> tuple[str, Mapping[str, int]]:
    """(log_id, consumer -> position) of the log that this consumer has read; ("", {}) where nobody knows."""
    try:
        found = identity(path)
    except sqlite3.Error:
        return "", {}
    return next(((log_id, by) for log_id, by in found.cursors.items() if consumer in by), ("", {}))
