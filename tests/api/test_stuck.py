"""GET /api/v1/stuck and /api/v1/ttf/{user_id}/alerts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.api.problems import BadQuery
from otel_ttf.api.stuck import read_cursor, write_cursor
from otel_ttf.api.times import rfc3339
from otel_ttf.units import DAY, MINUTE


@pytest.fixture
def waiting(onboarding, state, token):
    """At START + 60: users by where they wait, with how long."""
    return {
        token("project-60"): state(onboarding, 0),
        token("project-3"): state(onboarding, 57),
        token("agent-40"): state(onboarding, 10, 20),
        token("agent-10"): state(onboarding, 10, 50),
        token("success-29"): state(onboarding, 0, 4, 12, 31),
        token("done"): state(onboarding, 0, 4, 12, 30, 50),
        token("late"): state(onboarding, None, 4),
        token("gone"): state(onboarding, -40 * 1440),
    }


@pytest.fixture
def names(token):
    users = ("project-60", "project-3", "agent-40", "agent-10", "success-29", "done", "late", "gone", "u")
    known = {token(user): user for user in users}
    return lambda got: [known[item["subject"]] for item in got["items"]]


@pytest.mark.parametrize(
    ("query", "who"),
    [
        pytest.param("", ["project-60", "agent-40"], id="beyond each stage's target"),
        pytest.param(
            "over=0",
            ["project-60", "agent-40", "success-29", "agent-10", "project-3"],
            id="everybody waiting",
        ),
        pytest.param("over=20m", ["project-60", "agent-40", "success-29"], id="longer than asked"),
        pytest.param("over=29m", ["project-60", "agent-40"], id="not who waits exactly so long"),
        pytest.param("stage=agent", ["agent-40"], id="by stage"),
        pytest.param("stage=first_agent_created&over=9m", ["agent-40", "agent-10"], id="by milestone"),
        pytest.param("stage=workflow", [], id="nobody there"),
        pytest.param("over=1h30m", [], id="nobody so long"),
        pytest.param("over=40000d", [], id="nobody in all of time"),
        pytest.param("over=0&limit=1", ["project-60"], id="the first page"),
    ],
)
def test_who_is_stuck_longest_first(serve, onboarding, waiting, names, query, who):
    assert names(serve(onboarding, waiting).get(f"/api/v1/stuck?{query}")) == who


def test_an_item_tells_where_since_when_and_how_long(serve, onboarding, waiting, token, start):
    got = serve(onboarding, waiting).get("/api/v1/stuck?stage=agent")
    assert (got["journey"], got["version"], got["next"]) == ("onboarding", onboarding.version, None)
    assert got["items"] == [
        {
            "subject": token("agent-40"),
            "key": [],
            "stage": "agent",
            "milestone": "first_agent_created",
            "since": rfc3339(start + 20 * MINUTE),
            "minutes": 40.0,
            "target_minutes": 10.0,
            "started_at": rfc3339(start + 10 * MINUTE),
        }
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_follow_each_other_without_gap_or_repetition(serve, onboarding, waiting, names, limit):
    api = serve(onboarding, waiting)
    whole = names(api.get("/api/v1/stuck?over=0"))
    pages, cursor = [], ""
    while cursor is not None:
        got = api.get(f"/api/v1/stuck?over=0&limit={limit}{cursor and '&cursor=' + cursor}")
        assert len(got["items"]) <= limit
        pages += names(got)
        cursor = got["next"]
    assert pages == whole


def test_pages_tell_those_apart_who_wait_equally_long(serve, onboarding, state, token):
    api = serve(onboarding, {token(str(n)): state(onboarding, 0) for n in range(7)})
    subjects, cursor = [], ""
    while cursor is not None:
        got = api.get(f"/api/v1/stuck?limit=2{cursor and '&cursor=' + cursor}")
        subjects += [item["subject"] for item in got["items"]]
        cursor = got["next"]
    assert sorted(subjects) == sorted(token(str(n)) for n in range(7))


@pytest.mark.parametrize("swept", [pytest.param(0, id="not swept yet"), pytest.param(DAY, id="swept")])
def test_who_is_given_up_on_is_not_stuck(serve, onboarding, state, token, start, swept):
    states = {token("u"): state(onboarding, -40 * 1440)}
    assert serve(onboarding, states, swept=swept and start + swept).get("/api/v1/stuck")["items"] == []


def test_a_sender_whose_clock_is_ahead_waits_for_no_time(serve, onboarding, state, token):
    (item,) = serve(onboarding, {token("u"): state(onboarding, 64)}).get("/api/v1/stuck?over=0")["items"]
    assert item["minutes"] == 0.0


def test_a_stage_without_a_target_lists_everybody(serve, checkout, state, token):
    (item,) = serve(checkout, {token("u"): state(checkout, 60)}).get("/api/v1/stuck")["items"]
    assert (item["stage"], item["target_minutes"], item["minutes"]) == ("payment", None, 0.0)


def test_an_unknown_stage_is_refused_and_the_known_ones_are_named(serve, onboarding):
    got = serve(onboarding, {}).get("/api/v1/stuck?stage=signup", 400)
    assert got["detail"].endswith("known: project, agent, workflow, success")


@given(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2))
@settings(max_examples=50, deadline=None)
def test_a_cursor_survives_the_way_to_the_client_and_back(place):
    assert read_cursor(write_cursor(place)) == place


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_what_is_no_cursor_is_refused(text):
    try:
        place = read_cursor(text)
    except BadQuery:
        return
    assert read_cursor(write_cursor(place)) == place


@pytest.mark.parametrize(
    ("now", "levels"),
    [
        pytest.param(60, [], id="none"),
        pytest.param(75, [], id="exactly on the threshold"),
        pytest.param(76, ["warning"], id="one"),
        pytest.param(200, ["escalation", "critical", "warning"], id="all, highest first"),
        pytest.param(30 * 1440, [], id="none any more once given up on"),
    ],
)
def test_alerts(serve, onboarding, state, token, now, levels):
    got = serve(onboarding, {token("u"): state(onboarding, 0, 4)}).at(now).get("/api/v1/ttf/u/alerts")
    assert [alert["level"] for alert in got] == levels


def test_an_alert_has_every_field(serve, onboarding, state, token, start):
    (alert,) = serve(onboarding, {token("u"): state(onboarding, 0, 4)}).at(80).get("/api/v1/ttf/u/alerts")
    assert alert.pop("message")
    assert alert == {
        "journey": "onboarding",
        "key": [],
        "level": "warning",
        "stage": "agent",
        "since": rfc3339(start + 75 * MINUTE),
        "minutes": 80.0,
        "threshold_minutes": 75.0,
    }


def test_somebody_unknown_has_no_alerts(serve, onboarding):
    assert serve(onboarding, {}).get("/api/v1/ttf/nobody/alerts") == []


def test_alerts_of_an_id_with_a_slash(serve, onboarding, state, token):
    api = serve(onboarding, {token("a/alerts"): state(onboarding, 0)}).at(80)
    assert len(api.get("/api/v1/ttf/a%2Falerts/alerts")) == 1
    assert api.get("/api/v1/ttf/a%2Falerts")["user_id"] == "a/alerts"


def test_alerts_of_one_journey(serve, onboarding, checkout, state, token):
    api = serve(
        onboarding, {token("u"): state(onboarding, 0)}, checkout, {token("u"): state(checkout, 0)}
    ).at(80)
    assert [alert["journey"] for alert in api.get("/api/v1/ttf/u/alerts")] == ["onboarding"]
    assert api.get("/api/v1/ttf/u/alerts?journey=checkout") == []
    api.get("/api/v1/ttf/u/alerts?journey=other", 404)
