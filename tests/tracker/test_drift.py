"""Whatever happens in whatever order, the counts are those of the rows, and nothing is told twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from world import START, World, journey, milestone, token

from otel_ttf.journey.definition import LEVELS, Segment
from otel_ttf.journey.match import parse
from otel_ttf.journey.rollup import add, overdue_cell, share, unpack
from otel_ttf.journey.state import timeline
from otel_ttf.journey.transitions import told_bit
from otel_ttf.store.base import Cohort
from otel_ttf.store.sqlite_rows import STATES
from otel_ttf.tracker.recompute import Refused, recompute
from otel_ttf.units import HOUR, MINUTE

A, B, C = milestone("a", None), milestone("b", 5 * MINUTE), milestone("c", 10 * MINUTE)
# The same name all the time: edited, cut short, turned round, with other settings, with another `only`.
VARIANTS = [
    journey(),
    journey(milestones=(A, B)),
    journey(milestones=(A, C, B)),
    journey(target=MINUTE, complete_when="last", give_up_after=2 * HOUR),
    journey(segments=(Segment("plan", limit=1), Segment("channel"))),
    journey(only=parse({"attributes": {"plan": "pro"}})),
    journey(milestones=(milestone("a", None, "seen"), B)),
    journey(name="another"),
]
USERS = ["u1", "u2", "u3"]
SENT = st.tuples(
    st.sampled_from(["a", "b", "c", "seen"]),
    st.sampled_from(USERS),
    st.integers(0, 90).map(float),
    st.sampled_from([{}, {"plan": "free"}, {"plan": "pro"}, {"channel": "ads"}]),
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(SENT, min_size=1, max_size=4)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 90, 26 * 60])),
        st.tuples(st.just("edit"), st.sampled_from(VARIANTS)),
        st.tuples(st.just("work"), st.integers(1, 2)),
        st.tuples(st.just("fail"), st.lists(SENT, min_size=1, max_size=2)),
        st.tuples(st.just("recompute"), st.tuples(st.sampled_from(USERS), st.integers(0, 5))),
    ),
    max_size=12,
)


def _step(world: World, limit: int) -> None:
    """One step of counting anew or of joining versions in, as the tracker does it."""
    for followed in world.follower.followed:
        for pending, step in (("recounting", "recount"), ("carrying", "carry")):
            if getattr(followed.definition, pending) is not None:
                world.store.begin()
                getattr(world.follower, step)(followed, limit, world.now)
                world.store.commit()
                return


def _fail(world: World, specs: list[object]) -> None:
    """A transaction with events in it that is rolled back."""
    commit = world.store.commit
    world.store.commit = world.follower.undo  # type: ignore[method-assign]
    world.send(*specs)  # type: ignore[arg-type]
    world.store.commit = commit  # type: ignore[method-assign]


def _recompute(world: World, user: str, number: int) -> None:
    """A user's journeys anew, without the stored event of that number where there is one."""
    stored = [row[0] for row in world.store.events.of(token(user))]
    without = stored[number] if number < len(stored) else None
    world.store.begin()
    with suppress(Refused):
        recompute(world.follower, [token(user)], world.now, without=without)
    world.store.commit()


def _scanned(world: World) -> dict[int, int]:
    (followed,) = world.follower.followed
    cells: dict[int, int] = {}
    rows = world.store.load(followed.definition.id, followed.segments, [token(user) for user in USERS])
    for row in rows.values():
        part = share(
            followed.journey, timeline(followed.journey, row.state), expired=row.stage == STATES["expired"]
        )
        if part is None:
            continue
        add(cells, part.cells, 1)
        told = [level for level in LEVELS if row.told & told_bit("overdue", level)]
        if told and row.stage == STATES["in_progress"]:
            add(cells, {overdue_cell(told[-1]): 1}, 1)
    return cells


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_counts_are_those_of_the_rows_whatever_happens(actions: list[tuple[str, object]]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), journey())
        world.now = START + HOUR
        for kind, what in actions:
            if kind == "send":
                world.send(*what)  # type: ignore[misc]
            elif kind == "wait":
                world.sweep((world.now - START) / MINUTE + what)  # type: ignore[operator]
            elif kind == "edit":
                world.restart(what)  # type: ignore[arg-type]
            elif kind == "work":
                _step(world, what)  # type: ignore[arg-type]
            elif kind == "recompute":
                _recompute(world, *what)  # type: ignore[misc]
            else:
                _fail(world, what)  # type: ignore[arg-type]
        world.restart(journey())
        world.jobs()
        counted: dict[int, int] = {}
        for cells in world.reader.shares("trip", Cohort()):
            add(counted, unpack(cells), 1)
        assert counted == _scanned(world)
        told = world.rows(
            "SELECT id FROM transition WHERE kind != 'corrected' AND journey = 'trip' ORDER BY position"
        )
        assert len(told) == len(set(told))
        positions = world.rows("SELECT coalesce(max(position), 0), count(*) FROM transition")
        assert positions[0][0] == positions[0][1]
        world.close()
