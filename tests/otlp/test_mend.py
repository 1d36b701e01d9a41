"""One bad record costs none of the others: what protobuf refuses as a whole is mended, or rejected, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp import mend as mending
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.mend import REPAIRED
from otel_ttf.otlp.wire import MAX_NESTING, SHAPES, SIGNALS, Malformed, Signal, delimited, written

GOOD, BAD, MENDED = b"BAD TEXT", b"BA\xff\xe2\x82-XT", "BA\ufffd\ufffd-XT"
LEVELS = 2  # of values within values

Path = tuple[str, ...]


def texts(descriptor: Descriptor, path: Path = ()) -> Iterator[Path]:
    """Paths to all texts of a message, values within values up to LEVELS."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and (
            sum(name.endswith("_value") for name in path) < LEVELS or not field.name.endswith("_value")
        ):
            assert field.message_type is not None
            yield from texts(field.message_type, (*path, field.name))


def planted(message: Any, path: Path) -> None:
    """GOOD at that place, one of everything on the way to it."""
    for name in path[:-1]:
        below = getattr(message, name)
        message = below.add() if message.DESCRIPTOR.fields_by_name[name].is_repeated else below
    if message.DESCRIPTOR.fields_by_name[path[-1]].is_repeated:
        getattr(message, path[-1]).append(GOOD.decode())
    else:
        setattr(message, path[-1], GOOD.decode())


def wrapped(signal: Signal, *records: bytes) -> bytes:
    """A request with these records as they are."""
    shallow = SHAPES[signal].shallow()
    shallow.resources.add().scopes.add().records.extend(records)
    return bytes(shallow.SerializeToString())


def record(name: str, user: str = "ada") -> bytes:
    made = SHAPES["logs"].record(event_name=name, time_unix_nano=1_790_000_000 * 10**9)
    made.attributes.append(KeyValue(key="user.id", value=AnyValue(string_value=user)))
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_text_that_is_no_utf_8_is_mended_and_marked_wherever_it_stands(signal: Signal) -> None:
    kind = SHAPES[signal].request
    ways = list(texts(kind.DESCRIPTOR))
    assert len(ways) > 50
    for path in ways:
        request = kind()
        planted(request, path)
        raw = request.SerializeToString().replace(GOOD, BAD)
        with pytest.raises(DecodeError):
            kind.FromString(raw)
        batch = Batch(signal, raw, 1)
        out = batch.finish()
        assert MENDED.encode() in out, path
        assert (REPAIRED.encode() in out) is (path[-1] != "schema_url" or "entity_refs" in path), path
        assert not batch.rejected, path
        assert "1, mended" in batch.warnings[0], path


def test_the_other_records_stay_as_they_came() -> None:
    records = [record(f"signup-{number}") for number in range(1000)]
    bad = record("signup", "BAD TEXT").replace(GOOD, BAD)
    batch = Batch("logs", wrapped("logs", *records[:500], bad, *records[500:]), 1)
    batch.finish()
    assert batch.records == batch.kept == 1001
    assert [*batch.slices[:500], *batch.slices[501:]] == records


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "broken",
    [b"\x0a\x7f", b"\x0b", b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x09\x00"],
)
def test_what_is_no_record_is_rejected_alone(signal: Signal, broken: bytes) -> None:
    good = mending.NOTHING[signal]
    batch = Batch(signal, wrapped(signal, good, broken, good), 1)
    assert batch.records == 3
    assert batch.kept == 2
    ((place, rule),) = batch.rejected.items()
    assert place == 1
    assert rule.endswith(f"[1]: expected a {SHAPES[signal].record.DESCRIPTOR.name} in protobuf")
    assert Batch(signal, batch.finish(), 1).records == 2


def test_below_a_broken_resource_everything_is_rejected() -> None:
    shallow = SHAPES["logs"].shallow()
    for data in (b"\x0a\x7f", b""):
        below = shallow.resources.add()
        below.resource.append(data)
        below.scopes.add().records.append(record("signup"))
    batch = Batch("logs", shallow.SerializeToString(), 1)
    assert batch.kept == 1
    assert batch.rejected == {0: "log_records[0]: expected a Resource in protobuf"}


def nested(levels: int, field: str) -> bytes:
    """A log record whose body is nested so deeply; written from within, since protobuf would refuse to."""
    value = AnyValue(string_value="x").SerializeToString()
    number = {"array_value": 5, "kvlist_value": 6}[field]
    for _ in range(levels):
        element = delimited(1, delimited(2, value) if field == "kvlist_value" else value)
        value = delimited(number, element)
    return wrapped("logs", delimited(5, value))


@pytest.mark.parametrize("field", ["array_value", "kvlist_value"])
@pytest.mark.parametrize("levels", [MAX_NESTING, 40, 60, 5000, 200_000])
def test_values_nested_too_deeply_are_cut(field: str, levels: int) -> None:
    raw = nested(min(levels, 20_000), field) if levels < 200_000 else nested_fast(levels, field)
    batch = Batch("logs", raw, 1)
    assert batch.records == 1
    assert batch.warnings == [f"values nested more than {MAX_NESTING} deep: 1, cut"]
    assert batch.counts == {("mended", "nesting"): 1}
    assert b"<too deep>" in batch.finish()
    assert len(batch.finish()) < 500


def holding(signal: Signal, path: Path, value: bytes) -> bytes:
    """A request with this AnyValue at the end of a path."""
    numbers = []
    descriptor = SHAPES[signal].request.DESCRIPTOR
    for name in path:
        field = descriptor.fields_by_name[name]
        numbers.append(field.number)
        assert field.message_type is not None
        descriptor = field.message_type
    for number in reversed(numbers):
        value = delimited(number, value)
    return value


def levels_of(fields: str) -> bytes:
    """An AnyValue of lists (l) and maps (m) in each other, the outermost first, around a text."""
    value = AnyValue(string_value="x").SerializeToString()
    for one in reversed(fields):
        element = delimited(1, delimited(2, value) if one == "m" else value)
        value = delimited(6 if one == "m" else 5, element)
    return value


PLACES: list[tuple[Signal, Path]] = [
    ("logs", ("resource_logs", "scope_logs", "log_records", "body")),
    ("logs", ("resource_logs", "scope_logs", "log_records", "attributes", "value")),
    ("logs", ("resource_logs", "resource", "attributes", "value")),
    ("logs", ("resource_logs", "scope_logs", "scope", "attributes", "value")),
    ("traces", ("resource_spans", "scope_spans", "spans", "events", "attributes", "value")),
    ("metrics", ("resource_metrics", "scope_metrics", "metrics", "metadata", "value")),
    (
        "metrics",
        (
            "resource_metrics",
            "scope_metrics",
            "metrics",
            "sum",
            "data_points",
            "exemplars",
            "filtered_attributes",
            "value",
        ),
    ),
]


@pytest.mark.parametrize(("signal", "path"), PLACES, ids=lambda one: one if isinstance(one, str) else one[-2])
@pytest.mark.parametrize("fields", ["l" * 31, "m" * 28, "lm" * 12], ids=["lists", "maps", "both"])
def test_values_within_the_limit_stay_wherever_they_stand(signal: Signal, path: Path, fields: str) -> None:
    raw = holding(signal, path, levels_of(fields))
    batch = Batch(signal, raw, 1)
    assert batch.finish() == raw
    assert batch.warnings == []


@pytest.mark.parametrize(("signal", "path"), PLACES, ids=lambda one: one if isinstance(one, str) else one[-2])
@pytest.mark.parametrize(
    "fields",
    ["l" * 32, "l" * 45, "m" * 40, "lm" * 18, "m" + "l" * 300],
    ids=["32", "45", "maps", "both", "300"],
)
def test_values_beyond_it_are_cut_wherever_they_stand(signal: Signal, path: Path, fields: str) -> None:
    raw = holding(signal, path, levels_of(fields))
    batch = Batch(signal, raw, 1)
    assert batch.finish().count(b"<too deep>") == 1
    assert batch.counts == {("mended", "nesting"): 1}
    assert not batch.rejected


@pytest.mark.parametrize("beside", [0, 5000], ids=["small", "large"])
@pytest.mark.parametrize("odd", [False, True], ids=["", "with longer tags"])
def test_the_first_level_too_deep_is_found_in_any_request(beside: int, odd: bool) -> None:
    """Small requests are counted, larger ones are decoded within groups."""
    value = AnyValue(string_value="x").SerializeToString()
    for _ in range(MAX_NESTING):
        element = delimited(1, value)
        value = b"\xaa\x00" + written(len(element)) + element if odd else delimited(5, element)
    raw = wrapped("logs", delimited(3, b"x" * beside) + delimited(5, value))
    batch = Batch("logs", raw, 1)
    assert batch.finish().count(b"<too deep>") == 1
    # What was cut stays as it is when it is sent on.
    again = Batch("logs", batch.finish(), 1)
    assert again.finish() == batch.finish()
    assert again.warnings == []


def test_a_giant_that_protobuf_reads_is_cut_not_rejected() -> None:
    record = SHAPES["logs"].record(severity_text="x" * mending.MAX_BYTES).SerializeToString()
    batch = Batch("logs", wrapped("logs", record + delimited(5, levels_of("l" * 40))), 1)
    assert batch.finish().count(b"<too deep>") == 1
    assert batch.kept == 1


def nested_fast(levels: int, field: str) -> bytes:
    """The same in time linear in the levels: heads first, then the innermost."""
    inner = AnyValue(string_value="x").SerializeToString()
    heads: list[bytes] = []
    size = len(inner)
    number = {"array_value": 5, "kvlist_value": 6}[field]
    for _ in range(levels):
        for tag in (2, 1) if field == "kvlist_value" else (1,):
            head = bytes([tag << 3 | 2]) + written(size)
            heads.append(head)
            size += len(head)
        head = bytes([number << 3 | 2]) + written(size)
        heads.append(head)
        size += len(head)
    return wrapped("logs", delimited(5, b"".join([*reversed(heads), inner])))


def test_values_that_protobuf_reads_stay() -> None:
    batch = Batch("logs", nested(20, "kvlist_value"), 1)
    assert batch.records == 1
    assert batch.warnings == []


def test_a_giant_is_not_mended() -> None:
    giant = SHAPES["logs"].record(severity_text="BAD TEXT" + "x" * mending.MAX_BYTES).SerializeToString()
    batch = Batch("logs", wrapped("logs", giant.replace(GOOD, BAD), record("signup")), 1)
    assert batch.kept == 1
    assert list(batch.rejected) == [0]


@pytest.mark.parametrize("signal", SIGNALS)
def test_beyond_the_budget_only_what_is_sound_is_taken(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "MAX_STEPS", 3 * (mending.RECORD_STEPS + 4))
    good = mending.NOTHING[signal]
    bad = good + delimited(1 if signal == "metrics" else 3, b"\xff")
    if signal == "traces":
        bad = good + delimited(5, b"\xff")
    batch = Batch(signal, wrapped(signal, *[bad] * 5, good, bad), 1)
    kept = 4
    assert batch.kept == kept
    assert batch.counts == {("mended", "utf8"): kept - 1}
    assert list(batch.rejected) == [3, 4, 6]
    assert all("more of this request is to be mended than can be" in rule for rule in batch.rejected.values())
    assert Batch(signal, batch.finish(), 1).kept == kept


@pytest.mark.parametrize(
    "filling", [b"\x10\x01" * 1000, delimited(3, b"x" * 1_000_000)], ids=["fields", "bytes"]
)
def test_a_record_may_take_the_budget_of_its_request(filling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "MAX_STEPS", 900)
    bad = delimited(3, b"\xff")
    batch = Batch("logs", wrapped("logs", bad, bad + filling, record("signup"), bad), 1)
    assert list(batch.rejected) == [1, 3]
    assert batch.counts == {("mended", "utf8"): 1}


def test_what_cannot_be_told_apart_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"^expected an OTLP logs request in protobuf$"):
        _ = Batch("logs", wrapped("logs", record("signup")) + b"\x0a\x7f", 1).records


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BAD, id="bytes"),
        pytest.param(rb"BA\udcff\ud800-XT", id="halves of pairs"),
    ],
)
@pytest.mark.parametrize("field", ["eventName", "severityText"])
def test_json_is_mended_the_same_way(text: bytes, field: str) -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"%s":"%s"},{}]}]}]}' % (field.encode(), text)
    request = SHAPES["logs"].request.FromString(otlp_json.decode("logs", body))
    first, second = request.resource_logs[0].scope_logs[0].log_records
    assert MENDED in (first.event_name, first.severity_text)
    assert [pair.key for pair in first.attributes] == [REPAIRED]
    assert not second.attributes


def test_json_in_values_and_resources_is_marked_where_it_stands() -> None:
    body = (
        rb'{"resourceLogs":[{"resource":{"attributes":[{"key":"\ud800","value":{"arrayValue":{"values":'
        rb'[{"stringValue":"x"}]}}}]},"scopeLogs":[{"logRecords":[{"body":{"stringValue":"\ud801"}}]}]}]}'
    )
    (resource,) = SHAPES["logs"].request.FromString(otlp_json.decode("logs", body)).resource_logs
    assert [pair.key for pair in resource.resource.attributes] == ["\ufffd", REPAIRED]
    (one,) = resource.scope_logs[0].log_records
    assert one.body.string_value == "\ufffd"
    assert [pair.key for pair in one.attributes] == [REPAIRED]
