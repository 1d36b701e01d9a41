"""What a start opens before anything runs: the lock, keys, the log, the store, and what stands beside them."""

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from otel_ttf.clock import SystemClock, boot_id
from otel_ttf.commands import Given
from otel_ttf.companions import Companions
from otel_ttf.config import Config
from otel_ttf.config.checks import IDS_IN_PLAIN
from otel_ttf.files import LOG_FILE
from otel_ttf.key_files import keys_of_start
from otel_ttf.log.base import LogRefused
from otel_ttf.log.lock import lock_directory
from otel_ttf.log.rescue import Known
from otel_ttf.log.sqlite import CLOCK, SqliteLog
from otel_ttf.onward import open_book
from otel_ttf.pii.keys import Keys, fingerprint
from otel_ttf.remembered import remembered
from otel_ttf.starting import Accepted, check_room, check_subjects, find_store
from otel_ttf.store.consent import SqliteBook
from otel_ttf.store.exports import ExportBook
from otel_ttf.store.opening import saved_cursors
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.swap import finish
from otel_ttf.telemetry import Telemetry
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.vault import Vault, open_vault
from otel_ttf.vault.opening import FILE as VAULT_FILE
from otel_ttf.written_again import written_again

CONSENT_FILE = "consent.db"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """Closed by the exit stack that they were opened on, the last first.

    store       None: it is lost, and store_lost says why and which ways there are
    begun_anew  the store is empty, as accepted
    followed    position of the log up to which the store has followed it
    exported    None: nobody exports anything
    """

    keys: Keys
    clock: SystemClock
    telemetry: Telemetry
    log: SqliteLog
    store: SqliteStore | None
    store_lost: str | None
    begun_anew: bool
    followed: int
    vault: Vault | None
    consents: SqliteBook
    exported: ExportBook | None


async def open_all(
    config: Config, data_dir: Path, stack: AsyncExitStack, accepted: Accepted, given: Given
) -> Opened:
    """Raises CannotStart, StoreRefused, CompanionLost, VaultRefused, LogError, DirectoryLocked, OSError, and
    sqlite3.Error."""
    book, path = data_dir / LOG_FILE, config.storage.file(data_dir)
    for folder in (data_dir, path.parent):
        check_room(folder)
    stack.enter_context(lock_directory(data_dir))
    keys = keys_of_start(config, data_dir)
    clock = SystemClock(boot=boot_id(), last=_clock_of_last_run(book), on_step=_say_step)
    telemetry = Telemetry()
    telemetry.watch_clock(lambda: clock.step_seconds)
    log_id, positions = saved_cursors(path, CONSUMER)
    log = SqliteLog.open(book, config.log, clock, known=Known(log_id, positions))
    stack.push_async_callback(log.close)
    telemetry.watch_lost(partial(_lost_requests, log))
    found = find_store(path, book, log, clock, accepted, given)
    store = found.store
    if store is not None:
        stack.callback(store.close)
        telemetry.store_losses(loss.why for loss in store.losses)
        store.check_keys(fingerprint(keys.event), [fingerprint(key) for key in keys.subjects], clock.now())
    for name in (VAULT_FILE, CONSENT_FILE):
        finish(data_dir / name)
    # Before anything is followed: a lost file is to stop a start, not to end one that has begun.
    books = [book, *([path] if store is not None else [])]
    companions = Companions(*books, accepted=accepted.files, given=given)
    vault = None
    if config.privacy.subject == "encrypted" or config.processors.mask.encrypts:
        vault = companions.opened(
            data_dir / VAULT_FILE, partial(open_vault, config.privacy.master_key, data_dir)
        )
        vault.may_grow = partial(_refuse_with, log)
        stack.callback(vault.close)
    elif missing := companions.not_needed(data_dir / VAULT_FILE):
        _log.warning(missing)
    if config.privacy.subject == "keep":
        _log.warning(IDS_IN_PLAIN, setting="privacy.subject: keep")
    consent = config.processors.consent
    consents = companions.opened(
        data_dir / CONSENT_FILE,
        partial(SqliteBook, data_dir / CONSENT_FILE, usual=consent.usual, limit=consent.max_subjects),
    )
    stack.callback(consents.close)
    exported = open_book(config, data_dir)
    if exported is not None:
        stack.callback(exported.close)
    beside = (consents, vault.file if vault is not None else None, exported)
    await stack.enter_async_context(written_again([file for file in beside if file is not None]))
    for unused in companions.unused():
        _log.warning("--accept-loss: no lost file has this id: leave it out", id=unused)
    followed = store.cursor(CONSUMER, log.log_id) if store is not None else 0
    check_subjects(book, config.masked_subject, left=log.oldest(followed) is not None)
    return Opened(
        keys=keys,
        clock=clock,
        telemetry=telemetry,
        log=log,
        store=store,
        store_lost=found.lost,
        begun_anew=found.begun_anew,
        followed=followed,
        vault=vault,
        consents=consents,
        exported=exported,
    )


def _clock_of_last_run(book: Path) -> str | None:
    try:
        return remembered(book, CLOCK)
    except sqlite3.Error:  # none, or a damaged one, which opening it mends
        return None


def _say_step(seconds: float) -> None:
    _log.warning(
        "the wall clock has stepped, now or since the last run: what rests on senders' times stays right, and nobody "
        "is called overdue or expired meanwhile. Put it right within ten minutes; after that it is believed",
        seconds=round(seconds),
    )


def _refuse_with(log: SqliteLog) -> None:
    """Raises LogRefused when the log does: keys of users whom it does not take would only fill the disk."""
    if reason := log.refusing():
        raise LogRefused(reason)


def _lost_requests(log: SqliteLog, why: str) -> int:
    return sum((one.last or one.first) - one.first + 1 for one in log.lost() if one.why == why)
