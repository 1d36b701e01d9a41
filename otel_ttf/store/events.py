"""Stored events, their resources, what was left out of journeys, and the names that were seen, in store.db."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from otel_ttf.store.sqlite_file import insert_rows
from otel_ttf.store.sqlite_rows import reading, subject_hash, unpack_names
from otel_ttf.units import DAY

SEEN_CHARACTERS = 256
OTHER_NAMES = "(other)"
EVENT_BLOCK = 4096  # events; resources are marked by them
EVENT_BYTES = 150  # that an event takes beside its attributes, in its row and in indexes

_KIND, _WHAT = "kind, name, span_kind, status", "at, arrival, flags, attributes, resource"
_STORED = (
    "SELECT event_id, kind, name, span_kind, status, at, arrival, flags, attributes, resource.bytes"
    " FROM event JOIN resource ON resource.id = event.resource WHERE"
)


class Events:
    """The tables, over the tracker's connection; all but reading in its transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._resources: dict[bytes, int] = {}

    def rolled_back(self) -> None:
        """Forgets what was remembered from a transaction that is undone."""
        self._resources.clear()

    def resource(self, encoded: bytes, digest: bytes) -> int:
        """The id of a resource, made when new. Whoever adds events with it says so by `use`."""
        place = self._resources.get(digest)
        if place is None:
            (place,) = self._db.execute(
                "INSERT INTO resource (digest, bytes, used_block) VALUES (?, ?, 0)"
                " ON CONFLICT (digest) DO UPDATE SET used_block = used_block RETURNING id",
                (digest, encoded),
            ).fetchone()
            if len(self._resources) > 4096:
                self._resources.clear()
            self._resources[digest] = place
        return place

    def use(self, ids: Iterable[int]) -> None:
        """Resources of the events that were added in this transaction: they stay as long as these."""
        self._db.execute(
            "UPDATE resource SET used_block = block FROM (SELECT max(id) / ? AS block FROM event)"
            " WHERE id IN (SELECT value FROM json_each(?)) AND used_block < block",
            (EVENT_BLOCK, json.dumps(list(ids))),
        )

    def add(self, rows: Sequence[tuple[object, ...]]) -> None:
        """event_id, subject_hash, subject, kind, name, span_kind, status, at, arrival, flags, attributes,
        resource. One with a known id is left out."""
        columns = f"event_id, subject_hash, subject, {_KIND}, {_WHAT}"
        insert_rows(self._db, f"INSERT OR IGNORE INTO event ({columns}) VALUES", 12, rows)

    def add_lines(self, rows: Sequence[tuple[object, ...]]) -> None:
        """The last five of plain lines that name nobody."""
        insert_rows(self._db, f"INSERT INTO event ({_WHAT}, {_KIND}) VALUES", 5, rows, ", 'line', '', '', ''")

    def of(self, subject: str) -> Iterator[tuple[Any, ...]]:
        """event_id, kind, name, span_kind, status, at, arrival, flags, attributes, OTLP Resource of what is stored."""
        return self._db.execute(
            f"{_STORED} subject_hash = ? AND subject = ?", (subject_hash(subject), subject)
        )

    def with_ids(self, ids: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        """The same columns of the events with these ids that are stored."""
        for id_ in ids:
            yield from self._db.execute(f"{_STORED} event_id = ?", (id_,))

    def count(self, subject: str, most: int) -> int:
        """How many events of a subject are stored, up to a limit."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM event WHERE subject_hash = ? LIMIT ?)",
            (subject_hash(subject), most),
        ).fetchone()
        return int(count)

    def excluded(self) -> list[tuple[bytes, str, int]]:
        """(event id, subject, time) of events that move no journey."""
        return self._db.execute("SELECT event_id, subject, at FROM excluded").fetchall()

    def exclude(self, event: bytes, subject: str, at: int, now: int) -> None:
        """From now on the event moves no journey."""
        self._db.execute("INSERT OR IGNORE INTO excluded VALUES (?, ?, ?, ?)", (event, subject, at, now))

    def forget(self, before: int, now: int, limit: int = 2000) -> int:
        """Deletes some events with a time before the instant; how many.

        An event id begins with its time as sent, in milliseconds: that index finds the old ones. Ids of
        records without a usable time begin anywhere, hence the check of `at`, and the second range.
        """
        old = (max(0, before) // 1_000_000).to_bytes(6, "big")
        odd = ((now + DAY) // 1_000_000).to_bytes(6, "big")
        gone = 0
        for condition, bound in (("event_id < ?", old), ("event_id > ?", odd), ("event_id IS NULL", None)):
            gone += self._db.execute(
                f"DELETE FROM event WHERE id IN (SELECT id FROM event WHERE {condition} AND at < ? LIMIT ?)",
                ((bound, before, limit) if bound is not None else (before, limit)),
            ).rowcount
        return gone

    def drop_oldest(self, size: int, limit: int) -> int:
        """Deletes those events that were stored first: about so many bytes, at most `limit` events. How many."""
        last = 0
        for last, length in self._db.execute(  # noqa: B007
            "SELECT id, length(attributes) FROM event ORDER BY id LIMIT ?", (limit,)
        ):
            size -= EVENT_BYTES + length
            if size <= 0:
                break
        return self._db.execute("DELETE FROM event WHERE id <= ?", (last,)).rowcount

    def forget_resources(self, limit: int) -> int:
        """Deletes some of the resources that no event has any more; how many."""
        gone = self._db.execute(
            "DELETE FROM resource WHERE id IN (SELECT id FROM resource WHERE used_block <"
            " coalesce((SELECT min(id) / ? FROM event), 1 << 62) LIMIT ?)",
            (EVENT_BLOCK, limit),
        ).rowcount
        if gone:
            self._resources.clear()
        return gone

    def add_seen(self, rows: Mapping[tuple[str, str], tuple[int, int, set[str]]], *, most: int) -> None:
        """(kind, name) -> how often, last time, what matched. Beyond `most` names they count as `(other)`.

        Names are cut at SEEN_CHARACTERS: whoever sends may put anything there.
        """
        (have,) = self._db.execute("SELECT count(*) FROM seen").fetchone()
        for (kind, name), (count, last, matched) in rows.items():
            name = name[:SEEN_CHARACTERS]
            known = self._matched(kind, name)
            if known is None:
                if have >= most:
                    name = OTHER_NAMES
                    known = self._matched(kind, name)
                have += known is None
            self._db.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " count = count + excluded.count, last_seen = max(last_seen, excluded.last_seen),"
                " matched = excluded.matched",
                (kind, name, count, last, json.dumps(sorted((known or set()) | matched))),
            )

    def _matched(self, kind: str, name: str) -> set[str] | None:
        row = self._db.execute(
            "SELECT matched FROM seen WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        with reading("seen", kind):
            return unpack_names(row[0]) if row else None
