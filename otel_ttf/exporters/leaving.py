"""What of a request leaves: what is asked for, and may go there, with what is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from otel_ttf.exporters.base import Piece
from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.metrics import WayOut
from otel_ttf.exporters.setting_aside import REFUSED
from otel_ttf.journey.match import Test
from otel_ttf.log.base import Row
from otel_ttf.otlp.conditions import chosen
from otel_ttf.otlp.leaving import for_vendor
from otel_ttf.otlp.wire import records_in
from otel_ttf.store.quarantine import DeadLetter


class Leaving:
    """For any thread: of a large request it may take seconds.

    only      which records are sent: a condition; None: all
    annotate  what is added to a request; the number of its records stays
    """

    def __init__(
        self,
        config: ExporterConfig,
        metrics: WayOut,
        only: Test | None,
        annotate: Callable[[Row], Row] | None,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._only = only
        self._annotate = annotate

    def of(self, row: Row) -> Piece | None:
        """What of a row may go; None: nothing. Raises Malformed, Unreachable."""
        allowed = self._allowed(row)
        if allowed is None:
            return None
        row = allowed
        if row.view is not None:  # the tracker's
            row = replace(row, view=None)
        return Piece(self._config.prepare(self._annotate(row) if self._annotate is not None else row))

    def once_more(self, letter: DeadLetter) -> Piece | None:
        """The same of what was set aside."""
        records = records_in(letter.signal, letter.payload)
        row = Row(letter.position, letter.arrival, letter.signal, letter.payload, letter.ids, records)
        if letter.source != REFUSED:
            return self.of(row)
        allowed = self._allowed(row)  # it was prepared before, but perhaps when `vendor` was false
        return None if allowed is None else Piece(allowed)

    def _allowed(self, row: Row) -> Row | None:
        """A row without what is not asked for, and what must not go to a vendor, where the destination is one; None:
        nothing is left. Raises Malformed."""
        if self._only is not None:
            payload, ids, left = chosen(row.signal, row.payload, row.ids, self._only)
            self._metrics.elsewhere.inc(row.records - left)
            if not left:
                return None
            row = replace(row, payload=payload, ids=ids, records=left)
        if not self._config.vendor:
            return row
        payload = for_vendor(row.signal, row.payload)
        if payload is row.payload:
            return row
        left = records_in(row.signal, payload) if payload else 0
        self._metrics.withheld.inc(row.records - left)
        # Places of ids are those of the whole request.
        return replace(row, payload=payload, ids=b"", records=left) if left else None
