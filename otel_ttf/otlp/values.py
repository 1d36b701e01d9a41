"""AnyValue and KeyValue as plain Python values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList

from otel_ttf.journey.values import Value


def plain(value: AnyValue) -> Value:
    """The value as Python has it; None for an empty one."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(element) for element in value.array_value.values]
    if kind == "kvlist_value":
        return mapping(value.kvlist_value.values)
    found: Value = getattr(value, kind)
    return found


def mapping(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes by key; of a key that comes twice the last one counts."""
    return {pair.key: plain(pair.value) for pair in pairs}


def pair(data: bytes) -> tuple[str, Value]:
    """Key and value of an encoded KeyValue."""
    found = KeyValue.FromString(data)
    return found.key, plain(found.value)


def encoded(pairs: Any) -> bytes:
    """A repeated KeyValue field as the bytes of a KeyValueList."""
    return KeyValueList(values=pairs).SerializeToString()


def decoded(data: bytes) -> dict[str, Value]:
    """The opposite of `encoded`, as a mapping."""
    return mapping(KeyValueList.FromString(data).values)
