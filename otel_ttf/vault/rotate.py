"""Rotation of the master key: every data key is wrapped anew, in small steps that a kill cannot break."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from otel_ttf.pii.sealed import CannotOpen
from otel_ttf.vault.file import Row, VaultFile
from otel_ttf.vault.local import LocalMaster, add_newest
from otel_ttf.vault.master import MasterKey, MasterRefused, Wrapped

ROWS = 200  # in one transaction
ASK_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Rotated:
    """rewrapped: data keys. left: tokens whose data keys could not be unwrapped. resumed: an earlier one."""

    rewrapped: int
    left: tuple[str, ...]
    resumed: bool


def begin(file: VaultFile, master: MasterKey) -> bool:
    """Makes sure that there is a newest master key to wrap with; whether an unfinished rotation goes on.

    Raises VaultUnavailable; MasterRefused: the newest master key wraps everything already, and a new one is
    somebody else's to make.
    """
    counts = file.counts()
    if counts.stale:
        return True
    newest = master.newest()
    if (
        isinstance(master, LocalMaster)
        and newest is not None
        and counts.masters.get(newest, 0) == counts.live
    ):
        if master.file is None:
            raise MasterRefused(
                "the newest master key wraps everything already: put a new one, base64 of 32 bytes, as first line "
                "into the environment variable, restart the server with it, and rotate then"
            )
        try:
            add_newest(master.file)
        except OSError as error:
            why = (error.strerror or "it failed").lower()
            raise MasterRefused(f"no master key can be added to {master.file}: {why}") from None
    file.next_generation()
    return False


def rotate(
    file: VaultFile, master: MasterKey, progress: Callable[[int, int], None] = lambda done, total: None
) -> Rotated:
    """Wraps all data keys with the newest master key; old and new ones can be read all the time.

    progress  told (done, total) after each step
    Killed in the middle and called again, it goes on where it was. Raises VaultUnavailable.
    """
    resumed = begin(file, master)
    generation = file.generation()
    total, done, after = file.counts().stale, 0, 0
    left: list[str] = []

    def anew(row: Row) -> tuple[int, Wrapped] | str:
        assert row.wrapped is not None
        try:
            return row.id, master.wrap(master.unwrap(row.wrapped, row.subject), row.subject)
        except CannotOpen:
            return row.subject

    progress(0, total)
    with ThreadPoolExecutor(ASK_AT_ONCE if master.remote else 1) as pool:
        while rows := file.stale(after, ROWS):
            wraps = list(pool.map(anew, rows))
            file.rewrap([each for each in wraps if not isinstance(each, str)], generation)
            left += [each for each in wraps if isinstance(each, str)]
            after, done = rows[-1].id, done + len(rows)
            progress(done, total)
    file.forget_masters()
    file.checkpoint()
    return Rotated(done - len(left), tuple(left), resumed)
