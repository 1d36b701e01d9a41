"""A first milestone is written by what was worked out once: the rows are those of the plain way."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import World, journey, milestone

from otel_ttf.journey.definition import Journey, Segment
from otel_ttf.journey.state import UNSET
from otel_ttf.store.sqlite_rows import pack_touches, touch_pieces
from otel_ttf.units import DAY, MINUTE

JOURNEYS = [
    pytest.param(journey(segments=(Segment("plan", limit=2), Segment("channel"))), id="two segments"),
    pytest.param(journey(complete_when="last", timezone="Asia/Kathmandu", segments=()), id="another zone"),
    pytest.param(journey(overdue={}, give_up_after=MINUTE, settle=DAY), id="given up before it settles"),
    pytest.param(journey(milestones=(milestone("a", None),)), id="one milestone, which completes it"),
]

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(0, 30).map(lambda n: f"u{n}"),
        st.integers(-9 * 60, 9 * 60),
        st.dictionaries(
            st.sampled_from(["plan", "channel"]), st.sampled_from(['p"', "é", "free"]), max_size=2
        ),
    ),
    max_size=40,
)

TABLES = {
    "journey": "SELECT definition, subject_hash, subject, key, reached, segments, told, recorded, weight, epoch,"
    " state, started, waiting, opened, touched, due, day, combo FROM journey ORDER BY subject",
    "transition": "SELECT id, journey, version, key, subject, kind, milestone, level, at, recorded, segments,"
    " backfilled, after_expiry, old, new, closed, changed FROM transition ORDER BY subject, kind, milestone",
    "positions": "SELECT count(*), max(position) FROM transition",
    "combo": "SELECT * FROM combo ORDER BY id",
    "rollup": "SELECT * FROM rollup ORDER BY definition, day, combo",
    "label": "SELECT * FROM label ORDER BY journey, segment, value",
    "counter": "SELECT * FROM counter ORDER BY metric, labels",
    "histogram": "SELECT * FROM histogram ORDER BY metric, labels",
}


def _plainly(world: World) -> World:
    for followed in world.follower.followed:
        followed.patterns = [None for _ in followed.patterns]
    return world


@pytest.mark.parametrize("trip", JOURNEYS)
@settings(max_examples=25, deadline=None)
@given(batches=st.lists(EVENTS, max_size=3))
def test_all_tables_are_those_of_the_plain_way(trip: Journey, batches: list[list[tuple]]) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory() as folder, TemporaryDirectory() as other:
        quick, plain = World(Path(folder), trip), _plainly(World(Path(other), trip))
        for batch in batches:
            quick.send(*batch)
            plain.send(*batch)
        for name, sql in TABLES.items():
            assert quick.rows(sql) == plain.rows(sql), name
        quick.close()
        plain.close()


def test_most_first_milestones_take_that_way(world: World) -> None:
    patterns = world.follower.followed[0].patterns
    assert [pattern is not None for pattern in patterns] == [True, True, True]
    world.send(("a", "ada", 0, {"plan": "pro"}))
    world.follower.followed[0].patterns = []  # nobody may ask for them again: there is a row
    world.send(("b", "ada", 4, {}))
    assert world.minutes("ada") == [0, 4, None]


@given(
    at=st.integers(0, UNSET),
    values=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
)
def test_the_pieces_between_the_times_are_those_of_the_whole(at: int, values: list[str | None]) -> None:
    names = [f'n"{place}' for place in range(len(values))]
    touches = [None if value is None else (at, value) for value in values]
    assert str(at).join(touch_pieces(names, values)) == pack_touches(names, touches)
