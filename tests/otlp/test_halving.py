"""A request cut in two: both parts together say what the whole says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.otlp.events import Rules, TimeConfig, extract, pack_ids
from otel_ttf.otlp.halving import halves
from otel_ttf.otlp.wire import Signal
from otel_ttf.units import SECOND

NOW = 1_790_000_000 * SECOND
RULES = Rules(time=TimeConfig(), subject_from=("user.id",), wants_span=lambda name: name == "wanted")
# Per resource, per scope, per record: how many span events.
SHAPES = st.lists(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=3), max_size=3)


def pair(key: str, value: object) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=str(value)))


def logs(shape: list[list[list[int]]]) -> tuple[bytes, bytes]:
    message = ExportLogsServiceRequest()
    number = 0
    for r, scopes in enumerate(shape):
        resource = message.resource_logs.add(schema_url=f"url {r}")
        resource.resource.attributes.append(pair("service.name", r))
        for s, records in enumerate(scopes):
            scope = resource.scope_logs.add(schema_url=f"scope url {s}")
            scope.scope.name = f"scope {s}"
            for _ in records:
                record = scope.log_records.add(event_name=f"e{number % 3}", time_unix_nano=NOW - number)
                record.attributes.append(pair("user.id", number))
                number += 1
    return message.SerializeToString(), pack_ids({n: n.to_bytes(16, "big") for n in range(number) if n % 3})


def spans(shape: list[list[list[int]]]) -> tuple[bytes, bytes]:
    message = ExportTraceServiceRequest()
    number = place = 0
    for r, scopes in enumerate(shape):
        resource = message.resource_spans.add()
        resource.resource.attributes.append(pair("service.name", r))
        for records in scopes:
            scope = resource.scope_spans.add()
            for events in records:
                span = scope.spans.add(
                    name="wanted" if number % 2 else "other",
                    end_time_unix_nano=NOW - number,
                    trace_id=bytes(15) + b"\1",
                    span_id=number.to_bytes(8, "big"),
                )
                number += 1
                for _ in range(events):
                    span.events.add(name=f"e{place}", time_unix_nano=NOW)
                    place += 1
    return message.SerializeToString(), pack_ids({n: n.to_bytes(16, "big") for n in range(place)})


def told(signal: Signal, payload: bytes, ids: bytes) -> tuple[list[object], dict[tuple[str, str], int]]:
    found = extract(signal, payload, ids, NOW, RULES)
    return [event.facts() for event in found.events], found.names


def per_resource(signal: Signal, payload: bytes) -> list[int]:
    """Records of each."""
    if signal == "logs":
        logs = ExportLogsServiceRequest.FromString(payload).resource_logs
        return [sum(len(scope.log_records) for scope in one.scope_logs) for one in logs]
    traces = ExportTraceServiceRequest.FromString(payload).resource_spans
    return [sum(len(scope.spans) for scope in one.scope_spans) for one in traces]


@given(SHAPES, st.sampled_from(["logs", "traces"]))
def test_single_records_say_what_the_request_says(shape: list[list[list[int]]], signal: Signal) -> None:
    payload, ids = (logs if signal == "logs" else spans)(shape)
    count = sum(len(records) for scopes in shape for records in scopes)
    events: list[object] = []
    names: dict[tuple[str, str], int] = {}
    places = []
    stack = [(payload, ids, count, 0)]
    while stack:
        data, its_ids, records, first = stack.pop()
        cut = halves(signal, data, its_ids)
        assert (cut is None) == (records < 2)
        if cut is not None:
            assert sum(part.records for part in cut) == records
            sizes = per_resource(signal, data)
            ends = [sum(sizes[:n]) for n in range(len(sizes)) if 0 < sum(sizes[:n]) < records]
            assert cut[0].records == min(
                ends, key=lambda end: abs(2 * end - records), default=records // 2
            ), "between resources if it can be"
            stack += [(part.payload, part.ids, part.records, first + part.first) for part in reversed(cut)]
            continue
        places.append(first)
        facts, counted = told(signal, data, its_ids)
        events += facts
        for name, times in counted.items():
            names[name] = names.get(name, 0) + times
    assert (events, names) == told(signal, payload, ids)
    assert places == list(range(max(1, count)))


def test_a_scope_keeps_its_name_and_both_their_schemas() -> None:
    payload, ids = logs([[[0], [0]]])
    cut = halves("logs", payload, ids)
    assert cut is not None
    second = ExportLogsServiceRequest.FromString(cut[1].payload).resource_logs[0]
    assert (second.schema_url, second.scope_logs[0].schema_url) == ("url 0", "scope url 1")
    assert second.scope_logs[0].scope.name == "scope 1"


def test_what_is_no_request_is_not_cut() -> None:
    assert halves("logs", b"\x0a\xff", b"") is None
