"""OTLP requests of all signals, made at random from the descriptors, and encoded as oddly as protobuf allows."""

from __future__ import annotations

import random
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.wire import SHAPES, Signal, decode

NOW = 1_790_000_000_000_000_000
EMAIL, CARD, INT_CARD = "jane.doe@example.com", "4111 1111 1111 1111", 4012888888881881
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl"
BEARER = "Bearer abcdef0123456789"
# Must not come out, wherever they were.
SECRETS = (EMAIL.encode(), CARD.encode(), JWT.encode(), b"abcdef0123456789", b"raw-user-")
# Texts that end where a match could go on, in the tag of the next field or record: `2` and `9` are tags, and `b`.
ENDS = (
    "paid 4111 1111 1111",
    "4111111111111",
    "jane@example.c",
    "Authorization: Bearer abcdef0",
    "eyJ",
    "AKIA",
    "u1_",
)
TEXTS = (
    "",
    "plain text",
    "signup",
    "naïve – 日本語 \x00 text",
    f"mail {EMAIL} now",
    EMAIL,
    f"paid with {CARD}.",
    f'{{"token": "{JWT}"}}',
    f"Authorization: {BEARER}",
    "1721379600000 1721379600000123",
    "user.id",
    "event.name",
    "u1_abcd_" + "a2" * 16,
    "see a cookie, a secret and a password",
    "/api/v1/projects/7",
    *ENDS,
    "consent_updated",
)
# Values and bodies may be JSON that names somebody.
VALUES = (
    *TEXTS,
    '{"user.id": "raw-user-1", "n": [["enduser.id", " raw-user-2 "], {"user_id": 7}]}',
    '{"a": 4.012888888881881e15, "b": [4012888888881881.0, 4012888888881881e0, 7.5e1]}',
    '[{"name": "user.id", "value": "raw-user-3"}, "{\\"enduser.id\\": [\\"raw-user-1\\"]}"]',
)
NAMES = (
    "plan",
    "user",
    "id",
    "http.request.method",
    "url.path",
    "event.name",
    "otel.event.name",
    "password",
    "http.request.header.cookie",
    "token_count",
    EMAIL,
    "ttf.event.id",
    "ttf.subject",
)
SUBJECTS = (
    "user.id",
    "enduser.id",
    "user_id",
    "http.request.header.x-user-id",
    "http.request.header.x_user_id",
)
CONSENT = (
    "ttf.consent",
    "ttf.consent.sale",
    "ttf.consent.do_not_sell",
    "ttf.do_not_sell",
    "http.request.header.sec-gpc",
    "http.request.header.sec_gpc",
    "consent",
    "do_not_sell",
)
STATED = ("grant", "deny", "do_not_sell", " Granted ", "true", "false", "1", "maybe")
LONG_ID = "raw-user-" + "x" * 600


def message(kind: Any, rng: random.Random, depth: int = 3) -> Any:
    """A message of that class with some of its fields set."""
    made = kind()
    fill(made, rng, depth)
    return made


def fill(made: Any, rng: random.Random, depth: int) -> None:
    name = made.DESCRIPTOR.name
    if name == "AnyValue":
        _value(made, rng, depth)
        return
    if name == "KeyValue":
        _pair(made, rng, depth)
        return
    for field in made.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            container = field.name.startswith(("resource_", "scope_")) or field.name in (
                "log_records",
                "spans",
                "metrics",
            )
            if field.is_repeated:
                for _ in range(rng.choice((1, 1, 2, 3) if container else (0, 0, 1, 2))):
                    fill(getattr(made, field.name).add(), rng, depth - 1 if name in _NESTING else depth)
            elif rng.random() < 0.6:
                child = getattr(made, field.name)
                child.SetInParent()
                fill(child, rng, depth)
        elif rng.random() < 0.6:
            value = _scalar(field, rng)
            if field.is_repeated:
                getattr(made, field.name).extend([value] * rng.randrange(3))
            else:
                setattr(made, field.name, value)


_NESTING = ("ArrayValue", "KeyValueList")


def _pair(pair: Any, rng: random.Random, depth: int) -> None:
    if rng.random() < 0.35:
        pair.key = rng.choice(SUBJECTS)
        kind = rng.randrange(8)
        if kind < 4:
            pair.value.string_value = rng.choice(
                ("raw-user-1", "raw-user-2", " raw-user-1 ", "", "raw-user-" + "y" * 130)
            )
        elif kind == 4:
            pair.value.int_value = rng.randrange(10**6)
        elif kind == 5:
            for _ in range(rng.randrange(3)):
                pair.value.array_value.values.add().string_value = "raw-user-3"
        elif kind == 6 and rng.random() < 0.3:
            pair.value.string_value = LONG_ID
        else:
            _value(pair.value, rng, depth)
        return
    if rng.random() < 0.1:
        pair.key = rng.choice(CONSENT)
        if rng.random() < 0.4:
            pair.value.bool_value = rng.random() < 0.5
        elif rng.random() < 0.6:
            pair.value.string_value = rng.choice(STATED)
        else:
            _value(pair.value, rng, depth)
        return
    pair.key = rng.choice(NAMES + TEXTS)
    if rng.random() < 0.95:
        pair.value.SetInParent()
        _value(pair.value, rng, depth)


def _value(value: Any, rng: random.Random, depth: int) -> None:
    kind = rng.randrange(9 if depth > 0 else 6)
    if kind <= 2:
        value.string_value = rng.choice(VALUES)
    elif kind == 3:
        value.int_value = rng.choice((0, 7, -1, INT_CARD, 1721379600000, 2**62))
    elif kind == 4:
        value.bytes_value = rng.choice((b"", b"\xff\xfe", EMAIL.encode(), CARD.encode(), b"\x00\x01"))
    elif kind == 5:
        rng.choice(
            (
                lambda: setattr(value, "bool_value", True),
                lambda: setattr(value, "double_value", rng.choice((1.5, INT_CARD, -INT_CARD, 2.0**62, 4e12))),
                lambda: None,
            )
        )()
    elif kind == 6:
        value.array_value.SetInParent()
        for _ in range(rng.randrange(3)):
            _value(value.array_value.values.add(), rng, depth - 1)
    else:
        value.kvlist_value.SetInParent()
        for _ in range(rng.randrange(3)):
            _pair(value.kvlist_value.values.add(), rng, depth - 1)


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.choice((b"", bytes(range(16)), b"\xff" * 8))
        case FieldDescriptor.CPPTYPE_STRING:
            return rng.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return 2.5
        case FieldDescriptor.CPPTYPE_UINT64:
            return NOW + rng.choice((0, 10**9, -(10**18), 10**15)) if "time" in field.name else 3
        case _:
            return rng.randrange(4)


def request(signal: Signal, rng: random.Random, *, odd: bool) -> bytes:
    """An encoded request of that signal."""
    made = message(SHAPES[signal].request, rng)
    return oddly(made, rng, rng.choice((0.02, 0.1, 0.6))) if odd else bytes(made.SerializeToString())


def oddly(made: Any, rng: random.Random, longer: float = 0.05) -> bytes:
    """The same message (but for unknown fields) in an encoding that no SDK would write.

    longer  share of the varints that have more bytes than they need
    """
    chunks: list[tuple[int, bytes]] = []
    for field, value in made.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                inner = oddly(one, rng, longer)
                if not field.is_repeated and rng.random() < 0.2 and not isinstance(one, AnyValue):
                    first, second = _split(one, rng)
                    chunks += [
                        (field.number, _delimited(field.number, part, rng, longer))
                        for part in (first, second)
                    ]
                else:
                    if isinstance(one, AnyValue) and not field.is_repeated and rng.random() < 0.1:
                        # An earlier occurrence, of which nothing is left.
                        earlier = AnyValue(double_value=0.5) if one.WhichOneof("value") else AnyValue()
                        chunks.append(
                            (field.number, _delimited(field.number, oddly(earlier, rng, longer), rng, longer))
                        )
                    chunks.append((field.number, _delimited(field.number, inner, rng, longer)))
        else:
            alone = type(made)()
            if field.is_repeated:
                getattr(alone, field.name).extend(value)
            else:
                setattr(alone, field.name, value)
            data = alone.SerializeToString()
            if (
                field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
                and not field.is_repeated
            ):
                raw = value.encode() if isinstance(value, str) else value
                data = _delimited(field.number, raw, rng, longer)
                if rng.random() < 0.1:
                    # An earlier occurrence, which the last one overrides.
                    data = _delimited(field.number, b"old", rng, longer) + data
            elif field.type in _VARINTS and not field.is_repeated:
                data = _varint(field.number << 3, rng, longer)
                data += _varint(int(value) & (1 << 64) - 1, rng, longer, most=10)
            elif field.type == FieldDescriptor.TYPE_DOUBLE and not field.is_repeated:
                data = _varint(field.number << 3 | 1, rng, longer) + struct.pack("<d", value)
            chunks.append((field.number, data))
    if isinstance(made, AnyValue) and chunks and rng.random() < 0.1:
        # Another kind, which the last one overrides.
        kind, before = rng.choice(_OVERRIDDEN)
        if kind not in [number for number, _ in chunks]:
            chunks.insert(0, (kind, before))
    if rng.random() < 0.1:
        chunks.append((UNKNOWN, _unknown(rng, longer)))
    return b"".join(_shuffled(chunks, rng, mixed=not isinstance(made, AnyValue)))


UNKNOWN = 1000
_VARINTS = (
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
)
# (number, encoded field) of an AnyValue: a text, an int, a list with a text, bytes.
_OVERRIDDEN = (
    (1, b"\x0a\x03old"),
    (3, b"\x18\x07"),
    (5, b"\x2a\x07\x0a\x05\x0a\x03old"),
    (7, b"\x3a\x03old"),
)


def _unknown(rng: random.Random, longer: float) -> bytes:
    """A field that nobody knows, of any wire type."""
    text = rng.choice(TEXTS).encode()
    match rng.randrange(5):
        case 0:
            return _varint(UNKNOWN << 3, rng, longer) + _varint(INT_CARD, rng, longer)
        case 1:
            return _varint(UNKNOWN << 3 | 1, rng, longer) + text[:8].ljust(8)
        case 2:
            return _varint(UNKNOWN << 3 | 5, rng, longer) + text[:4].ljust(4)
        case _:
            return _delimited(UNKNOWN, text, rng, longer)


def _shuffled(chunks: list[tuple[int, bytes]], rng: random.Random, *, mixed: bool) -> list[bytes]:
    """Fields in any order, also in between those of one number, which keep theirs; and so do the kinds of a oneof,
    which is not `mixed`, but for what nobody knows."""
    if not mixed:
        known = [data for number, data in chunks if number != UNKNOWN]
        for number, data in chunks:
            if number == UNKNOWN:
                known.insert(rng.randrange(len(known) + 1), data)
        return known
    keys: dict[int, list[float]] = {}
    together = rng.random() < 0.5
    for number, _ in chunks:
        keys.setdefault(number, []).append(rng.random())
    for several in keys.values():
        several[:] = [several[0]] * len(several) if together else sorted(several, reverse=True)
    keyed = [(keys[number].pop(), data) for number, data in chunks]
    return [data for _, data in sorted(keyed, key=lambda chunk: chunk[0])]


def _split(made: Any, rng: random.Random) -> tuple[bytes, bytes]:
    """Two encodings that protobuf merges into the message."""
    first, second = type(made)(), type(made)()
    for field, value in made.ListFields():
        if field.is_repeated:
            at = rng.randrange(len(value) + 1)
            getattr(first, field.name).extend(value[:at])
            getattr(second, field.name).extend(value[at:])
        else:
            target = rng.choice((first, second))
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                getattr(target, field.name).CopyFrom(value)
            else:
                setattr(target, field.name, value)
    return first.SerializeToString(), second.SerializeToString()


def _delimited(number: int, data: bytes, rng: random.Random, longer: float) -> bytes:
    return _varint(number << 3 | 2, rng, longer) + _varint(len(data), rng, longer) + data


def _varint(value: int, rng: random.Random, longer: float, most: int = 5) -> bytes:
    """most: bytes that it may have when it is longer than it has to be"""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    if rng.random() < longer:
        while len(out) < most:
            out[-1] |= 128
            out.append(0)
            if rng.random() < 0.5:
                break
    return bytes(out)


def left(batch: Batch) -> list[Any]:
    """Records of the finished request, as official messages."""
    shape = SHAPES[batch.signal]
    return [
        record
        for by_resource in getattr(decode(batch.signal, batch.finish()), shape.resources)
        for by_scope in getattr(by_resource, shape.scopes)
        for record in getattr(by_scope, shape.records)
    ]
