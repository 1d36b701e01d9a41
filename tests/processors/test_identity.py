"""Subjects become tokens wherever they stand (journeys.md, Identity)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig
from otel_ttf.otlp.wire import SHAPES, Signal, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

NOW = 1_790_000_000_000_000_000
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
FROM = ("user.id", "enduser.id", "http.request.header.x-user-id")
RULES = Rules(TimeConfig(), FROM, wants_span=lambda _name: True)
CONFIGS = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
token = Pseudonyms(KEYS).token
JANE, BOB = token("jane"), token("bob")


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def array(*values: AnyValue) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=values))


def pairs(*given: tuple[str, AnyValue | str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=text(v) if isinstance(v, str) else v) for key, v in given]


def request(signal: Signal, *records: Any, resource: Any = (), scope: Any = ()) -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.extend(pairs(*resource))
    by_scope = getattr(by_resource, shape.scopes).add()
    by_scope.scope.attributes.extend(pairs(*scope))
    getattr(by_scope, shape.records).extend(records)
    return bytes(made.SerializeToString())


@cache
def processor(normalise: str) -> Processor:
    return pipeline(CONFIGS, KEYS, SubjectConfig.model_validate({"from": FROM, "normalise": normalise}))


def run(signal: Signal, raw: bytes, normalise: str = "none", **options: Any) -> Batch:
    return processor(normalise)(Batch(signal, raw, NOW, **options))


def log(*given: tuple[str, AnyValue | str], name: str = "signup") -> LogRecord:
    return LogRecord(event_name=name, time_unix_nano=NOW, attributes=pairs(*given))


def records(signal: Signal, batch: Batch) -> list[Any]:
    shape = SHAPES[signal]
    made = decode(signal, batch.finish())
    return list(getattr(getattr(getattr(made, shape.resources)[0], shape.scopes)[0], shape.records))


def subject(batch: Batch) -> str | None:
    (event,) = batch.extract(RULES).events
    return event.subject


@pytest.mark.parametrize(
    ("value", "expected", "who"),
    [
        pytest.param(text("jane"), text(JANE), JANE, id="a string"),
        pytest.param(text(" jane\t"), text(JANE), JANE, id="trimmed"),
        pytest.param(text("Jane"), text(token("Jane")), token("Jane"), id="case counts"),
        pytest.param(AnyValue(int_value=42), text(token("42")), token("42"), id="an integer"),
        pytest.param(array(text("jane")), text(JANE), JANE, id="an array of one"),
        pytest.param(
            array(AnyValue(int_value=42)), text(token("42")), token("42"), id="an array of one integer"
        ),
        pytest.param(text(""), text(""), None, id="empty"),
        pytest.param(text(" "), text(" "), None, id="blank"),
        pytest.param(AnyValue(), AnyValue(), None, id="no value"),
        pytest.param(array(text("jane"), text("bob")), text("[REDACTED]"), None, id="several"),
        pytest.param(array(array(text("jane"))), text("[REDACTED]"), None, id="an array in an array"),
        pytest.param(AnyValue(double_value=1.5), text("[REDACTED]"), None, id="a double"),
        pytest.param(AnyValue(bool_value=True), text("[REDACTED]"), None, id="a boolean"),
        pytest.param(AnyValue(bytes_value=b"jane"), text("[REDACTED]"), None, id="bytes"),
        pytest.param(
            AnyValue(kvlist_value=KeyValueList(values=pairs(("id", "jane")))),
            text("[REDACTED]"),
            None,
            id="a map",
        ),
        pytest.param(text(JANE), text(token(JANE)), token(JANE), id="a token that a stranger sends"),
        pytest.param(text("j" * 126), text(token("j" * 126)), token("j" * 126), id="a long one"),
        pytest.param(text("j" * 512), text(token("j" * 512)), token("j" * 512), id="512 bytes"),
    ],
)
def test_value(value, expected, who):
    batch = run("logs", request("logs", log(("user.id", value))))
    assert records("logs", batch)[0].attributes[0] == KeyValue(key="user.id", value=expected)
    assert subject(batch) == who


@pytest.mark.parametrize(
    ("given", "resource", "who"),
    [
        pytest.param([("enduser.id", "bob"), ("user.id", "jane")], [], JANE, id="the order of subject.from"),
        pytest.param([("user.id", "bob"), ("user.id", "jane")], [], JANE, id="the last of repeated keys"),
        pytest.param([("user.id", "jane"), ("user.id", "")], [], JANE, id="but an empty one is none"),
        pytest.param(
            [("enduser.id", "bob")], [("user.id", "jane")], BOB, id="the record before the resource"
        ),
        pytest.param(
            [("user.id", "")], [("user.id", "jane")], JANE, id="the resource if the record has none"
        ),
        pytest.param([("http.request.header.x_user_id", array(text("jane")))], [], JANE, id="header names"),
        pytest.param([("user_id", "jane")], [], None, id="another attribute"),
    ],
)
def test_which_attribute_counts(given, resource, who):
    batch = run("logs", request("logs", log(*given), resource=resource))
    assert subject(batch) == who
    if who is not None:
        assert b"jane" not in batch.finish()
        assert b"bob" not in batch.finish()


def test_normalise_lower():
    assert subject(run("logs", request("logs", log(("user.id", "JANE"))), "lower")) == JANE


def test_nested_keys_and_bodies_are_replaced_and_name_nobody():
    nested = AnyValue(kvlist_value=KeyValueList(values=pairs(("user.id", "jane"), ("plan", "pro"))))
    made = log(("context", array(nested)))
    made.body.CopyFrom(nested)
    batch = run("logs", request("logs", made))
    assert b"jane" not in batch.finish()
    kept = records("logs", batch)[0]
    assert kept.body.kvlist_value.values[0].value.string_value == JANE
    assert kept.attributes[0].value.array_value.values[0].kvlist_value.values[0].value.string_value == JANE
    assert subject(batch) is None


def test_every_attribute_list_of_a_span_is_looked_at():
    span = Span(name="POST /projects", trace_id=b"t" * 16, span_id=b"s" * 8, end_time_unix_nano=NOW)
    span.attributes.extend(pairs(("user.id", "jane")))
    span.events.add(name="created", time_unix_nano=NOW, attributes=pairs(("user.id", "bob")))
    span.events.add(name="sent", time_unix_nano=NOW)
    span.links.add(attributes=pairs(("user.id", "jane")))
    batch = run("traces", request("traces", span, scope=[("user.id", "jane")]))
    out = batch.finish()
    assert b"jane" not in out
    assert b"bob" not in out
    told = [(event.kind, event.name, event.subject) for event in batch.extract(RULES).events]
    assert told == [
        ("span", "POST /projects", JANE),
        ("span_event", "created", BOB),
        ("span_event", "sent", JANE),
    ]


def test_data_points_exemplars_and_metadata_are_looked_at():
    metric = Metric(name="requests", metadata=pairs(("user.id", "jane")))
    point = metric.sum.data_points.add(as_int=1, attributes=pairs(("user.id", "jane")))
    point.exemplars.append(Exemplar(filtered_attributes=pairs(("user.id", "jane"))))
    batch = run("metrics", request("metrics", metric))
    (kept,) = records("metrics", batch)
    (point,) = kept.sum.data_points
    lists = (kept.metadata, point.attributes, point.exemplars[0].filtered_attributes)
    assert [one[0].value.string_value for one in lists] == [JANE] * 3


LONG = [("user.id", "x" * 600)]


def test_a_long_id_rejects_its_record_and_names_place_and_rule():
    batch = run("logs", request("logs", log(), log(*LONG), log(("user.id", "jane"))))
    assert batch.rejected == {1: "log_records[1]: user.id: expected at most 512 bytes, found 600"}
    assert (batch.records, batch.kept) == (3, 2)
    assert len(records("logs", batch)) == 2
    assert [event.subject for event in batch.extract(RULES).events] == [None, JANE]
    assert b"xxx" not in batch.finish()


def test_a_long_id_of_a_resource_rejects_all_its_records():
    batch = run("logs", request("logs", log(), log(), resource=LONG))
    assert sorted(batch.rejected) == [0, 1]
    assert batch.rejected[1] == "log_records[1]: resource: user.id: expected at most 512 bytes, found 600"
    assert batch.kept == 0
    assert b"xxx" not in batch.finish()


def test_a_long_id_of_a_data_point_rejects_that_point():
    first, second = Metric(name="a"), Metric(name="b")
    first.gauge.data_points.add(as_int=1)
    for given in ([], LONG, []):
        second.sum.data_points.add(as_int=2, attributes=pairs(*given))
    batch = run("metrics", request("metrics", first, second))
    assert batch.rejected == {2: "data_points[2]: user.id: expected at most 512 bytes, found 600"}
    assert (batch.records, batch.kept) == (4, 3)
    assert len(records("metrics", batch)[1].sum.data_points) == 2


@pytest.mark.parametrize("value", [text(JANE), array(text(JANE))])
def test_tokens_pass_on_a_trusted_path(value):
    batch = run("logs", request("logs", log(("user.id", value))), trusted=True)
    assert subject(batch) == JANE


def test_other_ids_are_pseudonymised_on_a_trusted_path_too():
    assert subject(run("logs", request("logs", log(("user.id", "jane"))), trusted=True)) == JANE


def test_the_subject_in_a_body_text_stays_where_it_is_no_attribute():
    made = log(("user.id", "jane"), ("note", "jane wrote user.id"))
    kept = records("logs", run("logs", request("logs", made)))[0]
    assert [pair.value.string_value for pair in kept.attributes] == [JANE, "jane wrote user.id"]


def test_a_resource_in_two_pieces_is_one():
    raw = bytearray(request("logs", log()))
    half = Resource(attributes=pairs(("user.id", "jane"))).SerializeToString()
    made = SHAPES["logs"].shallow.FromString(bytes(raw))
    made.resources[0].resource.append(half)
    made.resources[0].resource.append(Resource(attributes=pairs(("service.name", "web"))).SerializeToString())
    batch = run("logs", made.SerializeToString())
    assert subject(batch) == JANE
    (event,) = batch.extract(RULES).events
    assert event.resource == {"user.id": JANE, "service.name": "web"}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("value", "left"),
    [
        pytest.param(
            text('{"plan": "pro", "user.id": " jane "}'),
            text(f'{{"plan": "pro", "user.id": "{JANE}"}}'),
            id="JSON",
        ),
        pytest.param(
            text('[{"a": [["user.id", "jane"], {"name": "enduser.id", "value": 4711}]}]'),
            text(f'[{{"a": [["user.id", "{JANE}"], {{"name": "enduser.id", "value": "{token("4711")}"}}]}}]'),
            id="pairs in JSON",
        ),
        pytest.param(
            text('{"user.id": ["", null, 1.5, true, "%s"]}' % ("x" * 600)),
            text('{"user.id": ["", null, "[REDACTED]", "[REDACTED]", "[REDACTED]"]}'),
            id="what is no id in JSON",
        ),
        pytest.param(
            AnyValue(bytes_value=b'{"user.id":"jane"}'),
            AnyValue(bytes_value=f'{{"user.id":"{JANE}"}}'.encode()),
            id="JSON in bytes",
        ),
        pytest.param(array(text("user.id"), text("jane")), array(text("user.id"), text(JANE)), id="a pair"),
        pytest.param(
            AnyValue(kvlist_value=KeyValueList(values=pairs(("name", "user.id"), ("value", "jane")))),
            AnyValue(kvlist_value=KeyValueList(values=pairs(("name", "user.id"), ("value", JANE)))),
            id="a name and a value",
        ),
        pytest.param(text("no user.id: {"), text("no user.id: {"), id="no JSON"),
    ],
)
def test_what_names_a_user_and_is_no_attribute_becomes_a_token_and_names_no_subject(value, left, plain):
    record = log(("note", value), ("list", array(value)))
    record.body.CopyFrom(value)
    batch = run("logs", request("logs", record), plain=plain)
    (found,) = records("logs", batch)
    assert found.body == left
    assert [pair.value for pair in found.attributes] == [left, array(left)]
    assert [event.subject for event in batch.extract(RULES).events] == [None]
