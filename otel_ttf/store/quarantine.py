"""Records that were set aside: of the tracker in store.db, of exporters in exporters.db (exports.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar

from otel_ttf.otlp.wire import Signal

# Beyond it the oldest go. Records are mostly below 1 KiB: that is room for some 100,000.
MAX_BYTES = 64 << 20
# Of what is set aside at once, so that one large request does not push out all others'.
MAX_AT_ONCE = MAX_BYTES // 2

# As DeadLetter has them.
COLUMNS = (
    *("id", "log_id", "position", "place", "signal", "arrival"),
    *("payload", "ids", "error", "source", "tries", "since"),
)
TRACKER = "tracker"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside. Times are unix ns.

    position, place  the row of the log `log_id`, and the record in it
    payload          an OTLP request with this record alone, masked; ids: of its events. Of a row that cannot be cut,
                     or not further without too many copies of its resource, all that was left together
    error, source    class of the last error, and where in our code it was raised
    tries            how often it was put back and failed again
    id               None before it is written
    consumer         who could not take it: the tracker, or an exporter
    """

    id: int | None
    log_id: str
    position: int
    place: int
    signal: Signal
    arrival: int
    payload: bytes
    ids: bytes
    error: str
    source: str
    tries: int
    since: int
    consumer: str = TRACKER

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.ids)


class Quarantine:
    """The table. Whoever writes has a transaction open."""

    columns: ClassVar[tuple[str, ...]] = COLUMNS

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._named = ", ".join(self.columns)

    def add(self, letters: Sequence[DeadLetter], most: int = MAX_AT_ONCE) -> int:
        """Writes them, the newest first, while they take at most so many bytes; how many have no room."""
        kept: list[DeadLetter] = []
        for letter in reversed(letters):
            if letter.size <= most:
                most -= letter.size
                kept.append(letter)
        self._db.executemany(
            f"INSERT INTO quarantine ({self._named}) VALUES ({','.join('?' * len(self.columns))})",
            [(None, *astuple(letter)[1 : len(self.columns)]) for letter in reversed(kept)],
        )
        return len(letters) - len(kept)

    def displace(self, most: int = MAX_BYTES) -> int:
        """Deletes the oldest until at most so many bytes are left; how many records went."""
        return self._db.execute(
            "DELETE FROM quarantine WHERE id IN (SELECT id FROM"
            " (SELECT id, sum(length(payload) + length(ids)) OVER (ORDER BY id DESC) AS held FROM quarantine)"
            " WHERE held > ?)",
            (most,),
        ).rowcount

    def expire(self, before: int) -> int:
        """Deletes what arrived before the instant; how many records went."""
        return self._db.execute("DELETE FROM quarantine WHERE arrival < ?", (before,)).rowcount

    def count(self) -> int:
        """Records that are set aside."""
        return int(self._db.execute("SELECT count(*) FROM quarantine").fetchone()[0])

    def ids(self) -> list[int]:
        """All of them, the oldest first."""
        return [id_ for (id_,) in self._db.execute("SELECT id FROM quarantine ORDER BY id")]

    def get(self, id_: int) -> DeadLetter | None:
        row = self._db.execute(f"SELECT {self._named} FROM quarantine WHERE id = ?", (id_,)).fetchone()
        return None if row is None else DeadLetter(*row)

    def all(self, limit: int) -> list[DeadLetter]:
        """The oldest first; without their bytes."""
        columns = self._named.replace("payload, ids", "x'', x''")
        rows = self._db.execute(f"SELECT {columns} FROM quarantine ORDER BY id LIMIT ?", (limit,))
        return [DeadLetter(*row) for row in rows]

    def delete(self, ids: Sequence[int]) -> None:
        self._db.executemany("DELETE FROM quarantine WHERE id = ?", [(i,) for i in ids])

    def failed(self, id_: int, error: str, source: str) -> None:
        """It was put back and has failed again."""
        self._db.execute(
            "UPDATE quarantine SET tries = tries + 1, error = ?, source = ? WHERE id = ?",
            (error, source, id_),
        )
