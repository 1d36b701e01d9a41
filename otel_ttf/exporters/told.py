"""The transitions, read as a log of their own: consumers keep a cursor of (store's id, position)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otel_ttf.journey.transitions import Transition
from otel_ttf.log.base import LogError
from otel_ttf.sqlite_disk import trouble
from otel_ttf.store.sqlite_file import connect
from otel_ttf.store.sqlite_rows import TRANSITION, transition_from

_AFTER = f"SELECT {TRANSITION}, position FROM transition WHERE position > ? ORDER BY position LIMIT ?"


class ToldTransitions:
    """One read-only connection; threads wait for one another. Methods raise LogError: the store cannot be read.

    opened_at  the end when it was opened: before the tracker goes on
    """

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error, LogError."""
        self._path = path
        self._lock = threading.Lock()
        self._stale = False
        self._db = connect(path, writer=False)
        self.opened_at = self.end()

    def end(self) -> int:
        """Position of the last one; 0 if none."""
        (last,) = self._ask("SELECT max(position) FROM transition", ())[0]
        return last or 0

    def read(self, after: int, limit: int) -> list[tuple[int, Transition]]:
        """(position, transition) after a position, in order."""
        rows = self._ask(_AFTER, (after, limit))
        try:
            return [(position, transition_from(row, position)) for *row, position in rows]
        except sqlite3.Error as error:
            raise LogError(f"{self._path}: {trouble(error)}") from None

    def recorded(self, after: int) -> int | None:
        """When the first one after a position was recorded, unix ns."""
        rows = self._ask(
            "SELECT recorded FROM transition WHERE position > ? ORDER BY position LIMIT 1", (after,)
        )
        return rows[0][0] if rows else None

    def _ask(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                if self._stale:
                    before, self._db = self._db, connect(self._path, writer=False)
                    self._stale = False
                    before.close()
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LogError(f"{self._path}: {trouble(error)}") from None

    def renew(self) -> None:
        """The store has another file: it is opened with the next question."""
        with self._lock:
            self._stale = True

    def close(self) -> None:
        with self._lock:
            self._db.close()
