"""What is counted beside the state: rollup cells, Prometheus counters and histograms, label values.

Everything is gathered for one transaction and written by `flush`; `forget` drops it with the transaction.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.labels import LABEL_VALUES, OTHER, label_name
from otel_ttf.journey.rollup import add, pack, unpack
from otel_ttf.journey.transitions import Transition
from otel_ttf.store.base import MINUTE_BOUNDS, SCORE_BOUNDS, UNKNOWN
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import reading, to_json
from otel_ttf.units import MINUTE

MILLION = 1_000_000

_MINUTE_BOUNDS_NS = [bound * MINUTE for bound in MINUTE_BOUNDS]
_SCORE_BOUNDS = [bound * MILLION for bound in SCORE_BOUNDS]
_KEPT_CELLS = 512
_REMEMBERED = 10_000

Place = tuple[int, int, int]


class Counts:
    """Gathers what a transaction counts. One thread."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self._labels = store.labels()
        self._combos: dict[tuple[int, tuple[str | None, ...]], int] = {}
        self._texts: dict[tuple[str, tuple[str | None, ...], str | None], str] = {}
        self._cells: OrderedDict[Place, dict[int, int]] = OrderedDict()
        self._dirty: set[Place] = set()
        self._counters: dict[tuple[str, str], int] = {}
        self._histograms: dict[tuple[str, str], tuple[list[int], int]] = {}

    def _place_of(self, journey: str, segment: str, value: str, limit: int) -> int:
        """When a value first came among its segment's: 0 for the first; `limit` or more for the later ones."""
        known = self._labels.setdefault((journey, segment), {})
        place = known.get(value)
        if place is None:
            place = len(known)
            if place < max(limit, LABEL_VALUES):
                known[value] = place
                self.store.add_label(journey, segment, value, place)
        return place

    def combo(self, definition: int, journey: Journey, segments: Sequence[str | None]) -> int:
        """The id of these segment values, those beyond each segment's limit being `other`."""
        key = (definition, tuple(segments))
        known = self._combos.get(key)
        if known is None:
            limited: dict[str, str | None] = {}
            for segment, value in zip(journey.segments, segments, strict=True):
                if value is not None:
                    place = self._place_of(journey.name, segment.attribute, value, segment.limit)
                    value = value if place < segment.limit else OTHER
                limited[segment.attribute] = value
            if len(self._combos) >= _REMEMBERED:
                self._combos.clear()
            known = self._combos[key] = self.store.combo(definition, to_json(limited))
        return known

    def _label_text(self, journey: Journey, values: tuple[str | None, ...], stage: str | None) -> str:
        """Labels as JSON; values beyond the first ones of their segment are `other`."""
        key = (journey.name, values, stage)
        text = self._texts.get(key)
        if text is None:
            labels = {"journey": journey.name}
            for segment, value in zip(journey.segments, values, strict=True):
                if value is None:
                    value = UNKNOWN
                elif self._place_of(journey.name, segment.attribute, value, segment.limit) >= LABEL_VALUES:
                    value = OTHER
                labels[label_name(segment.attribute)] = value
            if stage is not None:
                labels["stage"] = stage
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            text = self._texts[key] = to_json(labels)
        return text

    def cells(self, place: Place) -> dict[int, int]:
        """The counts at a place, to be changed by the caller."""
        cells = self._cells.get(place)
        if cells is None:
            packed = self.store.cells(place)
            with reading("rollup", place):
                cells = self._cells[place] = unpack(packed) if packed else {}
        else:
            self._cells.move_to_end(place)
        self._dirty.add(place)
        return cells

    def told(self, journey: Journey, transition: Transition, score: float | None, total: int | None) -> None:
        """Moves the counters for a transition. score and total are for `completed`."""
        if transition.backfilled:
            return
        values = tuple(transition.segments.get(segment.attribute) for segment in journey.segments)
        plain = self._label_text(journey, values, None)
        if transition.kind == "started":
            self._count("ttf_started_total", plain)
        elif transition.kind == "completed":
            self._count("ttf_completion_total", plain)
            if total is not None:
                self._observe("ttf_complete_minutes", plain, _MINUTE_BOUNDS_NS, total)
            if score is not None:
                self._observe("ttf_efficiency_score", plain, _SCORE_BOUNDS, round(score * MILLION))
        elif transition.kind == "expired":
            self._count("ttf_expired_total", plain)
        if transition.kind == "corrected" or transition.changed:
            self._count("ttf_corrections_total", plain)
        for stage, took in transition.closed:
            staged = self._label_text(journey, values, stage)
            self._observe("ttf_stage_minutes", staged, _MINUTE_BOUNDS_NS, took)

    def firsts(
        self,
        journey: Journey,
        kind: str,
        place: Place,
        cells: Mapping[int, int],
        values: tuple[str | None, ...],
        times: int,
    ) -> None:
        """So many journeys that begin alike: `cells` is the share of one, `kind` its only transition's."""
        add(self.cells(place), {cell: times * count for cell, count in cells.items()}, 1)
        if kind == "started":
            self._count("ttf_started_total", self._label_text(journey, values, None), times)

    def _count(self, metric: str, labels: str, times: int = 1) -> None:
        self._counters[metric, labels] = self._counters.get((metric, labels), 0) + times

    def _observe(self, metric: str, labels: str, bounds: list[int], value: int) -> None:
        counts, total = self._histograms.get((metric, labels)) or ([0] * (len(bounds) + 1), 0)
        counts[bisect_left(bounds, value)] += 1
        self._histograms[metric, labels] = counts, total + value

    def flush(self) -> None:
        """Writes what was gathered into the open transaction."""
        self.store.save_cells([(*place, pack(self._cells[place])) for place in self._dirty])
        self.store.add_counts(self._counters)
        self.store.add_observations(self._histograms)
        self._dirty.clear()
        self._counters.clear()
        self._histograms.clear()
        while len(self._cells) > _KEPT_CELLS:
            self._cells.popitem(last=False)

    def forget(self) -> None:
        """The transaction was rolled back: so is everything remembered from it."""
        self._labels = self.store.labels()
        self._combos.clear()
        self._texts.clear()
        self._cells.clear()
        self._dirty.clear()
        self._counters.clear()
        self._histograms.clear()
