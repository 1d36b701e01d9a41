"""Counting a request's parts on the wire."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_ttf.otlp.wire import Malformed
from otel_ttf.receivers.limits import MAX_OUTER, MAX_PARTS, MAX_RECORDS, check


def scoped(content: bytes) -> bytes:
    """A request with one resource and one scope that holds this."""
    return delimited(b"\x0a", delimited(b"\x12", content))


def delimited(tag: bytes, content: bytes) -> bytes:
    length = bytearray()
    left = len(content)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return tag + bytes(length) + bytes([left]) + content


def record(content: bytes) -> bytes:
    """A request with one record that holds this."""
    return scoped(delimited(b"\x12", content))


def nested(levels: int) -> bytes:
    """A body of lists in each other, cut off in the innermost: lengths of four bytes all the way down."""
    return record(b"\x2a\xff\xff\xff\x07" + b"\x0a\xf0\xff\xff\x01\x2a\xf0\xff\xff\x01" * levels)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x0a\x00" * MAX_OUTER, id="as many resources as may be"),
        pytest.param(scoped(b"\x12\x00" * MAX_RECORDS), id="as many records as may be"),
        pytest.param(b"\xfa\x7f" + delimited(b"", b"x" * 100_000), id="an unknown field"),
        pytest.param(scoped(delimited(b"\x12", b"x" * (1 << 20))), id="one large record, whatever is in it"),
        pytest.param(record(b"\x32\x00" * 100_000), id="a hundred thousand attributes"),
        pytest.param(record(b"\x32\x00" * (MAX_PARTS - 3)), id="as many attributes as may be"),
    ],
)
def test_what_may_be(raw):
    check("logs", raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"\x0a\x00" * (1 << 25), "at most 10000 resources and scopes", id="64 MiB of resources"),
        pytest.param(
            delimited(b"\x0a", b"\x12\x00" * (1 << 25)),
            "at most 10000 resources and scopes",
            id="64 MiB of scopes",
        ),
        pytest.param(
            delimited(b"\x0a", b"\x0a\x00" * (1 << 25)),
            "at most 10000 resources and scopes",
            id="64 MiB of one resource's pieces",
        ),
        pytest.param(scoped(b"\x12\x00" * (1 << 25)), "at most 250000 records", id="64 MiB of records"),
        pytest.param(
            record(b"\x32\x00" * (1 << 25)), "at most 4000000 attributes", id="64 MiB of attributes"
        ),
        pytest.param(
            record(delimited(b"\x2a", delimited(b"\x2a", b"\x0a\x02\x10\x01" * (1 << 24)))),
            "at most 4000000 attributes",
            id="64 MiB of values in a list",
        ),
        pytest.param(
            scoped(delimited(b"\x12", b"\x32\x00" * 100) * 100_000),
            "at most 4000000 attributes",
            id="many records with many attributes",
        ),
        pytest.param(nested(MAX_PARTS), "expected an OTLP request", id="four million lists in each other"),
        pytest.param(b"\x0b" + b"\x0a\x00" * (1 << 20), "expected an OTLP request", id="behind a group"),
        pytest.param(b"\xff" * (1 << 20), "expected an OTLP request", id="an endless number"),
        pytest.param(scoped(b"\x12\x00" * 10_000)[:-1], "expected an OTLP request", id="cut off"),
        pytest.param(b"\x0a\x01x" * 10_000 + b"\x09", "expected an OTLP request", id="cut off in a number"),
    ],
)
def test_what_may_not_be_and_how_soon_it_is_known(raw, reason):
    began = time.monotonic()
    with pytest.raises(Malformed, match=reason):
        check("logs", raw)
    assert time.monotonic() - began < 5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400), max_size=5), max_size=5), st.binary(max_size=50))
def test_real_requests_pass(shape, body):
    request = ExportLogsServiceRequest()
    for scopes in shape:
        resource = request.resource_logs.add(schema_url="https://example.com")
        resource.resource.attributes.add(key="a").value.bytes_value = body
        for records in scopes:
            scope = resource.scope_logs.add()
            for number in range(records):
                scope.log_records.add(time_unix_nano=number, dropped_attributes_count=7).body.bytes_value = (
                    body * 20
                )
    check("logs", request.SerializeToString())
