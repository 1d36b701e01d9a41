"""Walking messages by their descriptors, so that no field can be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_STRING = FieldDescriptor.TYPE_STRING
_MESSAGE = FieldDescriptor.TYPE_MESSAGE


class Plan:
    """Where a message type holds strings, values, attributes, and messages with any of these below."""

    __slots__ = ("children", "pairs", "strings", "values")

    def __init__(self) -> None:
        self.strings: list[tuple[str, bool]] = []
        self.values: list[str] = []
        self.pairs: list[str] = []
        self.children: list[tuple[str, bool, Plan]] = []


@cache
def plan(descriptor: Descriptor) -> Plan:
    """The plan of a message type. AnyValue and KeyValue are the walker's own matter."""
    made = Plan()
    for field in descriptor.fields:
        repeated = field.is_repeated
        if field.type == _STRING:
            made.strings.append((field.name, repeated))
        elif field.type == _MESSAGE:
            below_type = field.message_type
            assert below_type is not None
            kind = below_type.name
            if kind == "KeyValue":
                made.pairs.append(field.name)
            elif kind == "AnyValue":
                made.values.append(field.name)
            else:
                below = plan(below_type)
                if below.strings or below.values or below.pairs or below.children:
                    made.children.append((field.name, repeated, below))
    return made


def pair_lists(message: Any) -> Iterator[Any]:
    """Every attribute list in a message: its own, and those of the messages in it."""
    yield from _pair_lists(message, plan(message.DESCRIPTOR))


def _pair_lists(message: Any, by: Plan) -> Iterator[Any]:
    for name in by.pairs:
        yield getattr(message, name)
    for name, repeated, below in by.children:
        if repeated:
            for child in getattr(message, name):
                yield from _pair_lists(child, below)
        elif message.HasField(name):
            yield from _pair_lists(getattr(message, name), below)


class Rewriter:
    """Rewrites every string of a message in place.

    text   new text of a text
    value  what replaces the value of a key, whatever its type; None where the value is to be looked into
    """

    def __init__(self, text: Callable[[str], str], value: Callable[[str], str | None]) -> None:
        self._text = text
        self._value = value

    def message(self, message: Any) -> bool:
        """Whether something was changed."""
        return self._message(message, plan(message.DESCRIPTOR))

    def _message(self, message: Any, by: Plan) -> bool:
        changed = False
        for name, repeated in by.strings:
            old = getattr(message, name)
            if repeated:
                for index, text in enumerate(old):
                    if (new := self._text(text)) != text:
                        old[index] = new
                        changed = True
            elif old and (new := self._text(old)) != old:
                setattr(message, name, new)
                changed = True
        for name in by.values:
            if message.HasField(name):
                changed |= self.any(getattr(message, name))
        for name in by.pairs:
            changed |= self.attributes(getattr(message, name))
        for name, repeated, below in by.children:
            if repeated:
                for child in getattr(message, name):
                    changed |= self._message(child, below)
            elif message.HasField(name):
                changed |= self._message(getattr(message, name), below)
        return changed

    def attributes(self, pairs: Any) -> bool:
        """A list of KeyValue."""
        changed = False
        for pair in pairs:
            replacement = self._value(pair.key)
            if replacement is None:
                changed |= self.any(pair.value)
            elif pair.value.WhichOneof("value") is not None and pair.value.string_value != replacement:
                pair.value.string_value = replacement
                changed = True
            if (new := self._text(pair.key)) != pair.key:
                pair.key = new
                changed = True
        return changed

    def any(self, value: Any) -> bool:
        """An AnyValue. Bytes are text where they are UTF-8."""
        kind = value.WhichOneof("value")
        if kind == "string_value":
            if (new := self._text(value.string_value)) != value.string_value:
                value.string_value = new
                return True
        elif kind == "kvlist_value":
            return self.attributes(value.kvlist_value.values)
        elif kind == "array_value":
            changed = False
            for element in value.array_value.values:
                changed |= self.any(element)
            return changed
        elif kind == "bytes_value":
            try:
                old = value.bytes_value.decode()
            except UnicodeDecodeError:
                return False
            if (new := self._text(old)) != old:
                value.bytes_value = new.encode()
                return True
        return False
