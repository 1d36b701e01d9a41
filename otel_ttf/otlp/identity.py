"""Event ids (journeys.md, Event id)."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.events import ID_BYTES, milliseconds, unpack_ids
from otel_ttf.otlp.wire import BROKEN, SHAPES, SPAN_EVENT, Malformed, Signal, delimited
from otel_ttf.pii.pseudonym import Hmac

EVENT_ID = "ttf.event.id"
_EVENT_ID = EVENT_ID.encode()
_TIME = struct.Struct(">Q").pack
_LENGTHS = [struct.Struct(f">I{count}I").pack for count in range(64)]


class EventIds:
    """Makes event ids, from records as they were received. key: the `event` key, 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._digest = Hmac(key).digest

    def of_record(
        self,
        name: bytes,
        time: int,
        subject: str | None,
        where: tuple[bytes, bytes] | tuple[bytes],
        pairs: Sequence[bytes],
    ) -> bytes:
        """The id of a named record.

        time   as sent, ns, 0 if none: then the id is random, and the event is never found to come twice
        where  (trace id, span id), or (service.name,) without them
        pairs  attributes, encoded
        """
        if not time:
            return milliseconds(0) + secrets.token_bytes(10)
        who = b"" if subject is None else b"=" + subject.encode()
        kind = b"span" if len(where) == 2 else b"service"
        told = _joined([kind, name, _TIME(time), who, *where, *pairs])
        return milliseconds(time) + self._digest(told)[:10]

    def of_event_id(self, subject: str | None, event_id: str) -> bytes:
        """The id of an event that its sender has given one: at whatever time it comes again, it is the same."""
        who = b"" if subject is None else b"=" + subject.encode()
        return self._digest(_joined([b"event_id", who, event_id.encode()]))[:ID_BYTES]


def own_id(pairs: Sequence[bytes]) -> bytes | None:
    """The event id that a record from a trusted path brings, 32 hex digits; None without a valid one."""
    for data in pairs:
        if _EVENT_ID in data:
            pair = KeyValue.FromString(data)
            if pair.key == EVENT_ID:
                try:
                    told = bytes.fromhex(pair.value.string_value)
                except ValueError:
                    continue
                if len(told) == ID_BYTES:
                    return told
    return None


def with_ids(signal: Signal, payload: bytes, ids: bytes) -> bytes:
    """A request whose events carry their ids as attributes, for paths on which they are taken over (`own_id`).

    ids  by place (events.pack_ids): of log records, or of span events, counted over all spans
    Raises Malformed.
    """
    known = unpack_ids(ids)
    if not known:
        return payload
    shape, place = SHAPES[signal], 0
    try:
        request = shape.shallow.FromString(payload)
        for by_resource in request.resources:
            for by_scope in by_resource.scopes:
                for number, data in enumerate(by_scope.records):
                    if signal == "logs":
                        by_scope.records[number] = _carrying(_LOG, shape.view, data, known.get(place))
                        place += 1
                        continue
                    span = shape.view.FromString(data)
                    for at, event in enumerate(span.events):
                        span.events[at] = _carrying(_EVENT, SPAN_EVENT, event, known.get(place + at))
                    if len(span.events):
                        place += len(span.events)
                        by_scope.records[number] = span.SerializeToString()
    except DecodeError:
        raise Malformed(BROKEN) from None
    return bytes(request.SerializeToString())


# Numbers of the field `attributes`.
_LOG, _EVENT = (kind.DESCRIPTOR.fields_by_name["attributes"].number for kind in (LogRecord, Span.Event))


def _carrying(number: int, view: Any, data: bytes, id_: bytes | None) -> bytes:
    if id_ is None:
        return data
    if _EVENT_ID in data:  # one that came with it
        message = view.FromString(data)
        kept = [pair for pair in message.attributes if KeyValue.FromString(pair).key != EVENT_ID]
        del message.attributes[:]
        message.attributes.extend(kept)
        data = message.SerializeToString()
    pair = KeyValue(key=EVENT_ID, value=AnyValue(string_value=id_.hex()))
    return data + delimited(number, pair.SerializeToString())


def _joined(parts: list[bytes]) -> bytes:
    """No two lists of parts give the same bytes: their number and lengths stand in front."""
    count = len(parts)
    pack = _LENGTHS[count] if count < len(_LENGTHS) else struct.Struct(f">I{count}I").pack
    return pack(count, *map(len, parts)) + b"".join(parts)
