"""Walking messages by their descriptors, so that no field can be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

# Ids of these sizes are never looked at; what is larger or smaller is none, and may hold anything.
ID_SIZES = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def place(message: str, field: str) -> str:
    """How a field is called in metrics and on the screen: `span_event.name`, `log.attributes`."""
    told = {"LogRecord": "log", "Event": "span_event", "InstrumentationScope": "scope"}.get(message)
    return f"{told or _WORD.sub('_', message).lower()}.{field}"


class Plan:
    """Where a message type holds texts, values, attribute lists, and messages with any of these below."""

    __slots__ = ("ids", "lists", "messages", "texts", "values")

    def __init__(self) -> None:
        self.texts: list[tuple[str, bool, str]] = []  # field, repeated, place
        self.ids: list[tuple[str, int, str]] = []  # field, size, place
        self.values: list[tuple[str, str]] = []
        self.lists: list[tuple[str, str]] = []
        self.messages: list[tuple[str, bool, Plan]] = []


@cache
def plan(descriptor: Descriptor) -> Plan:
    """The plan of a message type. AnyValue is the walker's own matter."""
    made = Plan()
    for field in descriptor.fields:
        where = place(descriptor.name, field.name)
        if field.name in ID_SIZES:
            made.ids.append((field.name, ID_SIZES[field.name], where))
        if field.type == FieldDescriptor.TYPE_STRING:
            made.texts.append((field.name, field.is_repeated, where))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            below = field.message_type
            assert below is not None
            kind = below.name
            if kind == "KeyValue":
                made.lists.append((field.name, where))
            elif kind == "AnyValue":
                made.values.append((field.name, where))
            else:
                made.messages.append((field.name, field.is_repeated, plan(below)))
    return made


class Walker:
    """Visits all that a message holds and rewrites it in place. Methods tell whether something was changed.

    place  what is being visited, see `place`
    """

    looks_at_texts = True
    place = ""

    def pair(self, pair: Any) -> bool | None:
        """A key with its value. None: nothing is to be done for the key; the value is looked into."""
        return None

    def text(self, text: str) -> str:
        """What takes the place of a text."""
        return text

    def number(self, number: float) -> str | None:
        """The text that takes the place of a number; None: it stays."""
        return None

    def message(self, message: Any, *, without: Iterable[str] = ()) -> bool:
        """Any message of OTLP but AnyValue and KeyValue; `without` names fields that are passed over."""
        changed = False
        by = plan(message.DESCRIPTOR)
        if self.looks_at_texts:
            for name, repeated, self.place in by.texts:
                changed |= self._texts(message, name, repeated)
            for name, size, self.place in by.ids:
                changed |= self.id(message, name, size)
        for name, self.place in by.values:
            if message.HasField(name):
                changed |= self.value(getattr(message, name))
        for name, self.place in by.lists:
            changed |= self.pairs(getattr(message, name))
        for name, repeated, _ in by.messages:
            if name in without:
                continue
            if repeated:
                for child in getattr(message, name):
                    changed |= self.message(child)
            elif message.HasField(name):
                changed |= self.message(getattr(message, name))
        return changed

    def id(self, message: Any, name: str, size: int) -> bool:
        """An id. One of another size goes, if it holds what a text may not hold."""
        data = getattr(message, name)
        if len(data) == size or not data:
            return False
        told = data.decode("latin-1")
        if self.text(told) == told:
            return False
        setattr(message, name, b"")
        return True

    def _texts(self, message: Any, name: str, repeated: bool) -> bool:
        changed = False
        old = getattr(message, name)
        if repeated:
            for index, text in enumerate(old):
                if (new := self.text(text)) != text:
                    old[index] = new
                    changed = True
        elif old and (new := self.text(old)) != old:
            setattr(message, name, new)
            changed = True
        return changed

    def pairs(self, pairs: Any) -> bool:
        """A list of KeyValue."""
        changed = False
        for pair in pairs:
            changed |= self.one(pair)
        return changed

    def one(self, pair: Any) -> bool:
        """A KeyValue."""
        done = self.pair(pair)
        changed = bool(done)
        if done is None and pair.HasField("value"):
            changed = self.value(pair.value)
        if self.looks_at_texts:
            key = pair.key
            if (new := self.text(key)) != key:
                pair.key = new
                changed = True
        return changed

    def value(self, value: Any) -> bool:
        """An AnyValue. Bytes are text: UTF-8, or else one character a byte."""
        kind = value.WhichOneof("value")
        if kind == "kvlist_value":
            return self.pairs(value.kvlist_value.values)
        if kind == "array_value":
            changed = False
            for element in value.array_value.values:
                changed |= self.value(element)
            return changed
        if not self.looks_at_texts:
            return False
        if kind == "string_value":
            old = value.string_value
            if (new := self.text(old)) != old:
                value.string_value = new
                return True
        elif kind == "bytes_value":
            old, encoding = as_text(value.bytes_value)
            if (new := self.text(old)) != old:
                value.bytes_value = new.encode(encoding)
                return True
        elif kind in ("int_value", "double_value"):
            text = self.number(getattr(value, kind))
            if text is not None:
                value.string_value = text
                return True
        return False


def as_text(data: bytes) -> tuple[str, str]:
    """(bytes as text, the encoding that it took): UTF-8, or else one character a byte."""
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def named(value: Any) -> tuple[str, Any] | None:
    """(key, value) of a pair that is written as a list of two, or as a map with `name` and `value`."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        elements = value.array_value.values
        if len(elements) == 2 and elements[0].string_value:
            return elements[0].string_value, elements[1]
    elif kind == "kvlist_value":
        pairs = {pair.key.lower(): pair.value for pair in value.kvlist_value.values}
        if 2 <= len(pairs) <= 3 and "value" in pairs:
            for name in ("name", "key", "field"):
                if name in pairs and pairs[name].string_value:
                    return pairs[name].string_value, pairs["value"]
    return None
