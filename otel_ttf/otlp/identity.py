"""Event ids (journeys.md, Event id)."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_ttf.otlp.events import ID_BYTES, milliseconds
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


def _joined(parts: list[bytes]) -> bytes:
    """No two lists of parts give the same bytes: their number and lengths stand in front."""
    count = len(parts)
    pack = _LENGTHS[count] if count < len(_LENGTHS) else struct.Struct(f">I{count}I").pack
    return pack(count, *map(len, parts)) + b"".join(parts)
