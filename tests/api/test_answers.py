"""What holds for every answer: as_of, headers, HEAD, problem documents."""

from __future__ import annotations

from functools import partial

import pytest
from fastapi import APIRouter, Body
from starlette.responses import PlainTextResponse

from otel_ttf.journey.sampling import Sampling
from otel_ttf.store.base import SeenName
from otel_ttf.units import DAY

ANSWERS = ["/api/v1/ttf/u", "/api/v1/ttf", "/api/v1/stuck", "/api/v1/ttf/u/alerts", "/api/v1/events/names"]
QUIET = [*ANSWERS, "/health", "/ready", "/metrics", "/openapi.json", "/docs", "/favicon.ico"]


@pytest.fixture
def api(serve_memory, onboarding, state, token):
    return serve_memory(
        onboarding,
        {token("u"): state(onboarding, 0, 4)},
        seen=[SeenName("event", "signup", 3, 1, ("onboarding.signup",))],
    )


@pytest.mark.parametrize("url", ANSWERS)
def test_every_answer_tells_as_of_and_lag(api, url):
    response = api.client.get(url)
    told = (response.headers["TTF-As-Of"], response.headers["TTF-Lag-Seconds"])
    assert told == ("2026-01-01T13:00:00.000000000Z", "0.25")
    if isinstance(response.json(), dict):
        assert (response.json()["as_of"], response.json()["lag_seconds"]) == (told[0], 0.25)


@pytest.mark.parametrize("url", [*ANSWERS, "/api/v1/ttf/nobody"])
def test_where_a_share_of_the_users_is_followed_every_answer_says_so(
    serve_memory, onboarding, state, token, url
):
    states = {token("u"): state(onboarding, 0, 4)}
    whole = serve_memory(onboarding, states).client.get(url).json()
    sampling = partial(Sampling, ((0, 0.25),))
    told = serve_memory(onboarding, states, options={"sampling": sampling}).client.get(url).json()
    if isinstance(told, dict):
        for item in whole.get("items", ()):
            item["weight"] = 4.0
        if "detail" in whole:
            whole["detail"] += "; 0.25 of all users are followed (processors.sample)"
        assert told == whole | {"sampled": 0.25, "sampled_since": None, "weight": 4.0}


@pytest.mark.parametrize(
    ("url", "weight"),
    [
        pytest.param("/api/v1/ttf/u", 4.0, id="one user, by when the start was recorded"),
        pytest.param("/api/v1/ttf", None, id="figures of all who ever came"),
        pytest.param("/api/v1/ttf?from=2026-01-02", None, id="figures from the day of the change"),
        pytest.param("/api/v1/ttf?from=2026-01-03", 2.0, id="figures of who started after the change"),
        pytest.param("/api/v1/stuck", None, id="who is stuck"),
        pytest.param("/api/v1/events/names", None, id="event names"),
        pytest.param("/api/v1/ttf/nobody", None, id="nobody"),
    ],
)
def test_where_the_share_has_changed_a_weight_is_told_where_it_is_the_same_for_all(
    serve_memory, onboarding, state, token, start, url, weight
):
    sampling = partial(Sampling, ((0, 0.25), (start + DAY, 0.5)))
    api = serve_memory(onboarding, {token("u"): state(onboarding, 0, 4)}, options={"sampling": sampling})
    told = api.client.get(url).json()
    assert (told["sampled"], told["sampled_since"]) == (0.5, "2026-01-02T12:00:00.000000000Z")
    assert told["weight"] == weight


def test_each_who_is_stuck_has_a_weight(serve_memory, onboarding, state, token, start):
    sampling = partial(Sampling, ((0, 0.25), (start + DAY, 1.0)))
    api = serve_memory(onboarding, {token("u"): state(onboarding, 0, 4)}, options={"sampling": sampling})
    (item,) = api.get("/api/v1/stuck?over=0")["items"]
    assert item["weight"] == 4.0


@pytest.mark.parametrize(
    ("url", "present"),
    [
        pytest.param("/api/v1/ttf/new", lambda got: got["state"] == "in_progress", id="one user"),
        pytest.param("/api/v1/ttf", lambda got: got["journeys"][0]["started"] == 1, id="figures"),
        pytest.param("/api/v1/stuck?over=0", lambda got: len(got["items"]) == 1, id="stuck"),
    ],
)
def test_as_of_is_taken_before_the_store_is_read(serve_memory, onboarding, state, token, url, present):
    # Whoever arrives between the two is in the answer; the other way round as_of would promise too much.
    states = {}
    api = serve_memory(onboarding, states)
    api.when_asked = lambda: states.update({token("new"): state(onboarding, 0)})
    assert present(api.get(url))


@pytest.mark.parametrize("url", QUIET)
def test_head_is_get_without_a_body(api, url):
    get, head = api.client.get(url), api.client.head(url)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("url", [*ANSWERS, "/health", "/ready", "/metrics", "/docs"])
def test_a_slash_at_the_end_changes_nothing(api, url):
    assert api.client.get(url + "/").status_code == api.client.get(url).status_code == 200


@pytest.mark.parametrize("url", [*QUIET, "/nowhere", "/api/v1/ttf/nobody"])
def test_nothing_is_sniffed_framed_or_leaked(api, url):
    headers = api.client.get(url, headers={"Origin": "https://elsewhere.example"}).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not [name for name in headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("url", [*ANSWERS, "/health", "/ready", "/metrics", "/api/v1/ttf/nobody"])
def test_answers_are_not_stored_by_caches(api, url):
    assert api.client.get(url).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "url", "status", "kind"),
    [
        pytest.param("GET", "/api/v1/nowhere", 404, "not-found", id="no such path"),
        pytest.param("GET", "/api/v1/ttf//alerts", 404, "not-found", id="empty user id"),
        pytest.param("POST", "/api/v1/ttf", 405, "method-not-allowed", id="wrong method"),
        pytest.param("OPTIONS", "/api/v1/stuck", 405, "method-not-allowed", id="no CORS preflight"),
        pytest.param("GET", "/api/v1/stuck?limit=sec-ret", 400, "bad-query", id="not a number"),
        pytest.param("GET", "/api/v1/stuck?limit=1001", 400, "bad-query", id="above the limit"),
        pytest.param("GET", "/api/v1/events/names?limit=0", 400, "bad-query", id="below the limit"),
        pytest.param("GET", "/api/v1/ttf/u?versoin=sec-ret", 400, "bad-query", id="a name with a slip"),
        pytest.param("GET", "/api/v1/ttf/u?journey=sec-ret&journey=b", 400, "bad-query", id="given twice"),
        pytest.param("GET", "/api/v1/stuck?over=sec-ret", 400, "bad-query", id="not a duration"),
        pytest.param("GET", "/api/v1/stuck?cursor=sec-ret", 400, "bad-query", id="not a cursor"),
        pytest.param("GET", "/api/v1/stuck?stage=sec-ret", 400, "bad-query", id="not a stage"),
        pytest.param("GET", "/api/v1/ttf?from=sec-ret", 400, "bad-query", id="not a day"),
        pytest.param("GET", "/api/v1/ttf?segment.sec-ret=1", 400, "bad-query", id="not a segment"),
        pytest.param("GET", "/api/v1/ttf?journey=sec-ret", 404, "unknown-journey", id="not a journey"),
    ],
)
def test_errors_are_problem_documents_without_what_was_sent(api, method, url, status, kind):
    response = api.client.request(method, url)
    got = response.json()
    assert response.status_code == got["status"] == status, got
    assert response.headers["content-type"] == "application/problem+json"
    assert got["type"] == f"urn:otel-ttf:problem:{kind}"
    assert got["title"]
    assert got["detail"]
    assert {"as_of", "lag_seconds"} <= got.keys()
    assert "sec-ret" not in response.text


def test_a_wrong_method_is_told_the_right_ones(api):
    response = api.client.post("/api/v1/stuck")
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD"}


def test_errors_of_mounted_routers_are_problem_documents(serve_memory, onboarding):
    router = APIRouter()

    @router.post("/api/v1/things")
    def things(count: int = Body(embed=True)) -> None: ...

    @router.get("/api/v1/defect")
    def defect() -> None:
        raise LookupError("sec-ret")

    api = serve_memory(onboarding, {}, options={"routers": [router]})
    response = api.client.post("/api/v1/things", json={"count": "sec-ret"})
    assert (response.status_code, response.json()["type"]) == (422, "urn:otel-ttf:problem:invalid-body")
    assert response.json()["errors"][0]["name"] == "count"
    assert "sec-ret" not in response.text
    response = api.client.get("/api/v1/defect")
    assert (response.status_code, response.json()["type"]) == (500, "urn:otel-ttf:problem:internal")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sec-ret" not in response.text


def test_otlp_takes_what_lies_below_v1_with_its_path_unchanged(serve_memory, onboarding):
    async def otlp(scope, receive, send):
        await PlainTextResponse(f"{scope['method']} {scope['path']}")(scope, receive, send)

    api = serve_memory(onboarding, {}, options={"otlp": otlp})
    assert api.client.post("/v1/logs").text == "POST /v1/logs"
    assert api.client.get("/v1/elsewhere/").text == "GET /v1/elsewhere/"
    assert api.client.get("/v1").status_code == 404


def test_without_otlp_its_paths_are_not_found(api):
    assert api.client.post("/v1/logs").status_code == 404
