"""Journeys as values: what makes a version, what carries over, what is wrong with one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.journey.definition import (
    LEVELS,
    MAX_MILESTONES,
    Journey,
    Milestone,
    Segment,
    canonical,
    carried,
    check,
    default_onboarding,
)
from otel_ttf.journey.match import parse
from otel_ttf.units import DAY, MINUTE, SECOND


def milestone(name: str, *events: str, target: int | None = None, stage: str | None = None) -> Milestone:
    match = parse({"event": list(events) or [name]})
    return Milestone(name, match, stage=name if stage is None else stage, target=target)


def journey(*milestones: Milestone, **settings: object) -> Journey:
    first, *others = milestones or (milestone("a"), milestone("b"), milestone("c"))
    return Journey("j", (replace(first, stage=""), *others), **settings)


def test_the_default_journey_is_the_design_s():
    onboarding = default_onboarding()
    assert check(onboarding) == []
    assert [(m.name, m.stage, m.target) for m in onboarding.milestones] == [
        ("signup", "", None),
        ("first_project_created", "project", 5 * MINUTE),
        ("first_agent_created", "agent", 10 * MINUTE),
        ("first_workflow_executed", "workflow", 15 * MINUTE),
        ("first_success_event", "success", 30 * MINUTE),
    ]
    assert onboarding.target == 60 * MINUTE
    assert onboarding.overdue == {
        "warning": 75 * MINUTE,
        "critical": 120 * MINUTE,
        "escalation": 180 * MINUTE,
    }
    assert onboarding.give_up_after == 30 * DAY
    assert onboarding.settle == 60 * SECOND
    assert [segment.attribute for segment in onboarding.segments] == ["plan", "channel"]
    assert (onboarding.key, onboarding.timezone, onboarding.complete_when) == (("subject",), "UTC", "all")


def test_the_default_journey_takes_the_milestones_names_and_the_obvious_ones():
    onboarding = default_onboarding()
    taken = [{name for _, name in m.match.names() or ()} for m in onboarding.milestones]
    assert all(m.name in names for m, names in zip(onboarding.milestones, taken, strict=True))
    assert taken[0] >= {"user_signed_up", "sign_up", "user_registered", "account_created"}
    assert "project_created" in taken[1]
    assert "agent_created" in taken[2]
    assert "workflow_executed" in taken[3]
    assert "success_event" in taken[4]
    assert sum(map(len, taken)) == len(set().union(*taken))


def test_a_version_is_the_start_of_the_hash_of_its_canonical_json():
    one = journey(only=parse({"resource": {"env": {"not": "test"}}}))
    text = json.dumps(canonical(one), sort_keys=True, separators=(",", ":"))
    assert one.version == hashlib.sha256(text.encode()).hexdigest()[:8]
    assert json.loads(text)["milestones"][1] == {"name": "b", "match": {"event": ["b"]}}


def test_the_default_journey_s_version_stays():
    """Stored journeys are found by it: a change here moves every installation to a new version."""
    assert default_onboarding().version == "aee1af70"


VERSIONED = [
    pytest.param({"key": ("subject", "project.id")}, id="key"),
    pytest.param({"only": parse({"resource": {"env": "production"}})}, id="only"),
    pytest.param({"milestones": journey(milestone("a"), milestone("b")).milestones}, id="a milestone less"),
    pytest.param(
        {"milestones": journey(milestone("a"), milestone("c"), milestone("b")).milestones}, id="order"
    ),
    pytest.param(
        {"milestones": journey(milestone("a"), milestone("b"), milestone("d", "c")).milestones}, id="name"
    ),
    pytest.param(
        {"milestones": journey(milestone("a"), milestone("b"), milestone("c", "d")).milestones}, id="match"
    ),
]
B_C = (milestone("b", target=MINUTE), milestone("c"))
DERIVED = [
    pytest.param({"segments": (Segment("plan"),)}, id="segments"),
    pytest.param({"timezone": "Europe/Berlin"}, id="timezone"),
    pytest.param({"settle": 0}, id="settle"),
    pytest.param({"complete_when": "last"}, id="complete_when"),
    pytest.param({"target": MINUTE}, id="target"),
    pytest.param({"overdue": {"warning": MINUTE}}, id="overdue"),
    pytest.param({"give_up_after": DAY}, id="give_up_after"),
    pytest.param({"milestones": journey(milestone("a"), *B_C).milestones}, id="a stage's target"),
    pytest.param(
        {"milestones": journey(milestone("a"), milestone("b", stage="s"), milestone("c")).milestones},
        id="a stage's name",
    ),
]


@pytest.mark.parametrize("change", VERSIONED)
def test_what_is_recorded_makes_a_version(change):
    assert replace(journey(), **change).version != journey().version


@pytest.mark.parametrize("change", DERIVED)
def test_what_is_derived_makes_no_version_but_is_told_by_the_fingerprint(change):
    changed = replace(journey(), **change)
    assert changed.version == journey().version
    assert changed.derived != journey().derived


@pytest.mark.parametrize("change", VERSIONED[:2])
def test_what_is_recorded_alone_changes_no_fingerprint(change):
    assert replace(journey(), **change).derived == journey().derived


def test_the_name_of_a_journey_and_the_spelling_of_a_match_make_no_version():
    spelled = Milestone("b", parse([{"event": ["b"]}, {"any": [{"event": "b"}]}]), "b")
    other = Journey("other", (milestone("a", stage=""), spelled, milestone("c")))
    assert other.version == journey().version


def test_a_journey_can_be_a_key():
    assert len({default_onboarding(), default_onboarding(), journey()}) == 2


CARRIED = [
    pytest.param(journey(), (0, 1, 2), id="nothing changed"),
    pytest.param(journey(milestone("a"), milestone("c"), milestone("b")), (0, 2, 1), id="the order changed"),
    pytest.param(journey(milestone("a"), milestone("x", "b")), (0, 1), id="a milestone has another name"),
    pytest.param(
        journey(milestone("a"), milestone("b", "b", "y")), (0, None), id="a milestone takes more events"
    ),
    pytest.param(
        journey(milestone("n"), milestone("c"), milestone("a")), (None, 2, 0), id="one is new, one is gone"
    ),
    pytest.param(journey(only=parse({"event": "a"})), None, id="only changed"),
    pytest.param(journey(key=("subject", "project.id")), None, id="the key changed"),
]


@pytest.mark.parametrize(("newer", "places"), CARRIED)
def test_a_new_version_carries_over_by_match(newer, places):
    stored = json.loads(json.dumps(canonical(journey())))
    assert carried(stored, canonical(newer)) == places


def test_of_several_milestones_with_one_match_the_one_of_the_same_name_carries_over():
    twins = journey(milestone("a"), milestone("b", "e"), milestone("c", "e"))
    assert carried(canonical(twins), canonical(twins)) == (0, 1, 2)
    renamed = journey(milestone("a"), milestone("c", "e"), milestone("d", "e"))
    assert carried(canonical(twins), canonical(renamed)) == (0, 2, 1)


def test_the_same_only_in_another_spelling_carries_over():
    one = journey(only=parse({"resource": {"env": ["b", "a"]}}))
    other = journey(only=parse([{"resource": {"env": "a"}}, {"resource": {"env": "b"}}]))
    assert carried(canonical(one), canonical(other)) == (0, 1, 2)


@settings(max_examples=60, deadline=None)
@given(st.permutations(["a", "b", "c", "d"]), st.permutations(["a", "b", "c", "d"]), st.data())
def test_carrying_back_and_forth_loses_nothing(old, new, data):
    kept = data.draw(st.integers(2, 4))
    older = canonical(journey(*map(milestone, old[:kept])))
    newer = canonical(journey(*map(milestone, new)))
    for place, came_from in enumerate(carried(older, newer)):
        if came_from is None:
            assert new[place] not in old[:kept]
        else:
            assert old[came_from] == new[place]


MANY = [milestone(f"m{number}") for number in range(MAX_MILESTONES + 1)]
WRONG = [
    pytest.param(journey(milestone("a")), "milestones", "2 to 28", "1", id="one milestone"),
    pytest.param(journey(*MANY), "milestones", "2 to 28", "29", id="too many milestones"),
    pytest.param(
        journey(milestone("a"), milestone("a")),
        "milestones.1.name",
        "no other milestone",
        "'a'",
        id="a milestone's name twice",
    ),
    pytest.param(
        journey(milestone("a"), milestone("b", stage="s"), milestone("c", stage="s")),
        "milestones.2.stage",
        "no other stage",
        "'s'",
        id="a stage's name twice",
    ),
    pytest.param(
        journey(milestone("a"), milestone("b", stage="")),
        "milestones.1.stage",
        "a name of 1",
        "''",
        id="no name for a stage",
    ),
    pytest.param(
        journey(milestone("a"), milestone(" b", stage="b")),
        "milestones.1.name",
        "no spaces",
        "' b'",
        id="a space before a name",
    ),
    pytest.param(
        journey(milestone("a"), milestone("b", stage="complete")),
        "milestones.1.stage",
        "another name",
        "'complete'",
        id="a stage called like the total",
    ),
    pytest.param(
        replace(journey(), milestones=(milestone("a"), milestone("b"))),
        "milestones.0.stage",
        "no stage",
        "'a'",
        id="a stage that ends at the first milestone",
    ),
    pytest.param(
        journey(milestone("a", target=MINUTE), milestone("b")),
        "milestones.0.target",
        "no target",
        "1m",
        id="a target at the first milestone",
    ),
    pytest.param(
        journey(milestone("a"), milestone("b", target=0)),
        "milestones.1.target",
        "more than 0",
        "0m",
        id="a target of nothing",
    ),
    pytest.param(journey(target=-SECOND), "target", "more than 0", "-1s", id="a negative target"),
    pytest.param(journey(key=()), "key.0", "subject as the key's first part", "an empty list", id="no key"),
    pytest.param(journey(key=("user.id",)), "key.0", "subject as", "'user.id'", id="a key without subject"),
    pytest.param(journey(key=("subject", "a", "a")), "key.2", "each part once", "'a'", id="a part twice"),
    pytest.param(journey(key=("subject", "")), "key.1", "an attribute's name", "''", id="an empty part"),
    pytest.param(
        journey(key=("subject", *"abcd")), "key", "subject and at most 3", "4 attributes", id="a long key"
    ),
    pytest.param(
        journey(segments=(Segment("plan", 0),)), "segments.0.limit", "1 to 10000", "0", id="limit of 0"
    ),
    pytest.param(
        journey(segments=(Segment("plan", 10_001),)),
        "segments.0.limit",
        "1 to 10000",
        "10001",
        id="a limit too high",
    ),
    pytest.param(
        journey(segments=(Segment("plan"), Segment("plan"))),
        "segments.1.attribute",
        "each attribute once",
        "'plan'",
        id="a segment twice",
    ),
    pytest.param(
        journey(segments=(Segment("app.plan"), Segment("plan"), Segment("app_plan"))),
        "segments.2.attribute",
        "another Prometheus label than that of app.plan (app_plan)",
        "'app_plan'",
        id="two segments that are one label",
    ),
    *(
        pytest.param(
            journey(segments=(Segment(attribute),)),
            "segments.0.attribute",
            f"an attribute whose Prometheus label is not {attribute}, which is taken",
            f"'{attribute}'",
            id=f"a segment that is our label {attribute}",
        )
        for attribute in ("journey", "stage", "level", "le", "__name__")
    ),
    pytest.param(
        journey(segments=(Segment(""),)),
        "segments.0.attribute",
        "an attribute's name",
        "empty text",
        id="a segment without a name",
    ),
    pytest.param(
        journey(overdue={"warning": 2 * MINUTE, "critical": MINUTE}),
        "overdue.critical",
        "more than warning (2m)",
        "1m",
        id="levels that fall",
    ),
    pytest.param(
        journey(overdue={"escalation": MINUTE, "warning": MINUTE}),
        "overdue.escalation",
        "more than warning (1m)",
        "1m",
        id="levels that are equal",
    ),
    pytest.param(
        journey(overdue={"warning": 0}), "overdue.warning", "more than 0", "0m", id="overdue at once"
    ),
    pytest.param(
        journey(overdue={"warn": MINUTE}),
        "overdue.warn",
        "one of warning, critical, escalation",
        "did you mean warning",
        id="a level that is none",
    ),
    pytest.param(
        journey(overdue={"warning": DAY}, give_up_after=DAY),
        "give_up_after",
        "more than overdue.warning",
        "1440m",
        id="overdue when it has expired",
    ),
    pytest.param(journey(give_up_after=0), "give_up_after", "more than 0", "0m", id="given up at once"),
    pytest.param(journey(settle=-1), "settle", "0 or more", "-1e-09s", id="a negative settle"),
    pytest.param(
        journey(timezone="Europe/Nowhere"), "timezone", "IANA", "'Europe/Nowhere'", id="no such zone"
    ),
    pytest.param(journey(timezone="Europe"), "timezone", "IANA", "'Europe'", id="a folder of zones"),
    pytest.param(journey(timezone="../etc"), "timezone", "IANA", "'../etc'", id="a path"),
    pytest.param(journey(timezone=""), "timezone", "IANA", "''", id="an empty zone"),
    pytest.param(
        journey(complete_when="first"), "complete_when", "all or last", "'first'", id="complete_when"
    ),
    pytest.param(replace(journey(), name=""), "name", "a name of 1", "''", id="no name"),
]


@pytest.mark.parametrize(("wrong", "path", "expected", "found"), WRONG)
def test_a_mistake_says_where_what_was_expected_and_found(wrong, path, expected, found):
    ((at, wanted, got),) = check(wrong)
    assert ".".join(map(str, at)) == path
    assert expected in wanted
    assert found in got


def test_all_mistakes_are_told_at_once():
    wrong = journey(milestone("a"), key=("x", "y"), timezone="?", overdue=dict.fromkeys(LEVELS, MINUTE))
    paths = [".".join(map(str, path)) for path, _, _ in check(wrong)]
    assert paths == ["key.0", "milestones", "overdue.critical", "overdue.escalation", "timezone"]


def test_a_journey_of_the_greatest_size_is_allowed():
    assert check(journey(*MANY[:MAX_MILESTONES], timezone="Europe/Berlin", settle=0)) == []
