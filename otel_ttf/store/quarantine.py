"""Records that were set aside: of the tracker in store.db, of exporters in exporters.db (exports.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from otel_ttf.otlp.wire import Signal

# Beyond it the oldest go. Records are mostly below 1 KiB: that is room for some 100,000.
MAX_BYTES = 64 << 20
# Of what is set aside at once, so that one large request does not push out all others'.
MAX_AT_ONCE = MAX_BYTES // 2

# As DeadLetter has them.
COLUMNS = (
    *("id", "log_id", "position", "place", "signal", "arrival"),
    *("payload", "ids", "error", "source", "tries", "since", "records"),
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
    records          that it stands for: 1, unless they could not be parted, or are gone
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
    records: int = 1
    consumer: str = TRACKER

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.ids)


def records_of(letters: Iterable[DeadLetter]) -> int:
    """That they stand for."""
    return sum(letter.records for letter in letters)


class Quarantine:
    """The table. Whoever writes has a transaction open."""

    columns: ClassVar[tuple[str, ...]] = COLUMNS

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._named = ", ".join(self.columns)

    def add(self, letters: Sequence[DeadLetter], most: int = MAX_AT_ONCE) -> int:
        """Writes them, the newest first, while they take at most so many bytes; how many records have no room."""
        kept: list[DeadLetter] = []
        for letter in reversed(letters):
            if letter.size <= most:
                most -= letter.size
                kept.append(letter)
        self._db.executemany(
            f"INSERT INTO quarantine ({self._named}) VALUES ({','.join('?' * len(self.columns))})",
            [(None, *(getattr(letter, column) for column in self.columns[1:])) for letter in reversed(kept)],
        )
        return records_of(letters) - records_of(kept)

    def displace(self, most: int = MAX_BYTES) -> int:
        """Deletes the oldest until at most so many bytes are left; how many records went."""
        return self._gone(
            "id IN (SELECT id FROM"
            " (SELECT id, sum(length(payload) + length(ids)) OVER (ORDER BY id DESC) AS held FROM quarantine)"
            " WHERE held > ?)",
            most,
        )

    def expire(self, before: int) -> int:
        """Deletes what arrived before the instant; how many records went."""
        return self._gone("arrival < ?", before)

    def _gone(self, which: str, value: int | str) -> int:
        return sum(
            count
            for (count,) in self._db.execute(
                f"DELETE FROM quarantine WHERE {which} RETURNING records", (value,)
            )
        )

    def count(self) -> int:
        """Records that are set aside."""
        return int(self._db.execute("SELECT coalesce(sum(records), 0) FROM quarantine").fetchone()[0])

    def held(self) -> int:
        """Bytes of them."""
        (held,) = self._db.execute(
            "SELECT coalesce(sum(length(payload) + length(ids)), 0) FROM quarantine"
        ).fetchone()
        return int(held)

    def ids(self) -> list[int]:
        """All of them, the oldest first."""
        return [id_ for (id_,) in self._db.execute("SELECT id FROM quarantine ORDER BY id")]

    def get(self, id_: int) -> DeadLetter | None:
        row = self._db.execute(f"SELECT {self._named} FROM quarantine WHERE id = ?", (id_,)).fetchone()
        return None if row is None else self._letter(row)

    def all(self, limit: int) -> list[DeadLetter]:
        """The oldest first; without their bytes."""
        columns = self._named.replace("payload, ids", "x'', x''")
        rows = self._db.execute(f"SELECT {columns} FROM quarantine ORDER BY id LIMIT ?", (limit,))
        return [self._letter(row) for row in rows]

    def _letter(self, row: Sequence[Any]) -> DeadLetter:
        return DeadLetter(**dict(zip(self.columns, row, strict=True)))

    def delete(self, ids: Sequence[int]) -> int:
        """How many records went."""
        return sum(self._gone("id = ?", id_) for id_ in ids)

    def failed(self, id_: int, error: str, source: str) -> None:
        """It was put back and has failed again."""
        self._db.execute(
            "UPDATE quarantine SET tries = tries + 1, error = ?, source = ? WHERE id = ?",
            (error, source, id_),
        )
