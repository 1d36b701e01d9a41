"""The rows that came a moment ago: whoever keeps up reads them here, with what was decoded already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice

from otel_ttf.log.base import Entry, Row

MAX_RECORDS = 20_000
MAX_BYTES = 16 << 20


class Recent:
    """A run of consecutive rows in memory, bounded in records and bytes. Any thread may call.

    When it is full, newer rows are left to the disk until the run has been released: who lags a little still
    finds here what it reads next, which dropping the oldest would take away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: deque[tuple[Entry, int]] = deque()
        self._first = 0
        self._records = 0
        self._bytes = 0

    def add(self, position: int, entries: Iterable[Entry], records_before: int) -> None:
        """Takes rows that were synced just now, the first of them at `position`."""
        with self._lock:
            if not self._run:
                self._first = position
            for entry in entries:
                size = len(entry.payload) + len(entry.ids)
                if (
                    position != self._first + len(self._run)
                    or self._records + entry.records > MAX_RECORDS
                    or self._bytes + size > MAX_BYTES
                ):
                    return
                self._run.append((entry, records_before))
                self._records += entry.records
                self._bytes += size
                records_before += entry.records
                position += 1

    def release(self, through: int) -> None:
        """Drops rows up to a position."""
        with self._lock:
            while self._run and self._first <= through:
                entry, _ = self._run.popleft()
                self._first += 1
                self._records -= entry.records
                self._bytes -= len(entry.payload) + len(entry.ids)

    @property
    def records(self) -> int:
        """How many records are in memory."""
        return self._records

    def read(self, after: int, rows: int, size: int, *, payloads: bool = True) -> list[Row]:
        """Rows after a position, as EventLog.read; none if the next one is not in memory."""
        with self._lock:
            start = after + 1 - self._first
            if start < 0:
                return []
            found = list(islice(self._run, start, start + rows))
        answer: list[Row] = []
        for position, (entry, before) in enumerate(found, after + 1):
            if payloads or entry.view is None:
                size -= len(entry.payload)
            if size < 0 and answer:
                break
            answer.append(
                Row(
                    position,
                    entry.arrival,
                    entry.signal,
                    entry.payload,
                    entry.ids,
                    entry.records,
                    entry.view,
                    before,
                )
            )
        return answer

    def begins(self, after: int) -> int | None:
        """The first position in memory, if it lies after the given one."""
        with self._lock:
            return self._first if self._run and self._first > after else None

    def next(self, after: int) -> tuple[int, int] | None:
        """(arrival, records before it) of the row after the position, if it is in memory."""
        with self._lock:
            start = after + 1 - self._first
            if not 0 <= start < len(self._run):
                return None
            entry, records_before = self._run[start]
            return entry.arrival, records_before
