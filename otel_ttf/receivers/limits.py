"""Counts a request's parts on the wire, before anything is built of them.

Two bytes are an empty ResourceLogs, of which decoding makes a kilobyte: 64 MiB of them would end the process.
"""

from __future__ import annotations

from otel_ttf.otlp.wire import (
    BROKEN,
    BYTES,
    FIXED32,
    FIXED64,
    MAX_DEPTH,
    SHAPES,
    SIGNALS,
    TEXT,
    VARINT,
    Layout,
    Malformed,
    Signal,
    fields,
    layout,
    varint,
    within,
)

MAX_OUTER = 10_000  # resources and scopes, and what else stands beside them
MAX_RECORDS = 200_000
# Messages of all kinds: attributes and their values, data points, events. Decoding makes some 50 bytes of each.
MAX_PARTS = 4_000_000

# A request that is smaller than this cannot hold too many: two bytes are the least for each.
_OUTER_FROM = 2 * MAX_OUTER
_RECORDS_FROM = 2 * MAX_RECORDS
_PARTS_FROM = 2 * MAX_PARTS

# In all signals: resources are field 1 of the request, scopes field 2 of those, records field 2 of those.
_RESOURCES = 1
_SCOPES = 2

_OUTER = f"expected at most {MAX_OUTER} resources and scopes in a request"


def check(signal: Signal, raw: bytes) -> None:
    """Raises Malformed when an OTLP request holds too many resources, scopes, records, or parts of these."""
    if len(raw) < _OUTER_FROM:
        return
    _check_outer(raw)
    # Every part has its tag: fewer bytes of these values are fewer parts. Counting them takes no time.
    if len(raw) >= _PARTS_FROM and sum(map(raw.count, _TAGS[signal])) > MAX_PARTS:
        _check_parts(raw, layout(SHAPES[signal].request.DESCRIPTOR))


def _check_outer(raw: bytes) -> None:
    outer = records = 0
    count_records = len(raw) >= _RECORDS_FROM
    try:
        for number, _, start, end in fields(raw, 0, len(raw)):
            outer += 1
            if outer > MAX_OUTER:
                raise Malformed(_OUTER)
            if number != _RESOURCES:
                continue
            for inner, _, first, last in fields(raw, start, end):
                outer += 1
                if outer > MAX_OUTER:
                    raise Malformed(_OUTER)
                if count_records and inner == _SCOPES:
                    for _ in fields(raw, first, last):
                        records += 1
                        if records > MAX_RECORDS:
                            raise Malformed(f"expected at most {MAX_RECORDS} records in a request")
    except IndexError:
        raise Malformed(BROKEN) from None


def _check_parts(raw: bytes, below: Layout) -> None:
    parts, at, end = 0, 0, len(raw)
    waiting: list[tuple[int, Layout]] = []
    try:
        while True:
            while at >= end:
                if not waiting:
                    return
                end, below = waiting.pop()
            tag = raw[at]
            at += 1
            if tag > 127:
                tag, at = varint(raw, at - 1)
            kind = tag & 7
            if kind == BYTES:
                length = raw[at]
                at += 1
                if length > 127:
                    length, at = varint(raw, at - 1)
                if at + length > end:
                    raise Malformed(BROKEN)
                inner = below.get(tag >> 3)
                if inner is None or inner is TEXT:
                    at += length
                    continue
                parts += 1
                if parts > MAX_PARTS:
                    raise Malformed(
                        f"expected at most {MAX_PARTS} attributes, values and the like in a request"
                    )
                if length:
                    waiting.append((end, below))
                    if len(waiting) > MAX_DEPTH:
                        raise Malformed(BROKEN)
                    end, below = at + length, inner
            elif kind == VARINT:
                _, at = varint(raw, at)
            elif kind in (FIXED64, FIXED32):
                at += 8 if kind == FIXED64 else 4
            else:
                raise Malformed(BROKEN)
    except IndexError:
        raise Malformed(BROKEN) from None


def _tags(below: Layout) -> list[bytes]:
    """The first bytes that messages in messages can begin with."""
    numbers = {number for one in within(below) for number, inner in one.items() if inner is not TEXT}
    tags = {number << 3 | BYTES for number in numbers}
    return [bytes([tag if tag < 128 else tag & 127 | 128]) for tag in sorted(tags)]


_TAGS = {signal: _tags(layout(SHAPES[signal].request.DESCRIPTOR)) for signal in SIGNALS}
