"""Masking finds every place where a text can stand, and changes nothing else."""

from __future__ import annotations

import math
import re
import struct
from functools import cache
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig, changes
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
NOW = 1_790_000_000_000_000_000
CANARY = "canary@example.com"


@cache
def processor(config: str, enrich: str) -> Processor:
    configs = {
        "enrich": EnrichConfig.model_validate_json(enrich),
        "pseudonymise": PseudonymiseConfig(),
        "mask": MaskConfig.model_validate_json(config),
    }
    return pipeline(configs, KEYS, SubjectConfig())


def run(
    signal: Signal, raw: bytes, config: MaskConfig | None = None, enrich: EnrichConfig | None = None
) -> Batch:
    given = (config or MaskConfig(), enrich or EnrichConfig())
    return processor(*(one.model_dump_json() for one in given))(Batch(signal, raw, NOW))


def one(signal: Signal, record: Any) -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    scope = getattr(getattr(made, shape.resources).add(), shape.scopes).add()
    getattr(scope, shape.records).append(record)
    return bytes(made.SerializeToString())


def log_out(record: LogRecord, **options: Any) -> LogRecord:
    made = decode("logs", run("logs", one("logs", record), **options).finish())
    return made.resource_logs[0].scope_logs[0].log_records[0]


def places(descriptor: Any, depth: int = 0, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every way down to a string, or to bytes in an AnyValue, that the protos have."""
    found = []
    for field in descriptor.fields:
        here = (*path, field.name)
        if field.type == FieldDescriptor.TYPE_STRING or (
            field.type == FieldDescriptor.TYPE_BYTES and descriptor.name == "AnyValue"
        ):
            found.append(here)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            deeper = depth + (descriptor.name == "AnyValue")
            if deeper <= 1:
                found += places(field.message_type, deeper, here)
    return found


def plant(message: Any, path: tuple[str, ...]) -> None:
    for name in path[:-1]:
        target = getattr(message, name)
        if message.DESCRIPTOR.fields_by_name[name].is_repeated:
            message = target.add()
        else:
            target.SetInParent()
            message = target
    field = message.DESCRIPTOR.fields_by_name[path[-1]]
    value = CANARY.encode() if field.type == FieldDescriptor.TYPE_BYTES else CANARY
    if field.is_repeated:
        getattr(message, path[-1]).append(value)
    else:
        setattr(message, path[-1], value)


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_canary_in_every_place_of_the_protos_is_found(signal):
    kind = SHAPES[signal].request
    ways = places(kind.DESCRIPTOR)
    assert len(ways) > 30
    for path in ways:
        made = kind()
        plant(made, path)
        batch = run(signal, made.SerializeToString())
        out = batch.finish()
        assert CANARY.encode() not in out, path
        assert b"[EMAIL]" in out, path
        assert decode(signal, out).ByteSize() == made.ByteSize() - len(CANARY) + len("[EMAIL]"), path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            AnyValue(int_value=4111111111111111), AnyValue(string_value="[CARD]"), id="a card as integer"
        ),
        pytest.param(
            AnyValue(int_value=4222222222222), AnyValue(string_value="[CARD]"), id="one of 13 digits"
        ),
        pytest.param(AnyValue(int_value=1721379600000), AnyValue(int_value=1721379600000), id="milliseconds"),
        pytest.param(
            AnyValue(int_value=-4111111111111111), AnyValue(int_value=-4111111111111111), id="negative"
        ),
        pytest.param(
            AnyValue(double_value=4111111111111111), AnyValue(string_value="[CARD]"), id="a card as double"
        ),
        pytest.param(
            AnyValue(double_value=4000000000014),
            AnyValue(string_value="[CARD]"),
            id="one as small as it gets",
        ),
        pytest.param(
            AnyValue(double_value=4000000000000005120), AnyValue(string_value="[CARD]"), id="one of 19 digits"
        ),
        pytest.param(
            AnyValue(double_value=411111111111111.5),
            AnyValue(double_value=411111111111111.5),
            id="a fraction",
        ),
        pytest.param(AnyValue(double_value=1721379600000), AnyValue(double_value=1721379600000), id="a time"),
        pytest.param(AnyValue(double_value=math.inf), AnyValue(double_value=math.inf), id="no number"),
        pytest.param(AnyValue(bytes_value=b"a@b.de"), AnyValue(bytes_value=b"[EMAIL]"), id="text in bytes"),
        pytest.param(
            AnyValue(bytes_value=b"\xff a@b.de"), AnyValue(bytes_value=b"\xff [EMAIL]"), id="other bytes"
        ),
        pytest.param(AnyValue(), AnyValue(), id="nothing"),
    ],
)
def test_a_value_keeps_its_type(value, expected):
    record = LogRecord(attributes=[KeyValue(key="k", value=value)])
    assert log_out(record).attributes[0].value == expected


cards = st.from_regex(r"(4[0-9]{12}|[2-6][0-9]{15}|(62|4)[0-9]{15}0{2})", fullmatch=True).map(float)


@settings(max_examples=500, deadline=None)
@given(cards | st.integers(10**11, 2**64).map(float) | st.floats(1e11, 2e19) | st.floats(), st.integers(0, 3))
def test_of_every_double_the_scan_sees_what_the_walk_sees(number, padding):
    tag = b"\x21" if not padding else b"\xa1" + b"\x80" * (padding - 1) + b"\x00"
    value = tag + struct.pack("<d", number)
    record = b"\x2a" + bytes([len(value)]) + value  # LogRecord.body
    fast, plain = (
        processor(MaskConfig().model_dump_json(), EnrichConfig().model_dump_json())(
            Batch("logs", framed(record), NOW, plain=plain)
        )
        for plain in (False, True)
    )
    assert decode("logs", fast.finish()) == decode("logs", plain.finish())
    told = decode("logs", fast.finish()).resource_logs[0].scope_logs[0].log_records[0].body
    whole = AnyValue(int_value=int(number)) if math.isfinite(number) and abs(number) < 2**63 else AnyValue()
    same = log_out(LogRecord(body=whole)).body if number.is_integer() else AnyValue()
    assert (told.string_value == "[CARD]") == (same.string_value == "[CARD]")


def framed(record: bytes) -> bytes:
    for _ in range(3):  # log_records, scope_logs, resource_logs: all are field 2, but the last
        record = b"\x12" + bytes([len(record)]) + record
    return b"\x0a" + record[1:]


@pytest.mark.parametrize(
    "value",
    [
        AnyValue(string_value="x"),
        AnyValue(int_value=1),
        AnyValue(bool_value=True),
        AnyValue(bytes_value=b"x"),
    ],
)
@pytest.mark.parametrize("key", ["password", "http.request.header.set-cookie", "user.apiKey", "shoe_size"])
def test_a_secret_key_hides_its_value_of_any_type(key, value):
    record = LogRecord(attributes=[KeyValue(key=key, value=value)])
    out = log_out(record, config=MaskConfig(keys=("shoe size",)))
    assert out.attributes[0].value == AnyValue(string_value="[REDACTED]")


def test_a_secret_key_is_found_in_maps_and_bodies():
    record = LogRecord()
    inner = record.body.kvlist_value.values.add(key="request").value.kvlist_value.values.add(key="password")
    inner.value.string_value = "hunter2"
    assert b"hunter2" not in log_out(record).SerializeToString()


def test_key_rules_apply_to_keys_never_to_texts():
    record = LogRecord(
        attributes=[KeyValue(key="note", value=AnyValue(string_value="the password is reset"))]
    )
    assert log_out(record) == record


def test_detectors_can_be_switched_off():
    record = LogRecord(event_name="mail a@b.de")
    config = MaskConfig.model_validate({"detectors": {"email": False}})
    assert log_out(record, config=config) == record


@pytest.mark.parametrize(("key", "expected"), [("password", True), ("plan", False), ("tax.id", True)])
def test_what_a_condition_would_not_see(key, expected):
    assert changes(MaskConfig(keys=("taxId",)), key) is expected


def unknown(data: bytes) -> bytes:
    """A field that no version of our protos has."""
    return b"\xc2\x3e" + bytes([len(data)]) + data


@pytest.mark.parametrize(
    ("kept", "data"),
    [
        pytest.param(True, b"harmless", id="a harmless one stays"),
        pytest.param(False, CANARY.encode(), id="one with personal data goes"),
        pytest.param(False, b"\n\x07user.id\x12\x06\n\x04jane", id="one with a subject goes"),
    ],
)
@pytest.mark.parametrize("at", ["record", "attribute"])
def test_unknown_fields_of_a_record(kept, data, at):
    attribute = KeyValue(key="k", value=AnyValue(string_value="v")).SerializeToString()
    view = SHAPES["logs"].view(event_name=b"signup", attributes=[attribute])
    if at == "attribute":
        view.attributes[0] = attribute + unknown(data)
    shallow = SHAPES["logs"].shallow()
    record = view.SerializeToString() + (unknown(data) if at == "record" else b"")
    shallow.resources.add().scopes.add().records.append(record)
    out = run("logs", shallow.SerializeToString()).finish()
    assert (data in out) is kept
    made = decode("logs", out).resource_logs[0].scope_logs[0].log_records[0]
    assert (made.event_name, made.attributes[0].value.string_value) == ("signup", "v")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_unknown_fields_beside_records_go(level):
    made = SHAPES["traces"].shallow()
    scope = made.resources.add().scopes.add()
    scope.records.append(Span(name="a").SerializeToString())
    parts = [unknown(CANARY.encode()) if at == level else b"" for at in range(3)]
    by_scope = scope.SerializeToString() + parts[2]
    by_resource = b"\x12" + bytes([len(by_scope)]) + by_scope + parts[1]
    raw = b"\x0a" + bytes([len(by_resource)]) + by_resource + parts[0]
    assert run("traces", raw).finish() == made.SerializeToString()


def test_static_attributes_are_put_on_every_resource_and_masked(monkeypatch):
    monkeypatch.setenv("REGION", "eu")
    enrich = EnrichConfig(
        attributes={"team": CANARY, "size": 3, "on": True, "share": 0.5},
        environment={"region": "REGION", "x": "UNSET_"},
    )
    made = SHAPES["logs"].request()
    for _ in range(2):
        made.resource_logs.add().scope_logs.add().log_records.add(event_name="a")
    made.resource_logs[1].resource.attributes.add(key="team").value.string_value = "ours"
    out = decode("logs", run("logs", made.SerializeToString(), enrich=enrich).finish())
    told = [
        {
            pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")))
            for pair in by.resource.attributes
        }
        for by in out.resource_logs
    ]
    static = {"size": 3, "on": True, "share": 0.5, "region": "eu"}
    assert told == [{"team": "[EMAIL]"} | static, {"team": "ours"} | static]


def test_static_attributes_win_if_asked():
    made = SHAPES["logs"].request()
    made.resource_logs.add().scope_logs.add().log_records.add()
    for value in ("a", "b"):
        made.resource_logs[0].resource.attributes.add(key="team").value.string_value = value
    out = run("logs", made.SerializeToString(), enrich=EnrichConfig(attributes={"team": "c"}, overwrite=True))
    (pair,) = decode("logs", out.finish()).resource_logs[0].resource.attributes
    assert (pair.key, pair.value.string_value) == ("team", "c")


def test_a_detector_that_finds_its_own_placeholder_is_refused():
    with pytest.raises(ValueError, match=re.escape("order finds part of its own placeholder [ORDER]")):
        MaskConfig.model_validate({"custom": {"order": {"pattern": "ORDER"}}})
    MaskConfig.model_validate({"custom": {"order": {"pattern": "ORDER-[0-9]+"}}})
