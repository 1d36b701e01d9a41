"""What the API asks of a store. Writing is the tracker's alone and stands with each store.

Every method blocks and may be called from any thread. Times are unix nanoseconds; days count from 1970-01-01
in the journey's time zone. `journey` is a configured journey's name; `version` None means its current one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from otel_ttf.journey.state import State
from otel_ttf.otlp.events import Event

# Bounds of the Prometheus histograms (design.md); the last bucket is beyond the last bound.
MINUTE_BOUNDS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 75, 90, 120, 180, 360, 720, 1440, 4320, 10080, 43200)
SCORE_BOUNDS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)

# What is counted, by table.
COUNTED = {
    "counter": ("ttf_started_total", "ttf_completion_total", "ttf_expired_total", "ttf_corrections_total"),
    "histogram": ("ttf_complete_minutes", "ttf_stage_minutes", "ttf_efficiency_score"),
}

# What a segment without a value is called in figures and labels.
UNKNOWN = "unknown"


class StoreRefused(Exception):
    """The store cannot be used; the message says why and what to do (a newer schema, unknown keys, ...)."""


class StoreDamaged(StoreRefused):
    """Its bytes are not what was written; the message says what was found."""


class StoreUnreadable(Exception):
    """There is no store to ask, or it is damaged; the message says which and what to do."""


class NotReady(Exception):
    """Population figures are being counted anew; `progress` is the share done, 0 to 1."""

    def __init__(self, progress: float) -> None:
        super().__init__(f"figures are being counted anew: {progress:.0%} done")
        self.progress = progress


@dataclass(frozen=True, slots=True)
class Version:
    """One stored version of a journey. `definition` is its canonical form (journey.definition.canonical)."""

    journey: str
    version: str
    definition: Mapping[str, object]
    first_started: int
    complete_since: int | None
    current: bool


@dataclass(frozen=True, slots=True)
class JourneyRow:
    """One journey of one subject. `key` holds the parts beyond the subject."""

    id: int
    journey: str
    version: str
    subject: str
    key: tuple[str, ...]
    state: State
    told: int
    recorded: int | None


@dataclass(frozen=True, slots=True)
class Cohort:
    """Which journeys a question is about: days [first, last), and segment values ("unknown" for none)."""

    first_day: int | None = None
    last_day: int | None = None
    segments: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StuckRow:
    """A subject in its current stage. `milestone` is the index of the milestone waited for."""

    id: int
    subject: str
    key: tuple[str, ...]
    milestone: int
    started: int
    opened: int
    recorded: int | None


@dataclass(frozen=True, slots=True)
class SeenName:
    """How often an event or span name came (kind: event, span), when last, and the milestones it matched.

    matched: "journey.milestone" each.
    """

    kind: str
    name: str
    count: int
    last_seen: int
    matched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CounterRow:
    """A Prometheus counter's value."""

    metric: str
    labels: Mapping[str, str]
    value: int


@dataclass(frozen=True, slots=True)
class HistogramRow:
    """A Prometheus histogram: counts per bucket, not cumulative, the last one beyond the last bound."""

    metric: str
    labels: Mapping[str, str]
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Reader(Protocol):
    """The reading side of a store. Every method raises StoreUnreadable."""

    def unpacking(self, table: str) -> AbstractContextManager[None]:
        """Within it, packed values of a table's rows that say nothing (ValueError) are StoreUnreadable."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it, everything that this thread reads is of one instant. For short questions only."""

    def versions(self, journey: str) -> list[Version]:
        """Stored versions, the current one first."""

    def find(self, journey: str, subjects: Sequence[str], version: str | None = None) -> list[JourneyRow]:
        """Rows of these subject tokens (one person's under all subject keys); without milestones: left out."""

    def events_at(self, subjects: Sequence[str], times: Collection[int]) -> list[Event]:
        """Stored events of these subject tokens with one of these times that may move a journey, some of many."""

    def shares(self, journey: str, cohort: Cohort, version: str | None = None) -> list[bytes]:
        """Packed cells (journey.rollup) whose sum are the cohort's counts. Raises NotReady."""

    def unswept(
        self,
        journey: str,
        cohort: Cohort,
        *,
        started_until: int,
        recorded_until: int,
        version: str | None = None,
    ) -> int:
        """Journeys started at or before the instant, neither complete nor marked expired yet.

        recorded_until  our clock's now: no start was recorded later
        """

    def young(
        self, journey: str, cohort: Cohort, *, touched_after: int, version: str | None = None
    ) -> list[bytes]:
        """Started journeys of which something was reached after the instant: their times (journey.times)."""

    def stuck(
        self,
        journey: str,
        milestone: int,
        *,
        opened_until: int,
        started_after: int,
        after: tuple[int, int] | None,
        limit: int,
    ) -> list[StuckRow]:
        """In progress and waiting for that milestone, longest first: by (opened, id), beyond `after`.

        opened_until   only stages opened at or before
        started_after  only journeys started later (older ones have expired)
        """

    def names(self, limit: int = 1000) -> list[SeenName]:
        """Event and span names, most frequent first."""

    def counters(self) -> list[CounterRow]:
        """All counters, summed over writers."""

    def histograms(self) -> list[HistogramRow]:
        """All histograms, summed over writers."""

    def gauges(self, now: int) -> list[CounterRow]:
        """ttf_in_flight, ttf_entered_late, ttf_overdue{level} at that instant."""


class NoStore:
    """What is asked where there is no store; every question raises StoreUnreadable."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, question: str) -> Callable[..., Any]:
        raise StoreUnreadable(self._reason)
