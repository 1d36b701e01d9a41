"""GET /api/v1/ttf/{user_id} and /api/v1/subjects/{token}."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ttf.api.times import rfc3339
from otel_ttf.journey.definition import canonical
from otel_ttf.journey.match import parse
from otel_ttf.store.base import Version
from otel_ttf.units import MINUTE

STAGES = ("project", "agent", "workflow", "success")


def test_a_completed_journey_has_every_field(serve, onboarding, state, token, start):
    done = state(onboarding, 0, 4, 12, 30, 50, plan=(0, "pro"))
    got = serve(onboarding, {token("alice"): done}).get("/api/v1/ttf/alice")
    score = got.pop("ttf_efficiency_score")
    assert score == pytest.approx(95.8333, abs=1e-4)
    assert got == {
        "user_id": "alice",
        "ttf_project_minutes": 4.0,
        "ttf_agent_minutes": 8.0,
        "ttf_workflow_minutes": 18.0,
        "ttf_success_minutes": 20.0,
        "ttf_complete_minutes": 50.0,
        "subject": token("alice"),
        "key": [],
        "keys": 1,
        "journey": "onboarding",
        "version": onboarding.version,
        "complete_since": None,
        "state": "completed",
        "started_at": "2026-01-01T12:00:00.000000000Z",
        "completed_at": "2026-01-01T12:50:00.000000000Z",
        "flags": [],
        "segments": {"plan": "pro"},
        "stages": [
            {
                "name": name,
                "milestone": milestone,
                "target_minutes": target,
                "minutes": took,
                "reached_at": rfc3339(start + at * MINUTE),
            }
            for name, milestone, target, took, at in (
                ("project", "first_project_created", 5.0, 4.0, 4),
                ("agent", "first_agent_created", 10.0, 8.0, 12),
                ("workflow", "first_workflow_executed", 15.0, 18.0, 30),
                ("success", "first_success_event", 30.0, 20.0, 50),
            )
        ],
        "as_of": "2026-01-01T13:00:00.000000000Z",
        "lag_seconds": 0.25,
    }


@pytest.mark.parametrize(
    ("minutes", "now", "stages", "total", "score", "status", "flags"),
    [
        pytest.param((0, 4), 8, (4, None, None, None), None, 100, "in_progress", [], id="second stage open"),
        pytest.param(
            (0, 4), 30, (4, None, None, None), None, 33.3, "in_progress", [], id="its target has passed"
        ),
        pytest.param((0,), 3, (None,) * 4, None, None, "in_progress", [], id="just started"),
        pytest.param(
            (0, 4, 2, 30, 50), 60, (4, 0, 26, 20), 50, 89.4, "completed", ["out_of_order"], id="out of order"
        ),
        pytest.param(
            (None, 4, 12),
            30,
            (None, 8, None, None),
            None,
            40,
            "not_started",
            ["start_unknown"],
            id="entered late",
        ),
        pytest.param((0,), 30 * 1440, (None,) * 4, None, 0, "expired", [], id="given up on"),
    ],
)
def test_what_a_state_becomes(
    serve, onboarding, state, token, minutes, now, stages, total, score, status, flags
):
    got = serve(onboarding, {token("u"): state(onboarding, *minutes)}).at(now).get("/api/v1/ttf/u")
    assert tuple(got[f"ttf_{stage}_minutes"] for stage in STAGES) == stages
    assert got["ttf_complete_minutes"] == total
    assert got["ttf_efficiency_score"] == (None if score is None else pytest.approx(score, abs=0.05))
    assert (got["state"], got["flags"]) == (status, flags)


def test_without_the_first_milestone_there_is_no_start(serve, onboarding, state, token, start):
    got = serve(onboarding, {token("u"): state(onboarding, None, 4)}).get("/api/v1/ttf/u")
    assert got["started_at"] is None
    assert got["stages"][0]["reached_at"] == rfc3339(start + 4 * MINUTE)


def test_a_milestone_that_came_early_shows_when_it_happened(serve, onboarding, state, token, start):
    got = serve(onboarding, {token("u"): state(onboarding, 0, 4, 2, 30, 50)}).get("/api/v1/ttf/u")
    assert got["stages"][1]["reached_at"] == rfc3339(start + 2 * MINUTE)


def test_only_known_segments_are_listed_and_late_ones_flagged(serve, onboarding, state, token):
    api = serve(onboarding, {token("u"): state(onboarding, 0, 4, plan=(1, "pro"))})
    got = api.get("/api/v1/ttf/u")
    assert (got["segments"], got["flags"]) == ({"plan": "pro"}, ["segment_after_start"])


@pytest.mark.parametrize(
    "user", ["a/b", "a b", "ü@例え.jp", "100%", "%2F", "a?b#c", "x/alerts", "..%2f", "a+b", "\x00"]
)
def test_a_user_id_is_one_encoded_segment(serve, onboarding, state, token, user):
    api = serve(onboarding, {token(user): state(onboarding, 0)})
    assert api.get("/api/v1/ttf/" + quote(user, safe=""))["user_id"] == user


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda s: s.strip()))
def test_any_user_id_finds_its_journey(serve_memory, onboarding, state, token, user):
    api = serve_memory(onboarding, {token(user.strip()): state(onboarding, 0)})
    assert api.get("/api/v1/ttf/" + quote(user, safe="~").replace(".", "%2E"))["user_id"] == user


def test_an_id_is_trimmed_and_normalised_as_configured(serve, onboarding, state, token):
    api = serve(onboarding, {token("alice"): state(onboarding, 0)}, normalise="lower")
    got = api.get("/api/v1/ttf/%20Alice%20")
    assert (got["user_id"], got["subject"]) == (" Alice ", token("alice"))


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param("%20", id="blank"),
        pytest.param("%FF", id="not UTF-8"),
        pytest.param("x" * 513, id="too long"),
    ],
)
def test_what_cannot_be_a_user_id_is_refused(serve, onboarding, segment):
    got = serve(onboarding, {}).get(f"/api/v1/ttf/{segment}", 400)
    assert got["type"] == "urn:otel-ttf:problem:bad-user-id"


def test_tokens_of_all_keys_are_one_person(serve, onboarding, state, token, old_token):
    api = serve(
        onboarding, {old_token("u"): state(onboarding, 0, 4), token("u"): state(onboarding, 1, 9, 12)}
    )
    got = api.get("/api/v1/ttf/u")
    assert (got["ttf_project_minutes"], got["ttf_agent_minutes"]) == (4.0, 8.0)
    assert got["subject"] == token("u")


def test_somebody_known_by_an_old_key_only_keeps_that_token(serve, onboarding, state, old_token):
    api = serve(onboarding, {old_token("u"): state(onboarding, 0, 4)})
    subject = api.get("/api/v1/ttf/u")["subject"]
    assert subject == old_token("u")
    assert api.get(f"/api/v1/subjects/{subject}")["ttf_project_minutes"] == 4.0


def test_by_token_is_the_same_without_the_user_id(serve, onboarding, state, token):
    api = serve(onboarding, {token("u"): state(onboarding, 0, 4)})
    by_id, by_token = api.get("/api/v1/ttf/u"), api.get(f"/api/v1/subjects/{token('u')}")
    assert by_token == by_id | {"user_id": None}


def test_a_raw_id_is_no_token(serve, onboarding, state, token):
    api = serve(onboarding, {token("alice"): state(onboarding, 0)})
    got = api.get("/api/v1/subjects/alice", 400)
    assert got["type"] == "urn:otel-ttf:problem:bad-token"
    assert "alice" not in str(got)


def test_a_token_as_a_raw_id_is_nobodys(serve, onboarding, state, token):
    api = serve(onboarding, {token("u"): state(onboarding, 0)})
    api.get(f"/api/v1/ttf/{token('u')}", 404)


def test_no_milestone_is_not_found_and_still_tells_as_of(serve, onboarding):
    got = serve(onboarding, {}).get("/api/v1/ttf/nobody", 404)
    assert got["type"] == "urn:otel-ttf:problem:no-milestone"
    assert (got["as_of"], got["lag_seconds"]) == ("2026-01-01T13:00:00.000000000Z", 0.25)
    assert "nobody" not in got["detail"]


def test_the_first_configured_journey_is_the_default(serve, onboarding, checkout, state, token):
    api = serve(
        checkout, {token("u"): state(checkout, 0, 3)}, onboarding, {token("u"): state(onboarding, 0, 4)}
    )
    got = api.get("/api/v1/ttf/u")
    assert (got["journey"], got["ttf_payment_minutes"], got["ttf_complete_minutes"]) == ("checkout", 3.0, 3.0)
    assert got["ttf_efficiency_score"] is None
    assert api.get("/api/v1/ttf/u?journey=onboarding")["ttf_project_minutes"] == 4.0


def test_an_unknown_journey_is_not_found_and_the_known_ones_are_named(serve, onboarding, checkout):
    got = serve(onboarding, {}, checkout, {}).get("/api/v1/ttf/u?journey=onbording", 404)
    assert got["detail"] == "no such journey; known: onboarding, checkout"


def test_an_old_version_stays_readable_with_todays_targets(serve_memory, onboarding, state, token):
    first, project, agent, *_ = onboarding.milestones
    renamed = replace(project, name="project_made", stage="project_made", target=None)
    gone = replace(agent, name="tour", stage="tour", match=parse({"event": "tour"}))
    before = replace(onboarding, milestones=(first, renamed, gone))
    version = Version("onboarding", before.version, canonical(before), 0, 5, False)
    api = serve_memory(
        onboarding,
        {token("u"): state(onboarding, 0, 4)},
        old={("onboarding", before.version): (version, {token("u"): state(before, 0, 3, 9)})},
    )
    got = api.get(f"/api/v1/ttf/u?version={before.version}")
    assert got["version"] == before.version
    assert got["complete_since"] == "1970-01-01T00:00:00.000000005Z"
    assert [(s["name"], s["milestone"], s["target_minutes"], s["minutes"]) for s in got["stages"]] == [
        ("project", "project_made", 5.0, 3.0),
        ("tour", "tour", None, 6.0),
    ]
    assert (got["ttf_project_minutes"], got["ttf_complete_minutes"]) == (3.0, 9.0)
    assert api.get(f"/api/v1/ttf/u?version={onboarding.version}") == api.get("/api/v1/ttf/u")


def test_who_is_known_only_to_an_old_version_is_said_to_be(serve_memory, onboarding, state, token):
    before = replace(onboarding, milestones=onboarding.milestones[:2])
    version = Version("onboarding", before.version, canonical(before), 0, 5, False)
    old = {("onboarding", before.version): (version, {token("u"): state(before, 0)})}
    api = serve_memory(onboarding, {}, old=old)
    known = "no milestone of onboarding is known of this user"
    assert api.get("/api/v1/ttf/u", 404)["detail"] == (
        f"{known}; another version of it knows this user: ?version={before.version}"
    )
    assert api.get("/api/v1/ttf/nobody", 404)["detail"] == known


def test_an_unknown_version_is_not_found_and_the_known_ones_are_named(serve, onboarding):
    got = serve(onboarding, {}).get("/api/v1/ttf/u?version=00000000", 404)
    assert got["detail"] == f"onboarding has no such version; known: {onboarding.version}"
