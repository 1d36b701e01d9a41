"""OTLP/JSON (opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding) to protobuf.

Ids are hex, enums are integers, unknown fields are ignored, keys are lowerCamelCase, 64-bit integers come as
decimal strings or as numbers. What is no Unicode becomes U+FFFD, as in protobuf (mend.py). A field that is there twice
is refused, as protobuf's own parsers do: one of the two would be lost, and nobody would know.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otel_ttf.otlp.json_depth import TWICE, Doubled, read
from otel_ttf.otlp.mend import NOTHING, TOO_DEEP, mark
from otel_ttf.otlp.wire import MAX_DEPTH, MAX_NESTING, SHAPES, Malformed, Signal

_F = FieldDescriptor
_UNSIGNED = {_F.TYPE_UINT32: 32, _F.TYPE_FIXED32: 32, _F.TYPE_UINT64: 64, _F.TYPE_FIXED64: 64}
_SIGNED = {
    _F.TYPE_INT32: 32,
    _F.TYPE_SINT32: 32,
    _F.TYPE_SFIXED32: 32,
    _F.TYPE_ENUM: 32,
    _F.TYPE_INT64: 64,
    _F.TYPE_SINT64: 64,
    _F.TYPE_SFIXED64: 64,
}
_LONG = frozenset([_F.TYPE_INT64, _F.TYPE_UINT64, _F.TYPE_FIXED64, _F.TYPE_SFIXED64, _F.TYPE_SINT64])
_HEX = frozenset({"trace_id", "span_id", "parent_span_id"})
MAX_CONTAINERS = 4_000_000
# Messages that a value needs below itself for what it holds.
_HOLDING = {"arrayValue": 2, "kvlistValue": 3}
_MOST_DIGITS = 40
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_HALF = re.compile("[\ud800-\udfff]")
_MARKED = frozenset(["LogRecord", "Span", "Metric", "Resource", "InstrumentationScope"])
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(slots=True)
class Found:
    """What else there is to say of a request in JSON.

    mended  what was mended, how often, see mend.TOLD
    broken  number of a record -> what is wrong with it; one without anything stands in its place
    """

    mended: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)


def decode(signal: Signal, body: bytes, found: Found | None = None) -> bytes:
    """The protobuf bytes of a JSON request. Raises Malformed; its text names the place, never a value.

    found  takes what is wrong with single records; None: that is Malformed, too
    """
    # json makes an object of each; 64 MiB of `{},` would be more than a gigabyte.
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise Malformed(f"expected at most {MAX_CONTAINERS} objects and arrays")
    try:
        data = read(body, parse_int=_digits)
    except ValueError:
        raise Malformed(f"expected an OTLP {signal} request in JSON (UTF-8)") from None
    message = SHAPES[signal].request()
    _Filling(signal, found).fill(message, data, "", 0, 0)
    return bytes(message.SerializeToString())


def encode(message: Message) -> bytes:
    """A response, or a google.rpc.Status, as JSON."""
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def as_json(request: Message) -> str:
    """A request in OTLP/JSON: ids in hex, enums as integers."""
    return json.dumps(_plain(request), ensure_ascii=False)


def camel(name: str) -> str:
    """A field's name in JSON."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _plain(message: Message) -> dict[str, object]:
    return {
        field.json_name: [_told(field, one) for one in value] if field.is_repeated else _told(field, value)
        for field, value in message.ListFields()
    }


def _told(field: FieldDescriptor, value: Any) -> object:
    if field.type == _F.TYPE_MESSAGE:
        return _plain(value)
    if field.type == _F.TYPE_BYTES:
        return value.hex() if field.name in _HEX else base64.b64encode(value).decode()
    if field.type in _LONG:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _digits(text: str) -> int | float:
    # Python refuses to read thousands of digits; whatever is that long is at most a double.
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return {field.json_name: field for field in descriptor.fields}


class _Filling:
    """Fills messages from JSON."""

    def __init__(self, signal: Signal, found: Found | None) -> None:
        self._signal = signal
        self._record = SHAPES[signal].record.DESCRIPTOR
        self._broken = None if found is None else found.broken
        self._mended: Counter[str] = Counter() if found is None else found.mended
        self._number = 0  # of the record that is next

    def fill(self, message: Any, data: object, where: str, depth: int, nested: int) -> bool:
        """Whether a text was mended in it that it does not say so of itself.

        depth  how many messages it is within; nested: how many of these are values
        """
        if not isinstance(data, dict):
            raise Malformed(f"{where or 'request'}: expected an object, found {_kind(data)}")
        if message.DESCRIPTOR is AnyValue.DESCRIPTOR:
            nested += 1
            if nested > MAX_NESTING or (
                depth > MAX_DEPTH - 3
                and any(depth + below > MAX_DEPTH for name, below in _HOLDING.items() if name in data)
            ):
                message.string_value = TOO_DEEP
                self._mended["nesting"] += 1
                return False
        fields = _fields(message.DESCRIPTOR)
        if isinstance(data, Doubled) and (doubled := sorted(data.doubled & fields.keys())):
            raise Malformed(f"{where}.{doubled[0]}: {TWICE}".removeprefix("."))
        mended = False
        for key, value in data.items():
            field = fields.get(key)
            if field is None or value is None:
                continue
            here = f"{where}.{key}" if where else key
            if field.type == _F.TYPE_STRING:
                given = value
                value = [*map(unicode, value)] if isinstance(value, list) else unicode(value)
                if value != given:
                    mended = True
                    self._mended["utf8"] += 1
            if field.is_repeated:
                if not isinstance(value, list):
                    raise Malformed(f"{here}: expected an array, found {_kind(value)}")
                target = getattr(message, field.name)
                for index, element in enumerate(value):
                    spot = f"{here}[{index}]"
                    if field.type == _F.TYPE_MESSAGE:
                        mended |= self._element(target.add(), element, spot, depth + 1, nested)
                    else:
                        target.append(_scalar(field, element, spot))
            elif field.type == _F.TYPE_MESSAGE:
                child = getattr(message, field.name)
                child.SetInParent()
                mended |= self.fill(child, value, here, depth + 1, nested)
            else:
                setattr(message, field.name, _scalar(field, value, here))
        if mended and message.DESCRIPTOR.name in _MARKED:
            mark(message)
            return False
        return mended

    def _element(self, message: Any, data: object, where: str, depth: int, nested: int) -> bool:
        """`fill`, for what stands in a list: of records a broken one costs none of the others."""
        if message.DESCRIPTOR is not self._record:
            return self.fill(message, data, where, depth, nested)
        self._number += 1
        try:
            return self.fill(message, data, where, depth, nested)
        except Malformed as error:
            if self._broken is None:
                raise
            self._broken[self._number - 1] = str(error).removeprefix(where).lstrip(".: ")
            message.ParseFromString(NOTHING[self._signal])
            return False


def unicode(value: object) -> object:
    """A text without halves of surrogate pairs: bytes that are no UTF-8 were read as these. Others stay as they are."""
    if not isinstance(value, str) or _HALF.search(value) is None:
        return value
    try:
        return value.encode(errors="surrogateescape").decode(errors="replace")
    except UnicodeEncodeError:
        return _HALF.sub("\ufffd", value)


def _scalar(field: FieldDescriptor, value: object, where: str) -> object:
    kind = field.type
    if kind == _F.TYPE_STRING:
        if isinstance(value, str):
            return value
        raise Malformed(f"{where}: expected a string, found {_kind(value)}")
    if kind == _F.TYPE_BYTES:
        return _bytes(field, value, where)
    if kind == _F.TYPE_BOOL:
        if isinstance(value, bool):
            return value
        raise Malformed(f"{where}: expected true or false, found {_kind(value)}")
    if kind in (_F.TYPE_DOUBLE, _F.TYPE_FLOAT):
        told_as_number = not isinstance(value, str)
        if isinstance(value, str):
            value = _float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if told_as_number and not math.isfinite(value):
                raise Malformed(
                    f"{where}: expected a double (NaN and Infinity as strings), found no such number"
                )
            return float(value)
        raise Malformed(f"{where}: expected a number, found {_kind(value)}")
    if kind == _F.TYPE_ENUM and isinstance(value, str):
        raise Malformed(f"{where}: expected the integer of an enum, found a string")
    return _integer(kind, value, where)


def _float(text: str) -> float | str:
    if text in _FLOATS:
        return _FLOATS[text]
    if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    return number if math.isfinite(number) else text


def _integer(kind: int, value: object, where: str) -> int:
    if (isinstance(value, str) and len(value) <= _MOST_DIGITS and _INTEGER.fullmatch(value)) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed(f"{where}: expected an integer, found {_kind(value)}")
    bits = _UNSIGNED.get(kind)
    low, high = (0, 2**bits) if bits else (-(2 ** (_SIGNED[kind] - 1)), 2 ** (_SIGNED[kind] - 1))
    if not low <= value < high:
        raise Malformed(f"{where}: expected an integer of {bits or _SIGNED[kind]} bits, found a larger one")
    return value


def _bytes(field: FieldDescriptor, value: object, where: str) -> bytes:
    expected = "hex" if field.name in _HEX else "base64"
    if isinstance(value, str):
        try:
            if field.name in _HEX:
                return binascii.unhexlify(value)
            padded = value.replace("-", "+").replace("_", "/")
            return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (ValueError, binascii.Error):
            raise Malformed(f"{where}: expected {expected}, found other characters") from None
    raise Malformed(f"{where}: expected a string of {expected}, found {_kind(value)}")


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        Doubled: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")
