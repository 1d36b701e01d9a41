"""How JSON events become log records, and why some do not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ttf.otlp.wire import MAX_NESTING
from otel_ttf.receivers.body import Unusable
from otel_ttf.receivers.rest_events import MAX_HINTS, Built, build, nanoseconds

SECOND = 1_000_000_000
NOON = 1_714_564_800 * SECOND  # 2024-05-01T12:00:00Z


def built(*events: object) -> Built:
    return build(json.dumps({"events": events}).encode())


def event(**fields: object) -> dict[str, object]:
    return {"event_name": "signup", "event_type": "onboarding"} | fields


def records(result: Built) -> list[LogRecord]:
    (resource,) = ExportLogsServiceRequest.FromString(result.raw).resource_logs
    return list(resource.scope_logs[0].log_records)


def plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [plain(element) for element in value.array_value.values]
        case "kvlist_value":
            return {item.key: plain(item.value) for item in value.kvlist_value.values}
        case kind:
            return getattr(value, kind)


def nested(depth: int, leaf: object = 1) -> object:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


def test_every_field_finds_its_place():
    result = built(
        event(
            user_id="jane",
            timestamp=1_714_564_800,
            event_id="e-1",
            properties={
                "plan": "pro",
                "seats": 3,
                "share": 0.5,
                "trial": False,
                "team": {"name": "a", "ids": [1, "b"]},
            },
        )
    )
    (record,) = records(result)
    assert record.event_name == "signup"
    assert record.time_unix_nano == NOON
    assert {item.key: plain(item.value) for item in record.attributes} == {
        "event.type": "onboarding",
        "user.id": "jane",
        "plan": "pro",
        "seats": 3,
        "share": 0.5,
        "trial": False,
        "team": {"name": "a", "ids": [1, "b"]},
    }
    assert result.event_ids == {0: "e-1"}


@pytest.mark.parametrize(
    "absent", [{}, {"user_id": None, "timestamp": None, "properties": None, "event_id": None}]
)
def test_what_may_be_absent(absent):
    (record,) = records(built(event(**absent)))
    assert record.time_unix_nano == 0
    assert [item.key for item in record.attributes] == ["event.type"]


@pytest.mark.parametrize(
    ("user", "text"),
    [("jane", "jane"), (7, "7"), (-1, "-1"), (2**70, str(2**70)), ("", "")],
)
def test_a_user_is_text(user, text):
    (record,) = records(built(event(user_id=user)))
    assert {item.key: item.value.string_value for item in record.attributes}["user.id"] == text


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        pytest.param(0, 0, id="0 is unset"),
        pytest.param(1_714_564_800, NOON, id="seconds"),
        pytest.param(1_714_564_800.1, NOON + 100_000_000, id="seconds with the digits that were sent"),
        pytest.param(1_714_564_800.123456, NOON + 123_456_000, id="seconds with microseconds"),
        pytest.param(9_999_999_999, 9_999_999_999 * SECOND, id="seconds in 2286"),
        pytest.param(99_999_999_999, 2**64 - 1, id="the last second: no plausible time"),
        pytest.param(100_000_000_000, 100_000_000 * SECOND, id="the first millisecond"),
        pytest.param(1_714_564_800_000, NOON, id="milliseconds"),
        pytest.param(1_714_564_800_000.5, NOON + 500_000, id="milliseconds with a half"),
        pytest.param(99_999_999_999_999, 2**64 - 1, id="the last millisecond: no plausible time"),
        pytest.param(100_000_000_000_000, 100_000_000 * SECOND, id="the first microsecond"),
        pytest.param(1_714_564_800_000_000, NOON, id="microseconds"),
        pytest.param(100_000_000_000_000_000, 100_000_000 * SECOND, id="the first nanosecond"),
        pytest.param(NOON + 1, NOON + 1, id="nanoseconds"),
        pytest.param(10**30, 2**64 - 1, id="beyond every clock: no plausible time"),
        pytest.param("2024-05-01T12:00:00Z", NOON, id="RFC 3339"),
        pytest.param("2024-05-01t14:00:00.25+02:00", NOON + SECOND // 4, id="RFC 3339 with offset"),
        pytest.param("2024-05-01 06:30:00.000000001-05:30", NOON + 1, id="RFC 3339 with a blank"),
        pytest.param(
            "2024-05-01T12:00:00.1234567899Z", NOON + 123_456_789, id="more digits than nanoseconds"
        ),
        pytest.param("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND, id="leap second"),
    ],
)
def test_timestamps(timestamp, expected):
    assert nanoseconds(timestamp) == expected


@pytest.mark.parametrize(
    "timestamp",
    [
        pytest.param(value, id=str(value))
        for value in (
            *(float("nan"), float("inf"), -1, -0.5, True, [], {}),
            *("", "now", "1714564800", "2024-05-01", "2024-05-01T12:00:00", "2024-05-01T12:00Z"),
            *("2024-13-01T12:00:00Z", "2024-02-30T12:00:00Z", "2024-05-01T24:00:00Z", "2024-05-01T12:00:61Z"),
            *(
                "2024-05-01T12:00:00+24:00",
                "1969-12-31T23:59:59Z",
                "٢٠٢٤-05-01T12:00:00Z",
                "2024-05-01T12:00:00Z\n",
            ),
        )
    ],
)
def test_bad_timestamps_are_rejected_with_a_reason(timestamp):
    result = built(event(timestamp=timestamp))
    assert result.rejected[0].startswith("timestamp: expected ")


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_rfc_3339_agrees_with_python(moment, zone):
    there = moment.replace(tzinfo=UTC).astimezone(zone)
    assert (
        nanoseconds(there.isoformat())
        == round((there - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(7, "expected an object, found a number", id="a number"),
        pytest.param({}, "event_name: expected a string that is not empty, found none", id="nothing in it"),
        pytest.param(
            event(event_name=""),
            "event_name: expected a string that is not empty, found an empty one",
            id="no name",
        ),
        pytest.param(
            event(event_name=5),
            "event_name: expected a string that is not empty, found a number",
            id="a number as name",
        ),
        pytest.param(
            {"event_name": "signup"},
            "event_type: expected a string that is not empty, found none",
            id="no type",
        ),
        pytest.param(
            event(user_id=1.5), "user_id: expected a string or an integer, found a number", id="half a user"
        ),
        pytest.param(
            event(user_id=True),
            "user_id: expected a string or an integer, found a boolean",
            id="true as user",
        ),
        pytest.param(
            event(user_id=["jane"]), "user_id: expected a string or an integer, found a list", id="users"
        ),
        pytest.param(
            event(user_id=10**100), "user_id: expected at most 512 bytes", id="a user like a googol"
        ),
        pytest.param(
            event(userid="jane"), "userid: unknown field; did you mean user_id?", id="unknown field"
        ),
        pytest.param(event(zzz="jane"), "zzz: unknown field", id="unknown field like no other"),
        pytest.param(
            event(properties=[1]), "properties: expected an object, found a list", id="a list of properties"
        ),
        pytest.param(
            event(properties={"user.id": "jane"}),
            "properties.user.id: the name is reserved; send it as the event's user_id",
            id="reserved user.id",
        ),
        pytest.param(
            event(properties={"event.type": "x"}),
            "properties.event.type: the name is reserved; send it as the event's event_type",
            id="reserved event.type",
        ),
        pytest.param(
            event(properties={"ttf.event.id": "x"}),
            "properties.ttf.event.id: names that begin with ttf. are reserved",
            id="reserved prefix",
        ),
        pytest.param(
            event(properties={"": 1}), "properties: expected names that are not empty", id="no property name"
        ),
        pytest.param(
            event(properties={"n": 2**63}), "properties.n: expected an integer of at most 64 bits", id="2^63"
        ),
        pytest.param(
            event(properties={"n": [{"m": float("nan")}]}),
            "properties.n: expected a finite number",
            id="NaN inside",
        ),
        pytest.param(
            event(event_id=""), "event_id: expected a string of 1 to 512 bytes", id="empty event id"
        ),
        pytest.param(
            event(event_id=7), "event_id: expected a string of 1 to 512 bytes", id="number as event id"
        ),
        pytest.param(
            event(event_id="é" * 257), "event_id: expected a string of 1 to 512 bytes", id="long event id"
        ),
        pytest.param(
            event(event_id="\ud800"), "event_id: expected Unicode text, found something else", id="half an id"
        ),
    ],
)
def test_a_bad_event_is_rejected_and_its_neighbours_are_not(bad, reason):
    result = built(event(event_id="before"), bad, event(event_id="after"))
    assert result.rejected == {1: reason}
    assert result.places == [0, 2]
    assert result.event_ids == {0: "before", 1: "after"}
    assert len(records(result)) == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(
            '"event_name": "b", "properties": {}',
            "event_name: expected once, found more than once",
            id="field",
        ),
        pytest.param(
            '"properties": {"plan": "a", "n": 1, "plan": "b"}',
            "properties.plan: expected once, found more than once",
            id="property",
        ),
        pytest.param(
            '"properties": {"plan": [{"a": 1, "a": 2}]}',
            "properties.plan: expected each name in it once",
            id="in a property",
        ),
        pytest.param(
            '"user_id": "\\ud800", "properties": {"plan": "a", "plan": "b"}',
            "properties.plan: expected once, found more than once",
            id="property beside a text that is mended",
        ),
        pytest.param(
            r'"properties": {"\ud800": "a", "\ud801": "b"}',
            "properties.\ufffd: expected once, found more than once",
            id="properties that mending makes one",
        ),
    ],
)
def test_what_is_there_twice_costs_its_event(bad, reason):
    sound = '"event_name": "a", "event_type": "t"'
    result = build(f'{{"events": [{{{sound}, {bad}}}, {{{sound}}}]}}'.encode())
    assert result.rejected == {0: reason}
    assert result.places == [1]


def test_the_deepest_that_is_taken_can_be_read_again():
    result = built(event(properties=nested(MAX_NESTING)))
    (record,) = records(result)
    assert plain(record.attributes[1].value) == nested(MAX_NESTING - 1)
    assert not result.mended


@pytest.mark.parametrize("deeper", [1, 2, 300])
def test_what_is_deeper_is_cut(deeper):
    result = built(event(properties=nested(MAX_NESTING + deeper)))
    (record,) = records(result)
    assert plain(record.attributes[1].value) == nested(MAX_NESTING - 1, "<too deep>")
    assert result.mended == {"nesting": 1}


@pytest.mark.parametrize("levels", [600, 5000])
def test_what_is_deeper_than_json_is_read_costs_no_event_beside_it(levels):
    def event_of(name: str, leaf: str) -> bytes:
        deep = "[" * levels + leaf + "]" * levels
        return rb'{"event_name":"\ud800","event_type":"x","%b":%b}' % (name.encode(), deep.encode())

    bad = [
        event_of(name, "") for name in ("properties", "user_id", "timestamp", "event_id", "event_type", "x")
    ]
    good = event_of("properties", r'"\ud800"').replace(b'"properties":', b'"properties":{"deep":') + b"}"
    result = build(b'{"events":[%b]}' % b",".join([*bad, good]))
    assert list(result.rejected) == [*range(len(bad))]
    (record,) = records(result)
    assert str(record).count("<too deep>") == 1
    assert result.mended == {"nesting": 1, "utf8": 1}


@pytest.mark.parametrize(
    ("bad", "where", "mended"),
    [
        pytest.param(
            rb'{"event_name":"a\ud800","event_type":"x"}', "event_name", "a\ufffd", id="half a pair"
        ),
        pytest.param(b'{"event_name":"a\xffb","event_type":"x"}', "event_name", "a\ufffdb", id="no UTF-8"),
        pytest.param(
            b'{"event_name":"a","event_type":"\xe2\x82"}', "event.type", "\ufffd", id="a broken letter"
        ),
        pytest.param(
            b'{"event_name":"a","event_type":"x","properties":{"\xff":"b"}}', "\ufffd", "b", id="a name"
        ),
        pytest.param(
            b'{"event_name":"a","event_type":"x","properties":{"p":["\xff",1]}}',
            "p",
            ["\ufffd", 1],
            id="deeper",
        ),
    ],
)
def test_an_event_with_a_text_that_is_no_unicode_is_mended_and_marked(bad, where, mended):
    good = b'{"event_name":"good","event_type":"x"}'
    result = build(b'{"events":[' + good + b"," + bad + b"," + good + b"]}")
    assert result.mended == {"utf8": 1}
    first, second, third = records(result)
    assert first == third
    kept = {pair.key: plain(pair.value) for pair in second.attributes} | {"event_name": second.event_name}
    assert kept[where] == mended
    assert kept["ttf.utf8_repaired"] is True


def test_a_number_that_is_too_large_stays_so_beside_a_text_that_is_mended():
    result = built(event(user_id=10**50, properties={"a": "\ud800"}))
    assert result.rejected == {0: "user_id: expected at most 512 bytes"}


def test_a_long_or_odd_name_is_shown_short():
    result = built({"x" * 1000: 1}, {"a\nb": 1})
    assert result.rejected == {0: f'"{"x" * 64}": unknown field', 1: '"a\\nb": unknown field'}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        pytest.param(b"", 400, "expected JSON, found an error at line 1, column 1", id="empty"),
        pytest.param(
            b'{"events": [', 400, "expected JSON, found an error at line 1, column 13", id="cut off"
        ),
        pytest.param(b"\xff\xfe{}", 400, "expected JSON in UTF-8", id="UTF-16"),
        pytest.param(b"[1]", 400, 'expected an object such as {"events": [...]}, found a list', id="a list"),
        pytest.param(
            b"NaN", 400, 'expected an object such as {"events": [...]}, found a number', id="NaN alone"
        ),
        pytest.param(
            b"{}", 400, "events: expected a list of events, found no such field", id="an empty object"
        ),
        pytest.param(
            b'{"event": []}',
            400,
            "events: expected a list of events, found no such field; did you mean events?",
            id="another name",
        ),
        pytest.param(b'{"events": {}}', 400, "events: expected a list, found an object", id="an object"),
        pytest.param(
            b'{"events": [], "events": []}', 400, "events: expected once, found more than once", id="twice"
        ),
        pytest.param(
            b'{"events": {"a": 1, "a": 2}}', 400, "events: expected a list, found an object", id="doubled"
        ),
        pytest.param(
            b"[" * 900_000, 400, "expected JSON, found an error at line 1, column 201", id="brackets"
        ),
        pytest.param(b"[" * 1_100_000, 413, "expected at most 1000000 objects and lists", id="more brackets"),
        pytest.param(
            b'{"events": [' + b"0," * 100_000 + b"0]}", 413, "events: expected at most 100000", id="many"
        ),
    ],
)
def test_bodies_that_cannot_be_used(body, status, reason):
    with pytest.raises(Unusable) as caught:
        build(body)
    assert caught.value.status == status
    assert str(caught.value).startswith(reason)


def test_a_byte_order_mark_and_thousands_of_digits_do_no_harm():
    body = b'\xef\xbb\xbf{"events": [{"event_name": "a", "event_type": "b", "properties": {"n": %s}}]}'
    assert build(body % (b"9" * 5000)).rejected == {0: "properties.n: expected an integer of at most 64 bits"}
    assert build(body % b"9").rejected == {}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RESERVED = ("ttf.", "user.id", "event.type")
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: not name.startswith(RESERVED))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, JSON_VALUES, max_size=4))
def test_properties_come_through_unchanged(properties):
    (record,) = records(built(event(properties=properties)))
    assert {item.key: plain(item.value) for item in list(record.attributes)[1:]} == properties


def test_the_first_unknown_fields_are_named():
    result = built(*(event(**{f"userid{number}": "jane"}) for number in range(MAX_HINTS + 2)))
    reasons = list(result.rejected.values())
    assert reasons[MAX_HINTS - 1] == f"userid{MAX_HINTS - 1}: unknown field; did you mean user_id?"
    assert reasons[MAX_HINTS:] == ["an unknown field"] * 2
