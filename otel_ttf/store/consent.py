"""Consent on the disk: a file of its own, synced before a sender gets its OK."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import structlog

from otel_ttf.migrate import SchemaRefused, migrate, transaction
from otel_ttf.pii.consent import Book, ConsentRefused, Marks
from otel_ttf.sqlite_disk import check_writable, moved, nodes, remedy, trouble
from otel_ttf.store.base import StoreRefused
from otel_ttf.swap import write_again

OURS = 0x6F746363, "a consent file"  # "otcc"

log = structlog.get_logger()


class SqliteBook(Book):
    """The book of a data directory. One row a subject that ever said something, about 60 bytes.

    In memory: about 120 bytes for each exception, nothing for the others.
    """

    def __init__(self, path: Path, *, usual: int = 0, limit: int = 1_000_000) -> None:
        """Opens or makes the file and reads the exceptions. Raises StoreRefused."""
        super().__init__(usual=usual, limit=limit)
        self.path = path
        self._saving = threading.Lock()
        self._saved = 0
        try:
            self._db = _connect(path)
        except sqlite3.Error as error:
            raise StoreRefused(_refused(path, error)) from None
        try:
            migrate(self._db, path, resources.files("otel_ttf.store") / "consent_schema", ours=OURS)
            check_writable(self._db)
            (self.file_id,) = self._db.execute("SELECT id FROM identity").fetchone()
            # Two connections: whoever reads does not wait for a sync.
            self._reader = _connect(path)
            for token, *marks in self._reader.execute("SELECT subject, analytics, sale FROM consent"):
                self._put(token.encode(), Marks(*marks).flags(usual))
            self._nodes = nodes(path)
        except SchemaRefused as refused:
            self._db.close()
            raise StoreRefused(str(refused)) from None
        except (sqlite3.Error, OSError) as error:
            self._db.close()
            raise StoreRefused(_refused(path, error)) from None

    def save(self, number: int) -> None:
        with self._saving:  # who waited here may find that the one before took theirs along
            if self._saved >= number:
                return
            with self._lock:
                rows = dict(self._unsaved)
                upto = self._number
            try:
                self._mend()
                self._write(rows)
            except (sqlite3.Error, OSError) as error:
                mend = remedy(error, "mend it", self.path)
                raise ConsentRefused(f"{self.path}: {trouble(error)}: {mend}") from None
            with self._lock:
                for token, marks in rows.items():
                    if self._unsaved.get(token) == marks:
                        del self._unsaved[token]
            self._saved = upto

    def mend(self) -> None:
        """Writes the file again where it was deleted or replaced. Raises sqlite3.Error, OSError."""
        with self._saving:
            self._mend()

    def _mend(self) -> None:
        if not moved(self.path, self._nodes):
            return
        found = write_again(self._db, self.path, time.time_ns())
        before = self._db, self._reader
        db, reader = _connect(self.path), _connect(self.path)
        check_writable(db)  # makes the write-ahead log, too
        with self._lock:  # nobody reads meanwhile
            self._db, self._reader, self._nodes = db, reader, nodes(self.path)
        for connection in before:
            connection.close()
        log.error(
            "consent.db was deleted or replaced: it was written again, nothing is lost",
            file=str(self.path),
            found_instead=str(found) if found else None,
        )

    def _write(self, rows: dict[bytes, Marks]) -> None:
        if not rows:
            return
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO consent VALUES (?, ?, ?) ON CONFLICT (subject) DO UPDATE SET"
                " analytics = max(analytics, excluded.analytics), sale = max(sale, excluded.sale)",
                [(token.decode(), *marks) for token, marks in sorted(rows.items())],
            )

    def _read(self, tokens: Iterable[bytes]) -> dict[bytes, Marks]:
        wanted = [token.decode() for token in tokens]
        marks = ",".join("?" * len(wanted))
        query = f"SELECT subject, analytics, sale FROM consent WHERE subject IN ({marks})"
        try:
            found = {token.encode(): Marks(*row) for token, *row in self._reader.execute(query, wanted)}
        except sqlite3.Error as error:
            raise ConsentRefused(f"{self.path.name}: {trouble(error)}") from None
        for token, row in super()._read([token.encode() for token in wanted]).items():
            found[token] = row.join(found.get(token, row))
        return found

    def close(self) -> None:
        with self._saving, self._lock:
            self._reader.close()
            self._db.close()


def _refused(path: Path, error: sqlite3.Error | OSError) -> str:
    mend = remedy(error, "put it back from your copy", path)
    return f"{path}: {trouble(error)}: {mend}; who has denied their consent is in this file"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-2048")
    return connection
