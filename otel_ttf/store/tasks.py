"""What operators ask of the tracker, in store.db.

The command line writes a task; the tracker, which alone writes journeys, carries it out and answers in the same
transaction. So each is done once, also over a crash, and one that nobody runs for waits for the next start.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from otel_ttf.migrate import transaction
from otel_ttf.store.sqlite_rows import reading, to_json

Kind = Literal["retry", "drop", "recompute", "rebuild"]


@dataclass(frozen=True, slots=True)
class Task:
    """kind, and what is asked: see tracker/tasks.py."""

    id: int
    kind: Kind
    what: dict[str, Any]


class Tasks:
    """The table, over a connection with isolation_level None."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def ask(self, kind: Kind, what: dict[str, Any], now: int) -> int:
        """Writes a task, synced; its number. In a transaction of its own."""
        with transaction(self._db):
            row = self._db.execute(
                "INSERT INTO task (kind, what, asked) VALUES (?, ?, ?)", (kind, to_json(what), now)
            )
        return int(row.lastrowid or 0)

    def next(self) -> Task | None:
        """The oldest that is to be done."""
        row = self._db.execute(
            "SELECT id, kind, what FROM task WHERE answer IS NULL ORDER BY id LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        with reading("task", row[0]):
            return Task(row[0], row[1], json.loads(row[2]))

    def answer(self, id_: int, answer: object) -> None:
        """It is done. In the transaction that did it."""
        self._db.execute("UPDATE task SET answer = ? WHERE id = ?", (to_json(answer), id_))

    def answered(self, id_: int) -> Any:
        """The answer; None: it is to be done."""
        row = self._db.execute("SELECT answer FROM task WHERE id = ?", (id_,)).fetchone()
        return None if row is None or row[0] is None else json.loads(row[0])

    def forget(self, before: int) -> None:
        """Deletes what was asked before the instant and is done."""
        self._db.execute("DELETE FROM task WHERE answer IS NOT NULL AND asked < ?", (before,))
