"""OTLP/JSON, by the rules of the specification."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.wire import SHAPES, Malformed, Signal, decode


def log(**record: Any) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def read(body: bytes, signal: Signal = "logs") -> Any:
    return decode(signal, otlp_json.decode(signal, body))


def record(**given: Any) -> Any:
    return read(log(**given)).resource_logs[0].scope_logs[0].log_records[0]


def value(given: Any) -> Any:
    return record(body=given).body


@pytest.mark.parametrize("time", [1_790_000_000_000_000_000, "1790000000000000000"])
def test_64_bit_integers_are_numbers_or_strings(time):
    assert record(timeUnixNano=time).time_unix_nano == 1_790_000_000_000_000_000


@pytest.mark.parametrize("text", ["000102030405060708090a0b0c0d0e0f", "000102030405060708090A0B0C0D0E0F"])
def test_ids_are_hex(text):
    assert record(traceId=text).trace_id == bytes(range(16))


def test_other_bytes_are_base64():
    assert (
        value({"bytesValue": "AP8="}).bytes_value == value({"bytesValue": "AP8"}).bytes_value == b"\x00\xff"
    )


def test_unknown_fields_and_snake_case_are_ignored():
    assert record(futureField={"a": [1]}, time_unix_nano="7", eventName="a").time_unix_nano == 0
    assert record(futureField={"a": [1]}, eventName="a").event_name == "a"


def test_null_is_unset_and_an_empty_object_is_not():
    assert not record(body=None, eventName=None).HasField("body")
    assert record(body={}).HasField("body")
    assert value({"stringValue": ""}).WhichOneof("value") == "string_value"


@pytest.mark.parametrize(
    ("given", "expected"), [("NaN", math.nan), ("-Infinity", -math.inf), (1, 1.0), ("1.5", 1.5)]
)
def test_doubles(given, expected):
    got = value({"doubleValue": given}).double_value
    assert got == expected or math.isnan(expected)


def test_values_nest():
    nested = {
        "kvlistValue": {"values": [{"key": "a", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}}]}
    }
    assert value(nested).kvlist_value.values[0].value.array_value.values[0].int_value == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", "JSON", id="nothing"),
        pytest.param(b"{", "JSON", id="cut off"),
        pytest.param(b"\xff\xfe{\x00}\x00", "UTF-8", id="UTF-16"),
        pytest.param(b"[]", "request: expected an object, found an array", id="a list"),
        pytest.param(
            b'{"resourceLogs": {}}', "resourceLogs: expected an array, found an object", id="no list"
        ),
        pytest.param(
            b'{"resourceLogs": [1]}', r"resourceLogs\[0\]: expected an object, found a number", id="a number"
        ),
        pytest.param(
            log(severityNumber="SEVERITY_NUMBER_INFO"), "severityNumber: expected the", id="enum name"
        ),
        pytest.param(log(timeUnixNano="-1"), "timeUnixNano: expected an integer of 64 bits", id="negative"),
        pytest.param(log(timeUnixNano=2**64), "timeUnixNano: expected an integer of 64 bits", id="too large"),
        pytest.param(log(timeUnixNano=1.5), "timeUnixNano: expected an integer", id="a fraction"),
        pytest.param(log(timeUnixNano=" 7"), "timeUnixNano: expected an integer", id="a blank"),
        pytest.param(
            log(timeUnixNano=True), "timeUnixNano: expected an integer, found a boolean", id="a boolean"
        ),
        pytest.param(
            b'{"resourceLogs": ' + b"9" * 5000 + b"}", "expected an array", id="thousands of digits"
        ),
        pytest.param(log(body={"doubleValue": 10**400}), "doubleValue", id="no double is that large"),
        pytest.param(
            log(body={"doubleValue": "secret"}), "doubleValue: expected a number, found a string", id="text"
        ),
        pytest.param(log(traceId="0"), "traceId: expected hex", id="half a byte"),
        pytest.param(log(traceId="zz"), "traceId: expected hex", id="no hex"),
        pytest.param(log(traceId="00 11"), "traceId: expected hex", id="hex with a blank"),
        pytest.param(log(body={"bytesValue": "a!"}), "bytesValue: expected base64", id="no base64"),
        pytest.param(
            log(eventName=7), "eventName: expected a string, found a number", id="a number for a text"
        ),
        pytest.param(
            b'{"resourceLogs": [], "resourceLogs": []}',
            "resourceLogs: expected once, found more than once",
            id="a list twice",
        ),
        pytest.param(
            b'{"resourceLogs": [{"resource": {}, "x": 1, "x": 1, "resource": null}]}',
            r"resourceLogs\[0\].resource: expected once",
            id="a resource twice",
        ),
        pytest.param(b"[" * 100_000, "in JSON", id="deep brackets"),
        pytest.param(b"[" * 5_000_000, "at most", id="too many brackets"),
    ],
)
def test_what_is_refused_and_why(body, expected):
    with pytest.raises(Malformed, match=expected) as error:
        otlp_json.decode("logs", body)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("levels", [300, 5000])
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param('{"arrayValue":{"values":[', "]}}", id="lists"),
        pytest.param('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}", id="maps"),
    ],
)
def test_values_deeper_than_json_is_read_are_cut(levels, begin, end):
    body = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%s,"eventName":"a"}]}]}]}'
    found = otlp_json.Found()
    raw = otlp_json.decode("logs", (body % (begin * levels + "{}" + end * levels)).encode(), found)
    assert raw == otlp_json.decode("logs", (body % (begin * 33 + "{}" + end * 33)).encode())
    assert found.mended == {"nesting": 1}


@pytest.mark.parametrize("name", ["eventName", "severityNumber", "body", "attributes", "noField"])
def test_what_is_deep_in_the_wrong_place_costs_its_record_at_most(name):
    body = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"%s":%s},{"eventName":"\\ud800"}]}]}]}'
    for levels in (400, 5000):
        found = otlp_json.Found()
        raw = otlp_json.decode("logs", (body % (name, "[" * levels + "]" * levels)).encode(), found)
        first, second = decode("logs", raw).resource_logs[0].scope_logs[0].log_records
        assert second.event_name == "\ufffd"
        assert first.ByteSize() == 0
        assert list(found.broken) == ([] if name == "noField" else [0])


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", '"1e400"'])
def test_a_number_that_is_none_costs_its_record(text):
    body = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":%s}},{"eventName":"a"}]}]}]}'
    found = otlp_json.Found()
    raw = otlp_json.decode("logs", (body % text).encode(), found)
    assert decode("logs", raw).resource_logs[0].scope_logs[0].log_records[1].event_name == "a"
    assert list(found.broken) == [0]


def test_a_field_twice_costs_its_record_and_an_unknown_one_nothing():
    body = (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"a","eventName":"secret"},'
        b'{"attributes":[{"key":"k","value":{"intValue":"1","intValue":"1"}}]},'
        b'{"eventName":"b","later":1,"later":2}]}]}]}'
    )
    found = otlp_json.Found()
    raw = otlp_json.decode("logs", body, found)
    assert [r.event_name for r in decode("logs", raw).resource_logs[0].scope_logs[0].log_records] == [
        "",
        "",
        "b",
    ]
    assert found.broken == {
        0: "eventName: expected once, found more than once",
        1: "attributes[0].value.intValue: expected once, found more than once",
    }


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=20), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20)
)
def test_what_protobuf_writes_as_json_is_read_back(text, time, number, data):
    made = SHAPES["logs"].request()
    one = made.resource_logs.add(schema_url=text).scope_logs.add().log_records.add(event_name=text)
    one.time_unix_nano = time
    one.attributes.add(key=text).value.int_value = number
    one.attributes.add(key="b").value.bytes_value = data
    one.body.double_value = 1.5
    assert read(json_format.MessageToJson(made).encode()) == made


def test_answers_are_json():
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 5
    answer.partial_success.error_message = "é"
    assert json.loads(otlp_json.encode(answer)) == {
        "partialSuccess": {"rejectedLogRecords": "5", "errorMessage": "é"}
    }
    assert json.loads(otlp_json.encode(status_pb2.Status(code=3, message="no"))) == {
        "code": 3,
        "message": "no",
    }
