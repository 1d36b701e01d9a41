"""exporters.db: how far each exporter is, and what its destination would not take.

A file of its own: in store.db its writes would wait for the tracker's transaction and hold up the next one, and its
cursors would be lost with the store; in log.db they would share the writer that answers senders. What is set aside and
the cursor behind it are one transaction, so nothing is set aside twice or forgotten. Where the file itself is lost, an
exporter goes on from what the log knows of it, which is a moment older: some records are sent twice, none is lost.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import structlog

from otel_ttf.migrate import SchemaRefused, migrate, transaction
from otel_ttf.pages import is_damage
from otel_ttf.sqlite_disk import check_writable, moved, nodes, remedy, trouble
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.quarantine import COLUMNS, DeadLetter, Quarantine
from otel_ttf.store.sqlite_file import connect
from otel_ttf.store.tasks import Task, Tasks
from otel_ttf.swap import finish, set_aside, stamp, write_again

FILE = "exporters.db"
OURS = 0x6F747478, "a file of exporters"  # "ottx"
FIRST_LETTER = 1_000_000_001  # lower ids are store.db's
# How the reason of a letter begins whose destination has not said which of its records it would not take. Such
# requests are mostly sound, and one bad record in each would push out all other letters.
PARTIAL = "partial success"
PARTIAL_BYTES = 8 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a consumer is. records: in all rows up to the position, ever; None: not known."""

    consumer: str
    log_id: str
    position: int
    records: int | None


class Letters(Quarantine):
    """The table here, which tells whose each letter is."""

    columns = (*COLUMNS, "consumer")


class ExportBook:
    """One connection; threads wait for one another. Methods raise sqlite3.Error or OSError."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; one that is damaged is kept aside and begun anew. Raises StoreRefused."""
        self.path = path
        self._lock = threading.Lock()
        try:
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                kept = set_aside(path, f"damaged-{stamp(time.time_ns())}")
                log.error(
                    "exporters.db was damaged and is begun anew: exporters go on from what the log knows, some records "
                    "are sent twice; what was set aside for them is in the old file",
                    reason=trouble(error),
                    kept=str(kept) if kept else None,
                )
                self._open()
        except SchemaRefused as refused:
            raise StoreRefused(str(refused)) from None
        except (sqlite3.Error, OSError) as error:
            mend = remedy(error, "move it away", path)
            raise StoreRefused(f"{path}: {trouble(error)}: {mend}; exporters need it") from None

    def _open(self) -> None:
        finish(self.path)
        self._db = connect(self.path, writer=True)
        try:
            migrate(self._db, self.path, resources.files("otel_ttf.store") / "export_schema", ours=OURS)
            check_writable(self._db)
            (said,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise _Damaged(said)
            self._nodes = nodes(self.path)
        except BaseException:
            self._db.close()
            raise

    def cursor(self, consumer: str, log_id: str) -> Cursor | None:
        """The saved one in that log; None: there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT consumer, log_id, position, records FROM cursor WHERE consumer = ? AND log_id = ?",
                (consumer, log_id),
            ).fetchone()
        return None if row is None else Cursor(*row)

    def save(self, cursor: Cursor, letters: Sequence[DeadLetter] = ()) -> int:
        """Both, synced; how many records went, the oldest, as there is no room for more."""
        with self._writing() as db:
            displaced = 0
            if letters:
                kept = Letters(db)
                displaced = kept.add(list(_bounded(db, letters))) + kept.displace()
            db.execute(
                "REPLACE INTO cursor VALUES (?, ?, ?, ?)",
                (cursor.consumer, cursor.log_id, cursor.position, cursor.records),
            )
        return displaced

    def letters(self, ids: Iterable[int]) -> list[DeadLetter]:
        """Those of them that are there."""
        with self._lock:
            found = [Letters(self._db).get(id_) for id_ in ids]
        return [letter for letter in found if letter is not None]

    def counts(self) -> dict[str, int]:
        """Consumer -> records that are set aside now."""
        with self._lock:
            return dict(
                self._db.execute("SELECT consumer, sum(records) FROM quarantine GROUP BY consumer").fetchall()
            )

    def expire(self, before: int, forget: int) -> dict[str, int]:
        """Deletes letters that arrived before an instant, and old answers; how many records of which consumer."""
        with self._writing() as db:
            Tasks(db).forget(forget)
            gone = db.execute(
                "SELECT consumer, sum(records) FROM quarantine WHERE arrival < ? GROUP BY consumer", (before,)
            ).fetchall()
            Letters(db).expire(before)
        return dict(gone)

    def task(self) -> Task | None:
        """What an operator asks, the oldest that is to be done."""
        with self._lock:
            return Tasks(self._db).next()

    def answer(self, task: Task, done: Sequence[int], failed: dict[int, str], answer: object) -> None:
        """The task is done: those letters go, these have failed again."""
        with self._writing() as db:
            kept = Letters(db)
            kept.delete(done)
            for id_, why in failed.items():
                kept.failed(id_, why, "sent again")
            Tasks(db).answer(task.id, answer)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._mend()
            with transaction(self._db):
                yield self._db

    def mend(self) -> None:
        """Writes the file again where it was deleted or replaced."""
        with self._lock:
            self._mend()

    def _mend(self) -> None:
        if not moved(self.path, self._nodes):
            return
        found = write_again(self._db, self.path, time.time_ns())
        before, made = self._db, connect(self.path, writer=True)
        check_writable(made)  # makes the write-ahead log, too
        self._db = made
        before.close()
        self._nodes = nodes(self.path)
        log.error(
            "exporters.db was deleted or replaced: it was written again, nothing is lost",
            file=str(self.path),
            found_instead=str(found) if found else None,
        )

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _bounded(db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
    """The letters; those about a part of a request without it, where such ones take enough room already."""
    held = None
    for letter in letters:
        if letter.error.startswith(PARTIAL):
            if held is None:
                (held,) = db.execute(
                    "SELECT coalesce(sum(length(payload)), 0) FROM quarantine WHERE error LIKE ? || '%'",
                    (PARTIAL,),
                ).fetchone()
            held += len(letter.payload)
            if held > PARTIAL_BYTES:
                letter = replace(letter, payload=b"", ids=b"")
        yield letter


class _Damaged(sqlite3.DatabaseError):
    sqlite_errorname = "SQLITE_CORRUPT"
