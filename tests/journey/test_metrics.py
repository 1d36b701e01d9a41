"""Minutes, state and score: the table of journeys.md."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import MODES, at, reached, short, states, trip

from otel_ttf.journey.metrics import minutes, score, status
from otel_ttf.journey.state import State, timeline
from otel_ttf.journey.thresholds import level
from otel_ttf.units import DAY, MINUTE


class Expected(NamedTuple):
    stages: tuple[float | None, ...]
    total: float | None
    score: float | None
    status: str
    flags: frozenset[str] = frozenset()


DONE, ON_THE_WAY, NOT_STARTED = "completed", "in_progress", "not_started"
MIXED = frozenset({"out_of_order"})
LATE = frozenset({"start_unknown"})
BOTH = MODES

TABLE = [
    ("0, 4, 12, 30, 50; 60", BOTH, Expected((4, 8, 18, 20), 50, 95.8, DONE)),
    ("0, 10, 20, 35, 65; 70", BOTH, Expected((10, 10, 15, 30), 65, 95.8, DONE)),
    ("0, 4, -, -, -; 8", BOTH, Expected((4, None, None, None), None, 100, ON_THE_WAY)),
    ("0, 4, -, -, -; 30", BOTH, Expected((4, None, None, None), None, 33.3, ON_THE_WAY)),
    ("0, -, -, -, -; 3", BOTH, Expected((None,) * 4, None, None, ON_THE_WAY)),
    (
        "0, -, -, -, -; 600",
        BOTH,
        Expected((None,) * 4, None, 0, ON_THE_WAY, frozenset({"overdue escalation"})),
    ),
    ("0, 4, 2, 30, 50; 60", BOTH, Expected((4, 0, 26, 20), 50, 89.4, DONE, MIXED)),
    ("0, 10, -, 5, 50; 60", ("all",), Expected((10, None, None, 40), None, 55.6, ON_THE_WAY, MIXED)),
    ("0, 10, -, 5, 50; 60", ("last",), Expected((10, None, None, 40), 50, 71.4, DONE, MIXED)),
    ("0, 4, 70, 30, 50; 80", ("all",), Expected((4, 66, 0, 0), 70, 85.9, DONE, MIXED)),
    ("0, 4, 70, 30, 50; 80", ("last",), Expected((4, None, None, 20), 50, 100, DONE)),
    ("-, 4, 12, -, -; 30", BOTH, Expected((None, 8, None, None), None, 40, NOT_STARTED, LATE)),
    ("0, 4, -, 30, 50; 60", ("all",), Expected((4, None, None, 20), None, 77.8, ON_THE_WAY)),
    ("0, 4, -, 30, 50; 60", ("last",), Expected((4, None, None, 20), 50, 100, DONE)),
]


@pytest.mark.parametrize(
    ("times", "mode", "expected"),
    [
        pytest.param(times, mode, expected, id=f"{times} ({mode})")
        for times, modes, expected in TABLE
        for mode in modes
    ],
)
def test_worked_examples(times: str, mode: str, expected: Expected) -> None:
    listed, now = times.split(";")
    state = reached(*[None if part.strip() == "-" else int(part) for part in listed.split(",")])
    journey = trip(complete_when=mode)
    line = timeline(journey, state)
    passed = level(journey, line, at(int(now)))
    flags = {
        "out_of_order": line.out_of_order,
        "start_unknown": line.start_unknown,
        f"overdue {passed}": passed is not None,
    }
    got = Expected(
        tuple(None if duration is None else minutes(duration) for duration in line.durations),
        None if line.total is None else minutes(line.total),
        score(journey, line, at(int(now))),
        status(journey, line, at(int(now))),
        frozenset(name for name, raised in flags.items() if raised),
    )
    # The page has scores to one decimal.
    assert got == expected._replace(score=pytest.approx(expected.score, abs=0.05))


@pytest.mark.parametrize(
    ("targets", "times", "now", "expected"),
    [
        pytest.param((5, 10), (0, 5, None), 5, 100, id="exactly on target is within"),
        pytest.param((5, 10), (0, 0, None), 0, 100, id="no time at all"),
        pytest.param((5, 10), (0, None, None), 5, None, id="open, exactly on target"),
        pytest.param((5, 10), (0, None, None), 5.1, 0, id="open, target passed"),
        pytest.param((5, 10), (0, 10, None), 11, 50, id="took twice its target"),
        pytest.param((5, 10), (0, None, 7), 20, 0, id="reached with unknown duration is left out"),
        pytest.param((None, 10), (0, 100, 120), 130, 50, id="a stage without a target is left out"),
        pytest.param((None, None), (0, 1, 2), 3, None, id="no targets, no score"),
        pytest.param((5, 10), (3, None, None), 0, None, id="a sender ahead of us: an age is never below 0"),
        pytest.param((5, 10), (None, None, None), 99, None, id="nothing known"),
    ],
)
def test_score(
    targets: tuple[int | None, ...], times: tuple[int | None, ...], now: float, expected: float | None
) -> None:
    journey = trip("abc", targets)
    assert score(journey, timeline(journey, reached(*times)), at(now)) == expected


@settings(max_examples=150, deadline=None)
@given(states(4), st.sampled_from(MODES), st.integers(0, 60))
def test_the_score_of_a_completed_journey_stays(state: State, mode: str, later: int) -> None:
    journey = short(complete_when=mode)
    line = timeline(journey, state)
    first = score(journey, line, at(later))
    assert first is None or 0 <= first <= 100
    if line.completed_at is not None:
        assert score(journey, line, line.completed_at) == first


@pytest.mark.parametrize(
    ("times", "now", "expected"),
    [
        pytest.param((None, None), 0, NOT_STARTED, id="nothing known"),
        pytest.param((None, 4), 99 * 1440, NOT_STARTED, id="a start that is unknown never expires"),
        pytest.param((0, None), 2 * 1440 - 0.01, ON_THE_WAY, id="just before it is given up"),
        pytest.param((0, None), 2 * 1440, "expired", id="given up"),
        pytest.param((0, 2 * 1440 + 5), 3 * 1440, DONE, id="completion ends expiry"),
        pytest.param((9, None), 0, ON_THE_WAY, id="a sender ahead of us"),
    ],
)
def test_status(times: tuple[float | None, ...], now: float, expected: str) -> None:
    journey = trip("ab", (5,), give_up_after=2 * DAY)
    assert status(journey, timeline(journey, reached(*times)), at(now)) == expected


def test_minutes_are_never_rounded() -> None:
    assert minutes(90 * 10**9) == 1.5
    assert minutes(1) == 1 / MINUTE
