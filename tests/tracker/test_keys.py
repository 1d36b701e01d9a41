"""Journeys with keys beyond the subject (journeys.md, Key)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import START, Spec, World, journey, keyed, same_as_a_scan, token

from otel_ttf.journey.definition import Segment, check
from otel_ttf.journey.keys import MAX_KEYS, covering, part_of
from otel_ttf.journey.state import UNSET
from otel_ttf.tracker.recompute import recompute
from otel_ttf.units import DAY, MINUTE


def known(world: World, user: str = "ada") -> dict[tuple[str, ...], list[float | None]]:
    """key -> minutes after START of each milestone."""
    return {
        row.key: [None if t == UNSET else (t - START) / MINUTE for t in row.state.reached]
        for row in world.reader.find("trip", [token(user)])
    }


@pytest.fixture
def trips(make: Callable[..., World]) -> World:
    return make(keyed())


def test_there_is_a_journey_for_each_key(trips: World) -> None:
    trips.send(
        ("a", "ada", 0, {"project": "7"}),
        ("a", "ada", 5, {"project": "8"}),
        ("b", "ada", 9, {"project": "7"}),
    )
    assert known(trips) == {("7",): [0, 9, None], ("8",): [5, None, None]}
    assert trips.told() == [("started", "a", 0), ("reached", "b", 0), ("started", "a", 0)]
    assert trips.counter("ttf_started_total") == 2
    same_as_a_scan(trips)


def test_a_shared_milestone_is_no_journey_and_counts_nowhere(trips: World) -> None:
    trips.send(("a", "ada", 0, {}))
    assert known(trips) == {}
    assert trips.told() == []
    assert trips.counter("ttf_started_total") == 0
    assert trips.missing == {}
    same_as_a_scan(trips)


def test_what_makes_a_journey_exist_closes_what_was_shared(trips: World) -> None:
    trips.send(("a", "ada", 0, {}))
    trips.send(("b", "ada", 4, {"project": "7"}))
    assert known(trips) == {("7",): [0, 4, None]}
    assert trips.told() == [("started", "a", 0), ("reached", "b", 0)]
    assert trips.rows("SELECT closed FROM transition WHERE kind = 'reached'") == [(f'[["b",{4 * MINUTE}]]',)]
    # And journeys to come.
    trips.send(("b", "ada", 6, {"project": "8"}))
    assert known(trips)["8",] == [0, 6, None]
    same_as_a_scan(trips)


def test_a_late_shared_milestone_reaches_all_journeys_of_the_user(trips: World) -> None:
    trips.send(
        ("b", "ada", 4, {"project": "7"}),
        ("b", "ada", 6, {"project": "8"}),
        ("b", "bob", 6, {"project": "7"}),
    )
    trips.send(("a", "ada", 1, {}))
    assert known(trips) == {("7",): [1, 4, None], ("8",): [1, 6, None]}
    assert known(trips, "bob") == {("7",): [None, 6, None]}
    assert trips.counter("ttf_started_total") == 2
    same_as_a_scan(trips)


def test_a_shared_milestone_with_the_whole_key_is_that_journeys_alone(trips: World) -> None:
    trips.send(("a", "ada", 1, {"project": "7"}), ("b", "ada", 4, {"project": "8"}))
    assert known(trips) == {("7",): [1, None, None], ("8",): [None, 4, None]}


def test_other_events_without_the_whole_key_move_nothing_and_are_counted(trips: World) -> None:
    trips.send(("b", "ada", 4, {}), ("b", "ada", 5, {"project": " "}), ("b", "", 5, {"project": "7"}))
    assert known(trips) == {}
    assert trips.missing == {("key", "b"): 2, ("subject", "b"): 1}


def test_segments_are_the_users_in_all_journeys(trips: World) -> None:
    trips.send(("a", "ada", 1, {"project": "7"}), ("seen", "ada", 0, {"plan": "pro"}))
    trips.send(("a", "ada", 2, {"project": "8"}))
    found = trips.reader.find("trip", [token("ada")])
    assert [row.state.segments for row in found] == [((START, "pro"),)] * 2
    same_as_a_scan(trips)


def test_segments_wait_without_a_journey_until_it_would_be_given_up(trips: World) -> None:
    trips.send(("seen", "ada", 0, {"plan": "pro"}))
    trips.send(("seen", "bob", 0, {"plan": "pro"}), ("a", "bob", 0, {"project": "7"}))
    trips.sweep(3 * DAY / MINUTE)
    assert trips.rows("SELECT subject, key FROM journey ORDER BY key") == [
        (token("bob"), '[""]'),
        (token("bob"), '["7"]'),
    ]


def test_the_first_thousand_keys_count(trips: World) -> None:
    trips.send(("a", "ada", 0, {}))
    trips.send(*[("b", "ada", 1, {"project": str(number)}) for number in range(MAX_KEYS - 1)])
    trips.send(("b", "ada", 2, {"project": "last"}), ("b", "ada", 2, {"project": "one more"}))
    assert len(known(trips)) == MAX_KEYS
    assert ("one more",) not in known(trips)
    assert trips.missing == {("room", "b"): 1}
    trips.send(("c", "ada", 3, {"project": "last"}), ("c", "bob", 3, {"project": "one more"}))
    assert known(trips)["last",] == [0, 2, 3]
    assert known(trips, "bob") == {("one more",): [None, None, 3]}


def test_each_journey_is_overdue_for_itself(trips: World) -> None:
    trips.send(("a", "ada", 0, {"project": "7"}), ("a", "ada", 15, {"project": "8"}))
    trips.sweep(75)
    assert trips.rows("SELECT level, key FROM transition WHERE kind = 'overdue' ORDER BY position") == [
        ("warning", '["7"]'),
        ("critical", '["7"]'),
        ("escalation", '["7"]'),
        ("warning", '["8"]'),
        ("critical", '["8"]'),
    ]
    assert len(set(trips.rows("SELECT id FROM transition"))) == 7


def test_another_version_takes_its_journeys_along_key_by_key(trips: World) -> None:
    trips.send(("a", "ada", 0, {}), ("b", "ada", 4, {"project": "7"}), ("b", "ada", 5, {"project": "8"}))
    before = trips.counter("ttf_started_total")
    changed = keyed()
    new = replace(changed, milestones=(*changed.milestones[:2], replace(changed.milestones[2], name="d")))
    trips.restart(new)
    trips.send(("b", "ada", 6, {"project": "9"}))
    assert known(trips) == {("7",): [0, 4, None], ("8",): [0, 5, None], ("9",): [0, 6, None]}
    trips.jobs()
    assert len(known(trips)) == 3
    assert trips.counter("ttf_started_total") == before + 1
    same_as_a_scan(trips)


def test_other_settings_count_each_journey_once(trips: World) -> None:
    trips.send(("a", "ada", 0, {}), *[("b", "ada", 4, {"project": str(number)}) for number in range(9)])
    trips.restart(keyed(target=99 * MINUTE))
    trips.jobs()
    same_as_a_scan(trips)


def test_recompute_finds_every_journey_again_and_can_leave_an_event_out(trips: World) -> None:
    trips.send(("a", "ada", 0, {}), ("b", "ada", 4, {"project": "7"}), ("b", "ada", 5, {"project": "8"}))
    before = known(trips)
    trips.store.begin()
    done = recompute(trips.follower, [token("ada")], trips.now)
    trips.store.commit()
    assert [one.before == one.after for one in done] == [True] * 3
    assert known(trips) == before
    ids = {one.key: one.first for one in done}
    assert ids['["7"]'][0] == ids['["8"]'][0] == ids['[""]'][0]
    trips.store.begin()
    recompute(trips.follower, [token("ada")], trips.now, without=ids['["7"]'][1])
    trips.store.commit()
    assert known(trips)["8",] == [0, 5, None]
    assert known(trips)["7",] == [0, None, None]
    same_as_a_scan(trips)


def test_parts_may_be_missing_one_by_one(make: Callable[..., World]) -> None:
    trips = make(keyed(key=("subject", "project", "stage")))
    trips.send(("a", "ada", 0, {"project": "7"}), ("a", "ada", 1, {"stage": "x"}))
    trips.send(
        ("b", "ada", 4, {"project": "7", "stage": "y"}), ("b", "ada", 4, {"project": "8", "stage": "y"})
    )
    trips.send(("b", "ada", 4, {"project": "8", "stage": "x"}))
    assert known(trips) == {("7", "y"): [0, 4, None], ("8", "y"): [None, 4, None], ("8", "x"): [1, 4, None]}


@pytest.mark.parametrize(
    ("value", "part"),
    [
        pytest.param("7", "7", id="text"),
        pytest.param(7, "7", id="an integer is its decimal text"),
        pytest.param(["7"], "7", id="a list of one is its element"),
        pytest.param(" 7 ", "7", id="trimmed"),
        pytest.param("", "", id="empty is none"),
        pytest.param(True, "", id="a bool is none"),
        pytest.param(7.5, "", id="a fraction is none"),
        pytest.param(["7", "8"], "", id="a list of two is none"),
        pytest.param(None, "", id="missing"),
        pytest.param("x" * 512, "x" * 512, id="512 bytes"),
        pytest.param("x" * 513, "", id="513 bytes"),
        pytest.param('a"', 'a"', id="a quote stays"),
    ],
)
def test_parts_are_read_as_subject_ids(value: Any, part: str) -> None:
    assert part_of(value) == part


def test_a_key_is_covered_by_those_with_some_parts_empty() -> None:
    assert set(covering(("a", "b"))) == {("", ""), ("a", ""), ("", "b")}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        pytest.param(("subject", ""), [("key", 1)], id="an empty name"),
        pytest.param(("subject", "a", "a"), [("key", 2)], id="twice"),
        pytest.param(("subject", "a", "b", "c", "d"), [("key",)], id="too many"),
        pytest.param(("subject", "a", "b", "c"), [], id="three are fine"),
    ],
)
def test_keys_that_make_no_sense(key: tuple[str, ...], wrong: list[tuple[object, ...]]) -> None:
    assert [path for path, _, _ in check(journey(key=key))] == wrong


def expected(specs: Sequence[Spec]) -> dict[tuple[str, str], list[float | None]]:
    """(user, project) -> minutes, worked out from all events at once."""
    found: dict[tuple[str, str], list[float | None]] = {}
    for name, user, _, attributes in specs:
        if user and attributes.get("project") and name in "abc":
            found[user, attributes["project"]] = [None, None, None]
    for (user, project), times in found.items():
        for name, whose, minute, attributes in specs:
            of = attributes.get("project")
            if whose == user and name in "abc" and (of == project or (not of and name == "a")):
                place = "abc".index(name)
                before = times[place]
                times[place] = minute if before is None else min(before, minute)
    return found


events = st.lists(
    st.tuples(
        st.sampled_from("abcx"),
        st.sampled_from(["ada", "bob", None]),
        st.integers(0, 30).map(float),
        st.fixed_dictionaries({}, optional={"project": st.sampled_from("78"), "plan": st.sampled_from("pq")}),
    ),
    max_size=12,
)


@given(events, st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_and_batches_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, specs: list[Spec], data: st.DataObject
) -> None:
    """Whatever comes when: each journey is what all of its events together say, and is told once."""
    folder: Path = tmp_path_factory.mktemp("keys")
    world = World(folder, keyed(segments=(Segment("plan"),)))
    try:
        left = data.draw(st.permutations(specs + specs[:3]))
        while left:
            size = data.draw(st.integers(1, len(left)))
            world.send(*left[:size])
            left = left[size:]
            same_as_a_scan(world)
        found = {
            (user, key[0]): times for user in ("ada", "bob") for key, times in known(world, user).items()
        }
        assert found == expected(specs)
        told = world.rows("SELECT id FROM transition")
        assert len(told) == len(set(told))
        assert world.counter("ttf_started_total") == sum(times[0] is not None for times in found.values())
    finally:
        world.close()
