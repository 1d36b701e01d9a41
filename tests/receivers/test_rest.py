"""POST /api/v1/events."""

from __future__ import annotations

import gzip
import json
import time

import pytest
import requests
from bombs import gzip_bomb
from serving import Serving, attributes, records, refusing, serving

from otel_ttf.receivers.otlp_http import HttpConfig

JSON = {"content-type": "application/json"}
PATH = "/api/v1/events"
NOW = int(time.time())
GOOD = {"event_name": "signup", "event_type": "onboarding", "user_id": "jane", "timestamp": NOW}
TOO_LONG = GOOD | {"user_id": "x" * 513}
NAMELESS = {"event_type": "onboarding"}
NAMELESS_REASON = "event_name: expected a string that is not empty, found none"


def post(server: Serving, *events: object, headers: dict[str, str] = JSON) -> requests.Response:
    return send(server, json.dumps({"events": events}).encode(), headers)


def send(server: Serving, body: bytes, headers: dict[str, str] = JSON) -> requests.Response:
    return requests.post(server.url(PATH), body, headers=headers, timeout=20)


def problem(answer: requests.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["status"] == answer.status_code
    assert str(document["type"]).startswith("urn:otel-ttf:problem:")
    assert document["title"]
    assert document["detail"]
    return document


def test_events_are_in_the_log_when_the_answer_comes(server):
    with server.stored() as rows:
        answer = post(server, GOOD | {"properties": {"plan": "pro"}}, GOOD)
    assert answer.status_code == 200
    assert answer.json() == {"accepted": 2, "rejected": []}
    first, second = records(rows)
    assert (first.event_name, first.time_unix_nano) == ("signup", NOW * 10**9)
    kept = attributes(first)
    assert kept["event.type"] == "onboarding"
    assert kept["plan"] == "pro"
    assert kept["user.id"].startswith("u1_")
    assert attributes(second)["user.id"] == kept["user.id"]
    assert b"jane" not in rows[0].payload


def test_some_are_accepted_and_the_others_listed_by_the_callers_index(server):
    with server.stored() as rows:
        answer = post(server, NAMELESS, GOOD, TOO_LONG, GOOD | {"user_id": []})
    assert answer.status_code == 200
    document = answer.json()
    assert document["accepted"] == 1
    assert [entry["index"] for entry in document["rejected"]] == [0, 2, 3]
    reasons = [entry["reason"] for entry in document["rejected"]]
    assert reasons[0] == NAMELESS_REASON
    # From the pipeline, which saw it as its second record.
    assert reasons[1].startswith("user.id: expected at most 512 bytes")
    assert reasons[2] == "user_id: expected a string or an integer, found a list"
    assert len(records(rows)) == 1


@pytest.mark.parametrize(
    ("events", "indices"),
    [
        pytest.param([NAMELESS], [0], id="none by its form"),
        pytest.param([TOO_LONG, TOO_LONG], [0, 1], id="none by the pipeline"),
        pytest.param([NAMELESS, TOO_LONG], [0, 1], id="none by either"),
    ],
)
def test_none_accepted_is_a_problem_with_the_same_list(server, events, indices):
    with server.stored() as rows:
        answer = post(server, *events)
    assert answer.status_code == 400
    assert [entry["index"] for entry in problem(answer)["rejected"]] == indices
    assert rows == []


def test_no_events_are_no_problem(server):
    answer = post(server)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "rejected": []})


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        pytest.param({"user_id": None}, "events without a user_id: 2, kept", id="no user"),
        pytest.param({"user_id": " "}, "events without a user_id: 2, kept", id="an empty user"),
        pytest.param({"timestamp": 1000}, "timestamps before time.not_before or from 2262 on: 2", id="1970"),
        pytest.param({"timestamp": 4e9}, "ahead of our clock than time.max_ahead: 2", id="the future"),
        pytest.param({"timestamp": 1460000000}, "older than time.max_event_age: 2", id="long ago"),
    ],
)
def test_what_is_accepted_with_a_flag_is_said(server, given, warning):
    document = post(server, GOOD | given, GOOD, GOOD | given).json()
    assert (document["accepted"], document["rejected"]) == (3, [])
    (told,) = document["warnings"]
    assert warning in told


def test_an_event_without_a_time_is_as_it_should_be(server):
    assert "warnings" not in post(server, {key: GOOD[key] for key in GOOD if key != "timestamp"}).json()


def test_an_event_id_makes_two_sends_one_event(server):
    with server.stored() as rows:
        post(server, GOOD | {"event_id": "e-1"})
        post(server, GOOD | {"event_id": "e-1", "properties": {"plan": "pro"}})
        post(server, GOOD | {"event_id": "e-2"})
    first, again, other = (row.ids for row in rows)
    assert first == again != other
    assert len(first) == 20


def test_counts(server):
    def counts() -> list[float]:
        return [
            server.count("telemetry_events_total", signal="logs"),
            server.count("telemetry_errors_total", reason="rejected"),
            server.count("otelcol_receiver_accepted_log_records_total", receiver="rest", transport="http"),
            server.count("otelcol_receiver_refused_log_records_total", receiver="rest", transport="http"),
            server.count("otel_ttf_request_duration_seconds_count", protocol="rest", signal="logs"),
        ]

    before = counts()
    post(server, GOOD, GOOD, NAMELESS, TOO_LONG)
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [2, 2, 2, 2, 1]


def test_compressed_bodies(server):
    body = gzip.compress(json.dumps({"events": [GOOD]}).encode())
    assert send(server, body, JSON | {"content-encoding": "gzip"}).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"{", JSON, 400, id="no JSON"),
        pytest.param(b'{"events": 1}', JSON, 400, id="no list"),
        pytest.param(b"{}", {"content-type": "text/plain"}, 415, id="text"),
        pytest.param(b"{}", {}, 415, id="no content type"),
        pytest.param(b"{}", JSON | {"content-encoding": "br"}, 415, id="unknown encoding"),
        pytest.param(b"{}", JSON | {"content-encoding": "gzip"}, 400, id="no gzip"),
        pytest.param(gzip_bomb(65), JSON | {"content-encoding": "gzip"}, 413, id="bomb"),
    ],
)
def test_bodies_that_cannot_be_used_are_problems(server, body, headers, status):
    answer = send(server, body, headers)
    assert answer.status_code == status
    assert problem(answer)["rejected"] == []


def test_the_limit_is_configurable(tmp_path):
    with serving(tmp_path, HttpConfig(max_request_body_size="1KiB")) as server:
        assert post(server, GOOD | {"properties": {"x": "y" * 1024}}).status_code == 413
        assert post(server, GOOD).status_code == 200


def test_back_pressure_says_when_to_come_again(server):
    with server.failing(refusing()):
        answer = post(server, GOOD)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    problem(answer)


def test_an_error_of_ours_is_never_the_senders(server, capsys):
    with server.failing(RuntimeError("jane@example.com")):
        answer = post(server, GOOD)
    assert answer.status_code == 503
    written = capsys.readouterr()
    assert "jane" not in written.out + written.err + answer.text


def test_a_large_request_is_taken(server):
    answer = post(server, *[GOOD | {"properties": {"x": "y" * 300}}] * 5000)
    assert answer.json() == {"accepted": 5000, "rejected": []}


def test_the_body_is_documented_with_examples_that_work(server):
    document = requests.get(f"http://127.0.0.1:{server.api_port}/openapi.json", timeout=20).json()
    route = document["paths"][PATH]["post"]
    assert set(route["responses"]) == {"200", "400", "408", "413", "415", "503"}
    for example in route["requestBody"]["content"]["application/json"]["examples"].values():
        answer = post(server, *example["value"]["events"])
        document = answer.json()
        assert (document["accepted"], document["rejected"]) == (len(example["value"]["events"]), [])
