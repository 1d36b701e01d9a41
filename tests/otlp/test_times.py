"""Which time an event counts at (journeys.md, Time), and what is read of records."""

from __future__ import annotations

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_ttf.otlp.events import (
    FLAG_NAMES,
    FLAG_NO_SUBJECT,
    Event,
    Extract,
    Rules,
    TimeConfig,
    extract,
    pack_ids,
    unpack_ids,
)
from otel_ttf.otlp.wire import SHAPES, Malformed
from otel_ttf.units import DAY, MINUTE, SECOND

NOW = 1_790_000_000 * SECOND
OLD = 1_420_070_400 * SECOND  # 2015-01-01


def rules(*, lines: bool = False) -> Rules:
    return Rules(TimeConfig(), ("user.id",), wants_span=lambda name: name.startswith("POST"), lines=lines)


@pytest.mark.parametrize(
    ("times", "expected", "flags"),
    [
        pytest.param((NOW - 5, NOW - 3), NOW - 5, [], id="the record's own"),
        pytest.param((0, NOW - 3), NOW - 3, [], id="else when it was observed"),
        pytest.param((0, 0), NOW, ["time_missing"], id="else the arrival"),
        pytest.param((OLD - 1, NOW - 3), NOW - 3, ["time_implausible"], id="before 2015 is none"),
        pytest.param((OLD, 0), OLD, ["too_old"], id="the first instant of 2015 is a time"),
        pytest.param((2**63, NOW - 3), NOW - 3, ["time_implausible"], id="from 2^63 on is none"),
        pytest.param((2**64 - 1, 0), NOW, ["time_implausible"], id="nothing plausible"),
        pytest.param((NOW + 5 * MINUTE, 0), NOW + 5 * MINUTE, [], id="five minutes ahead"),
        pytest.param((NOW + 5 * MINUTE + 1, NOW - 3), NOW, ["time_ahead"], id="further ahead: arrival"),
        pytest.param((2**63 - 1, 0), NOW, ["time_ahead"], id="just below 2^63"),
        pytest.param((NOW - 400 * DAY, 0), NOW - 400 * DAY, [], id="400 days old"),
        pytest.param((NOW - 400 * DAY - 1, 0), NOW - 400 * DAY - 1, ["too_old"], id="older"),
    ],
)
def test_time(times, expected, flags):
    at, told = rules().at(times, NOW)
    assert at == expected
    assert [name for flag, name in FLAG_NAMES.items() if told & flag] == flags


def pair(key: str, value: str | int) -> KeyValue:
    return KeyValue(
        key=key, value=AnyValue(**{"int_value" if isinstance(value, int) else "string_value": value})
    )


def logs(*records: LogRecord, lines: bool = False) -> Extract:
    made = SHAPES["logs"].request()
    made.resource_logs.add().scope_logs.add().log_records.extend(records)
    return extract("logs", made.SerializeToString(), b"", NOW, rules(lines=lines))


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        pytest.param("a", [pair("otel.event.name", "b"), pair("event.name", "c")], "a", id="the field"),
        pytest.param(
            "", [pair("event.name", "c"), pair("otel.event.name", "b")], "b", id="else otel.event.name"
        ),
        pytest.param("", [pair("event.name", "c")], "c", id="else event.name"),
        pytest.param(
            "", [pair("event.name", ""), pair("otel.event.name", "")], None, id="empty ones are none"
        ),
        pytest.param("", [pair("event.name", 7)], None, id="a number is none"),
        pytest.param(
            "", [pair("event.name", "a"), pair("event.name", "b")], "b", id="the last of repeated keys"
        ),
        pytest.param("", [pair("my.event.name", "a")], None, id="another key"),
    ],
)
def test_name_of_a_log_record(name, attributes, expected):
    found = logs(LogRecord(event_name=name, attributes=attributes))
    assert [event.name for event in found.events] == ([expected] if expected else [])
    assert found.names == ({("event", expected): 1} if expected else {})


def test_lines_are_read_only_if_asked_for():
    line = LogRecord(body=AnyValue(string_value="hello"), time_unix_nano=NOW)
    assert logs(line) == Extract()
    (event,) = logs(line, lines=True).events
    assert (event.kind, event.name, event.id, event.at) == ("line", "", None, NOW)


def test_spans_are_counted_and_read_where_a_milestone_may_match():
    made = SHAPES["traces"].request()
    spans = made.resource_spans.add().scope_spans.add().spans
    spans.add(name="GET /").events.add(name="clicked", time_unix_nano=NOW)
    spans.add(
        name="POST /projects",
        kind=Span.SPAN_KIND_SERVER,
        end_time_unix_nano=NOW,
        status=Status(code=Status.STATUS_CODE_OK),
    )
    spans.add(name="GET /")
    found = extract("traces", made.SerializeToString(), b"", NOW, rules())
    told = [(e.kind, e.name, e.span_kind, e.status, e.flags & ~FLAG_NO_SUBJECT) for e in found.events]
    assert told == [("span_event", "clicked", "", "", 0), ("span", "POST /projects", "server", "ok", 0)]
    assert found.names == {("span", "GET /"): 2, ("span", "POST /projects"): 1, ("event", "clicked"): 1}


@pytest.mark.parametrize(
    ("kind", "word"), [(0, "internal"), (1, "internal"), (3, "client"), (5, "consumer"), (99, "")]
)
def test_kinds_have_words(kind, word):
    made = SHAPES["traces"].request()
    made.resource_spans.add().scope_spans.add().spans.add(name="POST", kind=kind)
    (event,) = extract("traces", made.SerializeToString(), b"", NOW, rules()).events
    assert (event.span_kind, event.status) == (word, "unset")


def test_attributes_are_python_values():
    nested = AnyValue()
    nested.kvlist_value.values.append(pair("x", 1))
    listed = AnyValue()
    listed.array_value.values.extend([AnyValue(bool_value=True), AnyValue(double_value=0.5), AnyValue()])
    record = LogRecord(event_name="a", attributes=[pair("s", "t"), pair("s", "u")])
    record.attributes.extend([KeyValue(key="map", value=nested), KeyValue(key="list", value=listed)])
    (event,) = logs(record).events
    expected = {"s": "u", "map": {"x": 1}, "list": [True, 0.5, None]}
    assert event.attributes == expected
    assert isinstance(event, Event)


def test_long_attributes_are_told_whole():
    record = LogRecord(
        event_name="a", attributes=[pair(f"k{n}", "x" * n) for n in (1, 120, 130, 500, 520, 70_000)]
    )
    (event,) = logs(record).events
    assert {key: len(str(value)) for key, value in event.attributes.items()} == {
        f"k{n}": n for n in (1, 120, 130, 500, 520, 70_000)
    }


def test_metrics_hold_no_events():
    assert extract("metrics", b"", b"", NOW, rules()) == Extract()


def test_ids_are_packed_by_place():
    ids = {300: b"b" * 16, 2: b"a" * 16}
    assert pack_ids(ids) == b"\0\0\0\2" + b"a" * 16 + b"\0\0\1\x2c" + b"b" * 16
    assert unpack_ids(pack_ids(ids)) == ids


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x0a\x7f", b"\x0a\x05hello"])
def test_garbage_is_malformed(payload):
    with pytest.raises(Malformed, match="expected an OTLP logs request in protobuf"):
        extract("logs", payload, b"", NOW, rules())
