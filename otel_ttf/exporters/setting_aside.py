"""What is set aside: records that are refused, or that we cannot prepare, and rows that went before they were sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from otel_ttf.clock import Clock
from otel_ttf.exporters.base import Piece
from otel_ttf.exporters.metrics import WayOut
from otel_ttf.exporters.telling import Telling
from otel_ttf.log.base import Row
from otel_ttf.otlp.wire import Signal
from otel_ttf.store.quarantine import DeadLetter

REFUSED = "its destination"  # source of letters that were refused

log = structlog.get_logger()


class Aside:
    """Letters that are not written yet.

    log_id  where positions are
    count   told what was done to records: set_aside, displaced; to a gap as to one
    """

    def __init__(
        self,
        name: str,
        signal: Signal,
        log_id: str,
        metrics: WayOut,
        clock: Clock,
        telling: Telling,
        count: Callable[[str, int], None],
    ) -> None:
        self._name = name
        self._signal = signal
        self._log_id = log_id
        self._metrics = metrics
        self._clock = clock
        self._telling = telling
        self._count = count
        self._letters: list[DeadLetter] = []

    def put(
        self, pieces: Sequence[Piece], why: str, records: int | None = None, source: str = REFUSED
    ) -> None:
        """records: how many of theirs were not taken, where that is not all."""
        if records is None:
            records = sum(piece.row.records for piece in pieces)
        self._metrics.failed(self._signal, records)
        self._count("set_aside", sum(piece.row.records for piece in pieces))
        if self._telling.due("aside"):
            log.error(
                "records were set aside that an exporter's destination does not take; see otel-ttf dead-letters list",
                exporter=self._name,
                records=records,
                reason=why,
            )
        for piece in pieces:
            row = piece.row
            self._add(row, row.position, piece.place, row.payload, row.ids, why, source, row.records)

    def skipped(self, first: int, row: Row, records: int, why: str) -> None:
        """Rows from a position up to the one before a row, of which it is known that so many records went."""
        last = row.position - 1
        self._metrics.skipped(last, records)
        source = f"positions {first} to {last}, {records} records of all signals"
        self._add(row, first, 0, b"", b"", why, source, 1)
        self._count("set_aside", 1)
        if self._telling.due("skipped"):
            log.error(
                "an exporter skips records that went before they were sent",
                exporter=self._name,
                records=records,
                reason=why,
            )

    def displaced(self, records: int) -> None:
        """So many went as there was no room."""
        if not records:
            return
        self._count("displaced", records)
        if self._telling.due("displaced"):
            log.error(
                "there is no room for all that exporters have set aside: the oldest records are gone",
                records=records,
            )

    def upto(self, position: int) -> list[DeadLetter]:
        """Those of rows up to there."""
        return [letter for letter in self._letters if letter.position <= position]

    def written(self, position: int) -> None:
        """Those are on the disk."""
        self._letters = [letter for letter in self._letters if letter.position > position]

    def clear(self) -> None:
        self._letters.clear()

    def _add(
        self,
        row: Row,
        position: int,
        place: int,
        payload: bytes,
        ids: bytes,
        error: str,
        source: str,
        records: int,
    ) -> None:
        self._letters.append(
            DeadLetter(
                *(
                    None,
                    self._log_id,
                    position,
                    place,
                    self._signal,
                    row.arrival,
                    payload,
                    ids,
                    error,
                    source,
                ),
                *(0, self._clock.now(), records, self._name),
            )
        )
