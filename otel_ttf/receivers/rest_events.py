"""Events as JSON (`POST /api/v1/events`) become an OTLP logs request."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NoReturn

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ttf.otlp.json import unicode
from otel_ttf.otlp.json_depth import TWICE, Doubled, as_object, read
from otel_ttf.otlp.mend import TOO_DEEP, mark
from otel_ttf.otlp.wire import MAX_NESTING
from otel_ttf.pii.masking import Where, for_messages
from otel_ttf.receivers.body import Unusable, check_json
from otel_ttf.units import SECOND

FIELDS = ("event_name", "event_type", "user_id", "timestamp", "properties", "event_id")
MAX_EVENTS = 100_000
MAX_CONTAINERS = 1_000_000
MAX_COMMAS = 4_000_000
MAX_ID_BYTES = 512
MAX_HINTS = 10  # unknown fields of a request that are named, beside the one that may be meant

_RESERVED = {
    "user.id": "the name is reserved; send it as the event's user_id",
    "event.type": "the name is reserved; send it as the event's event_type",
}
_RESERVED_PREFIX = "ttf."
_INT64 = range(-(2**63), 2**63)
_NOT_AN_INT64 = 2**64
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_KINDS = {
    dict: "an object",
    Doubled: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class _Rejected(ValueError):
    """One event cannot be taken; str() is the reason, without the values that were sent."""


class _Unknown(_Rejected):
    """A field that is none of ours."""

    def reason(self, *, hinted: bool) -> str:
        """hinted: with its name, and the one of ours that is like it."""
        name = str(self)
        return f"{_shown(name)}: unknown field{_suggested(name, FIELDS)}" if hinted else "an unknown field"


@dataclass(frozen=True, slots=True)
class Built:
    """An OTLP logs request made of events.

    raw           the request, protobuf
    places        index among the caller's events of each record in it
    event_ids     the caller's event_id by place in the request
    without_user  places in the request whose event names no user, or an empty one
    rejected      index among the caller's events -> reason
    mended        what was mended, how often: see mend.TOLD
    """

    raw: bytes
    places: list[int]
    event_ids: Mapping[int, str]
    without_user: Set[int]
    rejected: dict[int, str]
    mended: Mapping[str, int]


def build(body: bytes) -> Built:
    """Reads `{"events": [...]}`; each event is judged on its own. Raises Unusable for the body as a whole."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    places: list[int] = []
    event_ids: dict[int, str] = {}
    without_user: set[int] = set()
    rejected: dict[int, str] = {}
    mended: Counter[str] = Counter()
    hints = 0
    for index, event in enumerate(_events(body)):
        record = records.add()
        done: Counter[str] = Counter()
        try:
            try:
                event_id = _fill(record, event, done)
            except UnicodeEncodeError:
                record.Clear()
                done = Counter(utf8=1)
                event_id = _fill(record, _in_unicode(event), done)
                mark(record)
        except _Unknown as field:
            # It takes a moment, and whoever has misspelt one name has done so everywhere.
            rejected[index] = field.reason(hinted=hints < MAX_HINTS)
            hints += 1
        except _Rejected as reason:
            rejected[index] = str(reason)
        else:
            if event_id is not None:
                event_ids[len(places)] = event_id
            if not _names_user(event):
                without_user.add(len(places))
            places.append(index)
            mended += done
            continue
        del records[-1]
    return Built(request.SerializeToString(), places, event_ids, without_user, rejected, mended)


def nanoseconds(timestamp: object) -> int:
    """Unix nanoseconds of a REST `timestamp`: a number, its unit told by its size, or an RFC 3339 string.

    Below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. What no
    fixed64 can hold becomes the greatest one, which is no plausible time either.
    Raises ValueError with what was expected.
    """
    match timestamp:
        case bool():
            pass
        case int() | float():
            return min(_scaled(timestamp), 2**64 - 1)
        case str():
            return _rfc3339(timestamp)
    raise _Rejected(f"timestamp: expected a number or an RFC 3339 string, found {_kind(timestamp)}")


def _events(body: bytes) -> list[object]:
    check_json(body, containers=MAX_CONTAINERS, commas=MAX_COMMAS)
    try:
        # NaN and the like are read here and rejected where they stand, so that the other events count. What is no
        # UTF-8 stays until it is known whose it is.
        document = read(body, parse_int=_integer)
    except json.JSONDecodeError as error:
        if not _is_utf8(body):
            raise Unusable(400, "expected JSON in UTF-8") from None
        place = f"line {error.lineno}, column {error.colno}"
        raise Unusable(400, f"expected JSON, found an error at {place}: {error.msg}") from None
    if not isinstance(document, dict):
        raise Unusable(400, f'expected an object such as {{"events": [...]}}, found {_kind(document)}')
    if "events" not in document:
        near = [_suggested(str(name), ("events",)) for name in list(document)[:MAX_HINTS]]
        raise Unusable(400, f"events: expected a list of events, found no such field{max(near, default='')}")
    if isinstance(document, Doubled) and "events" in document.doubled:
        raise Unusable(400, f"events: {TWICE}")
    events = document["events"]
    if not isinstance(events, list):
        raise Unusable(400, f"events: expected a list, found {_kind(events)}")
    if len(events) > MAX_EVENTS:
        raise Unusable(413, f"events: expected at most {MAX_EVENTS}, found {len(events)}")
    return events


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_unicode(event: Any) -> dict[str, object]:
    """The same with U+FFFD in the place of what is no Unicode. Raises _Rejected."""
    if event.get("event_id") != unicode(event.get("event_id")):
        # Two of them could become one, and one of the events would be taken for the other.
        raise _Rejected("event_id: expected Unicode text, found something else")
    return {str(unicode(name)): _value_in_unicode(value, 0) for name, value in event.items()}


def _value_in_unicode(value: object, nested: int) -> object:
    """The same of a property. nested: how many objects and lists it is within; what is deeper is cut, so it stays."""
    if nested <= MAX_NESTING and not isinstance(value, Doubled):  # which is refused
        if isinstance(value, list):
            return [_value_in_unicode(element, nested + 1) for element in value]
        if isinstance(value, dict):
            # Two names may have become one.
            return as_object(
                [
                    (str(unicode(name)), _value_in_unicode(element, nested + 1))
                    for name, element in value.items()
                ]
            )
    return unicode(value)


def _integer(text: str) -> int:
    # Python refuses to read thousands of digits; whatever is that long is too large in any case.
    return int(text) if len(text) <= 40 else _NOT_AN_INT64


def _fill(record: LogRecord, event: object, done: Counter[str]) -> str | None:
    """Writes an event into an empty record; its event_id. Raises _Rejected, or UnicodeEncodeError for what
    is no Unicode.

    done  what was mended is counted here
    """
    if not isinstance(event, dict):
        raise _Rejected(f"expected an object, found {_kind(event)}")
    for name in event:
        if name not in FIELDS:
            raise _Unknown(name)
    if isinstance(event, Doubled):
        raise _Rejected(f"{min(event.doubled)}: {TWICE}")
    record.event_name = _text(event, "event_name")
    _attribute(record, "event.type").string_value = _text(event, "event_type")
    user = event.get("user_id")
    if user is not None:
        if isinstance(user, bool) or not isinstance(user, str | int):
            raise _Rejected(f"user_id: expected a string or an integer, found {_kind(user)}")
        if user is _NOT_AN_INT64:
            raise _Rejected(f"user_id: expected at most {MAX_ID_BYTES} bytes")
        _attribute(record, "user.id").string_value = str(user)
    if (timestamp := event.get("timestamp")) is not None:
        record.time_unix_nano = nanoseconds(timestamp)
    properties = event.get("properties")
    if properties is not None:
        _properties(record, properties, done)
    event_id = event.get("event_id")
    if event_id is None:
        return None
    if not isinstance(event_id, str) or not 0 < len(event_id.encode()) <= MAX_ID_BYTES:
        raise _Rejected(f"event_id: expected a string of 1 to {MAX_ID_BYTES} bytes")
    return event_id


def _names_user(event: Any) -> bool:
    user = event.get("user_id")
    return user is not None and str(user).strip() != ""


def _text(event: Mapping[str, object], name: str) -> str:
    value = event.get(name)
    if isinstance(value, str) and value:
        return value
    found = "none" if name not in event else "an empty one" if value == "" else _kind(value)
    raise _Rejected(f"{name}: expected a string that is not empty, found {found}")


def _properties(record: LogRecord, properties: object, done: Counter[str]) -> None:
    if not isinstance(properties, dict):
        raise _Rejected(f"properties: expected an object, found {_kind(properties)}")
    if isinstance(properties, Doubled):
        raise _Rejected(f"{_path(min(properties.doubled))}: {TWICE}")
    for name, value in properties.items():
        if not name:
            raise _Rejected("properties: expected names that are not empty")
        if name in _RESERVED:
            raise _Rejected(f"{_path(name)}: {_RESERVED[name]}")
        if name.startswith(_RESERVED_PREFIX):
            raise _Rejected(f"{_path(name)}: names that begin with {_RESERVED_PREFIX} are reserved")
        _set(_attribute(record, name), value, name, 1, done)


def _attribute(record: LogRecord, key: str) -> AnyValue:
    return record.attributes.add(key=key).value


def _set(target: AnyValue, value: Any, name: str, nested: int, done: Counter[str]) -> None:
    match value:
        # A map in an attribute: for what is in it protobuf has no room.
        case list() | dict() if nested == MAX_NESTING:
            target.string_value = TOO_DEEP
            done["nesting"] += 1
        case None:
            pass
        case bool():
            target.bool_value = value
        case str():
            target.string_value = value
        case int():
            if value not in _INT64:
                raise _Rejected(f"{_path(name)}: expected an integer of at most 64 bits")
            target.int_value = value
        case float():
            if not math.isfinite(value):
                raise _Rejected(f"{_path(name)}: expected a finite number")
            target.double_value = value
        case list():
            target.array_value.SetInParent()
            for element in value:
                _set(target.array_value.values.add(), element, name, nested + 1, done)
        case Doubled():
            raise _Rejected(f"{_path(name)}: expected each name in it once")
        case dict():
            target.kvlist_value.SetInParent()
            for key, element in value.items():
                _set(target.kvlist_value.values.add(key=key).value, element, name, nested + 1, done)


def _scaled(number: float) -> int:
    if not math.isfinite(number) or number < 0:
        raise _Rejected("timestamp: expected a finite number from 0 on")
    for limit, scale in ((1e11, SECOND), (1e14, 1_000_000), (1e17, 1000)):
        if number < limit:
            # By way of the digits that were sent: 1.1 s is no multiple of 2**-n seconds.
            return number * scale if isinstance(number, int) else round(Decimal(repr(number)) * scale)
    return int(number)


def _rfc3339(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        _no_time()
    day, minute, second, fraction, zulu, sign, hours, minutes = match.groups()
    try:
        start = datetime.fromisoformat(f"{day}T{minute}:00").replace(tzinfo=UTC)
    except ValueError:
        _no_time()
    if int(second) > 60:  # 60 is a leap second, and the one after it
        _no_time()
    seconds = round(start.timestamp()) + int(second)
    if not zulu:
        if int(hours) > 23 or int(minutes) > 59:
            _no_time()
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    if seconds < 0:
        raise _Rejected("timestamp: expected a time from 1970 on")
    return min(seconds * SECOND + int((fraction or "0")[:9].ljust(9, "0")), 2**64 - 1)


def _no_time() -> NoReturn:
    raise _Rejected("timestamp: expected an RFC 3339 time with zone, such as 2024-05-01T12:00:00.5Z")


def _kind(value: object) -> str:
    return _KINDS[type(value)]


def _path(name: str) -> str:
    return f"properties.{_shown(name)}"


def _shown(name: str) -> str:
    """A field's name in a reason: masked, short, and one line."""
    name = for_messages().text(name[:1024], Where())
    return json.dumps(name[:64]) if not name.isprintable() or len(name) > 64 else name


def _suggested(name: str, known: tuple[str, ...]) -> str:
    return _nearest(name, known) if len(name) <= 24 else ""


@lru_cache(1024)
def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
