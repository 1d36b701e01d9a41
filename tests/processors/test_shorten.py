"""What is too much of one thing is cut, after masking; whatever is within the limits stays as it was."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig, extract
from otel_ttf.otlp.leaving import MARK
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode, delimited
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.validate import ValidateConfig

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
SUBJECT = SubjectConfig()
RULES = Rules(TimeConfig(), SUBJECT.from_, wants_span=lambda _name: True)
ADA = Pseudonyms(KEYS).token("ada")
SIZE = 1024
CARD = "4111 1111 1111 1111"


@cache
def made(validate: ValidateConfig) -> Processor:
    configs: dict[str, Any] = {
        "validate": validate,
        "enrich": EnrichConfig(),
        "pseudonymise": PseudonymiseConfig(),
        "consent": ConsentConfig(),
        "mask": MaskConfig(),
    }
    return pipeline(configs, KEYS, SUBJECT)


DEFAULT = ValidateConfig()
# Large enough for nobody to reach.
ENDLESS = ValidateConfig(max_attributes=10**9, max_elements=10**9, max_value_size=10**9)
TIGHT = ValidateConfig(max_attributes=20, max_elements=16, max_value_size=SIZE)

# Where an attribute list can be: signal, the fields that lead to it.
PLACES: list[tuple[Signal, str]] = [
    ("logs", "resource_logs resource attributes"),
    ("logs", "resource_logs scope_logs scope attributes"),
    ("logs", "resource_logs scope_logs log_records attributes"),
    ("traces", "resource_spans scope_spans spans attributes"),
    ("traces", "resource_spans scope_spans spans events attributes"),
    ("traces", "resource_spans scope_spans spans links attributes"),
    ("metrics", "resource_metrics scope_metrics metrics metadata"),
    *(
        ("metrics", f"resource_metrics scope_metrics metrics {kind} data_points attributes")
        for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary")
    ),
    *(
        (
            "metrics",
            f"resource_metrics scope_metrics metrics {kind} data_points exemplars filtered_attributes",
        )
        for kind in ("gauge", "sum", "histogram", "exponential_histogram")
    ),
]


def at(message: Any, path: str) -> tuple[Any, Any]:
    """(what holds the last field of a path, that field); one of everything is made on the way."""
    *way, last = path.split()
    for name in way:
        below = getattr(message, name)
        if message.DESCRIPTOR.fields_by_name[name].is_repeated:
            message = below[0] if len(below) else below.add()
        else:
            message = below
            message.SetInParent()
    return message, getattr(message, last)


def whole(signal: Signal, path: str) -> Any:
    """A request with a record, whatever the path leads to."""
    message = SHAPES[signal].request()
    first = path.split()[0]
    records = {"logs": "log_records", "traces": "spans", "metrics": "metrics"}[signal]
    at(message, f"{first} scope_{first.partition('_')[2]} {records} x".rpartition(" ")[0])[1].add()
    return message


def run(validate: ValidateConfig, signal: Signal, message: Any, **options: Any) -> tuple[Batch, Any]:
    batch = made(validate)(Batch(signal, message.SerializeToString(), NOW, **options))
    return batch, decode(signal, batch.finish())


@pytest.mark.parametrize(("signal", "path"), PLACES)
@pytest.mark.parametrize("plain", [False, True])
def test_attributes_beyond_the_limit_go_wherever_they_stand(signal: Signal, path: str, plain: bool) -> None:
    message = whole(signal, path)
    holder, pairs = at(message, path)
    for number in range(1030):
        pairs.add(key=f"k{number}").value.int_value = number
    had = "dropped_attributes_count" in holder.DESCRIPTOR.fields_by_name
    if had:
        holder.dropped_attributes_count = 4
    batch, out = run(DEFAULT, signal, message, plain=plain)
    holder, pairs = at(out, path)
    assert [pair.key for pair in pairs] == [f"k{number}" for number in range(1024)]
    if had:
        assert holder.dropped_attributes_count == 10
    assert batch.warnings == ["attributes beyond 1024 in a list: 6, dropped"]
    assert batch.counts["mended", "attributes"] == 6
    assert not batch.rejected


@pytest.mark.parametrize(("signal", "path"), PLACES)
def test_as_many_as_may_be_stay_as_they_are(signal: Signal, path: str) -> None:
    message = whole(signal, path)
    _, pairs = at(message, path)
    for number in range(1024):
        pairs.add(key=f"k{number}").value.int_value = number
    one = pairs[0].value.array_value.values
    one.extend([AnyValue(int_value=1)] * 1024)
    pairs[1].value.string_value = "-" * (256 << 10)
    pairs[2].value.bytes_value = b"\xff" * (256 << 10)
    batch, _ = run(DEFAULT, signal, message)
    assert batch.finish() == message.SerializeToString()
    assert batch.warnings == []


@pytest.mark.parametrize("name", ["array_value", "kvlist_value"])
@pytest.mark.parametrize("depth", [0, 3])
def test_elements_beyond_the_limit_go(name: str, depth: int) -> None:
    message = whole("logs", "resource_logs")
    record, _ = at(message, "resource_logs scope_logs log_records attributes")
    value = record.body
    for _ in range(depth):
        value = value.array_value.values.add()
    getattr(value, name).values.extend(
        [AnyValue(int_value=n) if name == "array_value" else KeyValue(key=str(n)) for n in range(1030)]
    )
    kept = list(getattr(value, name).values)[:1024]
    batch, out = run(DEFAULT, "logs", message)
    value = out.resource_logs[0].scope_logs[0].log_records[0].body
    for _ in range(depth):
        value = value.array_value.values[0]
    assert list(getattr(value, name).values) == kept
    assert batch.warnings == ["elements beyond 1024 of a list or map: 6, dropped"]
    assert out.resource_logs[0].scope_logs[0].log_records[0].dropped_attributes_count == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("resource_logs scope_logs log_records", "severity_text"),
        ("resource_logs scope_logs log_records", "event_name"),
        ("resource_logs scope_logs log_records body", "string_value"),
        ("resource_logs scope_logs log_records body", "bytes_value"),
        ("resource_logs scope_logs log_records attributes", "key"),
        ("resource_logs scope_logs scope", "version"),
        ("resource_logs", "schema_url"),
        ("resource_logs scope_logs", "schema_url"),
        ("resource_logs scope_logs log_records", "trace_id"),
    ],
)
def test_long_texts_are_cut_wherever_they_stand(path: str, field: str) -> None:
    message = whole("logs", "resource_logs")
    holder, last = at(message, path)
    one = last[0] if hasattr(last, "__len__") and len(last) else last.add() if hasattr(last, "add") else last
    assert holder is not None
    text = "-" * 2000
    setattr(one, field, text.encode() if field in ("bytes_value", "trace_id") else text)
    batch, out = run(TIGHT, "logs", message)
    _, last = at(out, path)
    one = last[0] if hasattr(last, "__len__") else last
    assert len(getattr(one, field)) == (0 if field == "trace_id" else SIZE)
    assert batch.warnings == ["values of more than 1KiB: 1, cut"]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        pytest.param("é" * 511 + "-", "é", id="half of a letter"),
        pytest.param("x" * 1018 + " ", CARD, id="a card that begins before the cut"),
        pytest.param("x" * 1018 + " ", "[CARD]", id="a placeholder that begins before the cut"),
        pytest.param("x" * 1000 + " ", ADA, id="something like a token"),
        pytest.param("x" * 990 + " ", "e1_" + "ab" * 40, id="something sealed"),
        pytest.param("x" * 1000 + " ", "[CARD:ab2c_" + "a" * 32 + "]", id="a hash"),
    ],
)
@pytest.mark.parametrize("kind", ["string_value", "bytes_value"])
def test_nothing_is_cut_in_two(before: str, behind: str, kind: str) -> None:
    message = whole("logs", "resource_logs")
    record, _ = at(message, "resource_logs scope_logs log_records attributes")
    text = before + behind + " " + "y" * 500
    setattr(record.body, kind, text.encode() if kind == "bytes_value" else text)
    _, out = run(TIGHT, "logs", message)
    got = getattr(out.resource_logs[0].scope_logs[0].log_records[0].body, kind)
    got = got.decode() if isinstance(got, bytes) else got
    assert got == before
    assert len(got.encode()) <= SIZE


def test_a_card_across_the_cut_is_masked_as_a_whole() -> None:
    for shift in range(24):
        message = whole("logs", "resource_logs")
        record, _ = at(message, "resource_logs scope_logs log_records attributes")
        record.body.string_value = "x" * (SIZE - shift) + " " + CARD + " " + "y" * 100
        batch, _ = run(TIGHT, "logs", message)
        assert b"4111" not in batch.finish()
        assert b"1111" not in batch.finish()


def test_a_long_sealed_value_goes_as_a_whole() -> None:
    message = whole("logs", "resource_logs")
    record, _ = at(message, "resource_logs scope_logs log_records attributes")
    record.body.string_value = "x" * 100 + " e1v_" + "ab" * 5000
    _, out = run(TIGHT, "logs", message)
    assert out.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "x" * 100 + " "


def test_bytes_that_are_no_text_are_cut_at_the_limit() -> None:
    message = whole("logs", "resource_logs")
    record, _ = at(message, "resource_logs scope_logs log_records attributes")
    record.body.bytes_value = b"\xff" * 3000
    _, out = run(TIGHT, "logs", message)
    assert out.resource_logs[0].scope_logs[0].log_records[0].body.bytes_value == b"\xff" * SIZE


def test_the_user_and_the_name_stay_beyond_the_limit_the_last_of_each() -> None:
    message = whole("logs", "resource_logs")
    record, pairs = at(message, "resource_logs scope_logs log_records attributes")
    record.time_unix_nano = NOW
    for number in range(1024):
        pairs.add(key=f"k{number}")
    for number in range(50):
        pairs.add(key="user.id").value.string_value = f"user-{number}"
        pairs.add(key=f"more{number}")
    pairs.add(key="user.id").value.string_value = "ada"
    pairs.add(key="event.name").value.string_value = "signup"
    pairs.add(key="ttf.do_not_sell").value.bool_value = True
    batch, out = run(DEFAULT, "logs", message)
    (event,) = batch.extract(RULES).events
    assert (event.name, event.subject) == ("signup", ADA)
    record = out.resource_logs[0].scope_logs[0].log_records[0]
    assert sorted(pair.key for pair in record.attributes[1024:]) == ["event.name", MARK, "user.id"]
    assert record.dropped_attributes_count == 50 + 50 + 1
    found = extract("logs", batch.finish(), batch.ids, batch.arrival, RULES)
    assert [one.facts() for one in found.events] == [event.facts()]


def test_a_tag_that_is_longer_than_it_has_to_be_is_an_attribute_too() -> None:
    pair = KeyValue(key="a", value=AnyValue(int_value=1)).SerializeToString()
    odd = b"\xb2\x00" + bytes([len(pair)]) + pair
    record = delimited(6, pair) * 600 + odd * 600
    raw = delimited(1, delimited(2, delimited(2, record)))
    batch = made(DEFAULT)(Batch("logs", raw, NOW))
    (one,) = decode("logs", batch.finish()).resource_logs[0].scope_logs[0].log_records
    assert len(one.attributes) == 1024
    assert one.dropped_attributes_count == 176


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_what_is_within_the_limits_is_as_before(signal: Signal, seed: int, odd: bool, grown: bool) -> None:
    raw = request(signal, random.Random(seed), odd=odd)
    if grown:
        # Of records that are long enough to be looked at, too.
        message = decode(signal, raw)
        for by_resource in getattr(message, SHAPES[signal].resources):
            by_resource.resource.attributes.add(key="long").value.string_value = '"J:\n2*' * 2000
        raw = message.SerializeToString()
    one, other = (made(limits)(Batch(signal, raw, NOW)) for limits in (DEFAULT, ENDLESS))
    assert one.finish() == other.finish()
    assert one.warnings == other.warnings


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32))
def test_what_is_searched_is_all_that_there_is(signal: Signal, seed: int) -> None:
    rng = random.Random(seed)
    raw = request(signal, rng, odd=False)
    message = decode(signal, raw)
    for by_resource in getattr(message, SHAPES[signal].resources):
        for attribute in range(rng.randrange(25)):
            value = by_resource.resource.attributes.add(key=f"more{attribute}").value
            for _ in range(rng.choice((0, 1, 2, 15, 16, 17))):
                value.array_value.values.add().string_value = "-" * rng.choice((1,) * 20 + (1024, 1025))
    raw = message.SerializeToString()
    fast, plain = (made(TIGHT)(Batch(signal, raw, NOW, plain=plain)) for plain in (False, True))
    known = [decode(signal, batch.finish()) for batch in (fast, plain)]
    for one in known:
        one.DiscardUnknownFields()
    assert known[0] == known[1]
    assert fast.warnings == plain.warnings
