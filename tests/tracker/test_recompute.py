"""Journeys recomputed from stored events: what is left out is gone, nothing else is lost, and counts stay right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import Machine, until
from structlog.testing import capture_logs
from world import START, Spec, World, journey, milestone, request, same_as_a_scan, token

from otel_ttf.journey.definition import Segment
from otel_ttf.otlp.events import unpack_ids
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker.recompute import Recomputed, Refused, recompute
from otel_ttf.units import DAY, MINUTE


def id_of(spec: Spec) -> bytes:
    return unpack_ids(request([spec])[1])[0]


def run(
    world: World, user: str = "ada", *, without: Spec | None = None, dry: bool = False
) -> list[Recomputed]:
    world.store.begin()
    try:
        done = recompute(
            world.follower,
            [token(user)],
            world.now,
            without=without and id_of(without),
            dry=dry,
        )
    except Refused:
        world.follower.undo()
        raise
    world.store.commit()
    return done


EARLY: Spec = ("b", "ada", -300, {"plan": "early"})
SENT: list[Spec] = [
    ("a", "ada", 0, {"plan": "pro"}),
    ("b", "ada", 4, {}),
    ("c", "ada", 9, {}),
    ("a", "ben", 1, {}),
]


def state(world: World, user: str = "ada") -> tuple[object, ...]:
    return world.rows(
        "SELECT reached, segments, state, started, waiting, opened, touched, day FROM journey"
        f" WHERE subject = '{token(user)}'"
    )[0]


def test_without_an_event_it_is_as_if_it_had_never_come(world: World, make: Callable[..., World]) -> None:
    other = make()
    other.send(*SENT)
    world.send(*SENT, EARLY)
    assert world.minutes("ada") == [0, -300, 9]
    (done,) = run(world, without=EARLY)
    assert state(world) == state(other)
    assert done.before != done.after
    assert done.first[1] == id_of(EARLY)
    same_as_a_scan(world)
    assert world.rows(
        "SELECT kind, milestone, old, new, backfilled FROM transition ORDER BY position DESC LIMIT 1"
    ) == [("corrected", "b", START - 300 * MINUTE, START + 4 * MINUTE, 0)]
    assert world.counter("ttf_corrections_total") == 1
    assert world.counter("ttf_completion_total") == other.counter("ttf_completion_total") == 1


def test_again_it_changes_nothing(world: World) -> None:
    world.send(*SENT, EARLY)
    run(world, without=EARLY)
    before = world.rows("SELECT * FROM journey"), world.told(), world.reader.counters()
    for without in (EARLY, None, EARLY):
        assert all(one.before == one.after for one in run(world, without=without))
        world.follower.reload()
    assert (world.rows("SELECT * FROM journey"), world.told(), world.reader.counters()) == before


def test_it_stays_out_when_it_comes_again_also_after_a_restart(world: World) -> None:
    world.send(*SENT, EARLY)
    run(world, without=EARLY)
    world.send(EARLY)
    world.restart()
    world.send(EARLY, ("c", "ada", 20, {}))
    assert world.minutes("ada") == [0, 4, 9]
    # It is stored and counted all the same.
    assert world.rows("SELECT count(*) FROM event WHERE subject_hash IS NOT NULL") == [(6,)]


def test_an_event_that_is_left_out_before_it_matters(world: World) -> None:
    world.send(*SENT, ("b", "ada", 30, {}))
    (done,) = run(world, without=("b", "ada", 30, {}))
    assert done.before == done.after
    world.send(("b", "ada", 30, {}))
    assert world.minutes("ada") == [0, 4, 9]


def test_a_milestone_that_no_other_event_says_is_unknown_again(world: World) -> None:
    world.send(*SENT[:3], ("b", "ben", 5, {}), SENT[3])
    run(world, without=SENT[1])
    assert world.minutes("ada") == [0, None, 9]
    same_as_a_scan(world)
    assert world.rows(
        "SELECT kind, milestone, at, old, new FROM transition ORDER BY position DESC LIMIT 1"
    ) == [("corrected", "b", START + 4 * MINUTE, START + 4 * MINUTE, None)]
    told = world.told()
    world.now += MINUTE
    world.send(("b", "ada", 6, {}))
    assert world.minutes("ada") == [0, 6, 9]
    # `reached` and `completed` exist once for ever.
    assert world.told() == [*told, ("corrected", "b", 0)]
    assert world.rows("SELECT at, old, new, changed FROM transition ORDER BY position DESC LIMIT 1") == [
        (
            START + 6 * MINUTE,
            None,
            START + 6 * MINUTE,
            f'[["b",null,{6 * MINUTE}],["c",null,{3 * MINUTE}],["total",null,{9 * MINUTE}]]',
        )
    ]
    world.send(("b", "ada", 6, {}), ("b", "ada", 7, {}))
    assert len(world.told()) == len(told) + 1
    assert world.counter("ttf_completion_total") == 1
    same_as_a_scan(world)


def test_each_correction_has_an_id_of_its_own(world: World) -> None:
    world.send(*SENT)
    for spec in (EARLY, ("b", "ada", -200, {}), ("b", "ada", -300, {"plan": "again"})):
        world.now += 1
        world.send(spec)
        assert world.minutes("ada") == [0, spec[2], 9]
        world.now += 1
        run(world, without=spec)
        assert world.minutes("ada") == [0, 4, 9]
    assert world.rows("SELECT count(*), count(DISTINCT id) FROM transition WHERE kind = 'corrected'") == [
        (6, 6)
    ]


def test_of_whom_nothing_is_left_nothing_is_told_again(world: World) -> None:
    world.send(SENT[3])
    run(world, "ben", without=SENT[3])
    assert world.minutes("ben") == []
    world.sweep(3 * 24 * 60)
    world.send(("a", "ben", 2, {}))
    assert world.minutes("ben") == [2, None, None]
    assert world.counter("ttf_started_total") == 1
    assert [kind for kind, *_ in world.told()].count("started") == 1


def test_what_is_no_longer_stored_is_not_given_up(world: World) -> None:
    world.send(*SENT, EARLY)
    world.store.begin()
    world.store.db.execute("DELETE FROM event WHERE name = 'a'")
    world.store.commit()
    before = world.rows("SELECT * FROM journey")
    with pytest.raises(Refused, match="when a of trip was reached"):
        run(world)
    assert world.rows("SELECT * FROM journey") == before
    # Taking one event out needs only what that event has said.
    run(world, without=EARLY)
    assert world.minutes("ada") == [0, 4, 9]
    same_as_a_scan(world)


def test_what_was_told_before_it_came_is_known_although_its_event_is_gone(world: World) -> None:
    """storage.max_size lets go what came first."""
    world.send(*SENT)
    world.send(EARLY)
    world.store.begin()
    world.store.db.execute("DELETE FROM event WHERE id <= 4")
    world.store.commit()
    run(world, without=EARLY)
    assert world.minutes("ada") == [0, 4, 9]
    same_as_a_scan(world)


OLD = -100 * 24 * 60  # minutes: beyond retention, within max_event_age


def test_what_came_too_late_to_be_stored_is_not_given_up(world: World) -> None:
    """Events from before storage.retention.events move journeys and are not kept."""
    late: Spec = ("b", "ada", 30, {})
    world.send(("a", "ada", OLD, {}), ("b", "ada", OLD + 4, {}), ("c", "ada", 9, {}), late)
    known = [OLD, OLD + 4, 9]
    with pytest.raises(Refused, match="when a of trip, b of trip was reached") as refused:
        run(world)
    # Which events there are is told, for --without.
    (shown,) = refused.value.known
    assert shown.before == shown.after
    assert shown.first == {1: id_of(late), 2: id_of(("c", "ada", 9, {}))}
    run(world, without=late)
    assert world.minutes("ada") == known
    run(world, without=("c", "ada", 9, {}))
    assert world.minutes("ada") == [*known[:2], None]
    same_as_a_scan(world)


def test_an_event_whose_time_is_over_is_not_taken_out(world: World) -> None:
    """One that came after it, with a time not much later, may be gone already, or never have been stored."""
    world.send(("a", "ada", 0, {}), ("b", "ada", 4, {}))
    world.now = START + 30 * DAY + 5 * MINUTE
    world.send(("b", "ada", 4.5, {}))
    before = world.rows("SELECT * FROM journey")
    with pytest.raises(Refused, match=r"older than storage\.retention\.events"):
        run(world, without=("b", "ada", 4, {}))
    assert world.rows("SELECT * FROM journey") == before
    assert world.store.events.excluded() == []


def test_a_plan_whose_event_is_gone_stays(world: World) -> None:
    world.send(("seen", "ada", -5, {"plan": "free"}), *SENT)
    world.store.begin()
    world.store.db.execute("DELETE FROM event WHERE name = 'seen'")
    world.store.commit()
    run(world)
    assert json.loads(str(state(world)[1])) == {"plan": [START - 5 * MINUTE, "free"]}


@pytest.mark.parametrize("events", ["none", "milestones"])
def test_with_less_stored(make: Callable[..., World], events: str) -> None:
    world = make(events=events)
    world.send(*SENT, EARLY)
    if events == "none":
        with pytest.raises(Refused, match=r"storage\.events"):
            run(world)
        with pytest.raises(Refused, match="no stored event of this user has that id"):
            run(world, without=EARLY)
        assert world.minutes("ada") == [0, -300, 9]
    else:
        run(world, without=EARLY)
        assert world.minutes("ada") == [0, 4, 9]


def test_another_user_s_event_is_none_of_theirs(world: World) -> None:
    world.send(*SENT)
    with pytest.raises(Refused, match="no stored event of this user"):
        run(world, without=SENT[3])
    with pytest.raises(Refused, match="neither a journey nor a stored event"):
        run(world, "nobody")


def test_a_dry_run_writes_nothing(world: World) -> None:
    world.send(*SENT, EARLY)
    before = world.rows("SELECT * FROM journey"), world.told()
    (done,) = run(world, without=EARLY, dry=True)
    assert done.after.reached[1] == START + 4 * MINUTE
    assert (world.rows("SELECT * FROM journey"), world.told()) == before
    assert world.store.events.excluded() == []


def test_a_new_version_does_not_bring_it_back(world: World) -> None:
    world.send(*SENT, EARLY)
    changed = journey(milestones=(milestone("a", None), milestone("b", 5 * MINUTE), milestone("d", MINUTE)))
    world.restart(changed)
    world.jobs()
    assert world.minutes("ada") == [0, -300, None]
    run(world, without=EARLY)
    assert world.minutes("ada") == [0, 4, None]
    # Back to the first version, whose row still has it, and on to a third one.
    for again in (
        journey(segments=(Segment("plan"), Segment("channel"))),
        journey(complete_when="last"),
        changed,
    ):
        world.restart(again)
        world.now += DAY
        world.jobs()
    third = journey(milestones=(milestone("b", None), milestone("a", MINUTE)))
    world.restart(third)
    world.jobs()
    assert world.minutes("ada") == [4, 0]


def test_what_else_came_in_the_same_second_stays(world: World) -> None:
    """In a version that has not been recomputed itself, and of what the event said as well."""
    bad: Spec = ("c", "ada", 0, {"plan": "wrong"})
    world.send(("a", "ada", 0, {"plan": "pro"}), ("b", "ada", 4, {"plan": "late"}), bad)
    kept = state(world)[1]
    world.rows("DELETE FROM event WHERE name = 'a'")
    run(world, without=bad)
    assert world.minutes("ada") == [0, 4, None]
    assert state(world)[1] == kept
    changed = (milestone("a", None), milestone("b", 5 * MINUTE), milestone("d", MINUTE))
    world.restart(journey(milestones=changed))
    world.jobs()
    assert world.minutes("ada") == [0, 4, None]
    assert world.rows("SELECT DISTINCT segments FROM journey") == [(kept,)]
    # Once it is stored no longer, it may have said anything at that time.
    world.rows("DELETE FROM event")
    world.restart(journey(milestones=(*changed, milestone("c", MINUTE))))
    world.jobs()
    assert world.minutes("ada") == [None, 4, None, None]


async def test_the_tracker_does_it_once_over_a_crash(machine: Machine) -> None:
    await machine.send(*SENT, EARLY)
    machine.start()
    await machine.taken(1)
    await machine.stop()
    store = SqliteStore(machine.world.path)
    what = {"subjects": [token("ada")], "without": id_of(EARLY).hex(), "dry_run": False}
    number = store.tasks.ask("recompute", what, START)
    unknown = store.tasks.ask("recompute", what | {"without": bytes(16).hex()}, START)
    tracker = machine.made()
    machine.world.store.begin()
    task = machine.world.store.tasks.next()
    assert task is not None
    tracker._errands.do(task, START)
    machine.world.store.rollback()  # what kill -9 leaves
    await machine.restart()
    with capture_logs() as said:
        machine.start()
        await until(lambda: store.tasks.next() is None)
    assert [(line["event"], line["reason"][:15]) for line in said if line["log_level"] == "warning"] == [
        ("what an operator asked for was not done", "no stored event")
    ]
    answer = store.tasks.answered(number)
    assert answer["refused"] is None
    (journey_,) = answer["journeys"]
    assert journey_["changed"]
    assert journey_["milestones"][1] == {
        "milestone": "b",
        "before": START - 300 * MINUTE,
        "after": START + 4 * MINUTE,
        "event_id": id_of(EARLY).hex(),
    }
    assert store.tasks.answered(unknown)["refused"].startswith("no stored event")
    await machine.stop()
    assert machine.world.counter("ttf_corrections_total") == 1
    same_as_a_scan(machine.world)
    store.close()


async def test_a_defect_in_a_task_stops_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise KeyError("somebody@example.com")

    monkeypatch.setattr("otel_ttf.tracker.tasks.recompute", defect)
    store = SqliteStore(machine.world.path)
    number = store.tasks.ask("recompute", {"subjects": [], "without": None, "dry_run": True}, START)
    machine.start()
    await until(lambda: store.tasks.answered(number) is not None)
    assert store.tasks.answered(number)["failure"].startswith("KeyError at ")
    await machine.taken(await machine.send(*SENT))
    store.close()


def _first_gone(world: World, events: int) -> None:
    world.store.begin()
    world.store.db.execute("DELETE FROM event WHERE id <= ?", (events,))
    world.store.commit()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "seen"]),
        st.just("ada"),
        st.integers(-60, 60).map(float),
        st.sampled_from([{}, {"plan": "free"}, {"plan": "pro"}]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda spec: (spec[0], spec[2]),
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.data())
def test_any_events_left_out_in_any_order(sent: list[Spec], data: st.DataObject) -> None:
    left_out = data.draw(st.lists(st.sampled_from(sent), unique_by=id_of, max_size=3))
    late = data.draw(st.integers(0, len(sent)))
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        world, other = World(Path(one), journey()), World(Path(two), journey())
        world.send(*sent[:late])
        for spec in left_out:
            if spec in sent[:late]:
                run(world, without=spec)
        world.send(*sent[late:])
        for spec in left_out:
            run(world, without=spec)
        world.send(*sent)
        other.send(*[spec for spec in sent if spec not in left_out])
        assert world.minutes("ada") == other.minutes("ada")
        same_as_a_scan(world)
        again = world.rows("SELECT * FROM journey")
        run(world)
        assert world.rows("SELECT * FROM journey") == again
        known = {"ttf_started_total", "ttf_completion_total"}
        assert all(row.value == 1 for row in world.reader.counters() if row.metric in known)
        told = world.rows("SELECT id FROM transition")
        assert len(told) == len(set(told))
        for each in (world, other):
            each.close()


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.data())
def test_whatever_came_first_and_is_gone(sent: list[Spec], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(sent) - 1))
    gone = data.draw(st.integers(0, number))
    left_out = sent[number]
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        world, other = World(Path(one), journey()), World(Path(two), journey())
        for spec in sent:
            world.send(spec)
        _first_gone(world, gone)
        run(world, without=left_out)
        other.send(*[spec for spec in sent if spec != left_out])
        assert world.minutes("ada") == other.minutes("ada")
        same_as_a_scan(world)
        for each in (world, other):
            each.close()
