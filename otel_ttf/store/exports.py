"""exporters.db: how far each exporter is, and what its destination would not take.

A file of its own: in store.db its writes would wait for the tracker's transaction and hold up the next one, and its
cursors would be lost with the store; in log.db they would share the writer that answers senders. What is set aside and
the cursor behind it are one transaction, so nothing is set aside twice or forgotten. Where the file itself is lost, an
exporter goes on from what the log knows of it, which is a moment older: some records are sent twice, none is lost. One
that is damaged, at the start or later, is replaced by one with all that is readable of it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from otel_ttf.migrate import SchemaRefused, migrate, transaction
from otel_ttf.pages import is_damage, unseen_damage
from otel_ttf.sqlite_disk import RowDamaged, check_writable, leave, moved, nodes, remedy, trouble
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.exports_rescue import LETTER, OURS, PAGE_SIZE, SCHEMA, cursor_sum, rescue
from otel_ttf.store.quarantine import DeadLetter, Quarantine
from otel_ttf.store.sqlite_file import connect
from otel_ttf.store.tasks import Task, Tasks
from otel_ttf.swap import finish, write_again

FILE = "exporters.db"
FIRST_LETTER = 1_000_000_001  # lower ids are store.db's
# How the reason of a letter begins whose destination has not said which of its records it would not take. Such
# requests are mostly sound, and one bad record in each would push out all other letters.
PARTIAL = "partial success"
PARTIAL_BYTES = 8 << 20
PARTIAL_LETTERS = 1000
MEND_EVERY = 60.0  # seconds: what is damaged again so soon is not the file's fault

T = TypeVar("T")

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

    columns = LETTER

    def thin_out(self) -> int:
        """Deletes the oldest of those about a part of a request, which may come with each; how many records went."""
        return self._gone(
            "id IN (SELECT id FROM quarantine WHERE error LIKE ? || '%'"
            f" ORDER BY id DESC LIMIT -1 OFFSET {PARTIAL_LETTERS:d})",
            PARTIAL,
        )


class ExportBook:
    """One connection; threads wait for one another. Methods raise sqlite3.Error or OSError.

    rescued  for operators: what became of a damaged file; None: none was found
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; of one that is damaged what is readable is kept. Raises StoreRefused."""
        self.path = path
        self.rescued: str | None = None
        self._lock = threading.Lock()
        self._damage: sqlite3.Error | None = None  # the connection is closed
        self._mend_at = 0.0
        try:
            finish(path)
            try:
                if harm := unseen_damage(path, page_size=PAGE_SIZE):
                    raise _Damaged(harm)
                self._open()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._rescue(error)
        except SchemaRefused as refused:
            raise StoreRefused(str(refused)) from None
        except (sqlite3.Error, OSError) as error:
            mend = remedy(error, "move it away", path)
            raise StoreRefused(f"{path}: {trouble(error)}: {mend}; exporters need it") from None

    def _open(self) -> None:
        self._db = connect(self.path, writer=True)
        try:
            migrate(self._db, self.path, SCHEMA, ours=OURS)
            check_writable(self._db)
            (said,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise _Damaged(said)
            self._nodes = nodes(self.path)
        except BaseException as error:
            if is_damage(error):
                leave(self._db, self.path)
            else:
                self._db.close()
            raise

    def _rescue(self, error: sqlite3.Error) -> None:
        """Nobody has the damaged file open. Raises sqlite3.Error, OSError."""
        found = rescue(self.path, time.time_ns())
        self.rescued = (
            f"exporters.db was damaged ({trouble(error)}): {found.cursors} cursors and {found.letters} dead letters "
            f"were readable and are in a new one; the old one is {found.kept}: look at the disk"
        )
        log.error(
            "exporters.db was damaged: what was readable is in a new one, for the rest exporters go on from what the "
            "log knows, and some records are sent twice",
            reason=trouble(error),
            cursors=found.cursors,
            letters=found.letters,
            kept=str(found.kept) if found.kept else None,
        )
        self._open()

    def _asked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What work says of the file, which is mended if need be and possible."""
        with self._lock:
            if self._damage is None:
                try:
                    self._mend()
                    return work(self._db)
                except sqlite3.Error as error:
                    if not is_damage(error):
                        raise
                    leave(self._db, self.path)
                    self._damage = error
            if time.monotonic() < self._mend_at:
                raise self._damage
            self._mend_at = time.monotonic() + MEND_EVERY
            self._rescue(self._damage)
            self._damage = None
            return work(self._db)

    def _written(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same in a transaction."""

        def whole(db: sqlite3.Connection) -> T:
            with transaction(db):
                return work(db)

        return self._asked(whole)

    def part(self, exporter: str, consumers: Sequence[str]) -> None:
        """Of a file from before each signal had a cursor: these go on where all of the exporter was."""

        def write(db: sqlite3.Connection) -> None:
            for consumer in consumers:
                db.execute(
                    "INSERT OR IGNORE INTO cursor SELECT ?, log_id, position, records, NULL FROM cursor"
                    " WHERE consumer = ?",
                    (consumer, exporter),
                )
            db.execute("DELETE FROM cursor WHERE consumer = ?", (exporter,))
            db.execute(
                "UPDATE quarantine SET consumer = consumer || ':' || signal WHERE consumer = ?", (exporter,)
            )

        self._written(write)

    def cursor(self, consumer: str, log_id: str) -> Cursor | None:
        """The saved one in that log; None: there is none."""

        def ask(db: sqlite3.Connection) -> Cursor | None:
            row = db.execute(
                "SELECT consumer, log_id, position, records, sum FROM cursor WHERE consumer = ? AND log_id = ?",
                (consumer, log_id),
            ).fetchone()
            if row is None:
                return None
            *columns, sum_ = row
            if sum_ is not None and sum_ != cursor_sum(*columns):
                raise RowDamaged("cursor", consumer)
            return Cursor(*columns)

        return self._asked(ask)

    def last(self, consumer: str) -> int | None:
        """The position that was saved last, of whatever log; None: it was never here."""
        row = self._asked(
            lambda db: db.execute("SELECT position FROM cursor WHERE consumer = ?", (consumer,)).fetchone()
        )
        return None if row is None else int(row[0])

    def save(self, cursor: Cursor, letters: Sequence[DeadLetter] = ()) -> int:
        """Both, synced; how many records went, the oldest, as there is no room for more."""

        def write(db: sqlite3.Connection) -> int:
            displaced = 0
            if letters:
                kept = Letters(db)
                displaced = kept.add(list(_bounded(db, letters))) + kept.displace() + kept.thin_out()
            columns = cursor.consumer, cursor.log_id, cursor.position, cursor.records
            db.execute("REPLACE INTO cursor VALUES (?, ?, ?, ?, ?)", (*columns, cursor_sum(*columns)))
            return displaced

        return self._written(write)

    def letters(self, ids: Iterable[int]) -> list[DeadLetter]:
        """Those of them that are there."""
        wanted = list(ids)
        found = self._asked(lambda db: [Letters(db).get(id_) for id_ in wanted])
        return [letter for letter in found if letter is not None]

    def counts(self) -> dict[str, int]:
        """Consumer -> records that are set aside now."""
        return self._asked(
            lambda db: dict(
                db.execute("SELECT consumer, sum(records) FROM quarantine GROUP BY consumer").fetchall()
            )
        )

    def expire(self, before: int, forget: int) -> dict[str, int]:
        """Deletes letters that arrived before an instant, and old answers; how many records of which consumer."""

        def write(db: sqlite3.Connection) -> dict[str, int]:
            Tasks(db).forget(forget)
            gone = db.execute(
                "SELECT consumer, sum(records) FROM quarantine WHERE arrival < ? GROUP BY consumer", (before,)
            ).fetchall()
            Letters(db).expire(before)
            return dict(gone)

        return self._written(write)

    def task(self) -> Task | None:
        """What an operator asks, the oldest that is to be done."""
        return self._asked(lambda db: Tasks(db).next())

    def answer(self, task: Task, done: Sequence[int], failed: dict[int, str], answer: object) -> None:
        """The task is done: those letters go, these have failed again."""

        def write(db: sqlite3.Connection) -> None:
            kept = Letters(db)
            kept.delete(done)
            for id_, why in failed.items():
                kept.failed(id_, why, "sent again")
            Tasks(db).answer(task.id, answer)

        self._written(write)

    def mend(self) -> None:
        """Writes the file again where it was deleted or replaced."""
        with self._lock:
            self._mend()

    def _mend(self) -> None:
        if self._damage is not None or not moved(self.path, self._nodes):
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
