"""An event as it is taken at the call: checked, copied, with the attributes that the REST door gives it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from itertools import count
from time import time_ns
from typing import Any, NamedTuple

MAX_ID_BYTES = 512
MAX_NAME = 1024  # characters
MAX_NESTING = 32  # as the server: what is deeper is cut
MAX_VALUES = 1024
MAX_TEXT = 256 * 1024  # characters of all texts of an event together
# Roughly what Python takes for an event and each of its values, beside the texts.
_EVENT_BYTES, _VALUE_BYTES = 600, 100

_RESERVED = {"user.id": "send it as user_id", "event.type": "send it as event_type"}
_RESERVED_PREFIX = "ttf."
_INT64 = range(-(2**63), 2**63)
# What has no JSON and everybody writes as text. By name: to import them takes longer than all the rest of this package.
_AS_TEXT = {
    ("uuid", "UUID"),
    ("decimal", "Decimal"),
    ("datetime", "datetime"),
    ("datetime", "date"),
    ("datetime", "time"),
}
_PLACE = count()
# So many texts so short are let in without a look at the limits: they go over them by some KiB at most.
_SHORT, _FEW = 128, 64


class Wrong(ValueError):
    """An argument cannot be sent; the text says which and why, without its value."""


class Trace(NamedTuple):
    """The span in which an event happened."""

    trace_id: int
    span_id: int
    flags: int


class Event(NamedTuple):
    """at: unix ns; size: roughly the bytes that it takes; left_out: properties that were, and why."""

    at: int
    name: str
    attributes: dict[str, Any]
    trace: Trace | None
    size: int
    left_out: tuple[str, ...]


def taken(
    name: object,
    type_: object,
    user_id: object,
    properties: object,
    timestamp: object = None,
) -> Event:
    """The event of these arguments, whatever they are; it shares nothing with them. Raises Wrong."""
    at = now() if timestamp is None else _nanoseconds(timestamp)
    name = _text("event_name", name)
    attributes: dict[str, Any] = {"event.type": _text("event_type", type_)}
    if user_id is not None:
        attributes["user.id"] = user_text(user_id)
    copy = _Copy()
    if properties is not None:
        if not isinstance(properties, Mapping):
            raise Wrong(f"properties: expected a mapping, found {_kind(properties)}")
        copy.properties(properties, attributes)
    return Event(at, name, attributes, _trace(), copy.size, tuple(copy.left_out))


def now() -> int:
    """Unix ns, no two alike in this process: events that are the same in all else stay two by a coarse clock, too."""
    return time_ns() // 1000 * 1000 + next(_PLACE) % 1000


def _nanoseconds(timestamp: object) -> int:
    if not isinstance(timestamp, datetime) or timestamp.tzinfo is None:
        raise Wrong(f"timestamp: expected a datetime with a time zone, found {_kind(timestamp)}")
    seconds = math.floor(timestamp.timestamp())
    if seconds < 0:
        raise Wrong("timestamp: expected a time from 1970 on")
    return seconds * 10**9 + timestamp.microsecond * 1000


def _text(argument: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Wrong(f"{argument}: expected a string that is not empty, found {_kind(value)}")
    if len(value) > MAX_NAME:
        raise Wrong(f"{argument}: expected at most {MAX_NAME} characters")
    return str.__str__(value)


def user_text(user: object) -> str:
    """A user id as it is sent. Raises Wrong."""
    if type(user) is not str:
        if isinstance(user, bool) or (not isinstance(user, str | int) and _type(user) != ("uuid", "UUID")):
            raise Wrong(f"user_id: expected a string, an integer or a UUID, found {_kind(user)}")
        user = str.__str__(user) if isinstance(user, str) else str(user)
    if len(user) > MAX_ID_BYTES or (not user.isascii() and len(user.encode(errors="replace")) > MAX_ID_BYTES):
        raise Wrong(f"user_id: expected at most {MAX_ID_BYTES} bytes")
    return user


def _trace() -> Trace | None:
    # Where nobody has imported it, or not all of it yet, there is no span; and that import takes 30 ms.
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:
        return None
    context = current().get_span_context()
    return Trace(context.trace_id, context.span_id, int(context.trace_flags)) if context.is_valid else None


class _LeftOut(Exception):
    """A value that cannot be sent: str() says why."""


class _Copy:
    """Copies properties, counting what they take."""

    __slots__ = ("_texts", "_values", "left_out")

    def __init__(self) -> None:
        self._texts = 0
        self._values = 0
        self.left_out: list[str] = []

    @property
    def size(self) -> int:
        return _EVENT_BYTES + self._values * _VALUE_BYTES + self._texts

    def properties(self, properties: Mapping[Any, Any], into: dict[str, Any]) -> None:
        for name, value in properties.items():
            try:
                if type(name) is not str or not name:
                    raise _LeftOut("expected names that are strings and not empty")
                if name in _RESERVED:
                    raise _LeftOut(f"the name {name} is reserved; {_RESERVED[name]}")
                if name.startswith(_RESERVED_PREFIX):
                    raise _LeftOut(f"names that begin with {_RESERVED_PREFIX} are reserved")
                # Nearly all are short texts: calls for each would be half of what an event takes.
                if type(value) is str and len(name) + len(value) <= _SHORT and self._values < _FEW:
                    self._texts += len(name) + len(value)
                    self._values += 1
                    into[name] = value
                else:
                    self.room(len(name))
                    into[name] = self.value(value, 1)
            except _LeftOut as error:
                self.left_out.append(str(error))

    def text(self, text: str) -> str:
        self.room(len(text))
        return text

    def room(self, length: int) -> None:
        if self._texts + length > MAX_TEXT:
            raise _LeftOut(f"expected at most {MAX_TEXT} characters in the texts of an event")
        self._texts += length

    def value(self, value: Any, nested: int) -> Any:
        """A copy of plain types. Raises _LeftOut."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise _LeftOut(f"expected at most {MAX_VALUES} values in an event")
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            if value not in _INT64:
                raise _LeftOut("expected an integer of at most 64 bits")
            return value
        if kind is float:
            if not math.isfinite(value):
                raise _LeftOut("expected a finite number")
            return value
        return self._other(value, nested)

    def _other(self, value: Any, nested: int) -> Any:
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if nested > MAX_NESTING:
                raise _LeftOut(f"expected at most {MAX_NESTING} levels")
            if isinstance(value, Mapping):
                return {self.text(str(key)): self.value(one, nested + 1) for key, one in value.items()}
            return [self.value(one, nested + 1) for one in _in_order(value)]
        if isinstance(value, Enum):
            return self.value(value.value, nested)
        if isinstance(value, bytes | bytearray):
            self.room(len(value))
            return bytes(value)
        # Subclasses become what they are of; numbers of others, such as numpy's, tell what they are.
        for plain in (str, int, float):
            if isinstance(value, plain):
                return self.value(getattr(plain, f"__{plain.__name__}__")(value), nested)
        if _type(value) in _AS_TEXT:
            return self.text(value.isoformat() if hasattr(value, "isoformat") else str(value))
        for method in ("__index__", "__float__"):
            if hasattr(value, method):
                return self.value(getattr(value, method)(), nested)
        raise _LeftOut(f"expected text, a number, a boolean, a list or a mapping, found {_kind(value)}")


def _in_order(values: Iterable[Any]) -> Iterable[Any]:
    """A set in an order that is the same in every process."""
    return sorted(values, key=repr) if isinstance(values, set | frozenset) else values


def _type(value: object) -> tuple[str, str]:
    return type(value).__module__, type(value).__qualname__


def _kind(value: object) -> str:
    return "an empty one" if isinstance(value, str) else type(value).__name__
