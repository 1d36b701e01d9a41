"""What "fast is plain" is tested on holds all that is odd: else the property would say little."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, pairwise

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from made import UNKNOWN, request

from otel_ttf.otlp.wire import SHAPES, SIGNALS, decode

SEEDS = 600
MESSAGE = FieldDescriptor.TYPE_MESSAGE
# What could be a card number, an e-mail address, a bearer token.
MATCHES = re.compile(rb"[2-6](?:[ \-]?[0-9]){12}|@example\.c[a-z]|Bearer abcdef0[A-Za-z0-9]")


def read_varint(raw: bytes, at: int) -> tuple[int, int, bool]:
    """(value, where it ends, whether it is longer than it has to be)"""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at, byte == 0 and shift > 0
        shift += 7


def features(kind: Descriptor, raw: bytes, listed: bool = False) -> Iterator[str]:
    """What is odd in the encoding of a message, and in those below it. listed: it is an item of a list"""
    numbers: list[int] = []
    at = 0
    while at < len(raw):
        tag, at, longer = read_varint(raw, at)
        number, wire = tag >> 3, tag & 7
        numbers.append(number)
        if longer:
            yield "longer tag"
        start = at
        if wire == 0:
            _, at, longer = read_varint(raw, at)
            if longer:
                yield "longer value"
        elif wire == 2:
            size, start, longer = read_varint(raw, at)
            at = start + size
            if longer:
                yield "longer length"
        else:
            at += 8 if wire == 1 else 4
        field = kind.fields_by_number.get(number)
        if field is None:
            yield f"unknown field in {kind.name}"
            yield f"unknown field of wire type {wire}"
        elif field.type == MESSAGE:
            yield from features(field.message_type, raw[start:at], listed=kind.name == "ArrayValue")
        elif field.name == "bytes_value" and listed:
            yield "bytes in a list"
    yield from order(kind, numbers)


def order(kind: Descriptor, numbers: list[int]) -> Iterator[str]:
    if numbers != sorted(numbers):
        yield f"other order in {kind.name}"
    changes = sum(one != other for one, other in pairwise(numbers)) + 1
    if numbers and changes > len(set(numbers)):
        yield f"fields in between in {kind.name}"
    for number, times in Counter(numbers).items():
        field = kind.fields_by_number.get(number)
        if field is not None and not field.is_repeated and times > 1:
            yield f"{kind.name}.{field.name} again"
    if kind.name == "AnyValue" and len(set(numbers) - {UNKNOWN}) > 1:
        yield "another kind before"


def below(kind: Descriptor, seen: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """All messages that a request is made of."""
    if kind.name not in seen:
        seen[kind.name] = kind
        for field in kind.fields:
            if field.type == MESSAGE:
                below(field.message_type, seen)
    return seen


def across(signal: str, raw: bytes) -> int:
    """Matches that begin in one record and end in a later one, in the slices as the scan joins them."""
    slices = [
        record
        for by_resource in SHAPES[signal].shallow.FromString(raw).resources
        for by_scope in by_resource.scopes
        for record in by_scope.records
    ]
    ends = list(accumulate(map(len, slices)))
    return sum(
        any(match.start() < end < match.end() for end in ends) for match in MATCHES.finditer(b"".join(slices))
    )


@pytest.mark.parametrize("signal", SIGNALS)
def test_all_that_is_odd_is_made(signal):
    kind = SHAPES[signal].request.DESCRIPTOR
    made = [request(signal, random.Random(seed), odd=True) for seed in range(SEEDS)]
    seen = Counter(feature for raw in made for feature in features(kind, raw))
    seen["match across records"] = sum(across(signal, raw) for raw in made)
    wanted = {"longer tag", "longer length", "longer value", "another kind before", "bytes in a list"}
    wanted |= {f"unknown field of wire type {wire}" for wire in (0, 1, 2, 5)}
    wanted.add("match across records")
    for name, message in below(kind, {}).items():
        wanted.add(f"unknown field in {name}")
        wanted |= {
            f"{name}.{f.name} again" for f in message.fields if f.type == MESSAGE and not f.is_repeated
        }
        repeated = any(field.is_repeated and field.type == MESSAGE for field in message.fields)
        if len(message.fields) > 1 and name != "AnyValue":
            wanted.add(f"other order in {name}")
            if repeated:
                wanted.add(f"fields in between in {name}")
    assert sorted(wanted - seen.keys()) == []


@pytest.mark.parametrize("signal", SIGNALS)
def test_an_odd_encoding_means_what_the_plain_one_means(signal):
    for seed in range(100):
        plain = decode(signal, request(signal, random.Random(seed), odd=False))
        odd = decode(signal, request(signal, random.Random(seed), odd=True))
        odd.DiscardUnknownFields()
        assert odd.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)
