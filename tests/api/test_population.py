"""GET /api/v1/ttf: figures of a population."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_ttf.units import DAY, MINUTE


@pytest.fixture
def many(onboarding, state, token):
    """Two complete, one on the way, one given up on, one that entered late; on two cohort days."""
    return {
        token("fast"): state(onboarding, 0, 4, 12, 30, 50, plan=(0, "pro")),
        token("slow"): state(onboarding, 0, 10, 20, 35, 65, plan=(0, "free")),
        token("open"): state(onboarding, 1440, 1441, plan=(0, "pro")),
        token("gone"): state(onboarding, -40 * 1440, plan=(-40 * 1440, "free")),
        token("late"): state(onboarding, None, 4),
    }


def test_figures_of_everybody(serve, onboarding, many):
    got = serve(onboarding, many).at(1440 + 60).get("/api/v1/ttf")
    assert got["cohort"] == {"from": None, "to": None, "segments": {}}
    (figures,) = got["journeys"]
    stages = figures.pop("stages")
    assert figures == {
        "journey": "onboarding",
        "version": onboarding.version,
        "complete_since": None,
        "timezone": "UTC",
        "target_minutes": 60.0,
        "started": 4,
        "completed": 2,
        "completion_rate": 0.5,
        "in_progress": 1,
        "expired": 1,
        "entered_late": 1,
        "median_minutes_of_completed": pytest.approx(57.5, rel=0.02),
        "p90_minutes_of_completed": pytest.approx(63.5, rel=0.02),
        "mean_score_of_completed": pytest.approx(95.8333, abs=1e-3),
        # The one on the way started exactly the target ago: in time for the question, and not within.
        "within_target": 0.25,
        "within_target_of": 4,
    }
    assert [(s["name"], s["milestone"], s["target_minutes"]) for s in stages] == [
        ("project", "first_project_created", 5.0),
        ("agent", "first_agent_created", 10.0),
        ("workflow", "first_workflow_executed", 15.0),
        ("success", "first_success_event", 30.0),
    ]
    assert [s["reached"] for s in stages] == [3, 2, 2, 2]
    assert set(stages[0]) == {
        *("name", "milestone", "target_minutes", "reached", "median_minutes", "p90_minutes"),
        *("within_target", "within_target_of"),
    }


@pytest.mark.parametrize(
    ("query", "started", "completed"),
    [
        pytest.param("", 4, 2, id="everybody"),
        pytest.param("from=2026-01-01", 3, 2, id="from a day"),
        pytest.param("to=2026-01-02", 3, 2, id="until before a day"),
        pytest.param("from=2026-01-01&to=2026-01-02", 2, 2, id="one day"),
        pytest.param("from=2026-01-02&to=2026-01-02", 0, 0, id="no day"),
        pytest.param("segment.plan=pro", 2, 1, id="a segment"),
        pytest.param("segment.plan=pro&segment.channel=unknown", 2, 1, id="two segments"),
        pytest.param("segment.plan=none-of-them", 0, 0, id="a value nobody has"),
        pytest.param("segment.plan=free&from=2026-01-01", 1, 1, id="a segment on days"),
        pytest.param("journey=onboarding", 4, 2, id="by name"),
    ],
)
def test_cohorts(serve, onboarding, many, query, started, completed):
    (figures,) = serve(onboarding, many).at(1440 + 60).get(f"/api/v1/ttf?{query}")["journeys"]
    assert (figures["started"], figures["completed"]) == (started, completed)
    assert figures["completion_rate"] == (completed / started if started else None)


def test_nobody_has_no_figures_but_counts(serve, onboarding):
    (figures,) = serve(onboarding, {}).get("/api/v1/ttf")["journeys"]
    zero = ("started", "completed", "in_progress", "expired", "entered_late", "within_target_of")
    assert all(figures[name] == 0 for name in zero)
    null = ("completion_rate", "median_minutes_of_completed", "p90_minutes_of_completed", "within_target")
    assert all(figures[name] is None for name in null)
    assert figures["mean_score_of_completed"] is None


@pytest.mark.parametrize(
    "swept", [pytest.param(0, id="not swept yet"), pytest.param(DAY + 60 * MINUTE, id="swept")]
)
def test_who_is_given_up_on_counts_so_with_or_without_a_sweep(serve, onboarding, many, start, swept):
    api = serve(onboarding, many, swept=swept and start + swept)
    (figures,) = api.at(1440 + 60).get("/api/v1/ttf")["journeys"]
    assert (figures["in_progress"], figures["expired"]) == (1, 1)


@pytest.mark.parametrize(
    ("now", "within", "of"),
    [
        pytest.param(4, None, 0, id="opened less than the target ago: nobody is asked about"),
        pytest.param(5, 0.5, 2, id="opened exactly the target ago"),
        pytest.param(30, 0.5, 2, id="later"),
    ],
)
def test_share_within_target_leaves_out_who_opened_recently(serve, onboarding, state, token, now, within, of):
    api = serve(onboarding, {token("a"): state(onboarding, 0, 3), token("b"): state(onboarding, 0)})
    stage = api.at(now).get("/api/v1/ttf")["journeys"][0]["stages"][0]
    assert (stage["within_target"], stage["within_target_of"]) == (within, of)


def test_cohort_days_are_those_of_the_journeys_time_zone(serve, onboarding, state, token):
    # 2026-01-01T12:00Z is the second in Kiritimati (UTC+14).
    there = replace(onboarding, timezone="Pacific/Kiritimati")
    api = serve(there, {token("u"): state(there, 0)})
    assert api.get("/api/v1/ttf?from=2026-01-02")["journeys"][0]["started"] == 1
    assert api.get("/api/v1/ttf?to=2026-01-02")["journeys"][0]["started"] == 0


def test_all_journeys_or_one(serve, onboarding, checkout, state, token):
    api = serve(onboarding, {}, checkout, {token("u"): state(checkout, 0, 3)})
    assert [j["journey"] for j in api.get("/api/v1/ttf")["journeys"]] == ["onboarding", "checkout"]
    (figures,) = api.get("/api/v1/ttf?journey=checkout")["journeys"]
    assert (figures["completed"], figures["within_target"], figures["target_minutes"]) == (1, None, None)


def test_a_segment_asks_the_journeys_that_have_it(serve, onboarding, checkout):
    api = serve(onboarding, {}, checkout, {})
    assert [j["journey"] for j in api.get("/api/v1/ttf?segment.plan=pro")["journeys"]] == ["onboarding"]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("from=2026-1-1", id="single digits"),
        pytest.param("from=20260101", id="without dashes"),
        pytest.param("from=2026-W01-1", id="a week"),
        pytest.param("from=2026-02-30", id="no such day"),
        pytest.param("to=2026-01-01T00:00:00Z", id="an instant"),
        pytest.param("to=1767225600", id="a number"),
        pytest.param("to=", id="nothing"),
        pytest.param("from=2026-01-02&to=2026-01-01", id="the wrong way round"),
    ],
)
def test_anything_but_days_is_refused(serve, onboarding, query):
    assert serve(onboarding, {}).get(f"/api/v1/ttf?{query}", 400)["type"].endswith(":bad-query")


def test_an_unknown_segment_is_refused_and_the_known_ones_are_named(serve, onboarding):
    got = serve(onboarding, {}).get("/api/v1/ttf?segment.region=eu", 400)
    assert got["detail"].endswith("known: segment.plan, segment.channel")


def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(serve, onboarding):
    got = serve(onboarding, {}).get("/api/v1/ttf?region=eu", 400)
    assert got["detail"] == "unknown query parameter; known: from, journey, to, segment.NAME"


@pytest.mark.parametrize("url", ["/api/v1/ttf", "/api/v1/stuck"])
def test_while_figures_are_counted_anew_progress_is_told(serve_memory, onboarding, state, token, url):
    api = serve_memory(onboarding, {token("u"): state(onboarding, 0)}, recounting=0.42)
    response = api.client.get(url)
    got = response.json()
    assert (response.status_code, got["type"]) == (503, "urn:otel-ttf:problem:counting-anew")
    assert (got["progress"], got["journey"]) == (0.42, "onboarding")
    assert int(response.headers["Retry-After"]) > 0
    # Single users are answered meanwhile.
    assert api.get("/api/v1/ttf/u")["state"] == "in_progress"
    assert api.client.get("/ready").status_code == 200
