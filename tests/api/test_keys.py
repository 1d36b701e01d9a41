"""Journeys with keys beyond the subject, evidence, and tokens of raw ids, over a store that a tracker wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.api import resolve
from otel_ttf.api.times import rfc3339
from otel_ttf.journey.definition import Journey, Milestone
from otel_ttf.journey.match import parse
from otel_ttf.otlp.events import Rules, TimeConfig, extract, pack_ids
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_read import SqliteReader
from otel_ttf.tracker.follow import Follower
from otel_ttf.units import DAY, MINUTE

RULES = Rules(time=TimeConfig(), subject_from=("user.id",), wants_span=lambda name: False)
Spec = tuple[str, str, float, Mapping[str, Any]]


@pytest.fixture
def trip() -> Journey:
    """a (shared) -> b -> c, one per user and project."""
    milestones = [Milestone(name, parse({"event": name}), name if name != "a" else "") for name in "abc"]
    return Journey(
        "trip", (replace(milestones[0], shared=True), *milestones[1:]), key=("subject", "project.id")
    )


@pytest.fixture
def serve_events(tmp_path: Path, serve_over: Any, token: Any, start: int) -> Iterator[Callable[..., Any]]:
    """(journey, (name, user, minute, attributes)...) -> the API over a store in which these were followed."""
    with ExitStack() as opened:

        def made(journey: Journey, *specs: Spec) -> Any:
            message = ExportLogsServiceRequest()
            records = message.resource_logs.add().scope_logs.add().log_records
            for name, user, minute, attributes in specs:
                record = records.add(event_name=name, time_unix_nano=start + round(minute * MINUTE))
                for key, value in {"user.id": token(user), **attributes}.items():
                    kind = "double_value" if isinstance(value, float) else "string_value"
                    record.attributes.append(KeyValue(key=key, value=AnyValue(**{kind: value})))
            message.resource_logs[0].resource.attributes.append(
                KeyValue(key="service.name", value=AnyValue(string_value="web"))
            )
            ids = pack_ids({place: place.to_bytes(16, "big") for place in range(len(specs))})
            store = SqliteStore(tmp_path / "store.db")
            follower = Follower(store, [journey], events="named", retention=30 * DAY)
            now = start + 60 * MINUTE
            found = extract("logs", message.SerializeToString(), ids, now, RULES)
            store.begin()
            follower.prepare(start)
            follower.take([(now, found)], now)
            store.commit()
            store.close()
            reader = SqliteReader(tmp_path / "store.db", {journey.name: journey})
            opened.callback(reader.close)
            return serve_over(reader, {journey.name: journey})

        yield made


SENT: list[Spec] = [
    ("a", "ada", 10, {"project.id": "8"}),
    ("a", "ada", 5, {"project.id": "7"}),
    ("b", "ada", 12, {"project.id": "7"}),
    ("b", "ada", 1, {"project.id": "6"}),
]


def test_the_journey_that_started_first_is_given(serve_events, trip):
    got = serve_events(trip, *SENT).get("/api/v1/ttf/ada")
    assert (got["key"], got["keys"], got["ttf_b_minutes"]) == (["7"], 3, 7.0)


def test_where_none_has_started_it_is_the_smallest_key(serve_events, trip):
    sent = [("b", "ada", 1, {"project.id": key}) for key in ("9", "10", "8")]
    got = serve_events(trip, *sent).get("/api/v1/ttf/ada")
    assert (got["key"], got["state"]) == (["10"], "not_started")


def test_one_is_asked_for_by_its_key(serve_events, trip):
    got = serve_events(trip, *SENT).get("/api/v1/ttf/ada?key.project.id=8")
    assert (got["key"], got["keys"]) == (["8"], 3)


def test_parts_of_the_key_are_in_the_description(serve_events, trip):
    paths = serve_events(trip, *SENT).get("/openapi.json")["paths"]
    for path in ("/api/v1/ttf/{user_id}", "/api/v1/subjects/{token}"):
        assert "key.project.id" in [one["name"] for one in paths[path]["get"]["parameters"]]


def test_all_are_a_list_in_that_order(serve_events, trip, token):
    api = serve_events(trip, *SENT)
    got = api.get("/api/v1/ttf/ada?all=true")
    assert [one["key"] for one in got] == [["7"], ["8"], ["6"]]
    assert {one["keys"] for one in got} == {3}
    assert {one["as_of"] for one in got} == {"2026-01-01T13:00:00.000000000Z"}
    by_token = api.get(f"/api/v1/subjects/{token('ada')}?all=true")
    assert by_token == [one | {"user_id": None} for one in got]


@pytest.mark.parametrize(
    ("query", "status", "kind", "detail"),
    [
        pytest.param("key.project.id=5", 404, "no-such-key", "see ?all=true", id="no such key"),
        pytest.param("key.team=5", 400, "bad-query", "project.id", id="no such part"),
        pytest.param("key.project.id=", 400, "bad-query", "512 bytes", id="an empty part"),
        pytest.param("key.project.id=5&key.project.id=6", 400, "bad-query", "once", id="twice"),
        pytest.param("all=perhaps", 400, "bad-query", "bool", id="no bool"),
    ],
)
def test_what_cannot_be_asked_is_a_problem(serve_events, trip, query, status, kind, detail):
    got = serve_events(trip, *SENT).get(f"/api/v1/ttf/ada?{query}", status)
    assert got["type"] == f"urn:otel-ttf:problem:{kind}"
    assert detail in got["detail"]
    assert "5" not in got["detail"].replace("512", "")


def test_alerts_and_stuck_name_the_key(serve_events, trip):
    late = replace(trip, overdue={"warning": 52 * MINUTE})
    api = serve_events(late, *SENT)
    assert [alert["key"] for alert in api.get("/api/v1/ttf/ada/alerts")] == [["7"]]
    assert [item["key"] for item in api.get("/api/v1/stuck?over=0s")["items"]] == [["8"], ["7"]]


def test_evidence_are_the_events_that_set_a_stage(serve_events, trip, start):
    sent = [*SENT, ("a", "ada", 2, {}), ("b", "ada", 12, {"project.id": "8", "ratio": float("nan")})]
    got = serve_events(trip, *sent).get("/api/v1/ttf/ada?key.project.id=7&evidence=true")
    first, second = got["stages"]
    assert first["minutes"] == 10
    assert first["evidence"]["opened"] == [
        {
            "milestone": "a",
            "event_id": (4).to_bytes(16, "big").hex(),
            "kind": "log",
            "name": "a",
            "at": rfc3339(start + 2 * MINUTE),
            "arrived_at": rfc3339(start + 60 * MINUTE),
            "service": "web",
            "attributes": {"user.id": got["subject"]},
        }
    ]
    assert [event["event_id"] for event in first["evidence"]["reached"]] == [(2).to_bytes(16, "big").hex()]
    assert second["evidence"] == {"opened": first["evidence"]["reached"], "reached": []}


def test_evidence_of_a_stage_out_of_order_is_the_event_that_all_waited_for(serve_events, trip):
    sent = [("a", "ada", 9, {"project.id": "7"}), ("b", "ada", 4, {"project.id": "7"})]
    got = serve_events(trip, *sent).get("/api/v1/ttf/ada?evidence=true")
    assert got["stages"][0]["minutes"] == 0
    evidence = got["stages"][0]["evidence"]
    assert [event["name"] for event in evidence["reached"]] == ["a"]


def test_what_json_cannot_say_is_text_and_large_attributes_are_left_out(serve_events, trip):
    sent = [
        ("a", "ada", 0, {"project.id": "7", "ratio": float("nan")}),
        ("b", "ada", 4, {"project.id": "7", "long": "x" * (16 << 10)}),
    ]
    evidence = serve_events(trip, *sent).get("/api/v1/ttf/ada?evidence=true")["stages"][0]["evidence"]
    assert evidence["opened"][0]["attributes"]["ratio"] == "nan"
    assert evidence["reached"][0]["attributes"] is None


def test_evidence_of_many_journeys_at_once_is_refused(serve_events, trip):
    sent = [("a", "ada", 0, {"project.id": str(number)}) for number in range(51)]
    api = serve_events(trip, *sent)
    assert api.get("/api/v1/ttf/ada?all=true&evidence=true", 400)["parameter"] == "evidence"
    assert len(api.get("/api/v1/ttf/ada?all=true")) == 51


def posted(api: Any, content: Any, status: int = 200, **headers: str) -> Any:
    body = {"content": content} if isinstance(content, bytes) else {"json": content}
    kind = {"content-type": "application/json"}
    response = api.client.post("/api/v1/subjects/resolve", headers=kind | headers, **body)
    assert response.status_code == status, response.text
    return response.json()


def test_ids_become_tokens_under_all_keys(serve_memory, onboarding, token, old_token):
    api = serve_memory(onboarding, {})
    got = posted(api, {"ids": ["alice", " bob ", 7, "", "x" * 513, None, True, 1.5, ["alice"], {}]})
    assert got["tokens"] == [
        [token("alice"), old_token("alice")],
        [token("bob"), old_token("bob")],
        [token("7"), old_token("7")],
        *[None] * 7,
    ]


def test_commas_and_brackets_in_ids_are_no_more_ids(serve_memory, onboarding):
    id_ = 'cn="a",ou=[x],dc={y}\\'
    told = posted(serve_memory(onboarding, {}), {"ids": [id_] * resolve.MAX_IDS})
    assert len(told["tokens"]) == resolve.MAX_IDS


def test_ids_are_normalised_as_events_are(serve_memory, onboarding, token):
    api = serve_memory(onboarding, {}, options={"normalise": "lower"})
    assert posted(api, {"ids": ["Alice"]})["tokens"][0][0] == token("alice")


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        pytest.param(b"alice", 400, "bad-request", id="no JSON"),
        pytest.param(b'{"ids": ["\xff"]}', 400, "bad-request", id="no UTF-8"),
        pytest.param({"ids": "alice"}, 400, "bad-request", id="no list"),
        pytest.param(["alice"], 400, "bad-request", id="no object"),
        pytest.param({"ids": ["alice"], "more": 1}, 400, "bad-request", id="something else besides"),
        pytest.param({"ids": ["alice"] * (resolve.MAX_IDS + 1)}, 413, "too-large", id="too many"),
        pytest.param(b"[" * 20_000, 413, "too-large", id="nested"),
        pytest.param(b'{"ids": ["' + b'\\"' * 1_000_000, 400, "bad-request", id="a text without an end"),
        pytest.param(b'{"ids": [",\\' + b"," * 20_000 + b"\\", 400, "bad-request", id="an escape at the end"),
        pytest.param(b" " * (resolve.MAX_BODY + 1), 413, "too-large", id="too large"),
    ],
)
def test_what_is_no_list_of_ids_is_refused_and_never_repeated(
    serve_memory, onboarding, content, status, kind
):
    got = posted(serve_memory(onboarding, {}), content, status)
    assert got["type"] == f"urn:otel-ttf:problem:{kind}"
    assert "alice" not in got["detail"].replace('["alice", "bob"]', "")


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
def test_other_media_are_refused(serve_memory, onboarding, headers):
    posted(serve_memory(onboarding, {}), b'{"ids": []}', 415, **headers)


async def test_ids_of_many_at_once_do_not_take_the_memory(serve_memory, onboarding):
    app = serve_memory(onboarding, {}).client.app
    sent, whole = asyncio.Semaphore(0), asyncio.Event()

    async def slow():
        yield b'{"ids": ["alice"'
        sent.release()
        await whole.wait()
        yield b"]}"

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:

        def post(content):
            kind = {"content-type": "application/json"}
            return client.post("/api/v1/subjects/resolve", headers=kind, content=content)

        many = [asyncio.create_task(post(slow())) for _ in range(resolve.MOST_AT_ONCE)]
        for _ in many:
            await sent.acquire()
        refused = await post(b'{"ids": []}')
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        whole.set()
        assert {answer.status_code for answer in await asyncio.gather(*many)} == {200}
        assert (await post(b'{"ids": []}')).status_code == 200


def test_nothing_of_an_id_is_kept(serve_memory, onboarding, monkeypatch):
    kept = []
    real = resolve.resolved

    def resolved(pseudonyms, *given):
        kept.append(pseudonyms)
        return real(pseudonyms, *given)

    monkeypatch.setattr(resolve, "resolved", resolved)
    posted(serve_memory(onboarding, {}), {"ids": ["alice"]})
    assert kept[0]._known == {}
