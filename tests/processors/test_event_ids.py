"""Event ids (journeys.md, Event id)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig, extract, unpack_ids
from otel_ttf.otlp.identity import with_ids
from otel_ttf.otlp.wire import SHAPES, Signal
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

NOW = 1_790_000_000_123_456_789
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
CONFIGS = {
    "enrich": EnrichConfig(attributes={"service.name": "other", "cluster": "a"}, overwrite=True),
    "pseudonymise": PseudonymiseConfig(),
    "mask": MaskConfig(),
}
RULES = Rules(TimeConfig(), SubjectConfig().from_, wants_span=lambda _name: True)


@cache
def processor(keys: Keys) -> Processor:
    return pipeline(CONFIGS, keys, SubjectConfig())


def run(signal: Signal, raw: bytes, keys: Keys = KEYS, **options: Any) -> Batch:
    return processor(keys)(Batch(signal, raw, NOW, **options))


def request(signal: Signal, *records: Any, service: str = "web") -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.add(key="service.name").value.string_value = service
    getattr(getattr(by_resource, shape.scopes).add(), shape.records).extend(records)
    return bytes(made.SerializeToString())


def pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def log(**changes: Any) -> LogRecord:
    given = {
        "event_name": "signup",
        "time_unix_nano": NOW,
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "attributes": [pair("user.id", "jane@example.com"), pair("plan", "pro")],
    }
    return LogRecord(**(given | changes))


def only_id(signal: Signal, raw: bytes, **options: Any) -> bytes:
    (told,) = unpack_ids(run(signal, raw, **options).ids).values()
    return told


@cache
def same() -> bytes:
    return only_id("logs", request("logs", log()))


def test_it_begins_with_the_time_in_milliseconds():
    assert same()[:6] == (NOW // 1_000_000).to_bytes(6, "big")
    assert len(same()) == 16


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(request("logs", log()), id="sent again"),
        pytest.param(
            request("logs", log(severity_number=9, body=AnyValue(string_value="x"))), id="another body"
        ),
        pytest.param(request("logs", log(), service="api"), id="another service, within the same span"),
        pytest.param(request("logs", log(observed_time_unix_nano=1)), id="observed at another time"),
        pytest.param(
            request("logs", log(time_unix_nano=0, observed_time_unix_nano=NOW)),
            id="only observed, at that time",
        ),
    ],
)
def test_one_event(other):
    assert only_id("logs", other) == same()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(log(event_name="signout"), id="another name"),
        pytest.param(log(time_unix_nano=NOW + 1), id="a nanosecond later"),
        pytest.param(log(trace_id=b"u" * 16), id="another trace"),
        pytest.param(log(span_id=b"u" * 8), id="another span"),
        pytest.param(log(attributes=[pair("user.id", "bob"), pair("plan", "pro")]), id="another subject"),
        pytest.param(
            log(attributes=[pair("plan", "pro"), pair("user.id", "jane@example.com")]), id="another order"
        ),
        pytest.param(
            log(attributes=[pair("user.id", "jane@example.com"), pair("planp", "ro")]), id="shifted bytes"
        ),
    ],
)
def test_another_event(other):
    assert only_id("logs", request("logs", other)) != same()


def test_what_differs_only_in_what_is_masked_differs():
    one, other = (log(attributes=[pair("note", f"from {who}@example.com")]) for who in ("jane", "bob"))
    assert only_id("logs", request("logs", one)) != only_id("logs", request("logs", other))


def test_the_subject_of_the_resource_counts():
    def of(who: str) -> bytes:
        made = SHAPES["logs"].request.FromString(request("logs", log(attributes=[])))
        made.resource_logs[0].resource.attributes.append(pair("user.id", who))
        return only_id("logs", made.SerializeToString())

    assert of("jane") == of("jane") != of("bob")


def test_without_a_span_the_service_counts_as_it_was_received():
    bare = log(trace_id=b"", span_id=b"")
    one, other = (only_id("logs", request("logs", bare, service=name)) for name in ("web", "api"))
    assert one != other


def test_json_and_protobuf_of_one_record_are_one_event():
    body = {
        "resourceLogs": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "eventName": "signup",
                                "timeUnixNano": str(NOW),
                                "traceId": (b"t" * 16).hex().upper(),
                                "spanId": (b"s" * 8).hex(),
                                "attributes": [
                                    {"key": "user.id", "value": {"stringValue": "jane@example.com"}},
                                    {"key": "plan", "value": {"stringValue": "pro"}},
                                ],
                            }
                        ]
                    }
                ],
            }
        ]
    }
    assert only_id("logs", otlp_json.decode("logs", json.dumps(body).encode())) == same()


def test_a_log_event_bridged_onto_its_span_is_one_event():
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="POST /signup")
    span.events.add(name="signup", time_unix_nano=NOW, attributes=log().attributes)
    assert only_id("traces", request("traces", span)) == same()


def test_another_event_key_gives_another_id_and_another_subject_key_the_same():
    raw = request("logs", log())
    assert only_id("logs", raw, keys=Keys(b"f" * 32, KEYS.subjects)) != same()
    assert only_id("logs", raw, keys=Keys(KEYS.event, (b"n" * 32, *KEYS.subjects))) == same()


def test_without_a_time_it_is_random():
    raw = request("logs", log(time_unix_nano=0))
    one, other = only_id("logs", raw), only_id("logs", raw)
    assert one != other
    assert one[:6] == bytes(6)


def test_a_rest_event_id_wins_at_whatever_time_and_per_user():
    def of(event_id: str, **changes: Any) -> bytes:
        return only_id("logs", request("logs", log(**changes)), event_ids={0: event_id})

    assert of("a") == of("a", time_unix_nano=NOW + 10**9, event_name="other") == of("a", time_unix_nano=0)
    assert of("a") != of("b")
    assert of("a") != of("a", attributes=[pair("user.id", "bob")])


def test_a_trusted_path_brings_its_own_and_nobody_else_does():
    raw = request("logs", log(attributes=[pair("ttf.event.id", "0f" * 16)]))
    assert only_id("logs", raw, trusted=True) == b"\x0f" * 16
    assert only_id("logs", raw) != b"\x0f" * 16


@pytest.mark.parametrize("text", ["", "xyz", "0f" * 15])
def test_an_own_id_that_is_none_is_passed_over(text):
    raw = request("logs", log(attributes=[pair("ttf.event.id", text)]))
    assert only_id("logs", raw, trusted=True) == only_id("logs", raw)


def test_places_are_those_of_the_finished_request():
    bad = log(attributes=[pair("user.id", "x" * 600)])
    plain = LogRecord(time_unix_nano=NOW)
    batch = run("logs", request("logs", plain, bad, log(), plain, bad, log(event_name="done")))
    assert list(unpack_ids(batch.ids)) == [1, 3]
    assert [event.id for event in batch.extract(RULES).events] == list(unpack_ids(batch.ids).values())


def test_places_of_span_events_count_all_of_the_finished_request():
    def span(*names: str, who: str = "jane") -> Span:
        made = Span(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=[pair("user.id", who)])
        for name in names:
            made.events.add(name=name, time_unix_nano=NOW)
        return made

    batch = run("traces", request("traces", span("a"), span("b", "c", who="x" * 600), span(), span("", "d")))
    assert list(unpack_ids(batch.ids)) == [0, 2]
    told = extract("traces", batch.finish(), batch.ids, NOW, RULES)
    assert [(e.name, e.id is None) for e in told.events if e.kind == "span_event"] == [
        ("a", False),
        ("d", False),
    ]


def test_a_span_is_known_by_its_end_trace_id_and_span_id():
    def of(**changes: Any) -> bytes | None:
        given = {"trace_id": b"t" * 16, "span_id": b"s" * 8, "end_time_unix_nano": NOW, "name": "a"}
        batch = run("traces", request("traces", Span(**(given | changes))))
        assert batch.ids == b""
        (event,) = batch.extract(RULES).events
        return event.id

    first = of()
    assert first is not None
    assert first[:6] == (NOW // 1_000_000).to_bytes(6, "big")
    assert of(name="b") == first
    assert len({first, of(trace_id=b"u" * 16), of(span_id=b"u" * 8), of(end_time_unix_nano=NOW + 1)}) == 4
    assert of(span_id=b"") is None


def test_a_subject_that_enrich_puts_on_the_resource_makes_no_other_event():
    raw = request("logs", log(attributes=[]))
    configs = CONFIGS | {"enrich": EnrichConfig(attributes={"user.id": "everybody"})}
    batch = pipeline(configs, KEYS, SubjectConfig())(Batch("logs", raw, NOW))
    assert batch.ids == run("logs", raw).ids
    assert b"everybody" not in batch.finish()


@pytest.mark.parametrize("again", [False, True], ids=["without one", "with one of its sender's"])
def test_what_goes_on_to_a_trusted_path_has_the_ids_that_it_takes_over(again):
    of_sender = [pair("ttf.event.id", "ab" * 16)] if again else []
    events = [Span.Event(name=name, time_unix_nano=NOW, attributes=of_sender) for name in ("a", "", "b")]
    spans = [
        Span(name="GET", trace_id=b"t" * 16, span_id=bytes([n]) * 8, end_time_unix_nano=NOW, events=events)
        for n in (1, 2)
    ]
    cases: list[tuple[Signal, bytes]] = [
        ("logs", request("logs", LogRecord(body=AnyValue(string_value="line")), log(), log(event_name="b"))),
        ("traces", request("traces", *spans)),
    ]
    for signal, raw in cases:
        first = run(signal, raw)
        sent = with_ids(signal, first.finish(), first.ids)
        other = Keys(event=b"o" * 32, subjects=(b"s" * 32,))
        second = run(signal, sent, other, trusted=True)
        assert second.ids == first.ids
        assert len(unpack_ids(first.ids)) == {"logs": 2, "traces": 4}[signal]
    assert with_ids("logs", raw, b"") == raw
