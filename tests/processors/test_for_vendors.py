"""What is encrypted here and not for vendors does not reach them; everything else does, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from pydantic import BaseModel, ValidationError

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.leaving import for_vendor
from otel_ttf.otlp.wire import Signal
from otel_ttf.pii.consent import Book
from otel_ttf.pii.detect.custom import CustomDetector
from otel_ttf.pii.keyrules import KeyRule
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.pii.sealed import FOR_US, SEALED, is_sealed, to_text
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.mask import DetectorRule, MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.vault import open_vault

NOW = 1_790_000_000_000_000_000
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
CONFIGS: dict[str, BaseModel] = {
    "pseudonymise": PseudonymiseConfig(),
    "consent": ConsentConfig(),
    "mask": MaskConfig(
        detectors={"email": DetectorRule(action="encrypt", vendors="drop")},
        keys=(
            KeyRule(key="plan.code", action="encrypt", vendors="drop"),
            KeyRule(key="shared.code", action="encrypt"),
        ),
    ),
}
MAIL = "jane@example.com"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processor]:
    folder: Path = tmp_path_factory.mktemp("vault")
    vault = open_vault(None, folder)
    yield pipeline(CONFIGS, KEYS, SubjectConfig(), engine="re2", sealer=vault, book=Book())
    vault.close()


def leaves(process: Processor, signal: Signal, raw: bytes) -> bytes:
    """What a vendor gets; that something was sealed for us alone is made sure of."""
    masked = process(Batch(signal, raw, NOW)).finish()
    assert MAIL.encode() not in masked
    assert FOR_US.search(masked.decode("latin-1")), "nothing was sealed"
    got = for_vendor(signal, masked)
    assert not FOR_US.search(got.decode("latin-1"))
    return got


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def pair(key: str, value: AnyValue | str) -> KeyValue:
    return KeyValue(key=key, value=text(value) if isinstance(value, str) else value)


def listed(*values: AnyValue) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=values))


def mapped(*pairs: KeyValue) -> AnyValue:
    return AnyValue(kvlist_value=KeyValueList(values=pairs))


PLAN = pair("plan", "pro")
# How a text comes that holds what only we may keep; the words around it go with it.
HOLDING = [
    pair("plan.code", "p-4711"),
    pair("note", f"mail {MAIL} now"),
    pair("raw", AnyValue(bytes_value=MAIL.encode())),
    pair("json", json.dumps({"who": MAIL, "plan": "pro"})),
    pair(f"of {MAIL}", "x"),
]


def attributes(*, holding: bool) -> list[KeyValue]:
    """Of all kinds and at all depths, with and without what only we may keep."""
    some = HOLDING if holding else []
    more = [pair.value for pair in some[1:4]]
    return [
        PLAN,
        *some,
        pair("map", mapped(PLAN, *some, pair("deep", listed(text("a"), *more, mapped(*some, PLAN))))),
        pair("count", AnyValue(int_value=3)),
    ]


def logs(*, holding: bool) -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    by_resource = made.resource_logs.add(schema_url="https://example.com/1")
    by_resource.resource.attributes.extend(attributes(holding=holding))
    by_scope = by_resource.scope_logs.add()
    by_scope.scope.name = "web"
    by_scope.scope.attributes.extend(attributes(holding=holding))
    record = by_scope.log_records.add(time_unix_nano=NOW, event_name="signup", trace_id=b"t" * 16)
    record.attributes.extend(attributes(holding=holding))
    record.body.string_value = f"sent to {MAIL} twice" if holding else "sent to [REDACTED] twice"
    by_scope.log_records.add(time_unix_nano=NOW).body.CopyFrom(mapped(*attributes(holding=holding)))
    return made


def traces(*, holding: bool) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    who = MAIL if holding else "[REDACTED]"
    span = made.resource_spans.add().scope_spans.add().spans.add(name=f"mail {who}", end_time_unix_nano=NOW)
    span.status.message = f"refused by {who}"
    span.events.add(name=f"sent {who}", time_unix_nano=NOW, attributes=attributes(holding=holding))
    span.links.add(attributes=attributes(holding=holding))
    return made


def metrics(*, holding: bool) -> ExportMetricsServiceRequest:
    made = ExportMetricsServiceRequest()
    metric = made.resource_metrics.add().scope_metrics.add().metrics.add(name="clicks")
    metric.description = f"of {MAIL if holding else '[REDACTED]'}"
    point = metric.gauge.data_points.add(as_int=1, attributes=attributes(holding=holding))
    point.exemplars.add(as_int=1, filtered_attributes=attributes(holding=holding))
    return made


def of_jane(request: ExportLogsServiceRequest | ExportTraceServiceRequest) -> None:
    """Whose key the values are sealed with."""
    user = pair("user.id", "jane")
    if isinstance(request, ExportLogsServiceRequest):
        request.resource_logs[0].resource.attributes.append(user)
        request.resource_logs[0].scope_logs[0].scope.attributes.append(user)
    else:
        request.resource_spans[0].resource.attributes.append(user)


@pytest.mark.parametrize("make", [logs, traces, metrics], ids=["logs", "traces", "metrics"])
def test_what_is_sealed_for_us_alone_is_gone_and_all_else_leaves_byte_for_byte(process, make):
    signal: Signal = make.__name__
    pieces = []
    for holding in (True, False):
        made = make(holding=holding)
        if signal == "metrics":
            # Of data points each has a subject of its own; of the metric it is the resource's.
            made.resource_metrics[0].resource.attributes.append(pair("user.id", "jane"))
        else:
            of_jane(made)
        pieces.append(made.SerializeToString())
    with_it, without = pieces
    expected = process(Batch(signal, without, NOW)).finish()
    assert leaves(process, signal, with_it) == expected


def test_what_vendors_may_have_sealed_stays_so(process):
    made = ExportLogsServiceRequest()
    record = made.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.extend([pair("user.id", "jane"), pair("shared.code", "c-1"), pair("plan.code", "p-1")])
    got = ExportLogsServiceRequest.FromString(leaves(process, "logs", made.SerializeToString()))
    kept = got.resource_logs[0].scope_logs[0].log_records[0].attributes
    assert [one.key for one in kept] == ["user.id", "shared.code"]
    assert is_sealed(kept[1].value.string_value)


def test_a_pair_that_is_written_as_a_list_or_a_map_loses_its_value(process):
    made = ExportLogsServiceRequest()
    record = made.resource_logs.add().scope_logs.add().log_records.add(attributes=[pair("user.id", "jane")])
    record.body.CopyFrom(
        listed(
            listed(text("plan.code"), text("p-1")),
            mapped(pair("name", "plan.code"), pair("value", "p-1")),
        )
    )
    got = ExportLogsServiceRequest.FromString(leaves(process, "logs", made.SerializeToString()))
    body = got.resource_logs[0].scope_logs[0].log_records[0].body
    assert body == listed(listed(text("plan.code")), mapped(pair("name", "plan.code")))


def test_records_of_somebody_who_must_not_be_sold_are_gone_with_all_that_is_sealed(process):
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    records.add(
        attributes=[
            pair("user.id", "eve"),
            pair("plan.code", "p-1"),
            pair("ttf.do_not_sell", AnyValue(bool_value=True)),
        ]
    )
    records.add(attributes=[pair("user.id", "jane"), pair("plan.code", "p-2"), PLAN])
    got = ExportLogsServiceRequest.FromString(leaves(process, "logs", made.SerializeToString()))
    (record,) = got.resource_logs[0].scope_logs[0].log_records
    assert [one.key for one in record.attributes] == ["user.id", "plan"]


@pytest.mark.parametrize(
    "word", ["e1v_", "type1v_name", "e1v_" + "ab" * 20, to_text(b"x" * 40, vendors=True)]
)
def test_what_only_looks_alike_leaves_as_the_bytes_that_it_is(word):
    made = ExportLogsServiceRequest()
    record = made.resource_logs.add().scope_logs.add().log_records.add(attributes=[pair("note", word)])
    record.body.string_value = word
    raw = made.SerializeToString()
    assert for_vendor("logs", raw) == raw


def test_for_us_is_a_part_of_sealed():
    ours, theirs = (to_text(bytes(range(40)), vendors=vendors) for vendors in (False, True))
    assert FOR_US.fullmatch(ours)
    assert SEALED.fullmatch(ours)
    assert SEALED.fullmatch(theirs)
    assert not FOR_US.search(theirs)


@pytest.mark.parametrize("action", ["redact", "hash", "partial", "drop", "keep"])
@pytest.mark.parametrize(
    "make",
    [
        lambda action: KeyRule(key="plan.code", action=action, vendors="drop"),
        lambda action: DetectorRule(action=action, vendors="drop"),
        lambda action: CustomDetector(pattern="KD-[0-9]{6}", action=action, vendors="drop"),
    ],
    ids=["a key", "a detector", "a detector of one's own"],
)
def test_only_what_is_encrypted_can_be_told_when_it_leaves(make, action):
    with pytest.raises(ValidationError, match="vendors: expected action encrypt beside it"):
        make(action)
    assert make("encrypt")
