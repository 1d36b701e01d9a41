"""Journeys that are made a second time beside those in use, in store.db: how far each has come, and the switch."""

from __future__ import annotations

import sqlite3

from otel_ttf.store.sqlite_rows import Rebuild

# Of a definition, or of rows beside one: never one that was in use and may have rows left.
NEW_ID = (
    "SELECT 1 + max(coalesce((SELECT max(id) FROM definition), 0),"
    " coalesce((SELECT max(max(definition, beside)) FROM rebuild), 0))"
)


class Rebuilds:
    """The table, over the tracker's connection; all but reading in its transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def all(self) -> list[Rebuild]:
        """All that are under way."""
        rows = self._db.execute("SELECT definition, beside, phase, place, since FROM rebuild ORDER BY since")
        return [Rebuild(*row) for row in rows]

    def begin(self, definition: int, now: int) -> None:
        """Rows of a definition are to be made a second time, under another id."""
        self._db.execute(f"INSERT INTO rebuild VALUES (?, ({NEW_ID}), 'walking', -1, ?)", (definition, now))

    def save(self, rebuild: Rebuild) -> None:
        """How far it has come."""
        self._db.execute(
            "UPDATE rebuild SET phase = ?, place = ? WHERE definition = ?",
            (rebuild.phase, rebuild.place, rebuild.definition),
        )

    def take_over(self, rebuild: Rebuild) -> None:
        """The definition's rows are those that were made beside, from now on."""
        old, new = rebuild.definition, rebuild.beside
        self._db.execute("UPDATE definition SET id = ? WHERE id = ?", (new, old))
        self._db.execute(
            "UPDATE rebuild SET definition = ?, beside = ?, phase = 'telling', place = 0 WHERE definition = ?",
            (new, old, old),
        )

    def drop(self, rebuild: Rebuild) -> None:
        """What stands beside is wanted no more."""
        self._db.execute(
            "UPDATE rebuild SET definition = beside, phase = 'dropping', place = 0 WHERE definition = ?",
            (rebuild.definition,),
        )

    def drop_some(self, rebuild: Rebuild, ids: int) -> bool:
        """Deletes some of what is wanted no more, at the end the rebuild itself; whether that was the end."""
        gone = rebuild.beside
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM journey").fetchone()
        if rebuild.place < last:
            self._db.execute(
                "DELETE FROM journey WHERE id > ? AND id <= ? AND definition = ?",
                (rebuild.place, rebuild.place + ids, gone),
            )
            rebuild.place += ids
            self.save(rebuild)
            return False
        (day,) = self._db.execute("SELECT min(day) FROM rollup WHERE definition = ?", (gone,)).fetchone()
        if day is not None:
            self._db.execute("DELETE FROM rollup WHERE definition = ? AND day = ?", (gone, day))
            return False
        self._db.execute("DELETE FROM combo WHERE definition = ?", (gone,))
        self._db.execute("DELETE FROM rebuild WHERE definition = ?", (gone,))
        return True

    def next_hashes(self, after: int, limit: int) -> list[int]:
        """Hashes beyond one, ascending, of subjects that have a journey or an event."""
        rows = self._db.execute(
            "SELECT * FROM (SELECT DISTINCT subject_hash FROM journey WHERE subject_hash > ?1"
            " ORDER BY subject_hash LIMIT ?2) UNION"
            " SELECT * FROM (SELECT DISTINCT subject_hash FROM event WHERE subject_hash > ?1"
            " ORDER BY subject_hash LIMIT ?2) ORDER BY 1 LIMIT ?2",
            (after, limit),
        )
        return [hash_ for (hash_,) in rows]

    def subjects(self, hash_: int) -> list[str]:
        """Subjects of that hash: one, but for chance."""
        rows = self._db.execute(
            "SELECT subject FROM journey WHERE subject_hash = ?1 UNION"
            " SELECT subject FROM event WHERE subject_hash = ?1",
            (hash_,),
        )
        return [subject for (subject,) in rows]
