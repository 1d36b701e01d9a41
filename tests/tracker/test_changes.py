"""Journeys that are edited, removed and put back; what must not drift, and what must not be told twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from world import START, World, journey, milestone, same_as_a_scan, token

from otel_ttf.journey.definition import Journey, Segment
from otel_ttf.journey.match import parse
from otel_ttf.journey.rollup import overdue_cells, scalars
from otel_ttf.store.base import Cohort
from otel_ttf.units import DAY, HOUR, MINUTE

Make = Callable[..., World]


def other_journey() -> Journey:
    return journey(
        name="checkout", milestones=(milestone("open", None), milestone("pay", MINUTE)), segments=()
    )


def _levels(world: World) -> dict[str, int]:
    return overdue_cells(world.reader.shares("trip", Cohort()))


class TestSettings:
    def test_what_is_complete_by_another_setting_is_told_and_moves_no_counter(self, make: Make) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), ("c", "ada", 9, {}), ("a", "bob", 0, {}))
        world.restart(journey(complete_when="last"))
        world.jobs()
        assert world.told()[-1] == ("completed", None, 1)
        assert world.counter("ttf_completion_total") == 0
        assert world.rows("SELECT count(*) FROM histogram") == [(0,)]
        assert world.rows("SELECT state FROM journey ORDER BY id") == [(2,), (1,)]
        same_as_a_scan(world)
        world.send(("b", "ada", 4, {}))
        world.restart(journey())
        world.jobs()
        assert [kind for kind, _, _ in world.told()].count("completed") == 1

    def test_a_row_that_goes_meanwhile_hides_no_row_from_counting_anew(self, make: Make) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), minute=0)
        world.send(("seen", "bob", 0, {"plan": "pro"}), minute=0)
        world.restart(journey(target=MINUTE))
        (trip,) = world.follower.followed
        world.store.begin()
        world.follower.recount(trip, 2, world.now)  # both rows; where it ends is not known yet
        world.store.commit()
        assert trip.definition.recounting is not None
        world.sweep(24 * 60 + 1)
        world.send(("a", "eve", 0, {}))  # would take the place of the row that went
        world.jobs()
        assert scalars(world.reader.shares("trip", Cohort())).started == 2

    def test_longer_patience_brings_expired_journeys_back(self, make: Make) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), minute=0)
        world.sweep(24 * 60 + 1)
        world.restart(journey(give_up_after=2 * DAY))
        world.jobs()
        assert world.rows("SELECT state FROM journey") == [(1,)]
        assert scalars(world.reader.shares("trip", Cohort())).expired == 0
        world.sweep(48 * 60 + 1)
        assert scalars(world.reader.shares("trip", Cohort())).expired == 1
        assert [kind for kind, _, _ in world.told()].count("expired") == 1


class TestGoingBack:
    def test_levels_told_of_another_version_leave_no_trace_in_the_old_ones_counts(self, make: Make) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), minute=0)
        world.sweep(21)
        assert _levels(world) == {"warning": 1, "critical": 0, "escalation": 0}
        world.restart(journey(milestones=(milestone("a", None), milestone("b", 5 * MINUTE))))
        world.jobs()
        world.sweep(45)
        world.restart(journey())
        world.jobs()
        assert _levels(world) == {"warning": 0, "critical": 1, "escalation": 0}

    @pytest.mark.parametrize(
        "meanwhile",
        [
            pytest.param([other_journey()], id="the journey was not configured for a while"),
            pytest.param(
                [journey(only=parse({"attributes": {"env": "prod"}}))], id="another version had another only"
            ),
        ],
    )
    def test_deadlines_outlive_being_followed(self, make: Make, meanwhile: list[Journey]) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), minute=0)
        world.restart(*meanwhile)
        world.jobs()
        world.sweep(30)
        assert world.told() == [("started", "a", 0)]
        world.restart(journey())
        world.jobs()
        world.sweep(24 * 60 + 1)
        assert world.told()[1:] == [("expired", None, 0)]

    def test_nobody_is_overdue_who_went_on_under_another_version(self, make: Make) -> None:
        world = make()
        world.send(("a", "ada", 0, {}), minute=0)
        world.restart(
            journey(milestones=(milestone("a", None), milestone("c", MINUTE), milestone("b", MINUTE)))
        )
        world.jobs()
        world.send(("b", "ada", 1, {}), ("c", "ada", 2, {}), minute=3)
        world.restart(journey())
        # Before the versions are joined, the old row knows nothing of b and c.
        world.sweep(70)
        world.jobs()
        assert {kind for kind, _, _ in world.told()} == {"started", "reached", "completed"}
        assert [kind for kind, _, _ in world.told()].count("completed") == 1
        same_as_a_scan(world)

    def test_versions_lie_mixed_and_a_step_is_small_all_the_same(self, make: Make) -> None:
        world = make(journey(), other_journey())
        world.send(("a", "first", 0, {}))
        for n in range(30):
            world.send(*[("open", f"u{n}-{m}", n, {}) for m in range(10)])
        world.send(("a", "last", 0, {}))
        found, after, steps = [], 0, 0
        definition = world.follower.followed[0].definition.id
        while True:
            rows, more = world.store.walk([definition], after, 2)
            found += [subject for _, subject in rows]
            steps += 1
            if more is None:
                break
            after = more
        assert found == [token("first"), token("last")]
        assert steps == 4  # 302 rows, 100 to a step


class TestTwoJourneys:
    def test_one_event_moves_both(self, make: Make) -> None:
        world = make(journey(), journey(name="second", segments=()))
        world.send(("a", "ada", 0, {}), ("b", "ada", 4, {}))
        assert world.minutes("ada") == world.minutes("ada", "second") == [0, 4, None]
        assert world.counter("ttf_started_total") == 2

    def test_a_sweep_does_a_bounded_piece_for_all_of_them(self, make: Make) -> None:
        world = make(journey(), other_journey())
        world.send(*[(name, f"u{n}", 0, {}) for n in range(3) for name in ("a", "open")], minute=0)
        world.now = START + 21 * MINUTE
        steps = []
        for _ in range(3):
            world.store.begin()
            steps.append((world.follower.sweep(world.now, 4), len(world.told())))
            world.store.commit()
        assert steps == [(True, 10), (False, 12), (False, 12)]


class TestRollback:
    def test_values_that_came_in_a_failed_transaction_come_first_again(self, make: Make) -> None:
        world = make(journey(segments=(Segment("plan", limit=1),)))
        world.store.begin()
        world.follower.counts.combo(1, world.journeys[0], ("pro",))
        world.follower.undo()
        world.send(("a", "ada", 0, {"plan": "pro"}))
        assert world.rows("SELECT value, place FROM label") == [("pro", 0)]


class TestFigures:
    def test_what_expired_before_it_was_recorded_is_unswept_also_while_we_lag(self, world: World) -> None:
        world.send(("a", "ada", 0, {}), minute=10 * 24 * 60)
        as_of = world.now - 6 * HOUR  # the log holds six hours more
        count = world.reader.unswept("trip", Cohort(), started_until=as_of - DAY, recorded_until=world.now)
        assert count == 1

    def test_a_snapshot_stands_still(self, world: World) -> None:
        world.send(("a", "ada", 0, {}))
        with world.reader.snapshot():
            before = world.reader.shares("trip", Cohort())
            world.send(("a", "bob", 0, {}))
            with world.reader.snapshot():
                assert world.reader.shares("trip", Cohort()) == before
            assert world.reader.shares("trip", Cohort()) == before
        assert scalars(world.reader.shares("trip", Cohort())).started == 2


def _plan(world: World, ask: Callable[[], object]) -> str:
    """How SQLite finds the rows of the questions asked."""
    asked: list[str] = []
    connections = (world.store.db, world.reader._db)
    for connection in connections:
        connection.set_trace_callback(asked.append)
    try:
        ask()
    finally:
        for connection in connections:
            connection.set_trace_callback(None)
    steps = [
        row[3]
        for sql in asked
        if "FROM journey " in sql
        for row in world.store.db.execute(f"EXPLAIN QUERY PLAN {sql}")
    ]
    assert steps
    return "; ".join(steps)


COHORT = Cohort(20_000, 20_001, {"plan": "pro"})


@pytest.mark.parametrize(
    ("ask", "uses"),
    [
        pytest.param(
            lambda w: w.store.load(1, ["plan"], [token("ada")]),
            "journey_subject (subject_hash=? AND definition=?)",
            id="rows of some subjects",
        ),
        pytest.param(
            lambda w: w.reader.find("trip", [token("ada")]),
            "journey_subject (subject_hash=? AND definition=?)",
            id="one user",
        ),
        pytest.param(
            lambda w: w.store.due(1, START, 10), "journey_due (definition=? AND due<?)", id="the sweep"
        ),
        pytest.param(
            lambda w: w.store.walk([1], 0, 10), "PRIMARY KEY (rowid>? AND rowid<?)", id="counting anew"
        ),
        pytest.param(
            lambda w: w.reader.unswept("trip", COHORT, started_until=START, recorded_until=START),
            "journey_due (definition=? AND due<?)",
            id="who has expired and is not marked yet",
        ),
        pytest.param(
            lambda w: w.reader.young("trip", COHORT, touched_after=START),
            "journey_touched (definition=? AND touched>?)",
            id="what is young",
        ),
        pytest.param(
            lambda w: w.reader.stuck(
                "trip", 1, opened_until=START, started_after=0, after=(START, 5), limit=10
            ),
            "journey_waiting (definition=? AND waiting=? AND opened>? AND opened<?)",
            id="a page of the stuck",
        ),
    ],
)
def test_questions_use_their_index_and_sort_nothing(
    world: World, ask: Callable[[World], object], uses: str
) -> None:
    world.send(("a", "ada", 0, {"plan": "pro"}))
    plan = _plan(world, lambda: ask(world))
    assert uses in plan
    assert "SCAN journey" not in plan
    assert "TEMP B-TREE" not in plan
