"""What becomes of events: the server there, dead, slow, refusing, and in between."""

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from answering import Answering, FakeServer
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from server_process import ServerProcess, free_ports, wait_for

from otel_ttf.client import Counts, TelemetryClient, as_user, bind_user
from otel_ttf.client.sender import BATCH
from otel_ttf.otlp.values import decoded

ClientOf = Callable[..., TelemetryClient]


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def stored(server: ServerProcess, name: str) -> list[tuple[Any, ...]]:
    """(event time, subject, attributes by name) of stored events of that name."""
    server.wait_caught_up()
    with server.store() as store:
        rows = store.execute("SELECT at, subject, attributes FROM event WHERE name = ?", (name,))
        return [(at, subject, list(decoded(attributes).items())) for at, subject, attributes in rows]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "otel_ttf.client"]


def test_milestones_make_a_journey_and_questions_are_answered(
    server: ServerProcess, client_of: ClientOf
) -> None:
    with client_of(server.api_url) as client:
        client.track_event("user_signed_up", "milestone", "tracked-1", {"plan": "pro"})
        client.track_ttf_milestone("first_project_created", "tracked-1")
        client.track_ttf_milestone("first_project_created", "tracked-1")
        assert client.flush_events()
        server.wait_caught_up()
        metrics = client.get_ttf_metrics("tracked-1")
        assert metrics.ttf_project_minutes is not None
        assert 0 < metrics.ttf_project_minutes < 1
        assert metrics.ttf_complete_minutes is None
        assert (metrics.state, metrics.segments) == ("in_progress", {"plan": "pro"})
        assert client.check_ttf_alerts("tracked-1") == []
        assert client.counts == Counts(sent=3)


def test_an_event_is_the_same_event_by_rest(server: ServerProcess, client_of: ClientOf) -> None:
    properties = {
        "plan": "pro",
        "n": 7,
        "share": 0.5,
        "on": True,
        "none": None,
        "list": [1, "a"],
        "map": {"k": [None]},
    }
    client = client_of(server.api_url)
    client.track_event("same_event", "click", 42, properties)
    assert client.flush_events()
    ((at, *told),) = stored(server, "same_event")
    event = {"event_name": "same_event", "event_type": "click", "user_id": 42, "properties": properties}
    assert server.post_json("/api/v1/events", {"events": [event | {"timestamp": at}]}).json["accepted"] == 1
    assert stored(server, "same_event") == [(at, *told)] * 2  # of another service: two events


def test_events_that_are_alike_are_as_many_as_were_tracked(
    server: ServerProcess, client_of: ClientOf
) -> None:
    client = client_of(server.api_url)
    for _ in range(1000):
        client.track_event("button_clicked", "click", "clicker")
    assert client.flush_events()
    assert len(stored(server, "button_clicked")) == 1000


def test_what_was_answered_and_the_answer_lost_counts_once(
    server: ServerProcess, fake: FakeServer, client_of: ClientOf
) -> None:
    fake.next.extend([Answering(forward=server.api_port, cut=True)] * 2)
    fake.always = Answering(forward=server.api_port)
    client = client_of(fake.url)
    for number in range(20):
        client.track_event("sent_often", "click", f"often-{number}")
    assert client.flush_events(20)
    assert len(fake.came) >= 3
    assert len(stored(server, "sent_often")) == 20
    assert client.counts == Counts(sent=20)


def test_a_restart_in_between_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, client_of: ClientOf
) -> None:
    with ServerProcess(tmp_path_factory.mktemp("restarted") / "data") as server:
        client = client_of(server.api_url)
        stop = threading.Event()
        tracked = 0

        def track() -> None:
            nonlocal tracked
            while not stop.is_set():
                client.track_event("during_restart", "click", f"user-{tracked}")
                tracked += 1
                time.sleep(0.002)

        thread = threading.Thread(target=track)
        thread.start()
        try:
            wait_for(lambda: client.counts.sent > 50, "events to be sent")
            server.kill()
            wait_for(lambda: client.counts.waiting > 50, "events to wait")
            server.start()
            wait_for(lambda: client.counts.waiting < 50, "events to be sent again", 30)
        finally:
            stop.set()
            thread.join()
        assert client.flush_events(30)
        assert len(stored(server, "during_restart")) == tracked == client.counts.sent


def test_a_dead_server_costs_a_bounded_queue_and_one_warning_of_each_kind(
    dead: str, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(dead, max_queue=100)
    for number in range(BATCH + 500):
        client.track_event("never_sent", "click", f"user-{number}")
    wait_for(lambda: any("events wait" in text for text in said(caplog)), "the warning")
    assert not client.flush_events(0.05)
    counts = client.counts
    assert counts.dropped + counts.waiting == BATCH + 500
    assert counts.waiting <= BATCH + 100
    assert sorted(text.split(":")[0] for text in said(caplog)) == [
        "events are dropped",
        "events wait and are sent again later",
    ]


def test_what_works_again_is_said_and_may_break_again(
    fake: FakeServer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = client_of(fake.url)
    for _ in range(2):
        fake.next.append(Answering(503))
        client.track_event("e")
        assert client.flush_events(20)
    assert [text.split(" ", 3)[:3] for text in said(caplog)] == [
        ["events", "wait", "and"],
        ["events", "are", "sent"],
    ] * 2


def test_memory_is_bounded_by_bytes_too(dead: str, client_of: ClientOf) -> None:
    client = client_of(dead, max_queue_bytes=2_000_000)
    tracemalloc.start()
    try:
        for _ in range(5_000):
            client.track_event("large", "click", "u", {"text": "x" * 10_000, "more": list(range(50))})
        assert (
            tracemalloc.get_traced_memory()[0] < 8_000_000
        )  # of 60 MB; with what the SDK takes when it is imported
    finally:
        tracemalloc.stop()
    assert client.counts.dropped > 4_000


@pytest.mark.parametrize("status", [429, 502, 503, 504, 408])
def test_what_the_server_cannot_take_now_is_sent_again(
    fake: FakeServer, client_of: ClientOf, status: int
) -> None:
    fake.next.extend([Answering(status), Answering(status)])
    client = client_of(fake.url)
    client.track_event("again")
    assert client.flush_events(20)
    assert [came.records for came in fake.came] == [fake.came[0].records] * 3


@pytest.mark.parametrize("status", [301, 400, 404, 415, 500])
def test_what_the_server_refuses_is_not_sent_again(
    fake: FakeServer, client_of: ClientOf, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.next.append(Answering(status, headers={"Location": "http://127.0.0.1:9/"}))
    client = client_of(fake.url)
    client.track_event("refused")
    assert not client.flush_events()
    client.track_event("later")
    assert client.flush_events()
    assert client.counts == Counts(sent=1, dropped=1)
    assert said(caplog) == [f"1 events are lost: {fake.url} answers {status} (said once)"]


def test_retry_after_is_waited_for_also_when_somebody_flushes(fake: FakeServer, client_of: ClientOf) -> None:
    fake.next.append(Answering(429, headers={"Retry-After": "1"}))
    client = client_of(fake.url)
    client.track_event("later")
    assert not client.flush_events(0.3)
    assert client.flush_events(20)
    first, second = fake.came
    assert second.at - first.at >= 1


def test_with_a_key_that_is_refused_events_wait_for_a_better_one(
    fake: FakeServer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    fake.next.extend([Answering(401), Answering(403)])
    client = client_of(fake.url, api_key=" secret\n")
    client.track_event("e")
    assert client.flush_events(20)
    assert {came.headers["authorization"] for came in fake.came} == {"Bearer secret"}
    assert any("set TELEMETRY_API_KEY" in text for text in said(caplog))
    assert "secret" not in caplog.text


def test_a_request_that_is_too_large_is_halved_until_it_is_not(
    server: ServerProcess, fake: FakeServer, client_of: ClientOf
) -> None:
    fake.next.extend([Answering(413), Answering(413)])
    fake.always = Answering(forward=server.api_port)
    client = client_of(fake.url, flush_interval=0.2)
    for number in range(40):
        client.track_event("halved", "click", f"halved-{number}")
    assert client.flush_events(20)
    assert len(stored(server, "halved")) == 40
    assert client.counts == Counts(sent=40)


def test_one_event_that_is_too_large_goes_alone(fake: FakeServer, client_of: ClientOf) -> None:
    fake.next.append(Answering(413))
    client = client_of(fake.url)
    client.track_event("large")
    assert not client.flush_events()
    assert client.counts == Counts(dropped=1)


def test_events_that_the_server_rejects_are_counted_and_the_reason_said(
    fake: FakeServer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 1
    answer.partial_success.error_message = "log_records[0]: expected less"
    fake.next.append(Answering(body=answer.SerializeToString()))
    client = client_of(fake.url, flush_interval=0.2)
    client.track_event("good")
    client.track_event("bad")
    assert client.flush_events()
    assert client.counts == Counts(sent=1, rejected=1)
    assert any("log_records[0]: expected less" in text for text in said(caplog))


def test_a_server_that_says_nonsense_about_what_it_rejected_makes_no_nonsense_of_the_counts(
    fake: FakeServer, client_of: ClientOf
) -> None:
    answer = ExportLogsServiceResponse()
    client = client_of(fake.url)
    for number in (10**12, -(10**12)):
        answer.partial_success.rejected_log_records = number
        fake.next.append(Answering(body=answer.SerializeToString()))
        client.track_event("e")
        assert client.flush_events()
    fake.next.append(Answering(body=b"<html>no answer of ours</html>"))
    client.track_event("e")
    assert client.flush_events()
    assert client.counts == Counts(sent=2, rejected=1)


def test_who_tracks_waits_for_no_answer(fake: FakeServer, client_of: ClientOf) -> None:
    answers = threading.Event()
    fake.always = Answering(hold=answers)
    client = client_of(fake.url, max_queue=1000)
    for _ in range(5000):
        client.track_event("slow")
    wait_for(lambda: len(fake.came) == 1, "a request")
    assert client.counts.sent == 0
    answers.set()
    assert client.flush_events()
    counts = client.counts
    assert counts.sent + counts.dropped == 5000


def test_a_server_that_does_not_answer_in_time_is_asked_again(fake: FakeServer, client_of: ClientOf) -> None:
    answers = threading.Event()
    fake.next.append(Answering(hold=answers))
    client = client_of(fake.url, timeout=0.3)
    client.track_event("slow")
    assert client.flush_events(30)
    answers.set()
    assert len(fake.came) >= 2
    assert {record.SerializeToString() for record in fake.records} == {fake.records[0].SerializeToString()}


def test_what_is_no_unicode_goes_as_the_server_would_write_it(fake: FakeServer, client_of: ClientOf) -> None:
    client = client_of(fake.url)
    client.track_event("e", "t", "u", {"a\ud800": "b\udfff", "pair": "\ud83d\ude00"})
    assert client.flush_events()
    (record,) = fake.records
    found = {pair.key: pair.value.string_value for pair in record.attributes}
    assert found == {"event.type": "t", "user.id": "u", "a\ufffd": "b\ufffd", "pair": "\U0001f600"}


def test_an_event_carries_the_span_that_it_happened_in(fake: FakeServer, client_of: ClientOf) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    client = client_of(fake.url)
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        client.track_event("within")
    client.track_event("outside")
    assert client.flush_events()
    context = span.get_span_context()
    assert [(int.from_bytes(r.trace_id, "big"), int.from_bytes(r.span_id, "big")) for r in fake.records] == [
        (context.trace_id, context.span_id),
        (0, 0),
    ]


def test_our_own_requests_carry_no_other_server_s_headers(
    fake: FakeServer, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=somebody-elses")
    client = client_of(fake.url)
    client.track_event("e")
    assert client.flush_events()
    (came,) = fake.came
    assert "api-key" not in came.headers
    assert "authorization" not in came.headers


def test_nothing_raises_whatever_the_arguments(
    fake: FakeServer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("secret")

    client = client_of(fake.url)
    for arguments in ((None,), (1, 2), ("e", "t", object()), ("e", "t", "u", 7)):
        client.track_event(*arguments)
    client.track_event("e", "t", "u", Hostile())
    client.track_event("e", "t", "u", {"fine": 1, "not": object()})
    assert client.flush_events()
    assert client.counts == Counts(sent=1, wrong=4, dropped=1, left_out=1)
    assert len(said(caplog)) == 3
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"api_url": "localhost:8080"}, "TELEMETRY_API_URL: expected an address such as https://"),
        ({"api_url": 7}, "TELEMETRY_API_URL: expected"),
        ({"api_key": "new\nline"}, "TELEMETRY_API_KEY: expected letters, digits and signs of ASCII"),
        ({"max_queue": 0}, "max_queue: expected a whole number from 1 on; 10000 is taken"),
        ({"timeout": "soon"}, "timeout: expected a number of seconds"),
        ({"ca_file": "/nowhere"}, "ca_file: expected the path of a file that is there"),
    ],
)
def test_an_option_that_cannot_be_is_said_and_does_not_raise(
    client_of: ClientOf, options: dict[str, Any], begins: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = TelemetryClient(**{"api_url": "http://127.0.0.1:9", **options})
    client.track_event("e")
    client.close(0)
    assert said(caplog)[0].startswith(begins)
    assert "new\nline" not in caplog.text


def test_a_key_in_clear_to_another_machine_is_said(caplog: pytest.LogCaptureFixture) -> None:
    TelemetryClient(api_url="http://user:pw@ttf.example.com", api_key="k").close()
    TelemetryClient(api_url="https://ttf.example.com", api_key="k").close()
    assert said(caplog) == ["the API key goes to http://ttf.example.com in clear: use an https:// address"]


def test_a_closed_client_takes_nothing_and_says_so(
    fake: FakeServer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(fake.url) as client:
        client.track_event("before")
    client.track_event("after")
    client.close()
    assert client.flush_events()
    assert [record.event_name for record in fake.records] == ["before"]
    assert client.counts == Counts(sent=1, dropped=1)


def test_what_cannot_be_sent_in_time_at_the_end_is_counted_and_said(
    dead: str, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(dead)
    client.track_event("e")
    client.close(0.3)
    assert client.counts == Counts(dropped=1)
    assert any("could not be sent within 0.3 s" in text for text in said(caplog))


def test_disabled_as_the_sdk_is_nothing_is_sent(
    fake: FakeServer, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    client = client_of(fake.url)
    client.track_event("e")
    assert client.flush_events()
    assert (fake.came, client.counts) == ([], Counts())


def test_debug_prints_what_is_sent_and_answered_without_user_data(
    fake: FakeServer, client_of: ClientOf, capfd: pytest.CaptureFixture[str]
) -> None:
    client = client_of(fake.url, debug=True)
    client.track_event("signup", "milestone", "secret-user", {"plan": "secret-plan"})
    assert client.flush_events()
    printed = capfd.readouterr().err
    assert "signup of a user, attributes: event.type, user.id, plan" in printed
    assert f"1 events to {fake.url}: 200 after" in printed
    assert "secret" not in printed


def test_debug_prints_user_data_when_asked(
    fake: FakeServer, client_of: ClientOf, capfd: pytest.CaptureFixture[str]
) -> None:
    client_of(fake.url, debug_user_data=True).track_event("signup", "milestone", "ada", {"plan": "pro"})
    assert "signup {'event.type': 'milestone', 'user.id': 'ada', 'plan': 'pro'}" in capfd.readouterr().err


def test_the_current_user_is_whoever_is_bound(fake: FakeServer, client_of: ClientOf) -> None:
    client = client_of(fake.url)
    with as_user("outer"):
        client.track_event("e")
        with as_user("inner"):
            client.track_event("e")
            bind_user("bound")
            client.track_event("e")
            client.track_event("e", user_id="given")
        client.track_event("e")
    client.track_event("e")
    assert client.flush_events()
    found = [
        next((pair.value.string_value for pair in record.attributes if pair.key == "user.id"), None)
        for record in fake.records
    ]
    assert found == ["outer", "inner", "bound", "given", "outer", None]
