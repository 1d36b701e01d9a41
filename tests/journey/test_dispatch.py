"""Dispatch by name gives what asking every milestone gives, and looks no further than it has to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.journey.definition import Journey, Milestone, default_onboarding
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.match import parse


def record(kind: str, name: str, **more: Any) -> SimpleNamespace:
    plain: dict[str, Any] = {"span_kind": "", "status": "", "attributes": {}, "resource": {}}
    return SimpleNamespace(kind=kind, name=name, **(plain | more))


class Sealed:
    """A record whose attributes nobody may ask for: decoding them costs."""

    span_kind = status = ""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name

    @property
    def attributes(self) -> dict[str, Any]:
        raise AssertionError("attributes were read")

    resource = attributes


def journey(*matches: Any, only: Any = None) -> Journey:
    milestones = tuple(
        Milestone(f"m{i}", parse(match), f"m{i}" if i else "") for i, match in enumerate(matches)
    )
    return Journey("j", milestones, only=None if only is None else parse(only))


API = {"span": {"name": "POST /p", "kind": "server"}, "attributes": {"status": {"range": [200, 299]}}}
JOURNEYS = [
    journey({"event": ["a", "b"]}, [{"event": "b"}, API], {"event": {"glob": "c*"}}),
    journey(
        {"event": "a"}, {"event": "d", "attributes": {"x": 1}}, only={"resource": {"env": {"not": "test"}}}
    ),
    journey({"not": {"event": "a"}}, {"attributes": {"x": 2}}, only={"event": {"glob": "?"}}),
]
SPAN = {"span_kind": "server", "attributes": {"status": 201}}


@pytest.mark.parametrize(
    ("seen", "places"),
    [
        pytest.param(record("log", "a"), [(0, 0), (1, 0)], id="one event, two journeys"),
        pytest.param(
            record("span_event", "b"), [(0, 0), (0, 1), (2, 0)], id="one event, two milestones of one"
        ),
        pytest.param(record("log", "create"), [(0, 2)], id="a glob"),
        pytest.param(record("span", "POST /p", **SPAN), [(0, 1)], id="a span"),
        pytest.param(record("span", "POST /p", span_kind="client"), [], id="a span of another kind"),
        pytest.param(record("span", "a"), [], id="a span named like an event"),
        pytest.param(record("log", "a", resource={"env": "test"}), [(0, 0)], id="only refuses it"),
        pytest.param(record("log", "d", attributes={"x": 1}), [(1, 1), (2, 0)], id="an attribute decides"),
        pytest.param(record("log", "z", attributes={"x": 2}), [(2, 0), (2, 1)], id="a name nobody has"),
        pytest.param(record("log", "zz", attributes={"x": 2}), [], id="only refuses a name nobody has"),
    ],
)
def test_hits(seen, places):
    dispatch = Dispatch(JOURNEYS)
    assert list(dispatch.hits(seen)) == places
    assert list(dispatch.hits(seen)) == places


@pytest.mark.parametrize("name", ["signup", "project_created", "page_viewed", ""])
@pytest.mark.parametrize("kind", ["log", "span_event", "span"])
def test_where_names_decide_nothing_else_is_read(kind, name):
    dispatch = Dispatch([default_onboarding()])
    sealed = Sealed(kind, name)
    milestones = {"signup": [(0, 0)], "project_created": [(0, 1)]}
    assert list(dispatch.hits(sealed)) == ([] if kind == "span" else milestones.get(name, []))
    assert list(dispatch.admits(sealed)) == [0]


def test_a_name_that_no_match_can_mean_is_not_asked_for_attributes_even_beside_ones_that_are():
    dispatch = Dispatch([journey({"event": "a", "attributes": {"x": 1}}, {"event": {"glob": "b*"}})])
    assert list(dispatch.hits(Sealed("log", "c"))) == []
    assert list(dispatch.hits(Sealed("log", "bb"))) == [(0, 1)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param("POST /p", True, id="a milestone's span"),
        pytest.param("GET /p", False, id="another span"),
        pytest.param("a", False, id="an event's name"),
    ],
)
def test_wants_span(name, wanted):
    assert Dispatch(JOURNEYS[:2]).wants_span(name) is wanted


def test_a_condition_without_a_name_wants_every_span():
    dispatch = Dispatch([journey({"event": "a"}, {"attributes": {"x": 1}})])
    assert dispatch.wants_span("anything")
    assert not Dispatch([journey({"event": "a"}, {"attributes": {"x": 1}}, only={"event": "a"})]).wants_span(
        "any"
    )


@pytest.mark.parametrize(
    ("seen", "admitted"),
    [
        pytest.param(record("log", "z"), [0, 1, 2], id="all"),
        pytest.param(record("log", "z", resource={"env": "test"}), [0, 2], id="not from tests"),
        pytest.param(record("log", "zz"), [0, 1], id="only short names"),
        pytest.param(record("span", "z"), [0, 1], id="only events"),
    ],
)
def test_admits_tells_whose_segments_a_record_may_set(seen, admitted):
    assert list(Dispatch(JOURNEYS).admits(seen)) == admitted


def test_many_names_and_long_ones_are_not_remembered_for_ever():
    dispatch = Dispatch([journey({"event": "a"}, {"event": {"glob": "user_*"}})])
    for number in range(20_000):
        assert list(dispatch.hits(record("log", f"user_{number}"))) == [(0, 1)]
    assert list(dispatch.hits(record("log", "user_" + "x" * 10_000))) == [(0, 1)]
    remembered = dispatch._event_hits.plans
    assert len(remembered) < 5_000
    assert max(map(len, remembered)) < 1_000
    assert list(dispatch.hits(record("log", "a"))) == [(0, 0)]


NAMES = st.sampled_from(["a", "b", "ab"])
LEAVES = st.one_of(
    st.fixed_dictionaries({"event": NAMES | st.lists(NAMES, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"event": st.sampled_from([{"glob": "a*"}, {"not": "a"}, {"exists": True}])}),
    st.fixed_dictionaries(
        {"span": st.fixed_dictionaries({"name": NAMES}, optional={"kind": st.just("server")})}
    ),
    st.fixed_dictionaries(
        {"attributes": st.sampled_from([{"x": 1}, {"x": {"not": 1}}])}, optional={"event": NAMES}
    ),
    st.fixed_dictionaries({"resource": st.just({"y": 1})}),
)
MATCHES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)
JOURNEY_LISTS = st.lists(
    st.builds(
        lambda matches, only: journey(*matches, only=only),
        st.lists(MATCHES, min_size=1, max_size=3),
        st.none() | MATCHES,
    ),
    min_size=1,
    max_size=3,
)
RECORDS = st.builds(
    lambda kind, name, x, y: record(
        kind,
        name,
        span_kind="server" if kind == "span" else "",
        status="unset" if kind == "span" else "",
        attributes=x,
        resource=y,
    ),
    st.sampled_from(["log", "span_event", "span"]),
    st.sampled_from(["a", "b", "ab", "other"]),
    st.sampled_from([{}, {"x": 1}, {"x": 2}]),
    st.sampled_from([{}, {"y": 1}]),
)


@settings(max_examples=200, deadline=None)
@given(JOURNEY_LISTS, st.lists(RECORDS, min_size=1, max_size=5))
def test_dispatch_is_the_same_as_asking_each_milestone(journeys, records):
    dispatch = Dispatch(journeys)
    for seen in records:
        admitted = [j for j, each in enumerate(journeys) if each.only is None or each.only(seen)]
        hits = [(j, m) for j in admitted for m, one in enumerate(journeys[j].milestones) if one.match(seen)]
        assert list(dispatch.admits(seen)) == admitted
        assert list(dispatch.hits(seen)) == hits
        if seen.kind == "span" and hits:
            assert dispatch.wants_span(seen.name)
