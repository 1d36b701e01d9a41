"""The join of states, and what follows from a state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import MINUTES, MODES, PLANS, at, event, reached, short, states, trip

from otel_ttf.journey.state import UNSET, State, empty, named_segments, segment_text, timeline
from otel_ttf.journey.values import Value
from otel_ttf.units import MINUTE

LAW = settings(max_examples=150, deadline=None)


class TestJoin:
    @LAW
    @given(states(4), states(4), states(4))
    def test_is_commutative_associative_and_idempotent(self, a: State, b: State, c: State) -> None:
        assert a.join(b) == b.join(a)
        assert a.join(b).join(c) == a.join(b.join(c))
        assert a.join(a) == a

    @LAW
    @given(states(4))
    def test_the_empty_state_changes_nothing(self, state: State) -> None:
        assert empty(short()).join(state) == state == state.join(empty(short()))

    @LAW
    @given(st.lists(st.tuples(st.integers(0, 3), MINUTES, st.sampled_from([None, "free", "pro"]))), st.data())
    def test_order_and_repetition_of_events_change_nothing(
        self, events: list[tuple[int, int, str | None]], data: st.DataObject
    ) -> None:
        parts = [event(milestone, minute, 4, plan) for milestone, minute, plan in events]
        mixed = data.draw(st.permutations(parts + parts))
        assert reduce(State.join, mixed, empty(short())) == reduce(State.join, parts, empty(short()))

    def test_a_late_event_moves_a_milestone_back(self) -> None:
        assert reached(0, 20).join(event(1, 10, 2)) == reached(0, 10)

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=2))
    @settings(max_examples=150, deadline=None)
    def test_of_values_with_one_time_the_first_by_its_bytes_wins(self, values: list[str]) -> None:
        first, second = (reached(0, plan=(1, value)) for value in values)
        assert first.join(second).segments == ((at(1), min(values, key=str.encode)),)

    def test_the_earliest_value_wins(self) -> None:
        assert reached(0, plan=(2, "free")).join(reached(0, plan=(1, "pro"))).segments == ((at(1), "pro"),)

    def test_another_shape_is_refused(self) -> None:
        with pytest.raises(ValueError, match="2 milestones, another of 3"):
            reached(0, 1).join(reached(0, 1, 2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("pro", "pro", id="text"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param(12, "12", id="a whole number"),
        pytest.param(12.0, "12", id="a whole number as a float"),
        pytest.param(0.1, "0.1", id="a fraction in its shortest form"),
        pytest.param(["pro"], "pro", id="an array of one is its element"),
        pytest.param(["pro", "free"], None, id="a longer array is no text"),
        pytest.param({"a": 1}, None, id="a mapping is no text"),
        pytest.param(b"pro", None, id="bytes are no text"),
        pytest.param(None, None, id="nothing"),
        pytest.param("", None, id="empty text says nothing"),
        pytest.param(math.nan, None, id="not a number"),
        pytest.param(math.inf, None, id="infinity"),
        pytest.param("x" * 128, "x" * 128, id="128 bytes"),
        pytest.param("x" * 129, "x" * 128, id="129 bytes are cut"),
        pytest.param("x" * 127 + "é", "x" * 127, id="cut on the border of a character"),
    ],
)
def test_a_segment_as_text(value: Value, text: str | None) -> None:
    assert segment_text(value) == text


def plainly(mode: str, times: Sequence[int]) -> tuple[list[int | None], int | None]:
    """known and completed_at, word for word as journeys.md has them."""
    known = [None if time == UNSET else time for time in times]
    first, last = known[0], known[-1]
    completed = None
    if mode == "last":
        if first is not None and last is not None:
            completed = max(first, last)
            known = [time if time is not None and time <= completed else None for time in known]
    elif None not in known:
        completed = max(times)
    moments = [
        None if time is None else max(t for t in known[: place + 1] if t is not None)
        for place, time in enumerate(known)
    ]
    return moments, completed


class TestTimeline:
    @pytest.mark.parametrize("mode", MODES)
    @LAW
    @given(state=states(4))
    def test_is_what_the_definition_says(self, mode: str, state: State) -> None:
        line = timeline(short(complete_when=mode), state)
        known, completed = plainly(mode, state.reached)
        assert (list(line.known), line.completed_at) == (known, completed)
        assert line.durations == tuple(
            None if before is None or moment is None else moment - before
            for before, moment in pairwise(known)
        )
        assert line.out_of_order == any(
            moment is not None and time < moment for time, moment in zip(state.reached, known, strict=True)
        )
        started = state.reached[0] != UNSET
        assert line.started_at == (state.reached[0] if started else None)
        assert line.start_unknown == (not started and any(time != UNSET for time in state.reached))
        assert line.touched == max((moment for moment in known if moment is not None), default=None)
        if started and completed is None:
            assert line.current == state.reached.index(UNSET)
            assert line.opened == known[line.current - 1]
        else:
            assert (line.current, line.opened) == (None, None)

    @pytest.mark.parametrize("mode", MODES)
    @LAW
    @given(minutes=st.lists(MINUTES, min_size=5, max_size=5))
    def test_stages_add_up_to_the_total(self, mode: str, minutes: list[int]) -> None:
        line = timeline(trip(complete_when=mode), reached(*minutes))
        assert line.total is not None
        assert all(duration is None or duration >= 0 for duration in line.durations)
        if None not in line.durations:
            assert sum(d for d in line.durations if d is not None) == line.total
        else:
            assert mode == "last"

    @LAW
    @given(state=states(4))
    def test_only_the_first_and_last_milestone_move_the_total_of_last(self, state: State) -> None:
        journey = short(complete_when="last")
        bare = State((state.reached[0], UNSET, UNSET, state.reached[-1]), state.segments)
        assert timeline(journey, state).total == timeline(journey, bare).total

    @pytest.mark.parametrize(
        ("minutes", "current", "opened"),
        [
            pytest.param((0, None, None, None), 1, 0, id="just started"),
            pytest.param((0, 4, None, None), 2, 4, id="waiting for the third"),
            pytest.param((0, None, None, 9), 1, 0, id="a later one does not close the gap"),
            pytest.param((5, 2, None, None), 2, 5, id="opened when everything before it was reached"),
            pytest.param((0, 1, 2, 3), None, None, id="completed"),
            pytest.param((None, 4, None, None), None, None, id="not started"),
            pytest.param((None, None, None, None), None, None, id="nothing known"),
        ],
    )
    def test_the_current_stage(
        self, minutes: tuple[int | None, ...], current: int | None, opened: int | None
    ) -> None:
        line = timeline(short(), reached(*minutes))
        assert (line.current, line.opened) == (current, None if opened is None else at(opened))

    @pytest.mark.parametrize(
        ("minutes", "learned", "value", "after_start"),
        [
            pytest.param((0, None), -3, "pro", False, id="before the start"),
            pytest.param((0, None), 0, "pro", False, id="at the start"),
            pytest.param((0, None), 3, "pro", True, id="after the start, still on the way"),
            pytest.param((0, 5), 3, "pro", True, id="between start and completion"),
            pytest.param((0, 5), 5, "pro", True, id="at the completion"),
            pytest.param((0, 5), 6, None, False, id="after the completion it is from the future"),
            pytest.param((None, 5), 9, "pro", False, id="start unknown"),
        ],
    )
    def test_segments_count_up_to_the_completion(
        self, minutes: tuple[int | None, ...], learned: int, value: str | None, after_start: bool
    ) -> None:
        journey = trip("ab", (5,))
        line = timeline(journey, reached(*minutes, plan=(learned, "pro")))
        assert (line.segments, line.segment_after_start) == ((value,), after_start)
        assert named_segments(journey, line) == ({} if value is None else {"plan": value})

    @LAW
    @given(states(4), PLANS)
    def test_segments_move_no_time(self, state: State, plan: tuple[int, str] | None) -> None:
        other = state.join(reached(None, None, None, None, plan=plan))
        assert timeline(short(), other).durations == timeline(short(), state).durations

    def test_durations_are_whole_nanoseconds(self) -> None:
        state = State((at(0), at(0) + 1, at(0) + 10**18 + 1, UNSET), (None,))
        assert timeline(short(), state).durations == (1, 10**18, None)
        assert timeline(short(), reached(0, 1, None, None)).durations[0] == MINUTE
