"""Counting a request's parts on the wire."""

from __future__ import annotations

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
    return head(tag, len(content)) + content


def head(tag: bytes, left: int) -> bytes:
    length = bytearray()
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return tag + bytes(length) + bytes([left])


def record(content: bytes) -> bytes:
    """A request with one record that holds this."""
    return scoped(delimited(b"\x12", content))


def nested(levels: int) -> bytes:
    """A body of lists in each other; in the innermost are more values than may be."""
    values = b"\x0a\x00" * MAX_PARTS
    heads: list[bytes] = []
    size = len(values)
    for tag in (b"\x2a", b"\x0a") * levels:
        heads.insert(0, head(tag, size))
        size += len(heads[0])
    return record(delimited(b"\x2a", delimited(b"\x2a", b"".join(heads) + values)))


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


# Requests of 64 MiB are made when their turn comes.


def then_broken(start: bytes) -> bytes:
    """64 MiB that begin with this. Whoever reads on meets a group, for which there is another reason."""
    return start + b"\x0b" * ((1 << 26) - len(start))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda: then_broken(b"\x0a\x00" * (MAX_OUTER + 1)),
            "at most 10000 resources and scopes",
            id="64 MiB of resources",
        ),
        pytest.param(
            lambda: delimited(b"\x0a", then_broken(b"\x12\x00" * MAX_OUTER)),
            "at most 10000 resources and scopes",
            id="64 MiB of scopes",
        ),
        pytest.param(
            lambda: delimited(b"\x0a", then_broken(b"\x0a\x00" * MAX_OUTER)),
            "at most 10000 resources and scopes",
            id="64 MiB of one resource's pieces",
        ),
        pytest.param(
            lambda: scoped(then_broken(b"\x12\x00" * (MAX_RECORDS + 1))),
            "at most 200000 records",
            id="64 MiB of records",
        ),
        pytest.param(
            # Resource, scope and record are parts, too.
            lambda: record(then_broken(b"\x32\x00" * (MAX_PARTS - 2))),
            "at most 4000000 attributes",
            id="64 MiB of attributes",
        ),
        pytest.param(lambda: scoped(b"\x12\x00" * 10_000)[:-1], "expected an OTLP request", id="cut off"),
        pytest.param(
            lambda: b"\x0a\x01x" * 10_000 + b"\x09", "expected an OTLP request", id="cut off in a number"
        ),
    ],
)
def test_what_may_not_be_is_known_as_soon_as_it_is_too_much(make, reason):
    with pytest.raises(Malformed, match=reason):
        check("logs", make())


PARTS = 40_000


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(
            lambda many, end: record(
                delimited(b"\x2a", delimited(b"\x2a", b"\x0a\x02\x10\x01" * many + end))
            ),
            id="values in a list",
        ),
        pytest.param(
            lambda many, end: scoped(
                delimited(b"\x12", b"\x32\x00" * 99) * (many // 100) + delimited(b"\x12", end)
            ),
            id="attributes of many records",
        ),
    ],
)
def test_parts_of_any_kind_are_counted_together(monkeypatch, of):
    """With a hundredth of the limit, since to count so many takes seconds."""
    monkeypatch.setattr("otel_ttf.receivers.limits.MAX_PARTS", PARTS)
    monkeypatch.setattr("otel_ttf.receivers.limits._PARTS_FROM", 2 * PARTS)
    check("logs", of(PARTS - 100, b""))
    with pytest.raises(Malformed, match=f"at most {PARTS} attributes"):
        check("logs", of(PARTS, b"\x0b"))  # a group, which nobody gets to


class Counted(bytes):
    """Counts how often one of its bytes is looked at."""

    looks = 0

    def __getitem__(self, at):
        self.looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize(
    ("make", "looks"),
    [
        pytest.param(lambda: nested(10_000), 1000, id="ten thousand lists in each other"),
        pytest.param(lambda: b"\x0b" + b"\x0a\x00" * (1 << 20), 10, id="behind a group"),
        pytest.param(lambda: b"\xff" * (1 << 20), 20, id="an endless number"),
    ],
)
def test_what_cannot_be_read_is_not_read_on(make, looks):
    raw = Counted(make())
    with pytest.raises(Malformed, match="expected an OTLP request"):
        check("logs", raw)
    assert raw.looks < looks


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
