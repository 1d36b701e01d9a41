"""Journeys anew from stored events: nothing known is lost, nothing is told twice, and it takes over at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from world import START, Spec, World, journey, keyed, milestone, request, token

from otel_ttf.journey.definition import Journey, Segment
from otel_ttf.journey.rollup import add, share, unpack
from otel_ttf.journey.state import UNSET, State, timeline
from otel_ttf.journey.times import unpack_times
from otel_ttf.otlp.events import unpack_ids
from otel_ttf.store.base import Cohort
from otel_ttf.store.sqlite_rows import unpack_key, unpack_segments
from otel_ttf.tracker import rebuild
from otel_ttf.tracker.derived import EXPIRED_STATE
from otel_ttf.tracker.recompute import recompute
from otel_ttf.tracker.writes import with_level
from otel_ttf.units import DAY, MINUTE

USERS = ("ada", "ben", "cleo")


def other(*second: str, **more: Any) -> Journey:
    """trip, whose second milestone is reached by other events."""
    plain = journey(**more)
    milestones = (
        plain.milestones[0],
        milestone("b", 5 * MINUTE, *(second or ("b", "x"))),
        plain.milestones[2],
    )
    return replace(plain, milestones=milestones)


def begin(world: World, *names: str, max_size: int = 10 << 30) -> rebuild.Begun:
    world.store.begin()
    begun = rebuild.begin(world.follower, names, world.now, max_size=max_size)
    world.store.commit()
    return begun


def step(world: World) -> bool:
    world.store.begin()
    worked = world.follower.rebuilding and rebuild.step(world.follower, world.now)
    world.store.commit()
    return worked


def rebuilt(world: World) -> int:
    """Begins and goes on to the end; how many steps it took."""
    assert begin(world).refused is None
    steps = 0
    while step(world):
        steps += 1
    return steps


def known(world: World, version: str | None = None) -> dict[tuple[str, ...], list[float | None]]:
    """(user, key parts...) -> minutes after START."""
    return {
        (user, *row.key): [None if t == UNSET else (t - START) / MINUTE for t in row.state.reached]
        for user in USERS
        for row in world.reader.find("trip", [token(user)], version)
    }


def figures(world: World) -> dict[int, int]:
    counted: dict[int, int] = {}
    for cells in world.reader.shares("trip", Cohort()):
        add(counted, unpack(cells), 1)
    return {cell: count for cell, count in counted.items() if count}


def clean(world: World) -> None:
    """Nothing is left of what was, and nothing was told twice."""
    assert world.rows("SELECT * FROM rebuild") == []
    for table in ("journey", "rollup", "combo"):
        assert world.rows(f"SELECT 1 FROM {table} WHERE definition NOT IN (SELECT id FROM definition)") == []
    assert world.rows("SELECT id FROM transition GROUP BY id HAVING count(*) > 1") == []
    assert figures(world) == scanned(world)


def scanned(world: World) -> dict[int, int]:
    """Figures as all rows say."""
    trip = world.journeys[0]
    found: dict[int, int] = {}
    for key, reached, segments, told, stage in world.rows(
        "SELECT key, reached, segments, told, state FROM journey JOIN definition ON definition.id = definition"
        " WHERE current AND journey = 'trip'"
    ):
        names = [segment.attribute for segment in trip.segments]
        state = State(unpack_times(reached), unpack_segments(names, segments))  # type: ignore[arg-type]
        part = share(trip, timeline(trip, state), expired=stage == EXPIRED_STATE)
        if part is not None and "" not in unpack_key(key):  # type: ignore[arg-type]
            add(found, with_level(trip, part.cells, stage, told), 1)  # type: ignore[arg-type]
    return {cell: count for cell, count in found.items() if count}


SENT: list[Spec] = [
    ("a", "ada", 0, {"plan": "pro"}),
    ("x", "ada", 4, {}),
    ("c", "ada", 9, {}),
    ("a", "ben", 1, {}),
    ("b", "ben", 8, {}),
    ("x", "ben", 3, {}),
    ("x", "cleo", 3, {}),
]


@pytest.fixture
def changed(make: Callable[..., World]) -> World:
    """The second milestone is reached by x, too, since a moment ago."""
    world = make(journey())
    world.send(*SENT)
    world.restart(other())
    world.jobs()
    return world


def test_what_a_changed_milestone_would_have_seen_is_filled_in(changed: World) -> None:
    assert known(changed) == {("ada",): [0, None, 9], ("ben",): [1, None, None]}
    before, told = changed.counter("ttf_started_total"), len(changed.told())
    rebuilt(changed)
    assert known(changed) == {("ada",): [0, 4, 9], ("ben",): [1, 3, None], ("cleo",): [None, 3, None]}
    assert changed.counter("ttf_started_total") == before
    assert changed.counter("ttf_completion_total") == 0
    news = changed.told()[told:]
    assert sorted(news) == [("completed", None, 1), ("reached", "b", 1), ("reached", "b", 1)]
    clean(changed)


def test_old_versions_stay_as_they_were(changed: World) -> None:
    before = known(changed, journey().version)
    rebuilt(changed)
    assert known(changed, journey().version) == before


def test_a_time_that_became_earlier_is_a_correction_that_moves_no_counter(make: Callable[..., World]) -> None:
    world = make(other("b", "x"))
    world.send(*[spec for spec in SENT if spec[0] != "x"])
    # As if x had been stored and not followed.
    world.restart(journey(name="elsewhere"))
    world.send(*[spec for spec in SENT if spec[0] == "x"])
    world.restart(other("b", "x"))
    before = world.rows("SELECT * FROM counter ORDER BY metric")
    told = len(world.told())
    rebuilt(world)
    assert known(world)["ben",] == [1, 3, None]
    assert ("corrected", "b", 1) in world.told()[told:]
    assert world.rows("SELECT old, new FROM transition WHERE kind = 'corrected'") == [
        (START + 8 * MINUTE, START + 3 * MINUTE)
    ]
    assert world.rows("SELECT changed FROM transition WHERE kind = 'corrected'") == [
        (f'[["b",{7 * MINUTE},{2 * MINUTE}]]',)
    ]
    assert world.rows("SELECT * FROM counter ORDER BY metric") == before
    clean(world)


def test_times_whose_events_are_gone_stay(changed: World) -> None:
    changed.store.db.execute("DELETE FROM event WHERE name <> 'x'")
    rebuilt(changed)
    assert known(changed)["ada",] == [0, 4, 9]
    clean(changed)


def test_figures_are_those_of_before_until_all_of_it_takes_over(changed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(rebuild, "SUBJECTS", 1)
    before, single = figures(changed), known(changed)
    begin(changed)
    steps = 0
    while changed.follower.followed[0].beside is not None:
        assert (figures(changed), known(changed)) == (before, single)
        step(changed)
        steps += 1
    assert steps == 4
    after = figures(changed)
    assert after != before
    while step(changed):
        assert figures(changed) == after
    clean(changed)


def test_a_rebuild_of_the_same_definition_changes_nothing(make: Callable[..., World]) -> None:
    world = make(journey())
    world.send(*SENT)
    world.sweep(100)
    states = world.rows(
        "SELECT subject, reached, segments, told, recorded, state FROM journey ORDER BY subject"
    )
    before = (known(world), figures(world), world.told(), world.rows("SELECT * FROM counter"))
    rebuilt(world)
    assert (known(world), figures(world), world.told(), world.rows("SELECT * FROM counter")) == before
    assert (
        world.rows("SELECT subject, reached, segments, told, recorded, state FROM journey ORDER BY subject")
        == states
    )
    clean(world)


@pytest.mark.parametrize("at", range(8))
def test_ended_at_any_step_it_goes_on_there(changed: World, monkeypatch: Any, at: int) -> None:
    monkeypatch.setattr(rebuild, "SUBJECTS", 1)
    monkeypatch.setattr(rebuild, "ROWS", 1)
    monkeypatch.setattr(rebuild, "IDS", 1)
    begin(changed)
    for _ in range(at):
        step(changed)
    # kill -9 in the middle of the next one, and a start.
    changed.store.begin()
    rebuild.step(changed.follower, changed.now)
    changed.store.rollback()
    changed.restart()
    while step(changed):
        pass
    assert known(changed) == {("ada",): [0, 4, 9], ("ben",): [1, 3, None], ("cleo",): [None, 3, None]}
    clean(changed)


def test_twice_is_as_good_as_once(changed: World) -> None:
    rebuilt(changed)
    before = known(changed), figures(changed), changed.told()
    rebuilt(changed)
    assert (known(changed), figures(changed), changed.told()) == before
    clean(changed)


def test_asked_for_twice_it_runs_once(changed: World) -> None:
    assert begin(changed) == rebuild.Begun(("trip",), ())
    assert begin(changed, "trip") == rebuild.Begun((), ("trip",))


@pytest.mark.parametrize(
    ("names", "options", "max_size", "why"),
    [
        pytest.param(
            ("nowhere",), {}, 10 << 30, "no such journey: nowhere; followed are trip", id="no such journey"
        ),
        pytest.param((), {"events": "none"}, 10 << 30, "no event is stored", id="nothing is stored"),
        pytest.param((), {}, 1 << 20, "storage.max_size leaves", id="no room"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_begun(
    make: Callable[..., World], names: Sequence[str], options: dict[str, Any], max_size: int, why: str
) -> None:
    world = make(journey(), **options)
    world.send(*SENT)
    done = begin(world, *names, max_size=max_size)
    assert done.refused is not None
    assert why in done.refused
    assert world.rows("SELECT * FROM rebuild") == []


def test_a_full_disk_is_refused(changed: World, monkeypatch: Any) -> None:
    full = type("Usage", (), {"free": rebuild.SPARE})
    monkeypatch.setattr(rebuild.shutil, "disk_usage", lambda path: full)
    done = begin(changed)
    assert done.refused is not None
    assert "the disk has 0" in done.refused


def test_a_journey_that_changes_meanwhile_gives_it_up(changed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(rebuild, "SUBJECTS", 1)
    begin(changed)
    step(changed)
    changed.restart(other("b"))
    assert changed.follower.followed[0].rebuild is None
    changed.jobs()
    while step(changed):
        pass
    assert known(changed)["ben",] == [1, 8, None]
    clean(changed)


def test_other_settings_meanwhile_give_it_up_and_count_once(changed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(rebuild, "SUBJECTS", 1)
    begin(changed)
    step(changed)
    changed.restart(other(target=99 * MINUTE))
    changed.jobs()
    while step(changed):
        pass
    clean(changed)
    rebuilt(changed)
    assert known(changed)["ada",] == [0, 4, 9]
    clean(changed)


def test_other_settings_after_it_took_over_tell_what_is_left(changed: World) -> None:
    begin(changed)
    while changed.follower.followed[0].beside is not None:
        step(changed)
    changed.restart(other(target=99 * MINUTE))
    changed.jobs()
    while step(changed):
        pass
    assert known(changed)["ada",] == [0, 4, 9]
    assert changed.counter("ttf_completion_total") == 0
    clean(changed)


def test_an_event_that_comes_before_the_news_is_told_does_not_make_it_news(changed: World) -> None:
    begin(changed)
    while changed.follower.followed[0].beside is not None:
        step(changed)
    stages = changed.counter("ttf_completion_total")
    changed.send(("a", "ada", 5, {}), ("c", "ben", 30, {}))
    assert changed.counter("ttf_completion_total") == stages + 1  # ben's, who is complete by that
    while step(changed):
        pass
    assert [row for row in changed.told() if row[0] == "completed"] == [
        ("completed", None, 1),
        ("completed", None, 0),
    ]
    clean(changed)


def test_an_event_that_is_left_out_meanwhile_is_left_out(changed: World) -> None:
    begin(changed)
    step(changed)  # all three, not yet taken over
    changed.store.begin()
    recompute(changed.follower, [token("ada")], changed.now, without=unpack_ids(request([SENT[1]])[1])[0])
    changed.store.commit()
    while step(changed):
        pass
    assert known(changed)["ada",] == [0, None, 9]
    clean(changed)


def test_users_are_overdue_as_ever(changed: World) -> None:
    begin(changed)
    step(changed)
    changed.sweep(100)
    while step(changed):
        pass
    changed.sweep(101)
    overdue = [level for kind, level, _ in changed.told() if kind == "overdue"]
    assert overdue == ["warning", "critical", "escalation"] * 2
    clean(changed)


def test_keys_beyond_the_subject_are_filled_in_each(make: Callable[..., World]) -> None:
    world = make(keyed(shared=()))
    world.send(("a", "ada", 0, {}), ("b", "ada", 4, {"project": "7"}), ("b", "ada", 5, {"project": "8"}))
    assert known(world) == {("ada", "7"): [None, 4, None], ("ada", "8"): [None, 5, None]}
    world.restart(keyed())
    world.jobs()
    rebuilt(world)
    assert known(world) == {("ada", "7"): [0, 4, None], ("ada", "8"): [0, 5, None]}
    world.send(("b", "ada", 6, {"project": "9"}))
    assert known(world)["ada", "9"] == [0, 6, None]
    clean(world)


event_specs = st.tuples(
    st.sampled_from("abcx"),
    st.sampled_from(USERS),
    st.integers(0, 30).map(float),
    st.fixed_dictionaries({}, optional={"project": st.sampled_from("78"), "plan": st.sampled_from("pq")}),
)


@pytest.mark.parametrize("keys", [False, True], ids=["one journey each", "with keys"])
@given(
    st.lists(event_specs, max_size=10),
    st.lists(st.one_of(st.just("step"), st.just("restart"), st.just("sweep"), event_specs), max_size=14),
    st.sets(st.integers(0, 9)),
)
@example([("b", "ada", 0.0, {"project": "7"})], [("a", "ada", 0.0, {})], {1})
@example([("a", "ada", 1.0, {"project": "7"})], [("a", "ada", 0.0, {})], {1})
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_what_a_fresh_run_would_know_and_what_was_known(
    tmp_path_factory: pytest.TempPathFactory,
    keys: bool,
    before: list[Spec],
    meanwhile: list[Any],
    gone: set[int],
) -> None:
    """Whatever comes between its steps, and whichever events are stored no longer."""
    first: Journey = keyed(segments=(Segment("plan"),)) if keys else journey()
    second = replace(first, milestones=(first.milestones[0], other().milestones[1], first.milestones[2]))
    world = World(tmp_path_factory.mktemp("rebuilt"), first)
    fresh = World(tmp_path_factory.mktemp("fresh"), second)
    rebuild_subjects, rebuild.SUBJECTS = rebuild.SUBJECTS, 1
    try:
        hasty(fresh)
        hasty(world)
        world.send(*before)
        world.restart(second)
        hasty(world)
        world.jobs()
        for number in gone:
            world.store.db.execute("DELETE FROM event WHERE id = ?", (number,))
        old = known(world)
        stored = [spec for spec in before if _stored(world, spec)]
        started = world.counter("ttf_started_total")
        begin(world)
        later: list[Spec] = []
        for what in meanwhile:
            if what == "step":
                step(world)
            elif what == "restart":
                world.restart()
                hasty(world)
            elif what == "sweep":
                world.sweep((world.now - START) / MINUTE + 1)
            else:
                later.append(what)
                world.send(what)
        while step(world):
            pass
        clean(world)
        fresh.now = world.now
        fresh.send(*stored, *later)
        expected = known(fresh)
        for whose, times in old.items():
            expected[whose] = [
                min((t for t in pair if t is not None), default=None)
                for pair in zip(times, expected.get(whose, [None] * 3), strict=True)
            ]
        if not keys:
            assert known(world) == expected
        else:
            # A key that is known from an event that is gone gets what is shared, also of later ones; and what is shared
            # and gone goes to those keys, too, that came later.
            found = known(world)
            keys_before = {(user, more["project"]) for _, user, _, more in before if "project" in more}
            assert expected.keys() <= found.keys() <= expected.keys() | keys_before
            for whose, times in found.items():
                fresh_times = expected.get(whose, [None] * 3)
                assert times[1:] == fresh_times[1:]
                assert times[0] == fresh_times[0] or times[0] in [
                    at for name, user, at, _ in (*before, *later) if (name, user) == ("a", whose[0])
                ]
        assert world.counter("ttf_started_total") >= started
        assert _started(world) == world.counter("ttf_started_total") + _backfilled_starts(world)
    finally:
        rebuild.SUBJECTS = rebuild_subjects
        world.close()
        fresh.close()


def hasty(world: World) -> None:
    """Nobody cuts the power here, and a disk that others use is slow."""
    world.store.db.execute("PRAGMA synchronous=OFF")


def _stored(world: World, spec: Spec) -> bool:
    id_ = unpack_ids(request([spec])[1])[0]
    return bool(world.store.db.execute("SELECT 1 FROM event WHERE event_id = ?", (id_,)).fetchone())


def _started(world: World) -> int:
    return len([row for row in world.told() if row[0] == "started"])


def _backfilled_starts(world: World) -> int:
    return len([row for row in world.told() if row[0] == "started" and row[2]])


def test_days_of_time_do_not_matter(make: Callable[..., World]) -> None:
    """Segments that wait for a journey go after a while, beside it, too."""
    world = make(journey())
    world.send(("seen", "ada", 0, {"plan": "pro"}))
    rebuilt(world)
    world.sweep(3 * DAY / MINUTE)
    assert world.rows("SELECT count(*) FROM journey") == [(0,)]
