"""What a start looks at before anything runs: room on the disks, the store, what the log was followed by."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from otel_ttf.clock import Clock
from otel_ttf.commands import Given
from otel_ttf.config import CannotStart, Config
from otel_ttf.files import LOG_FILE
from otel_ttf.log.rescue import told
from otel_ttf.log.sqlite import SqliteLog
from otel_ttf.remembered import remember, remembered
from otel_ttf.sqlite_disk import trouble
from otel_ttf.store.losses import Loss
from otel_ttf.store.opening import SHOWN, StoreLost, make_store, open_store
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.swap import set_aside, stamp
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.units import size_text

# What has to be free on the disk for a start: with 140 KiB it works, with less one file or another cannot be opened.
START_BYTES = 1 << 20
_ACCEPTED_ONCE = "store accepted without an id"  # in log.db: the one that was lost

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Accepted:
    """Losses that a start is told to accept.

    files        ids of files beside the log, see Companions
    empty_store  id of a store that is damaged, missing or another one's, or how it begins: one that is lost later
                 has another; "" accepts the first that is lost here, and no other
    """

    files: Collection[str] = ()
    empty_store: str | None = None

    def accepts(self, store: str) -> bool:
        """Whether a store of this id may be lost."""
        return len(self.empty_store or "") >= SHOWN and store.startswith(self.empty_store or "")


NONE_ACCEPTED = Accepted()


@dataclass(frozen=True, slots=True)
class Found:
    """The store of a start. lost: why there is none, and the ways on; begun_anew: what it held before is gone."""

    store: SqliteStore | None
    lost: str | None = None
    begun_anew: bool = False


def find_store(
    path: Path, book: Path, event_log: SqliteLog, clock: Clock, accepted: Accepted, given: Given
) -> Found:
    """Opens store.db, or says why it is lost: receivers start without it. Raises StoreRefused.

    book   log.db
    given  options of this start, for what an operator is told to type
    """
    followed = event_log.has_been_read(CONSUMER)
    try:
        store = open_store(path, book, event_log.log_id, followed=followed, given=given)
    except StoreLost as error:
        first = accepted.empty_store == "" and remembered(book, _ACCEPTED_ONCE) is None
        if not (first or accepted.accepts(error.id)):
            lost = f"{error}{_not_accepted(accepted)}"
            log.error("the tracker does not start", reason=lost)
            return Found(None, lost)
        if first:
            remember(book, _ACCEPTED_ONCE, error.id)
        kept = set_aside(path, f"lost-{stamp(clock.now())}")
        store = make_store(path, book, Loss(clock.now(), "begun_anew"))
        log.error(
            "begun anew with an empty store, as accepted: all that was counted is gone",
            was=str(kept) if kept else None,
        )
        return Found(store, begun_anew=True)
    if accepted.empty_store is not None:
        log.warning("--accept-empty-store: nothing is wrong with the store: leave it out", file=str(path))
    return Found(store)


def _not_accepted(accepted: Accepted) -> str:
    if accepted.empty_store is None:
        return ""
    if accepted.empty_store == "":
        return ". --accept-empty-store without an id has begun anew here once already"
    return (
        f". --accept-empty-store {accepted.empty_store} is not its id, of which at least {SHOWN} characters are "
        "needed"
    )


def check_room(folder: Path) -> None:
    """Raises CannotStart: not even what a start writes has room on that disk."""
    free = shutil.disk_usage(folder).free if folder.exists() else START_BYTES
    if free < START_BYTES:
        raise CannotStart(
            f"{folder}: the disk is full: a start needs {size_text(START_BYTES)}, {size_text(free)} are free: make "
            "room on it, and start again; nothing that was answered OK is lost"
        )


def warn_of_small_disk(config: Config, data_dir: Path) -> None:
    """Where the disk is full before the store is, senders wait until somebody makes room."""
    store, event_log = config.storage.file(data_dir), data_dir / LOG_FILE
    limits = {store: config.storage.max_size}
    if store.stat().st_dev == event_log.stat().st_dev:
        limits[event_log] = config.log.max_size
    parts = (file.with_name(file.name + part) for file in limits for part in ("", "-wal"))
    taken = sum(part.stat().st_size for part in parts if part.exists())
    room = shutil.disk_usage(store.parent).free + taken
    if room < sum(limits.values()):
        log.warning(
            "the disk is full before the store is as large as it may be, and senders wait then: make storage.max_size "
            "smaller, see docs/operations.md, How much disk",
            disk=size_text(room),
            limits=size_text(sum(limits.values())),
            file=str(store),
        )


def miss(book: Path, event_log: SqliteLog, followed: int, position: int, now: int) -> None:
    """Notes what a store that was restored from a copy will never see."""
    lost = event_log.missed(followed + 1, position, now)
    if lost is None:
        return
    log.error("the store is older than the log", lost=told(lost), file=str(book))


def check_subjects(book: Path, names: Sequence[str], *, left: bool) -> None:
    """Remembers in which attributes requests of the log have their users' tokens.

    left  whether some are yet to be followed. Raises CannotStart: they would be followed without their users.
    """
    try:
        before = json.loads(remembered(book, "subject attributes") or "[]")
        gone = [name for name in before if name not in names]
        if gone and left:
            raise CannotStart(
                f"{book}: holds requests that are not followed yet, with users in {', '.join(gone)}, where nobody "
                "looks any more: start once more with privacy.subject and subject.from as they were, stop when "
                "otel_ttf_consumer_lag_records is 0, then change them",
                2,
            )
        remember(book, "subject attributes", json.dumps(names))
    except sqlite3.Error as error:
        raise CannotStart(f"{book}: {trouble(error)}") from None
