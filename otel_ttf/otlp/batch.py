"""A request on its way: bytes in, bytes out, and what is read of it in between.

Records without a hit stay the bytes that came; changed ones are encoded again and put back. `everything=True`
takes the plain way instead (every piece counts as hit), which is the reference that tests compare with.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_ttf.otlp.events import Extract, Reading, Rules, Source, event_name, milliseconds, pack_ids
from otel_ttf.otlp.subject import subject_of
from otel_ttf.otlp.values import mapping
from otel_ttf.otlp.wire import SHAPES, Signal, decode
from otel_ttf.pii.pseudonym import Hmac
from otel_ttf.pii.scanner import EVERYTHING, NAME, Scanner

EVENT_ID_ATTRIBUTE = "ttf.event.id"
_POINTS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


class Piece:
    """A part of the request: a resource, a scope, or a record. `message` is the decoded one, to be changed."""

    __slots__ = ("changed", "hits", "message", "place", "resource", "slot")

    def __init__(self, message: Any, slot: tuple[Any, int] | None, resource: int, place: int) -> None:
        self.message = message
        self.slot = slot  # (repeated bytes field, index) that holds it
        self.resource = resource
        self.place = place  # number of the record; -1 for a resource, -2 for a scope
        self.hits = 0
        self.changed = False


class Batch:
    """One request. Raises Malformed when it cannot be read.

    raw        OTLP protobuf
    arrival    unix ns
    trusted    subjects in token form stay as they are, and records may bring their event id
    event_ids  record number -> REST event_id
    """

    def __init__(
        self,
        signal: Signal,
        raw: bytes,
        arrival: int,
        *,
        trusted: bool = False,
        event_ids: Mapping[int, str] | None = None,
        everything: bool = False,
    ) -> None:
        self.signal = signal
        self.raw = raw
        self.arrival = arrival
        self.trusted = trusted
        self.event_ids = event_ids or {}
        self.rejected: dict[int, str] = {}
        self.warnings: list[str] = []
        self.message = decode(signal, raw)
        self._everything = everything
        self._shape = SHAPES[signal]
        self._shallow = self._shape.shallow.FromString(raw)
        self._ids: dict[int, bytes] = {}
        self._names: dict[int, str] = {}
        self._services: dict[int, bytes] = {}
        self._cut()

    def _cut(self) -> None:
        """Lists resources, scopes and records beside their slices."""
        shape = self._shape
        self.resources: list[Piece] = []
        self.scopes: list[Piece] = []
        self._messages: list[Any] = []
        self._slots: list[tuple[Any, int, int]] = []  # (slices, index in them, resource)
        self._pieces: list[bytes] = []
        # A part that comes in several pieces is merged by protobuf; then nothing can be put back in place.
        self._whole = self._everything
        for number, (full, cut) in enumerate(
            zip(getattr(self.message, shape.resources), getattr(self._shallow, shape.resources), strict=True)
        ):
            self._whole |= len(cut.resource) > 1
            self.resources.append(Piece(full, (cut, 0), number, -1))
            for full_scope, cut_scope in zip(
                getattr(full, shape.scopes), getattr(cut, shape.scopes), strict=True
            ):
                self._whole |= len(cut_scope.scope) > 1
                self.scopes.append(Piece(full_scope, (cut_scope, 0), number, -2))
                slices = getattr(cut_scope, shape.records)
                self._messages += getattr(full_scope, shape.records)
                self._slots += [(slices, index, number) for index in range(len(slices))]
                self._pieces += slices
        self._hit: dict[int, Piece] | None = None

    @property
    def records(self) -> int:
        """Log records, spans or data points that came."""
        if self.signal != "metrics":
            return len(self._messages)
        return sum(_points(metric) for metric in self._messages)

    @property
    def kept(self) -> int:
        """Those that are left."""
        if self.signal != "metrics":
            return len(self._messages) - len(self.rejected)
        return sum(_points(m) for place, m in enumerate(self._messages) if place not in self.rejected)

    def piece(self, place: int) -> Piece:
        """The piece of a record."""
        assert self._hit is not None
        known = self._hit.get(place)
        if known is None:
            slices, index, resource = self._slots[place]
            known = self._hit[place] = Piece(self._messages[place], (slices, index), resource, place)
        return known

    def scan(self, scanner: Scanner) -> None:
        """The one scan; later calls do nothing."""
        if self._hit is not None:
            return
        self._hit = {}
        if self._everything:
            for piece in (*self.resources, *self.scopes):
                piece.hits = EVERYTHING
            for place in range(len(self._messages)):
                self.piece(place).hits = EVERYTHING
            return
        around = []
        for piece in self.resources:
            assert piece.slot is not None
            cut = piece.slot[0]
            around.append(b"".join(cut.resource) + cut.schema_url.encode())
        for piece in self.scopes:
            assert piece.slot is not None
            cut = piece.slot[0]
            around.append(b"".join(cut.scope) + cut.schema_url.encode())
        first = len(around)
        outer = (*self.resources, *self.scopes)
        for place, hits in scanner.hits(around + self._pieces).items():
            piece = outer[place] if place < first else self.piece(place - first)
            piece.hits |= hits

    def hit(self, groups: int) -> list[Piece]:
        """Pieces with a hit in one of the groups: resources, scopes, then records in order."""
        assert self._hit is not None
        records = [self._hit[place] for place in sorted(self._hit) if place not in self.rejected]
        return [piece for piece in (*self.resources, *self.scopes, *records) if piece.hits & groups]

    def reject(self, place: int, rule: str) -> None:
        """A record is not taken; `rule` says which one it breaks, without the value."""
        self.rejected[place] = f"{self._shape.records}[{place}]: {rule}"

    def records_of(self, resource: int) -> list[int]:
        """Numbers of the records of a resource."""
        return [place for place, slot in enumerate(self._slots) if slot[2] == resource]

    # Events.

    def identify(self, hmac: Hmac, subject_from: Sequence[str], normalise: str) -> None:
        """Makes the event ids, from the records as they were received (journeys.md, Event id)."""
        if self.signal == "logs":
            hits = self._hit or {}
            for place, record in enumerate(self._messages):
                name = record.event_name
                if not name:
                    piece = hits.get(place)
                    if piece is None or not piece.hits & NAME:
                        continue
                    name = event_name(record)
                    if not name:
                        continue
                self._names[place] = name
                time = record.time_unix_nano or record.observed_time_unix_nano
                if self.trusted and (own := _own_id(record.attributes)):
                    self._ids[place] = own
                    continue
                slices, index, resource = self._slots[place]
                source = self.resources[resource].message.resource.attributes
                subject = subject_of((record.attributes, source), subject_from, normalise) or ""
                given = self.event_ids.get(place)
                if given is not None:
                    told = _joined(
                        b"event_id", subject.encode("utf-8", "replace"), given.encode("utf-8", "replace")
                    )
                elif not time:
                    self._ids[place] = milliseconds(0) + secrets.token_bytes(10)
                    continue
                else:
                    pairs = self._shape.record.FromString(slices[index]).attributes
                    told = self._told(name, time, subject, record.trace_id, record.span_id, resource, pairs)
                self._ids[place] = milliseconds(time) + hmac.digest(told)[:10]
        elif self.signal == "traces":
            number = 0
            for place, span in enumerate(self._messages):
                if not span.events:
                    continue
                slices, index, resource = self._slots[place]
                cut = self._shape.record.FromString(slices[index]).events
                source = self.resources[resource].message.resource.attributes
                for event, data in zip(span.events, cut, strict=True):
                    time = event.time_unix_nano
                    if self.trusted and (own := _own_id(event.attributes)):
                        self._ids[number] = own
                    elif not time:
                        self._ids[number] = milliseconds(0) + secrets.token_bytes(10)
                    else:
                        subject = (
                            subject_of((event.attributes, span.attributes, source), subject_from, normalise)
                            or ""
                        )
                        pairs = self._shape.nested.FromString(data).attributes
                        told = self._told(
                            event.name, time, subject, span.trace_id, span.span_id, resource, pairs
                        )
                        self._ids[number] = milliseconds(time) + hmac.digest(told)[:10]
                    number += 1

    def _told(
        self,
        name: str,
        time: int,
        subject: str,
        trace_id: bytes,
        span_id: bytes,
        resource: int,
        pairs: Sequence[bytes],
    ) -> bytes:
        where = _joined(trace_id, span_id) if trace_id or span_id else self._service(resource)
        return _joined(
            name.encode("utf-8", "replace"),
            time.to_bytes(8, "big"),
            subject.encode("utf-8", "replace"),
            where,
            *pairs,
        )

    def _service(self, resource: int) -> bytes:
        """service.name as received: enrich may have changed the message since."""
        known = self._services.get(resource)
        if known is None:
            cut = getattr(self._shallow, self._shape.resources)[resource].resource
            attributes = mapping(Resource.FromString(b"".join(cut)).attributes)
            known = self._services[resource] = str(attributes.get("service.name", "")).encode(
                "utf-8", "replace"
            )
        return known

    @property
    def ids(self) -> bytes:
        """Event ids by place in the finished request, packed."""
        return pack_ids(self._final_ids())

    def _final_ids(self) -> dict[int, bytes]:
        if not self.rejected:
            return self._ids
        final: dict[int, bytes] = {}
        old = new = 0
        for place, record in enumerate(self._messages):
            count = 1 if self.signal == "logs" else len(record.events)
            if place not in self.rejected:
                for offset in range(count):
                    if old + offset in self._ids:
                        final[new + offset] = self._ids[old + offset]
                new += count
            old += count
        return final

    def extract(self, rules: Rules) -> Extract:
        """The events of the finished request; the same as `events.extract` reads from its bytes."""
        reading = Reading(rules, self.arrival, self._final_ids())
        if self.signal == "metrics":
            return reading.found
        sources: dict[int, Source] = {}
        named = self._names
        final = 0
        for place, record in enumerate(self._messages):
            if place in self.rejected:
                continue
            if self.signal == "logs" and place not in named and not rules.lines:
                final += 1
                continue
            number = self._slots[place][2]
            resource = self.resources[number].message.resource
            source = sources.get(number)
            if source is None:
                source = sources[number] = Source(resource)
            if self.signal == "logs":
                reading.log(final, record, resource, source)
                final += 1
            else:
                final += reading.span(final, record, resource, source)
        return reading.found

    # Bytes out.

    def finish(self) -> bytes:
        """The request as it goes on: changed pieces encoded again, rejected records gone, the rest as it came."""
        hit = self._hit or {}
        records = [piece for piece in hit.values() if piece.changed]
        around = [piece for piece in (*self.resources, *self.scopes) if piece.changed]
        if self._whole and (records or around or self.rejected or self._everything):
            return self._finish_whole()
        if not records and not around and not self.rejected:
            return self.raw
        for piece in around:
            assert piece.slot is not None
            cut, field = piece.slot[0], "resource" if piece.place == -1 else "scope"
            cut.schema_url = piece.message.schema_url
            part = getattr(piece.message, field)
            slices = getattr(cut, field)
            del slices[:]
            if piece.message.HasField(field):
                slices.append(part.SerializeToString())
        for piece in records:
            assert piece.slot is not None
            slices, index = piece.slot
            slices[index] = piece.message.SerializeToString()
        for place in sorted(self.rejected, reverse=True):
            slices, index, _ = self._slots[place]
            del slices[index]
        return bytes(self._shallow.SerializeToString())

    def _finish_whole(self) -> bytes:
        shape = self._shape
        gone = sorted(self.rejected, reverse=True)
        spots = [
            (getattr(by_scope, shape.records), index)
            for by_resource in getattr(self.message, shape.resources)
            for by_scope in getattr(by_resource, shape.scopes)
            for index in range(len(getattr(by_scope, shape.records)))
        ]
        copy = self.message
        if gone:
            # The messages themselves are still read by `extract`.
            copy = shape.request.FromString(self.message.SerializeToString())
            spots = [
                (getattr(by_scope, shape.records), index)
                for by_resource in getattr(copy, shape.resources)
                for by_scope in getattr(by_resource, shape.scopes)
                for index in range(len(getattr(by_scope, shape.records)))
            ]
        for place in gone:
            container, index = spots[place]
            del container[index]
        return bytes(copy.SerializeToString())


def _joined(*parts: bytes) -> bytes:
    """Parts with their lengths in front: no two lists of parts give the same bytes."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _own_id(attributes: Any) -> bytes | None:
    for pair in attributes:
        if pair.key == EVENT_ID_ATTRIBUTE and len(pair.value.string_value) == 32:
            try:
                return bytes.fromhex(pair.value.string_value)
            except ValueError:
                return None
    return None


def _points(metric: Any) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind in _POINTS else 0
