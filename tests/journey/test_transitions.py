"""Transitions: each fact once, in every order in which its events may come."""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trips import MINUTES, MODES, SUBJECT, at, event, reached, short, trip

from otel_ttf.journey.definition import MAX_MILESTONES, Journey
from otel_ttf.journey.state import State, empty, timeline
from otel_ttf.journey.transitions import (
    COMPLETED,
    EXPIRED,
    TOTAL,
    WARNING,
    Transition,
    advance,
    carry_told,
    transition_id,
)
from otel_ttf.units import MINUTE

LAW = settings(max_examples=120, deadline=None)


@dataclass
class Teller:
    """One journey to which states come; keeps what a reader of the transitions knows."""

    journey: Journey
    state: State | None = None
    told: int = 0
    written: list[Transition] = field(default_factory=list)
    durations: dict[str, int | None] = field(default_factory=dict)

    def take(self, *states: State) -> list[Transition]:
        """Joins a batch in. The transitions that it brings, checked against what was told before."""
        after = reduce(State.join, states, self.state or empty(self.journey))
        new, self.told = advance(self.journey, self.state, after, self.told, subject=SUBJECT, recorded=at(99))
        self.state = after
        for transition in new:
            for stage, took in transition.closed:
                assert stage not in self.durations, "observed twice"
                self.durations[stage] = took
            for name, old, now in transition.changed:
                assert self.durations[name] == old != now, "what is changed was told before"
                self.durations[name] = now
            if transition.kind == "completed":
                self.durations[TOTAL] = timeline(self.journey, after).total
        self.written += new
        return new

    def now(self) -> dict[str, int | None]:
        """The durations that are known, by stage, and the total."""
        line = timeline(self.journey, self.state or empty(self.journey))
        names = [milestone.stage for milestone in self.journey.milestones[1:]]
        known = dict(zip([*names, TOTAL], [*line.durations, line.total], strict=True))
        return {name: took for name, took in known.items() if took is not None}


def story(transitions: Iterable[Transition]) -> list[str]:
    return [f"{t.kind} {t.milestone}" if t.milestone else t.kind for t in transitions]


def stages(transition: Transition) -> list[tuple[str, float]]:
    return [(stage, took / MINUTE) for stage, took in transition.closed]


def changes(transition: Transition) -> list[tuple[str, float | None, float | None]]:
    return [
        (name, None if old is None else old / MINUTE, None if new is None else new / MINUTE)
        for name, old, new in transition.changed
    ]


EVENTS = st.lists(st.tuples(st.integers(0, 3), MINUTES), max_size=8)
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 3), MINUTES), min_size=1, max_size=3), max_size=6)


class TestLaws:
    @pytest.mark.parametrize("mode", MODES)
    @LAW
    @given(batches=BATCHES)
    def test_who_reads_the_transitions_knows_every_duration(
        self, mode: str, batches: list[list[tuple[int, int]]]
    ) -> None:
        teller = Teller(short(complete_when=mode))
        for batch in batches:
            teller.take(*(event(place, minute, 4) for place, minute in batch))
            known = teller.now()
            assert {name: took for name, took in teller.durations.items() if took is not None} == known

    @pytest.mark.parametrize("mode", MODES)
    @LAW
    @given(batches=BATCHES)
    def test_every_fact_once(self, mode: str, batches: list[list[tuple[int, int]]]) -> None:
        teller = Teller(short(complete_when=mode))
        for batch in batches:
            states = [event(place, minute, 4) for place, minute in batch]
            teller.take(*states)
            assert teller.take(*states) == [], "events that come again bring nothing"
        ids = [transition.id for transition in teller.written]
        assert len(ids) == len(set(ids))
        counted = Counter(story(t for t in teller.written if t.kind != "corrected"))
        assert set(counted.values()) <= {1}
        state = teller.state or empty(teller.journey)
        line = timeline(teller.journey, state)
        expected = {
            ("reached " if place else "started ") + milestone.name
            for place, milestone in enumerate(teller.journey.milestones)
            if state.reached[place] != empty(teller.journey).reached[place]
        } | ({"completed"} if line.completed_at is not None else set())
        assert set(counted) == expected

    @pytest.mark.parametrize("mode", MODES)
    @LAW
    @given(events=EVENTS, data=st.data())
    def test_every_stage_is_observed_once_in_any_order(
        self, mode: str, events: list[tuple[int, int]], data: st.DataObject
    ) -> None:
        teller = Teller(short(complete_when=mode))
        for place, minute in data.draw(st.permutations(events)):
            teller.take(event(place, minute, 4))
        observed = Counter(stage for t in teller.written for stage, _ in t.closed)
        # With `last`, one may have been observed that was skipped later; none twice, and none is missing.
        assert set(observed.values()) <= {1}
        assert set(observed) >= set(teller.now()) - {TOTAL}
        if mode == "all":
            assert set(observed) == set(teller.now()) - {TOTAL}

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        "minutes",
        [
            pytest.param((0, 4, 12, 30), id="in order"),
            pytest.param((3, 3, 3, 9), id="at one time"),
            pytest.param((0, 4, 12, None), id="on the way"),
            pytest.param((0, None, 12, 30), id="with a gap"),
            pytest.param((None, 4, 12, 30), id="start unknown"),
        ],
    )
    def test_in_order_told_values_are_final_in_all_permutations(
        self, mode: str, minutes: tuple[int | None, ...]
    ) -> None:
        events = [event(place, minute, 4) for place, minute in enumerate(minutes) if minute is not None]
        finals = []
        for order in permutations(events):
            teller = Teller(short(complete_when=mode))
            for one in order:
                teller.take(one)
            assert not any(t.changed or t.kind == "corrected" for t in teller.written)
            told = {name: took for name, took in teller.durations.items() if took is not None}
            assert told == teller.now()
            finals.append(sorted((t.id, t.at) for t in teller.written))
        assert all(final == finals[0] for final in finals), "the same facts, whatever the order"

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("minutes", [(0, 10, 2, 5), (7, 4, 12, 9), (9, 6, 3, 0), (0, 4, 70, 30)])
    def test_out_of_order_stages_are_observed_once_in_all_permutations(
        self, mode: str, minutes: tuple[int, ...]
    ) -> None:
        for order in permutations([event(place, minute, 4) for place, minute in enumerate(minutes)]):
            teller = Teller(short(complete_when=mode))
            for one in order:
                teller.take(one)
            told = {name: took for name, took in teller.durations.items() if took is not None}
            assert told == teller.now()
            assert Counter(story(teller.written)) == Counter(
                ["started a", "reached b", "reached c", "reached d", "completed"]
            )

    @LAW
    @given(batches=BATCHES)
    def test_a_change_is_told_by_a_time_that_can_have_made_it(
        self, batches: list[list[tuple[int, int]]]
    ) -> None:
        teller = Teller(short())
        names = [milestone.name for milestone in teller.journey.milestones]
        for batch in batches:
            for t in teller.take(*(event(place, minute, 4) for place, minute in batch)):
                for name, _, _ in t.changed:
                    # A moment depends on the milestones up to its own.
                    assert t.milestone is not None
                    assert name == TOTAL or names.index(t.milestone) <= names.index(name.removeprefix("to "))


class TestClosed:
    def test_a_stage_is_closed_by_whatever_brings_its_second_time(self) -> None:
        teller = Teller(short())
        assert [stages(t) for t in teller.take(event(0, 0, 4))] == [[]]
        assert [stages(t) for t in teller.take(event(2, 12, 4))] == [[]]
        assert [stages(t) for t in teller.take(event(1, 4, 4))] == [[("to b", 4), ("to c", 8)]]

    def test_without_a_start_later_stages_are_observed_all_the_same(self) -> None:
        teller = Teller(short())
        assert story(teller.take(event(1, 4, 4), event(2, 12, 4))) == ["reached b", "reached c"]
        (started,) = teller.take(event(0, 0, 4))
        assert (started.kind, stages(started)) == ("started", [("to b", 4)])

    def test_a_stage_lost_and_found_again_is_observed_once(self) -> None:
        teller = Teller(short(complete_when="last"))
        teller.take(reached(0, 4, 20, None))
        (done, completed) = teller.take(event(3, 9, 4))
        assert (done.milestone, changes(done)) == ("d", [("to c", 16, None)])
        assert completed.kind == "completed"
        (back,) = teller.take(event(2, 6, 4))
        assert (back.kind, stages(back), changes(back)) == ("corrected", [("to d", 3)], [("to c", None, 2)])

    def test_a_correction_closes_what_had_been_skipped(self) -> None:
        teller = Teller(short(complete_when="last"))
        teller.take(reached(0, 4, None, 9))
        assert [stages(t) for t in teller.take(event(2, 20, 4))] == [[]]
        (corrected,) = teller.take(event(2, 6, 4))
        assert (corrected.kind, stages(corrected)) == ("corrected", [("to c", 2), ("to d", 3)])


class TestBatches:
    def test_several_times_at_once_are_told_in_the_order_in_which_they_happened(self) -> None:
        teller = Teller(short())
        transitions = teller.take(reached(5, 7, 6, 9))
        assert story(transitions) == ["started a", "reached c", "reached b", "reached d", "completed"]
        assert [stages(t) for t in transitions] == [[], [], [("to b", 2), ("to c", 0)], [("to d", 2)], []]

    def test_a_journey_begins_with_its_start_whatever_the_times(self) -> None:
        assert story(Teller(short()).take(reached(5, 2, None, None))) == ["started a", "reached b"]

    def test_corrections_come_after_what_was_reached_and_before_the_completion(self) -> None:
        teller = Teller(short())
        teller.take(reached(0, 8, 9, None))
        transitions = teller.take(event(1, 3, 4), event(3, 20, 4))
        assert story(transitions) == ["reached d", "corrected b", "completed"]
        assert [changes(t) for t in transitions] == [[], [("to b", 8, 3), ("to c", 1, 6)], []]

    def test_reached_and_corrected_in_one_batch_is_only_reached(self) -> None:
        teller = Teller(short())
        assert story(teller.take(event(0, 5, 4), event(0, 2, 4))) == ["started a"]
        assert teller.written[0].at == at(2)

    def test_each_change_stands_with_the_time_that_made_it(self) -> None:
        teller = Teller(short())
        teller.take(reached(2, 8, 9, 20))
        first, second = teller.take(event(0, 1, 4), event(2, 8.5, 4))
        assert (first.milestone, changes(first)) == ("a", [("to b", 6, 7), ("total", 18, 19)])
        assert (second.milestone, changes(second)) == ("c", [("to c", 1, 0.5), ("to d", 11, 11.5)])


class TestChanged:
    def test_corrected_carries_both_times_and_what_it_changed(self) -> None:
        teller = Teller(short())
        teller.take(reached(0, 20, 30, 40))
        (corrected,) = teller.take(event(1, 10, 4))
        assert (corrected.kind, corrected.milestone, corrected.at) == ("corrected", "b", at(10))
        assert (corrected.old, corrected.new) == (at(20), at(10))
        assert changes(corrected) == [("to b", 20, 10), ("to c", 10, 20)]

    def test_a_correction_that_moves_no_duration_changes_nothing(self) -> None:
        teller = Teller(short())
        teller.take(reached(9, 2, 12, None))
        (corrected,) = teller.take(event(1, 1, 4))
        assert (corrected.kind, corrected.changed) == ("corrected", ())

    def test_a_milestone_newly_reached_may_change_what_was_told(self) -> None:
        teller = Teller(short())
        teller.take(reached(None, 4, 12, None))
        (started,) = teller.take(event(0, 7, 4))
        assert (started.kind, stages(started), changes(started)) == (
            "started",
            [("to b", 0)],
            [("to c", 8, 5)],
        )

    def test_an_earlier_completion_changes_the_total(self) -> None:
        teller = Teller(short(complete_when="last"))
        teller.take(reached(0, None, None, 30))
        (corrected,) = teller.take(event(3, 20, 4))
        assert changes(corrected) == [("total", 30, 20)]

    def test_completion_may_skip_what_was_told(self) -> None:
        teller = Teller(short(complete_when="last"))
        teller.take(reached(0, 40, None, None))
        last, completed = teller.take(event(3, 30, 4))
        assert (last.kind, changes(last)) == ("reached", [("to b", 40, None)])
        assert (completed.kind, completed.at) == ("completed", at(30))


class TestWhatTheyCarry:
    def test_fields(self) -> None:
        journey = short()
        state = reached(0, None, None, None, plan=(-1, "pro"))
        ((started,), _) = advance(
            journey, None, state, 0, subject=SUBJECT, key=("p1",), recorded=at(3), backfilled=True
        )
        assert (started.journey, started.version, started.subject) == ("trip", journey.version, SUBJECT)
        assert (started.kind, started.milestone, started.level) == ("started", "a", None)
        assert (started.at, started.recorded, started.key) == (at(0), at(3), ("p1",))
        assert (started.segments, started.backfilled) == ({"plan": "pro"}, True)

    def test_segments_are_those_known_then(self) -> None:
        teller = Teller(short())
        teller.take(reached(0, None, None, None))
        assert teller.take(reached(0, 4, None, None, plan=(2, "pro")))[0].segments == {"plan": "pro"}
        assert teller.written[0].segments == {}

    @pytest.mark.parametrize(
        ("told", "after"),
        [pytest.param(EXPIRED, True, id="expired"), pytest.param(WARNING, False, id="overdue")],
    )
    def test_completed_says_whether_the_journey_had_expired(self, told: int, after: bool) -> None:
        transitions, new = advance(short(), None, reached(0, 1, 2, 3), told, subject=SUBJECT, recorded=at(99))
        assert [t.after_expiry for t in transitions] == [False] * 4 + [after]
        assert new & told
        assert new & COMPLETED

    def test_a_segment_alone_brings_nothing(self) -> None:
        teller = Teller(short())
        assert teller.take(reached(None, None, None, None, plan=(2, "pro"))) == []

    def test_a_timeline_at_hand_is_taken(self) -> None:
        journey, state = short(), reached(0, 4, None, None)
        line = timeline(journey, state)
        assert advance(journey, None, state, 0, subject=SUBJECT, recorded=1, line=line) == advance(
            journey, None, state, 0, subject=SUBJECT, recorded=1
        )

    def test_what_is_told_fits_a_signed_integer_of_64_bits(self) -> None:
        journey = trip([f"m{n}" for n in range(MAX_MILESTONES)], [5] * (MAX_MILESTONES - 1))
        state = State(tuple(range(MAX_MILESTONES)), (None,))
        transitions, told = advance(journey, None, state, 31, subject=SUBJECT, recorded=1)
        assert len(transitions) == MAX_MILESTONES
        assert told < 2**63


class TestId:
    def test_is_made_of_what_it_says(self) -> None:
        text = f'["trip",["{SUBJECT}","p\\u00e9"],"corrected","b",12]'
        digest = hashlib.sha256(text.encode()).digest()[:16]
        expected = b32encode(digest).decode().rstrip("=").lower()
        assert transition_id("trip", (SUBJECT, "pé"), "corrected", "b", 12) == expected
        assert re.fullmatch("[a-z2-7]{26}", expected)

    def test_nothing_stands_where_there_is_neither_milestone_nor_level(self) -> None:
        digest = hashlib.sha256(f'["trip",["{SUBJECT}"],"started",null]'.encode()).digest()[:16]
        assert transition_id("trip", (SUBJECT,), "started", None) == (
            b32encode(digest).decode().rstrip("=").lower()
        )

    def test_differs_with_every_part(self) -> None:
        parts: Sequence[tuple[str, tuple[str, ...], str, str | None, int | None]] = [
            ("trip", ("s",), "reached", "b", None),
            ("trap", ("s",), "reached", "b", None),
            ("trip", ("t",), "reached", "b", None),
            ("trip", ("s", "p"), "reached", "b", None),
            ("trip", ("s", ""), "reached", "b", None),
            ("trip", ("s",), "corrected", "b", 1),
            ("trip", ("s",), "corrected", "b", 2),
            ("trip", ("s",), "reached", "null", None),
            ("trip", ("s",), "reached", None, None),
        ]
        assert len({transition_id(*part) for part in parts}) == len(parts)


class TestCarriedOver:
    """What an older version told is not told again."""

    @staticmethod
    def told(*minutes: float | None, more: int = 0) -> int:
        _, told = advance(short(), None, reached(*minutes), more, subject=SUBJECT, recorded=1)
        return told

    def test_the_same_milestones_and_stages_stay_told(self) -> None:
        told = self.told(0, 4, 12, None, more=EXPIRED | WARNING)
        assert carry_told("abcd", told, short()) == told

    def test_a_milestone_of_another_name_is_told(self) -> None:
        new = trip(("a", "bee", "c", "d"), (5, 10, None))
        state = reached(0, 4, 12, None)
        told = carry_told("abcd", self.told(0, 4, 12, None), new)
        transitions, _ = advance(new, None, state, told, subject=SUBJECT, recorded=1, backfilled=True)
        assert story(transitions) == ["reached bee"]
        assert transitions[0].backfilled
        assert not transitions[0].changed

    def test_a_stage_between_other_milestones_is_another_stage(self) -> None:
        new = trip("axbc", (1, 5, 10))
        told = carry_told("abcd", self.told(0, 4, 12, None), new)
        before = reached(0, None, 4, 12)
        carried, told = advance(new, None, before, told, subject=SUBJECT, recorded=1, backfilled=True)
        assert carried == []
        (found, completed), _ = advance(
            new, before, before.join(event(1, 1, 4)), told, subject=SUBJECT, recorded=2
        )
        assert (found.kind, stages(found)) == ("reached", [("to x", 1), ("to b", 3)])
        assert completed.kind == "completed"

    def test_a_journey_starts_and_completes_once_whatever_its_milestones(self) -> None:
        new = trip("xbcd", (5, 10, None))
        told = carry_told("abcd", self.told(0, 4, 12, 20), new)
        assert story(advance(new, None, reached(1, 4, 12, 20), told, subject=SUBJECT, recorded=1)[0]) == []

    def test_what_was_first_and_is_not_any_more_was_told_as_a_start_only(self) -> None:
        new = trip("xa", (5,))
        told = carry_told("abcd", self.told(0, None, None, None), new)
        assert story(advance(new, None, reached(None, 0), told, subject=SUBJECT, recorded=1)[0]) == [
            "reached a"
        ]

    @pytest.mark.parametrize("minute", [pytest.param(1, id="in order"), pytest.param(9, id="out of order")])
    def test_another_versions_completion_is_neither_told_again_nor_changed(self, minute: int) -> None:
        new = trip("axbcd", (1, 5, 10, None))
        before = reached(0, None, 4, 12, 30)
        told = carry_told("abcd", self.told(0, 4, 12, 30), new)
        _, told = advance(new, None, before, told, subject=SUBJECT, recorded=1, backfilled=True)
        after = before.join(event(1, minute, 5))
        (found,), _ = advance(new, before, after, told, subject=SUBJECT, recorded=2)
        assert (found.kind, TOTAL in {name for name, _, _ in found.changed}) == ("reached", False)
