"""Shares of a rollup, and figures made of them, held against a scan of all states."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import MINUTES, MODES, START, at, event, reached, short, states, trip

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.figures import Figures, figures, longest_target, young
from otel_ttf.journey.metrics import score, status
from otel_ttf.journey.rollup import (
    ENTERED_LATE,
    Scalars,
    Share,
    add,
    bucket,
    overdue_cell,
    overdue_cells,
    pack,
    scalars,
    share,
    unpack,
)
from otel_ttf.journey.state import UNSET, State, empty, timeline
from otel_ttf.journey.times import pack_times
from otel_ttf.units import DAY, HOUR, MINUTE

CELLS = st.dictionaries(st.integers(0, 2**32 - 1), st.integers(-(2**40), 2**40).filter(bool), max_size=20)


def share_of(journey: Journey, state: State, *, expired: bool = False) -> Share | None:
    return share(journey, timeline(journey, state), expired=expired)


class TestShare:
    def test_nothing_known_counts_nowhere(self) -> None:
        assert share_of(short(), reached(None, None, None, None, plan=(0, "pro"))) is None

    def test_without_a_start_it_is_only_entered_late(self) -> None:
        late = share_of(short(), reached(None, 2 * 1440, 5 * 1440, None), expired=True)
        assert late == Share(START // DAY + 2, (None,), {ENTERED_LATE: 1})

    @pytest.mark.parametrize(
        ("timezone", "minute", "day"),
        [
            pytest.param("UTC", 15 * 60 + 59, 0, id="UTC, before midnight"),
            pytest.param("UTC", 16 * 60, 1, id="UTC, midnight"),
            pytest.param("Europe/Berlin", 14 * 60 - 1, 0, id="summer time, before midnight"),
            pytest.param("Europe/Berlin", 14 * 60, 1, id="summer time, midnight"),
            pytest.param("Europe/Berlin", 60 * 1440 + 15 * 60 - 1, 60, id="winter time, before midnight"),
            pytest.param("Europe/Berlin", 60 * 1440 + 15 * 60, 61, id="winter time, midnight"),
            pytest.param("Asia/Kathmandu", 10 * 60 + 15, 1, id="five hours and three quarters ahead"),
            pytest.param("America/New_York", 16 * 60, 0, id="behind"),
        ],
    )
    def test_the_day_is_that_of_the_start_in_the_journeys_zone(
        self, timezone: str, minute: int, day: int
    ) -> None:
        found = share_of(short(timezone=timezone), reached(minute, None, None, None))
        assert found is not None
        assert found.day == START // DAY + day

    def test_segments_are_those_that_count(self) -> None:
        found = share_of(short(), reached(0, 1, 2, 3, plan=(2, "pro")))
        late = share_of(short(), reached(0, 1, 2, 3, plan=(4, "pro")))
        assert found is not None
        assert late is not None
        assert (found.segments, late.segments) == (("pro",), (None,))

    @pytest.mark.parametrize("mode", MODES)
    @settings(max_examples=60, deadline=None)
    @given(
        events=st.lists(
            st.tuples(
                st.integers(0, 2), st.integers(0, 3), MINUTES, st.sampled_from([None, None, "free", "pro"])
            ),
            max_size=10,
        )
    )
    def test_what_is_moved_event_by_event_equals_a_scan(
        self, mode: str, events: Sequence[tuple[int, int, int, str | None]]
    ) -> None:
        # A zone in which the cohort's midnight lies between the minutes.
        journey = short(complete_when=mode, timezone="Pacific/Pitcairn")
        kept: dict[int, State] = {}
        rollup: dict[tuple[int, tuple[str | None, ...]], dict[int, int]] = {}
        for subject, place, minute, plan in events:
            before = kept.get(subject, empty(journey))
            kept[subject] = before.join(event(place, minute - 6, 4, plan))
            for state, sign in ((before, -1), (kept[subject], 1)):
                part = share_of(journey, state)
                if part is not None:
                    add(rollup.setdefault((part.day, part.segments), {}), part.cells, sign)
            scanned: dict[tuple[int, tuple[str | None, ...]], dict[int, int]] = {}
            for state in kept.values():
                part = share_of(journey, state)
                if part is not None:
                    add(scanned.setdefault((part.day, part.segments), {}), part.cells, 1)
            assert {place: cells for place, cells in rollup.items() if cells} == scanned

    def test_expiry_counts_until_the_journey_is_completed(self) -> None:
        parts = [
            share_of(short(), state, expired=True)
            for state in (reached(0, 1, None, None), reached(0, 1, 2, 3))
        ]
        assert [scalars([pack(part.cells)]).expired for part in parts if part] == [1, 0]


class TestCells:
    @given(CELLS)
    @settings(max_examples=60, deadline=None)
    def test_unpack_is_the_opposite_of_pack(self, cells: dict[int, int]) -> None:
        assert unpack(pack(cells)) == cells

    def test_packed_are_numbers_in_order_then_counts(self) -> None:
        assert pack({7: -2, 3: 5}) == struct.pack("<IIqq", 3, 7, 5, -2)
        assert pack({}) == b""

    @given(CELLS, CELLS)
    @settings(max_examples=60, deadline=None)
    def test_what_is_taken_back_leaves_no_trace(self, cells: dict[int, int], others: dict[int, int]) -> None:
        target = dict(cells)
        add(target, others, 1)
        add(target, others, -1)
        assert target == cells

    def test_scalars_sum_rows(self) -> None:
        journey = short()
        packed = []
        for state, expired in [
            (reached(0, 1, 2, 3), False),
            (reached(0, 1, None, None), False),
            (reached(0, 1, None, None), True),
            (reached(None, 1, None, None), False),
        ]:
            part = share_of(journey, state, expired=expired)
            assert part is not None
            packed.append(pack(part.cells | {overdue_cell("critical"): 2}))
        assert scalars(packed) == Scalars(started=3, completed=1, expired=1, entered_late=1)
        assert overdue_cells(packed) == {"warning": 0, "critical": 8, "escalation": 0}
        assert scalars([]) == Scalars(0, 0, 0, 0)

    @given(st.integers(1, 2**63 - 1))
    @settings(max_examples=200, deadline=None)
    def test_buckets_grow_with_the_duration_and_are_2_percent_wide(self, duration: int) -> None:
        assert bucket(0) == 0 < bucket(duration) <= 1600
        assert (
            bucket(duration)
            <= bucket(duration + 1)
            <= bucket(duration * 102 // 100 + 1)
            <= bucket(duration) + 2
        )
        if duration > 1_000_000:
            assert bucket(duration + duration // 49) > bucket(duration)


# Spread over hours, with ties, exact targets, tiny and long durations.
TIMES = st.one_of(
    st.none(),
    st.sampled_from([0, 5, 10, 15, 20, 60]),
    st.floats(0, 300, allow_nan=False),
    st.floats(0, 0.001, allow_nan=False),
)
POPULATION = st.lists(st.lists(TIMES, min_size=4, max_size=4).map(lambda times: reached(*times)), max_size=25)


class Measure(NamedTuple):
    """What a scan knows of the total or of a stage. opened: (when, how long it took) of each that opened."""

    durations: list[int]
    target: int | None
    opened: list[tuple[int, int | None]]


def scan(
    journey: Journey, population: Sequence[State], now: int
) -> tuple[dict[str, int], list[float], list[Measure]]:
    """Counts, scores, and measures (the total first), word for word, from every journey."""
    lines = [timeline(journey, state) for state in population]
    started = [line for line in lines if line.started_at is not None]
    stands = [status(journey, line, now) for line in started]
    done = [line for line in started if line.completed_at is not None]
    counts = {
        "started": len(started),
        "completed": len(done),
        "expired": stands.count("expired"),
        "in_progress": stands.count("in_progress"),
        "entered_late": sum(line.start_unknown for line in lines),
    }
    spans = [[(line.started_at, line.total) for line in started]]
    for place in range(1, len(journey.milestones)):
        spans.append(
            [
                (line.known[place - 1], line.durations[place - 1])
                for line in started
                # A milestone that the completion skipped is left out with its stages.
                if line.completed_at is None or line.known[place] is not None
            ]
        )
    targets = [journey.target, *(milestone.target for milestone in journey.milestones[1:])]
    measures = []
    for target, span in zip(targets, spans, strict=True):
        opened = [(since, took) for since, took in span if since is not None]
        measures.append(Measure([took for _, took in opened if took is not None], target, opened))
    scores = [score(journey, line, now) for line in done]
    return counts, [value for value in scores if value is not None], measures


def check(
    measure: Measure, quantiles: Sequence[float | None], share: float | None, of: int, now: int
) -> None:
    """Median and 90th percentile within 2 %, the share within target exact."""
    for value, quantile in zip(quantiles, (0.5, 0.9), strict=True):
        if not measure.durations:
            assert value is None
            continue
        exact = float(np.quantile(np.array(measure.durations, dtype=np.float64), quantile)) / MINUTE
        # Up to a millisecond is one bucket.
        assert value == pytest.approx(exact, rel=0.02 + 1e-9, abs=0.001 / 60)
    target = measure.target
    if target is None:
        assert (share, of) == (None, 0)
        return
    old = [took for since, took in measure.opened if since <= now - target]
    within = sum(took is not None and took <= target for took in old)
    assert of == len(old)
    assert share == (within / len(old) if old else None)


def counted(journey: Journey, population: Sequence[State], now: int, *, told: bool) -> Figures:
    """Figures as a store makes them. told: every expiry was written already."""
    packed = []
    unswept = 0
    for state in population:
        line = timeline(journey, state)
        expired = status(journey, line, now) == "expired"
        unswept += expired and not told
        part = share(journey, line, expired=expired and told)
        if part is not None:
            packed.append(pack(part.cells))
    since = now - longest_target(journey)
    recent = [
        pack_times(state.reached)
        for state in population
        if (timeline(journey, state).touched or since) > since
    ]
    return figures(journey, packed, unswept_expired=unswept, young=young(journey, recent, now))


class TestFigures:
    @pytest.mark.parametrize("mode", MODES)
    @settings(max_examples=100, deadline=None)
    @given(population=POPULATION, now=st.floats(-5, 400, allow_nan=False), told=st.booleans())
    def test_equal_a_scan(self, mode: str, population: list[State], now: float, told: bool) -> None:
        journey = short(complete_when=mode, give_up_after=4 * HOUR, target=20 * MINUTE)
        got = counted(journey, population, at(now), told=told)
        counts, scores, (total, *spans) = scan(journey, population, at(now))
        assert {name: getattr(got, name) for name in counts} == counts
        assert got.started == got.completed + got.in_progress + got.expired
        assert got.completion_rate == (got.completed / got.started if got.started else None)
        mean = got.mean_score_of_completed
        assert mean == (pytest.approx(sum(scores) / len(scores), abs=1e-6) if scores else None)
        quantiles = (got.median_minutes_of_completed, got.p90_minutes_of_completed)
        check(total, quantiles, got.within_target, got.within_target_of, at(now))
        for milestone, span, stage in zip(journey.milestones[1:], spans, got.stages, strict=True):
            assert (stage.name, stage.milestone) == (milestone.stage, milestone.name)
            assert stage.reached == len(span.durations)
            assert stage.target_minutes == (None if span.target is None else span.target / MINUTE)
            quantiles = (stage.median_minutes, stage.p90_minutes)
            check(span, quantiles, stage.within_target, stage.within_target_of, at(now))

    @pytest.mark.parametrize(
        ("times", "now", "share", "of"),
        [
            pytest.param((0, None), 4, None, 0, id="opened less than the target ago"),
            pytest.param((0, 3), 4, None, 0, id="reached, but opened less than the target ago"),
            pytest.param((0, 3), 5, 1, 1, id="opened exactly the target ago, reached within"),
            pytest.param((0, None), 5, 0, 1, id="opened exactly the target ago, not reached"),
            pytest.param((0, 5), 6, 1, 1, id="reached exactly on target"),
            pytest.param((0, 5.001), 6, 0, 1, id="reached a little too late"),
            pytest.param((0, None), 99999, 0, 1, id="expired ones count too"),
            pytest.param((None, 3), 99, None, 0, id="entered late ones don't"),
        ],
    )
    def test_the_share_within_target(
        self, times: tuple[float | None, ...], now: float, share: float | None, of: int
    ) -> None:
        (stage,) = counted(trip("ab", (5,)), [reached(*times)], at(now), told=True).stages
        assert (stage.within_target, stage.within_target_of) == (share, of)

    def test_of_nobody(self) -> None:
        got = counted(short(), [], at(0), told=True)
        assert (got.started, got.completion_rate, got.median_minutes_of_completed) == (0, None, None)
        assert (got.mean_score_of_completed, got.within_target, got.within_target_of) == (None, None, 0)
        assert got.stages[0].median_minutes is None

    def test_a_journey_without_targets(self) -> None:
        journey = trip("abc", (None, None), target=None)
        got = counted(journey, [reached(0, 1, 2)], at(9), told=True)
        assert longest_target(journey) == 0
        assert (got.completed, got.mean_score_of_completed, got.within_target) == (1, None, None)
        assert got.median_minutes_of_completed == pytest.approx(2, rel=0.02)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(states(4), max_size=12), st.integers(1, 5))
    def test_how_the_shares_are_spread_over_rows_changes_nothing(
        self, population: list[State], rows: int
    ) -> None:
        journey = short()
        cells: list[dict[int, int]] = [{} for _ in range(rows)]
        together: dict[int, int] = {}
        for place, state in enumerate(population):
            part = share_of(journey, state)
            if part is not None:
                add(cells[place % rows], part.cells, 1)
                add(together, part.cells, 1)
        nobody = young(journey, [], at(0))
        assert figures(journey, map(pack, cells), unswept_expired=0, young=nobody) == figures(
            journey, [pack(together)], unswept_expired=0, young=nobody
        )

    def test_durations_of_years_have_a_place(self) -> None:
        journey = trip("ab", (5,), give_up_after=DAY)
        state = State((0, UNSET - 1), (None,))
        got = counted(journey, [state], UNSET - 1, told=True)
        assert got.median_minutes_of_completed == pytest.approx((UNSET - 1) / MINUTE, rel=0.02)
