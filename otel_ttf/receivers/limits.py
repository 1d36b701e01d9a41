"""Counts a request's parts on the wire, before anything is built of them.

Two bytes are an empty ResourceLogs, of which decoding makes a kilobyte: 64 MiB of them would end the process.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_ttf.otlp.wire import Malformed

MAX_OUTER = 10_000  # resources and scopes, and what else stands beside them
MAX_RECORDS = 250_000

# A request that is smaller than this cannot hold too many: two bytes are the least for each.
_OUTER_FROM = 2 * MAX_OUTER
_RECORDS_FROM = 2 * MAX_RECORDS

# In all signals: resources are field 1 of the request, scopes field 2 of those, records field 2 of those.
_RESOURCES = 1
_SCOPES = 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_OUTER = f"expected at most {MAX_OUTER} resources and scopes in a request"
_BROKEN = "expected an OTLP request in protobuf"


def check(raw: bytes) -> None:
    """Raises Malformed when an OTLP request holds too many resources, scopes or records."""
    if len(raw) < _OUTER_FROM:
        return
    outer = records = 0
    count_records = len(raw) >= _RECORDS_FROM
    try:
        for number, start, end in _fields(raw, 0, len(raw)):
            outer += 1
            if outer > MAX_OUTER:
                raise Malformed(_OUTER)
            if number != _RESOURCES:
                continue
            for inner, first, last in _fields(raw, start, end):
                outer += 1
                if outer > MAX_OUTER:
                    raise Malformed(_OUTER)
                if count_records and inner == _SCOPES:
                    for _ in _fields(raw, first, last):
                        records += 1
                        if records > MAX_RECORDS:
                            raise Malformed(f"expected at most {MAX_RECORDS} records in a request")
    except IndexError:
        raise Malformed(_BROKEN) from None


def _fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field. Raises Malformed or IndexError where it is none."""
    while at < end:
        tag = raw[at]
        at += 1
        if tag > 127:
            tag, at = _varint(raw, at - 1)
        kind = tag & 7
        start = at
        if kind == _BYTES:
            length = raw[at]
            at += 1
            if length > 127:
                length, at = _varint(raw, at - 1)
            start = at
            at += length
        elif kind == _VARINT:
            _, at = _varint(raw, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise Malformed(_BROKEN)  # groups: OTLP has none
        if at > end:
            raise Malformed(_BROKEN)
        yield tag >> 3, start, at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """(value, place behind it)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Malformed(_BROKEN)
