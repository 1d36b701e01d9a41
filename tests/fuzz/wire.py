"""Changes protobuf where it means something: lengths above a change stay right, else hardly any input is one."""

from __future__ import annotations

import random
from collections.abc import Callable

# (number, wire type, content): a varint's bytes, 4 or 8 bytes, or what is delimited.
Part = tuple[int, int, bytes]


class _NoMessage(ValueError):
    pass


def mutated(raw: bytes, rng: random.Random, change: Callable[[bytes, random.Random], bytes]) -> bytes:
    """The message with one change somewhere in it.

    change  of bytes that are no message, such as texts
    """
    try:
        parts = _parts(raw)
    except _NoMessage:
        return change(raw, rng)
    if not parts:
        return change(raw, rng)
    at = rng.randrange(len(parts))
    number, kind, content = parts[at]
    choice = rng.random()
    if choice < 0.75:
        new = mutated(content, rng, change) if kind == 2 else change(content, rng)
        parts[at] = (number, kind, new if kind == 2 else _fitting(kind, new))
    elif choice < 0.81:
        parts.insert(rng.randrange(len(parts) + 1), parts[at])
    elif choice < 0.86:
        del parts[at]
    elif choice < 0.91:
        rng.shuffle(parts)
    elif choice < 0.95:
        # The message in two halves, which are merged again where a field of this number is singular.
        try:
            inner = _parts(content) if kind == 2 else []
        except _NoMessage:
            inner = []
        cut = rng.randrange(len(inner) + 1)
        parts[at : at + 1] = [(number, 2, _joined(half, rng)) for half in (inner[:cut], inner[cut:]) if inner]
    else:
        parts[at] = (rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 1000)), kind, content)
    return _joined(parts, rng)


def _fitting(kind: int, content: bytes) -> bytes:
    if kind == 0:
        number = int.from_bytes(content[:8], "little")
        return _varint(number)
    size = 8 if kind == 1 else 4
    return content[:size].ljust(size, b"\x00")


def _parts(raw: bytes) -> list[Part]:
    parts: list[Part] = []
    at = 0
    while at < len(raw):
        tag, at = _read(raw, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise _NoMessage
        start = at
        if kind == 0:
            _, at = _read(raw, at)
        elif kind == 2:
            size, start = _read(raw, at)
            at = start + size
        else:
            at += 8 if kind == 1 else 4
        if at > len(raw):
            raise _NoMessage
        parts.append((number, kind, raw[start:at]))
    return parts


def _joined(parts: list[Part], rng: random.Random) -> bytes:
    out = bytearray()
    for number, kind, content in parts:
        out += _varint(number << 3 | kind, longer=rng.random() < 0.1)
        if kind == 2:
            out += _varint(len(content), longer=rng.random() < 0.1)
        out += content
    return bytes(out)


def _read(raw: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)"""
    value = 0
    for place in range(10):
        if at + place >= len(raw):
            break
        byte = raw[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise _NoMessage


def _varint(value: int, *, longer: bool = False) -> bytes:
    """longer: in more bytes than it takes"""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    if longer and len(out) < 5:
        out[-1] |= 128
        out.append(0)
    return bytes(out)
