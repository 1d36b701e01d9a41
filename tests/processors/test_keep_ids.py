"""`privacy.subject: keep`: user ids stay as they came, and journeys are those of tokens."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, request
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig, extract, unpack_ids
from otel_ttf.otlp.wire import SIGNALS, Signal, decode
from otel_ttf.pii.consent import DENIED, Book, Marks, mark
from otel_ttf.pii.keyrules import KeyRule
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

SUBJECT = SubjectConfig.model_validate(
    {"from": ["user.id", "http.request.header.x-user-id", "enduser.id", "user_id"]}
)
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
BOOK = Book()
token = Pseudonyms(KEYS).token
JANE, BOB, EVE = (token(name) for name in ("jane", "bob", "eve"))


@cache
def made(way: str, *, keep_ids: bool) -> Processor:
    configs = {
        "pseudonymise": PseudonymiseConfig(),
        "consent": ConsentConfig(on_deny=way),
        # Even a rule for it leaves the subject alone.
        "mask": MaskConfig(keys=(KeyRule(glob="ttf.sub*", action="drop"),)),
    }
    return pipeline(configs, KEYS, SUBJECT, engine="re2", keep_ids=keep_ids, book=BOOK)


WAYS = ("drop", "anonymise")
AS_KEPT, AS_HMAC = (
    Rules(TimeConfig(), names, wants_span=lambda _: True, lines=True)
    for names in (("ttf.subject",), SUBJECT.from_)
)


@pytest.fixture(autouse=True)
def nobody_has_said_anything() -> None:
    say({})


def say(said: dict[bytes, Marks]) -> None:
    BOOK.exceptions.clear()
    BOOK._unsaved.clear()
    BOOK.join(said)


def pair(key: str, value: AnyValue | str | int) -> KeyValue:
    if isinstance(value, AnyValue):
        return KeyValue(key=key, value=value)
    kind = "string_value" if isinstance(value, str) else "int_value"
    return KeyValue(key=key, value=AnyValue(**{kind: value}))


def listed(*values: str) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=value) for value in values]))


def mapped(*pairs: KeyValue) -> AnyValue:
    return AnyValue(kvlist_value=KeyValueList(values=pairs))


def logs(*attributes: KeyValue) -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="signup")
    record.time_unix_nano = NOW
    record.attributes.extend(attributes)
    return request.SerializeToString()


def taken(raw: bytes, signal: Signal = "logs", **options: Any) -> Batch:
    return made("drop", keep_ids=True)(Batch(signal, raw, NOW, **options))


def attributes(batch: Batch) -> list[KeyValue]:
    (by_resource,) = decode("logs", batch.finish()).resource_logs
    return list(by_resource.scope_logs[0].log_records[0].attributes)


def subjects(batch: Batch) -> list[str | None]:
    found = extract(batch.signal, batch.finish(), batch.ids, NOW, AS_KEPT).events
    assert [event.facts() for event in batch.extract(AS_KEPT).events] == [event.facts() for event in found]
    return [event.subject for event in found]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("jane", id="text"),
        pytest.param("  jane ", id="text that is not trimmed"),
        pytest.param(listed("jane"), id="a list of one"),
    ],
)
def test_an_id_stays_as_it_came_and_its_token_stands_beside_it(value):
    sent = [pair("plan", "pro"), pair("user.id", value)]
    batch = taken(logs(*sent))
    assert attributes(batch) == [*sent, pair("ttf.subject", JANE)]
    assert subjects(batch) == [JANE]


def test_a_number_and_what_looks_like_personal_data_stay_too():
    sent = [pair("user.id", 4711), pair("enduser.id", "jane@example.com")]
    batch = taken(logs(*sent))
    tokens = [pair("ttf.subject", token(user)) for user in ("jane@example.com", "4711")]
    assert attributes(batch) == [*sent, *tokens]
    assert subjects(batch) == [token("4711")], "the first of the names counts"


def test_everything_else_is_masked_as_ever():
    found = attributes(taken(logs(pair("user.id", "jane"), pair("note", "mail jane@example.com"))))
    assert pair("note", "mail [EMAIL]") in found


@pytest.mark.parametrize(
    "value", [listed("jane", "bob"), mapped(pair("id", "jane")), AnyValue(bytes_value=b"jane"), AnyValue()]
)
def test_what_is_no_id_is_not_kept(value):
    batch = taken(logs(pair("user.id", value)))
    assert b"jane" not in batch.finish()
    assert subjects(batch) == [None]


def test_the_token_stands_wherever_ids_do():
    request = ExportTraceServiceRequest()
    by_resource = request.resource_spans.add()
    by_resource.resource.attributes.append(pair("user.id", "jane"))
    by_scope = by_resource.scope_spans.add()
    by_scope.scope.attributes.append(pair("user.id", "jane"))
    span = by_scope.spans.add(name="GET /", end_time_unix_nano=NOW, attributes=[pair("user.id", "bob")])
    span.events.add(name="signup", time_unix_nano=NOW, attributes=[pair("user.id", "eve")])
    span.events.add(name="other", time_unix_nano=NOW)
    span.links.add(attributes=[pair("map", mapped(pair("user.id", "jane")))])
    batch = taken(request.SerializeToString(), "traces")
    (got,) = decode("traces", batch.finish()).resource_spans
    (left,) = got.scope_spans[0].spans
    lists = (got.resource.attributes, got.scope_spans[0].scope.attributes)
    lists += (left.attributes, left.events[0].attributes)
    lists += (left.links[0].attributes[0].value.kvlist_value.values,)
    users = ("jane", "jane", "bob", "eve", "jane")
    expected = [[pair("user.id", user), pair("ttf.subject", token(user))] for user in users]
    assert [list(one) for one in lists] == expected
    assert subjects(batch) == [BOB, EVE, BOB]

    points = ExportMetricsServiceRequest()
    metric = points.resource_metrics.add().scope_metrics.add().metrics.add(name="clicks")
    metric.gauge.data_points.add(as_int=1, attributes=[pair("user.id", "jane")])
    metric.gauge.data_points.add(as_int=1, attributes=[pair("user.id", "x" * 600)])
    batch = taken(points.SerializeToString(), "metrics")
    (got,) = decode("metrics", batch.finish()).resource_metrics
    (point,) = got.scope_metrics[0].metrics[0].gauge.data_points
    assert list(point.attributes) == [pair("user.id", "jane"), pair("ttf.subject", JANE)]
    assert list(batch.rejected.values()) == ["data_points[1]: user.id: expected at most 512 bytes, found 600"]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_who_brings_a_token_writes_into_nobodys_journey(trusted, plain):
    victim = pair("ttf.subject", JANE)
    nested = pair("map", mapped(victim))
    for sent, expected in (
        ((victim,), None),
        ((victim, pair("user.id", "eve"), victim), EVE),
        ((nested,), None),
    ):
        batch = taken(logs(*sent), trusted=trusted, plain=plain)
        assert subjects(batch) == [expected]
        assert JANE.encode() not in batch.finish()


def test_an_id_in_the_form_of_a_token_is_an_id_like_any():
    batch = taken(logs(pair("user.id", JANE), pair("ttf.consent", "deny")))
    assert BOOK.exceptions == {token(JANE).encode(): DENIED}, "nobody speaks for another"
    assert batch.kept == 0
    assert subjects(taken(logs(pair("user.id", JANE)), trusted=True)) == [JANE]


def test_masking_twice_is_masking_once_on_trusted_input():
    once = taken(logs(pair("user.id", "jane"), pair("enduser.id", "bob"), pair("note", "a@example.com")))
    again = taken(once.finish(), trusted=True)
    assert again.finish() == once.finish()


def test_records_of_whoever_denied_are_dropped():
    say({JANE.encode(): Marks(mark(NOW, strict=True), 0)})
    assert taken(logs(pair("user.id", "jane"))).kept == 0
    assert taken(logs(pair("user.id", "bob"), pair("enduser.id", "jane"))).kept == 0
    assert taken(logs(pair("user.id", "bob"))).kept == 1


def test_anonymised_neither_id_nor_token_is_left():
    say({JANE.encode(): Marks(mark(NOW, strict=True), 0)})
    raw = logs(pair("user.id", "jane"), pair("plan", "pro"), pair("map", mapped(pair("enduser.id", "jane"))))
    batch = made("anonymise", keep_ids=True)(Batch("logs", raw, NOW))
    assert attributes(batch) == [pair("plan", "pro"), pair("map", mapped())]
    assert subjects(batch) == [None]


quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def run(process: Processor, signal: Signal, raw: bytes, said: dict[bytes, Marks], **options: Any) -> Batch:
    say(said)
    return process(Batch(signal, raw, NOW, **options))


@quickly
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32), st.booleans(), st.booleans(), st.sampled_from(WAYS))
def test_fast_is_plain_and_journeys_are_those_of_hmac(signal, seed, odd, trusted, way):
    rng = random.Random(seed)
    raw = request(signal, rng, odd=odd)
    said = {
        token(f"raw-user-{number}").encode(): Marks(mark(NOW - 10**17, strict=rng.random() < 0.5), 0)
        for number in range(3)
    }
    batches = []
    for process, rules, plain in (
        (made(way, keep_ids=True), AS_KEPT, False),
        (made(way, keep_ids=True), AS_KEPT, True),
        (made(way, keep_ids=False), AS_HMAC, False),
    ):
        batch = run(process, signal, raw, said, plain=plain, trusted=trusted)
        batches.append((batch, journeys(batch, rules), dict(BOOK.exceptions)))
    (kept, _, _), (plainly, _, _), _ = batches
    messages = [decode(signal, batch.finish()) for batch in (kept, plainly)]
    for message in messages:
        message.DiscardUnknownFields()
    assert messages[0] == messages[1]
    assert batches[0][1:] == batches[1][1:]
    # What a sender puts into our attribute is taken off here, and an attribute like any other by hmac; a name that
    # is JSON with ids in it has tokens in it by hmac.
    if b"ttf.subject" not in raw and b'{"user' not in raw and b'["enduser' not in raw:
        assert batches[0][1:] == batches[2][1:]


def journeys(batch: Batch, rules: Rules) -> tuple[object, ...]:
    """All that a journey is made of."""
    found = batch.extract(rules)
    ids = {place: id_ if any(id_[:6]) else "random" for place, id_ in unpack_ids(batch.ids).items()}
    events = [(event.kind, event.name, event.subject, event.at, event.flags) for event in found.events]
    return batch.records, batch.kept, batch.rejected, ids, events, found.names
