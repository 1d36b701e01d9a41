"""What one transaction of the tracker does to the store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import START, World, journey, milestone, same_as_a_scan, token

from otel_ttf.journey.definition import Segment
from otel_ttf.journey.match import parse
from otel_ttf.journey.rollup import unpack
from otel_ttf.store.base import Cohort, NotReady, StoreRefused
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.units import DAY, HOUR, MINUTE

PLAN = {"plan": "pro"}


def test_milestones_arrive_and_are_found(world: World) -> None:
    world.send(("a", "ada", 0, PLAN), ("b", "ada", 4, {}))
    assert world.minutes("ada") == [0, 4, None]
    world.send(("c", "ada", 9, {}))
    assert world.minutes("ada") == [0, 4, 9]
    assert [kind for kind, _, _ in world.told()] == ["started", "reached", "reached", "completed"]


def test_a_late_event_moves_the_milestone_back(world: World) -> None:
    world.send(("a", "ada", 0, {}), ("b", "ada", 20, {}))
    world.send(("b", "ada", 10, {}))
    assert world.minutes("ada") == [0, 10, None]
    assert ("corrected", "b", 0) in world.told()
    assert world.counter("ttf_corrections_total") == 1


def test_the_same_request_twice_changes_nothing(world: World) -> None:
    events = [("a", "ada", 0, PLAN), ("b", "ada", 4, {}), ("c", "ada", 9, {}), ("d", "ada", 9, {})]
    world.send(*events)
    before = world.rows("SELECT * FROM journey"), world.told(), world.rows("SELECT count(*) FROM event")
    world.send(*events)
    assert (
        world.rows("SELECT * FROM journey"),
        world.told(),
        world.rows("SELECT count(*) FROM event"),
    ) == before
    assert world.counter("ttf_started_total") == world.counter("ttf_completion_total") == 1


def test_a_rolled_back_transaction_leaves_nothing(world: World) -> None:
    world.store.begin()
    world.follower.counts.combo(1, world.journeys[0], ("pro",))
    world.follower.undo()
    world.send(("a", "ada", 0, PLAN))
    assert world.rows("SELECT count(*) FROM combo") == [(1,)]
    assert world.rows("SELECT position FROM transition") == [(1,)]


def test_positions_of_transitions_have_no_gap(world: World) -> None:
    for n in range(20):
        world.send(("a", f"u{n}", n, {}), ("b", f"u{n}", n + 1, {}))
        if n % 5 == 0:
            world.restart()
    assert world.rows("SELECT position FROM transition") == [(n + 1,) for n in range(40)]


def test_a_match_without_a_user_is_told_and_moves_nothing(world: World) -> None:
    world.send(("a", None, 0, {}))
    assert world.missing == {("subject", "a"): 1}
    assert world.rows("SELECT count(*) FROM journey") == [(0,)]
    assert world.rows("SELECT subject FROM event") == [(None,)]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        pytest.param("named", ["a", "other"], id="named keeps every named event"),
        pytest.param("milestones", ["a"], id="milestones keeps what matched"),
        pytest.param("none", [], id="none keeps nothing"),
    ],
)
def test_storage_events_says_which_are_kept(make: Callable[..., World], mode: str, kept: list[str]) -> None:
    world = make(events=mode)
    world.send(("a", "ada", 0, {}), ("other", "ada", 1, {}))
    assert [name for (name,) in world.rows("SELECT name FROM event ORDER BY name")] == kept
    assert world.minutes("ada") == [0, None, None]


def test_old_events_move_journeys_but_are_not_kept(make: Callable[..., World]) -> None:
    world = make(retention=DAY)
    world.send(("a", "ada", 0, {}), minute=3 * 24 * 60)
    assert world.minutes("ada") == [0, None, None]
    assert world.rows("SELECT count(*) FROM event") == [(0,)]


def test_events_go_when_their_time_has_come(world: World) -> None:
    world.send(("a", "ada", 0, {}), ("b", "ada", 50 * 60, {}), minute=50 * 60)
    world.store.begin()
    world.store.events.forget(START + DAY, START + DAY)
    world.store.commit()
    assert world.rows("SELECT name FROM event") == [("b",)]


def test_seen_names_count_and_say_what_matched(world: World) -> None:
    world.send(("a", "ada", 0, {}), ("a", "bob", 1, {}), ("other", "ada", 1, {}))
    seen = {name.name: (name.kind, name.count, name.matched) for name in world.reader.names()}
    assert seen == {"a": ("event", 2, ("trip.a",)), "other": ("event", 1, ())}


class TestSegments:
    def test_the_first_touched_value_wins_also_from_before_the_start(self, world: World) -> None:
        world.send(("seen", "ada", -5, {"plan": "free"}))
        assert world.minutes("ada") == []
        world.send(("a", "ada", 0, PLAN))
        (row,) = world.reader.find("trip", [token("ada")])
        assert row.state.segments == ((START - 5 * MINUTE, "free"),)

    def test_a_value_that_turns_out_earlier_moves_the_counts(self, world: World) -> None:
        world.send(("a", "ada", 0, PLAN))
        world.send(("seen", "ada", -5, {"plan": "free"}))
        counts = {
            plan: [unpack(cells) for cells in world.reader.shares("trip", Cohort(segments={"plan": plan}))]
            for plan in ("pro", "free")
        }
        assert not any(any(cells.values()) for cells in counts["pro"])
        assert any(any(cells.values()) for cells in counts["free"])

    def test_values_beyond_the_limit_are_other_in_figures(self, make: Callable[..., World]) -> None:
        world = make(journey(segments=(Segment("plan", limit=2),)))
        world.send(*[("a", f"u{n}", 0, {"plan": f"p{n}"}) for n in range(5)])
        sizes = {
            plan: len(world.reader.shares("trip", Cohort(segments={"plan": plan})))
            for plan in ("p0", "p1", "p2", "other")
        }
        assert sizes == {"p0": 1, "p1": 1, "p2": 0, "other": 1}
        (row,) = world.reader.find("trip", [token("u4")])
        assert row.state.segments[0] == (START, "p4")

    def test_rows_that_only_hold_segments_go_after_give_up(self, world: World) -> None:
        world.send(("seen", "ada", 0, PLAN), minute=0)
        world.sweep(24 * 60 - 1)
        assert world.rows("SELECT count(*) FROM journey") == [(1,)]
        world.sweep(24 * 60 + 1)
        assert world.rows("SELECT count(*) FROM journey") == [(0,)]


class TestTime:
    def test_overdue_and_expired_are_written_once_also_over_a_restart(self, world: World) -> None:
        world.send(("a", "ada", 0, {}), minute=0)
        world.sweep(19)
        assert world.told() == [("started", "a", 0)]
        for minute in (21, 22, 45, 61, 24 * 60 + 1):
            world.sweep(minute)
            world.restart()
        world.sweep(24 * 60 + 2)
        assert world.told()[1:] == [
            ("overdue", "warning", 0),
            ("overdue", "critical", 0),
            ("overdue", "escalation", 0),
            ("expired", None, 0),
        ]
        assert world.counter("ttf_expired_total") == 1
        assert world.rows("SELECT state, due FROM journey") == [(3, None)]

    def test_nothing_before_settle(self, world: World) -> None:
        world.send(("a", "ada", 0, {}), minute=30)
        world.sweep(30.5)
        assert world.told() == [("started", "a", 0)]
        world.sweep(31.1)
        assert world.told()[1:] == [("overdue", "warning", 0)]

    def test_a_journey_waits_for_its_own_settle_after_our_start(self, make: Callable[..., World]) -> None:
        world = make(journey(settle=HOUR), journey(name="quick"))
        world.send(("a", "ada", 0, {}), minute=0)
        for up, told in ((MINUTE - 1, 0), (MINUTE, 1), (HOUR, 2)):
            world.store.begin()
            world.follower.sweep(START + 2 * HOUR, up=up)
            world.store.commit()
            overdue = world.rows("SELECT DISTINCT journey FROM transition WHERE kind = 'overdue'")
            assert len(overdue) == told

    def test_deadlines_long_past_at_recording_are_backfilled_and_move_no_counter(self, world: World) -> None:
        world.send(("a", "ada", 0, {}), minute=5 * 24 * 60)
        world.sweep(5 * 24 * 60 + 2)
        assert ("expired", None, 1) in world.told()
        assert world.counter("ttf_expired_total") == 0

    def test_completed_after_expired(self, world: World) -> None:
        world.send(("a", "ada", 0, {}), ("b", "ada", 1, {}), minute=0)
        world.sweep(24 * 60 + 1)
        world.send(("c", "ada", 24 * 60 + 5, {}), minute=24 * 60 + 6)
        assert world.rows("SELECT after_expiry FROM transition WHERE kind = 'completed'") == [(1,)]
        assert world.rows("SELECT state FROM journey") == [(2,)]


class TestVersions:
    def test_a_new_version_carries_over_by_match_without_counting_again(
        self, make: Callable[..., World]
    ) -> None:
        world = make()
        for n in range(7):
            world.send(("a", f"u{n}", n, PLAN), ("b", f"u{n}", n + 4, {}))
        first = journey().version
        second = journey(
            milestones=(milestone("a", None), milestone("bee", 5 * MINUTE, "b"), milestone("x", MINUTE))
        )
        world.restart(second)
        with pytest.raises(NotReady):
            world.reader.shares("trip", Cohort())
        assert world.minutes("u6") == [6, 10, None], "single users answer while others are being carried over"
        world.send(("x", "u3", 20, {}))
        assert world.minutes("u3") == [3, 7, 20]
        assert world.jobs() > 1
        assert [world.minutes(f"u{n}")[:2] for n in range(7)] == [[n, n + 4] for n in range(7)]
        assert world.counter("ttf_started_total") == 7
        counted = Counter(world.told())
        assert counted["started", "a", 0] == 7
        assert counted["started", "a", 1] == 0
        assert counted["completed", None, 0] == 1
        assert world.minutes("u1", version=first) == [1, 5, None]
        assert world.reader.versions("trip")[0].complete_since is not None

    def test_going_back_to_the_old_version_joins_what_came_meanwhile(
        self, make: Callable[..., World]
    ) -> None:
        world = make()
        world.send(("a", "ada", 0, {}))
        world.restart(journey(milestones=(milestone("a", None), milestone("b", 5 * MINUTE))))
        world.jobs()
        world.send(("b", "ada", 4, {}), ("a", "bob", 2, {}))
        world.restart(journey())
        world.jobs()
        assert world.minutes("ada") == [0, 4, None]
        assert world.minutes("bob") == [2, None, None]
        same_as_a_scan(world)

    def test_another_key_or_only_starts_empty(self, make: Callable[..., World]) -> None:
        world = make()
        world.send(("a", "ada", 0, {}))
        world.restart(journey(only=parse({"attributes": {"env": {"not": "test"}}})))
        world.jobs()
        assert world.minutes("ada") == []
        assert world.minutes("ada", version=journey().version) == [0, None, None]

    def test_other_targets_make_no_version_and_are_counted_anew(self, make: Callable[..., World]) -> None:
        world = make()
        for n in range(5):
            world.send(("a", f"u{n}", n, PLAN), ("b", f"u{n}", n + 4, {}))
        strict = journey(milestones=(milestone("a", None), milestone("b", MINUTE), milestone("c", MINUTE)))
        world.restart(strict)
        assert strict.version == journey().version
        with pytest.raises(NotReady):
            world.reader.shares("trip", Cohort())
        world.send(("c", "u4", 30, {}), ("a", "new", 3, {}))
        world.jobs()
        same_as_a_scan(world)
        assert world.counter("ttf_started_total") == 6

    def test_a_rollback_in_the_middle_of_counting_anew_loses_no_row(self, make: Callable[..., World]) -> None:
        world = make()
        for n in range(5):
            world.send(("a", f"u{n}", n, PLAN))
        world.restart(journey(target=MINUTE))
        world.store.begin()
        world.follower.recount(world.follower.followed[0], 2, world.now)
        world.follower.undo()
        world.jobs()
        same_as_a_scan(world)


class TestRefusal:
    def test_a_store_of_a_newer_version(self, world: World) -> None:
        world.store.db.execute("PRAGMA user_version=999")
        world.close()
        with pytest.raises(StoreRefused, match="newer otel_ttf"):
            SqliteStore(world.path)

    def test_a_store_written_with_another_key(self, world: World) -> None:
        world.store.check_keys("e1", ["s1"], 1)
        world.store.check_keys("e1", ["s1", "s0"], 2)
        with pytest.raises(StoreRefused, match="cannot be rotated"):
            world.store.check_keys("e1", ["s2", "s1"], 3)
        with pytest.raises(StoreRefused, match="s1"):
            world.store.check_keys("e1", ["s2"], 3)
        with pytest.raises(StoreRefused, match="event key"):
            world.store.check_keys("e2", ["s1"], 3)

    def test_a_file_that_is_no_store(self, tmp_path: Path) -> None:
        (tmp_path / "store.db").write_bytes(b"not a database at all" * 100)
        with pytest.raises(StoreRefused, match="cannot be opened"):
            SqliteStore(tmp_path / "store.db")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "seen"]),
        st.sampled_from(["u1", "u2"]),
        st.integers(0, 30).map(float),
        st.sampled_from([{}, {"plan": "free"}, {"plan": "pro"}]),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.data())
def test_the_rollup_equals_a_scan_in_any_order_and_any_batches(
    events: list[object], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events + events))
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        straight, mixed = World(Path(folder), journey()), World(Path(other), journey())
        straight.now = mixed.now = START + HOUR
        straight.send(*events)  # type: ignore[arg-type]
        for chunk in _batched(shuffled, 3):
            mixed.send(*chunk)
            same_as_a_scan(mixed)
        for user in ("u1", "u2"):
            ours = [replace(row, id=0, told=0) for row in straight.reader.find("trip", [token(user)])]
            assert ours == [replace(row, id=0, told=0) for row in mixed.reader.find("trip", [token(user)])]
        for metric in ("ttf_started_total", "ttf_completion_total"):
            assert straight.counter(metric) == mixed.counter(metric)
        ids = [id_ for (id_,) in mixed.rows("SELECT id FROM transition")]
        assert len(ids) == len(set(ids))
        assert mixed.rows("SELECT count(*) FROM event") == [(len({repr(e) for e in events}),)]
        straight.close()
        mixed.close()


def _batched(items: list[object], size: int) -> list[list[object]]:
    return [items[n : n + size] for n in range(0, len(items), size)]


def test_sqlite_is_set_up_as_measured(world: World) -> None:
    pragma = {
        name: world.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "auto_vacuum")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        world.reader._db.execute("DELETE FROM journey")
