"""Overdue and expired: what time alone brings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import SUBJECT, at, reached, states, trip

from otel_ttf.journey.state import State, timeline
from otel_ttf.journey.thresholds import alerts, deadlines, due, level
from otel_ttf.journey.transitions import EXPIRED, WARNING, Transition, told_bit
from otel_ttf.units import HOUR, MINUTE

# Levels at 10, 20 and 30 minutes, given up after two hours.
LEVELS = {"warning": 10 * MINUTE, "critical": 20 * MINUTE, "escalation": 30 * MINUTE}
JOURNEY = trip("abc", (5, 10), overdue=LEVELS, give_up_after=2 * HOUR)
WAITING = (0, 4, None)


def tell(
    times: tuple[float | None, ...], now: float, told: int = 0, recorded: float = 0
) -> tuple[list[Transition], int]:
    return due(
        JOURNEY,
        timeline(JOURNEY, reached(*times)),
        told,
        subject=SUBJECT,
        segments={"plan": "pro"},
        now=at(now),
        recorded_start=at(recorded),
    )


def kinds(transitions: list[Transition]) -> list[str]:
    return [transition.level or transition.kind for transition in transitions]


@pytest.mark.parametrize(
    ("times", "now", "expected"),
    [
        pytest.param(WAITING, 10, None, id="exactly on the threshold is within"),
        pytest.param(WAITING, 10.001, "warning", id="strictly later is overdue"),
        pytest.param(WAITING, 25, "critical", id="the highest counts"),
        pytest.param(WAITING, 119, "escalation", id="until it is given up"),
        pytest.param(WAITING, 120, None, id="expired is not overdue"),
        pytest.param((0, 4, 90), 100, None, id="completed late is not overdue"),
        pytest.param((None, 4, None), 100, None, id="without a start there is no deadline"),
        pytest.param((5, None, None), 0, None, id="a sender ahead of us"),
    ],
)
def test_level(times: tuple[float | None, ...], now: float, expected: str | None) -> None:
    assert level(JOURNEY, timeline(JOURNEY, reached(*times)), at(now)) == expected


def test_alerts_name_the_current_stage_the_highest_level_first() -> None:
    critical, warning = alerts(JOURNEY, timeline(JOURNEY, reached(*WAITING)), at(25))
    assert (critical.level, critical.stage, critical.since) == ("critical", "to c", at(20))
    assert (critical.minutes, critical.threshold_minutes) == (25, 20)
    assert critical.message == (
        "trip is overdue (critical): started 25 minutes ago, threshold 20 minutes, waiting for c"
    )
    assert (warning.level, warning.since, warning.minutes) == ("warning", at(10), 25)


@pytest.mark.parametrize(
    ("times", "now"),
    [
        pytest.param(WAITING, 9, id="in time"),
        pytest.param(WAITING, 121, id="expired"),
        pytest.param((0, 4, 90), 100, id="completed"),
        pytest.param((None, 4, None), 100, id="start unknown"),
    ],
)
def test_no_alerts(times: tuple[float | None, ...], now: float) -> None:
    assert alerts(JOURNEY, timeline(JOURNEY, reached(*times)), at(now)) == []


class TestDeadlines:
    def test_are_the_first_instants_at_which_they_hold(self) -> None:
        assert deadlines(JOURNEY, timeline(JOURNEY, reached(*WAITING))) == [
            ("overdue", "warning", at(10) + 1),
            ("overdue", "critical", at(20) + 1),
            ("overdue", "escalation", at(30) + 1),
            ("expired", None, at(120)),
        ]

    @pytest.mark.parametrize(
        "times", [pytest.param((0, 4, 90), id="completed"), pytest.param((None, 4, None), id="start unknown")]
    )
    def test_none(self, times: tuple[float | None, ...]) -> None:
        assert deadlines(JOURNEY, timeline(JOURNEY, reached(*times))) == []

    def test_levels_that_expiry_overtakes_are_left_out(self) -> None:
        journey = trip("abc", (5, 10), overdue=LEVELS, give_up_after=20 * MINUTE)
        line = timeline(journey, reached(*WAITING))
        assert [name for _, name, _ in deadlines(journey, line)] == ["warning", None]

    @settings(max_examples=100, deadline=None)
    @given(states(3), st.integers(-5, 130))
    def test_whoever_looks_at_each_deadline_misses_nothing(self, state: State, now: int) -> None:
        line = timeline(JOURNEY, state)
        looked = [moment for _, _, moment in deadlines(JOURNEY, line) if moment <= at(now)]
        told = 0
        for moment in looked:
            written, told = due(
                JOURNEY, line, told, subject=SUBJECT, segments={}, now=moment, recorded_start=at(0)
            )
            assert len(written) == 1
        late, _ = due(JOURNEY, line, told, subject=SUBJECT, segments={}, now=at(now), recorded_start=at(0))
        assert late == []


class TestDue:
    def test_each_level_once(self) -> None:
        first, told = tell(WAITING, 11)
        assert (kinds(first), told) == (["warning"], WARNING)
        assert tell(WAITING, 12, told) == ([], told)
        second, told = tell(WAITING, 31, told)
        assert kinds(second) == ["critical", "escalation"]
        assert kinds(tell(WAITING, 120, told)[0]) == ["expired"]

    def test_what_they_carry(self) -> None:
        ((overdue,), _), ((expired,), told) = tell(WAITING, 11), tell(WAITING, 121)
        assert (overdue.kind, overdue.level, overdue.milestone) == ("overdue", "warning", None)
        assert (overdue.at, overdue.recorded, overdue.segments) == (at(10), at(11), {"plan": "pro"})
        assert (expired.kind, expired.level, expired.at, told) == ("expired", None, at(120), EXPIRED)
        assert overdue.version == JOURNEY.version
        assert not overdue.backfilled
        assert not expired.backfilled

    def test_first_seen_after_it_was_given_up_there_is_only_expired(self) -> None:
        assert kinds(tell(WAITING, 500)[0]) == ["expired"]

    @pytest.mark.parametrize(
        ("times", "now", "told"),
        [
            pytest.param((0, 4, 90), 500, 0, id="first seen complete"),
            pytest.param((None, 4, None), 500, 0, id="start unknown"),
            pytest.param((None, None, None), 500, 0, id="nothing known"),
            pytest.param(WAITING, 10, 0, id="in time"),
            pytest.param(WAITING, 500, EXPIRED, id="told before"),
        ],
    )
    def test_nothing(self, times: tuple[float | None, ...], now: float, told: int) -> None:
        assert tell(times, now, told) == ([], told)

    @pytest.mark.parametrize(
        ("recorded", "backfilled"),
        [
            pytest.param(69, {"warning": False, "critical": False}, id="recorded within the hour"),
            pytest.param(70, {"warning": False, "critical": False}, id="recorded exactly an hour later"),
            pytest.param(71, {"warning": True, "critical": False}, id="recorded more than an hour later"),
        ],
    )
    def test_deadlines_long_past_when_the_start_was_recorded_are_backfilled(
        self, recorded: float, backfilled: dict[str, bool]
    ) -> None:
        written, _ = tell(WAITING, recorded + 1, recorded=recorded)
        marks = {transition.level: transition.backfilled for transition in written}
        assert marks | backfilled == marks

    def test_a_journey_recorded_days_later_expires_backfilled(self) -> None:
        ((expired,), _) = tell(WAITING, 5000, recorded=4990)
        assert expired.backfilled


def test_bits_are_those_of_told() -> None:
    assert told_bit("overdue", "warning") == WARNING
    assert told_bit("expired") == EXPIRED
    with pytest.raises(KeyError):
        told_bit("reached")
