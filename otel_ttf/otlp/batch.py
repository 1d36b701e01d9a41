"""A request on its way: bytes in, bytes out, and what is read of it in between.

What our protobuf classes do not know nobody could mask, so it does not stay where the scan has found something, nor
beside resources, scopes and records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import accumulate
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_ttf.otlp.cut import Cut, Head
from otel_ttf.otlp.events import Extract, Reading, Rules, Source, event_name, pack_ids
from otel_ttf.otlp.mend import TOLD, mend
from otel_ttf.otlp.wire import (
    SHAPES,
    SPAN_EVENT,
    Malformed,
    Signal,
    Unread,
    contents,
    decode,
    decode_bounded,
    delimited,
    points,
)
from otel_ttf.pii.scanner import EVERYTHING, NAME, Scanner

_HEADS: dict[str, type[Any]] = {"resource": Resource, "scope": InstrumentationScope}
_EVENT_ATTRIBUTES: int = SPAN_EVENT.DESCRIPTOR.fields_by_name["attributes"].number


class Batch:
    """One request. A Malformed one says so on first use.

    raw        OTLP protobuf
    arrival    unix ns
    trusted    subjects in token form stay as they are, and records may bring their event id
    event_ids  place of a record -> REST event_id
    plain      the reference: everything is decoded and looked at, the scan is not believed
    gpc        the sender's browser said by header that nothing may be sold (Global Privacy Control)
    as_it_is   what would have to be mended to be read is Unread
    left_out   records that are gone although nothing was wrong with them: see `drop`
    flagged    (slice, flags, see events.FLAG_NAMES) of each event that has any, in order; known when they are extracted
    said       what Book.join returned, if it is to be on the disk before the sender gets its OK
    counts     what processors count, by metric and labels (telemetry.counted): told once the batch is in the log
    whom       (slice, place of a span event or None) -> the subject that it names itself, as it came; noted on request
    behind     token -> the user id that it was put in the place of; noted on request
    added      (slice, place of a span event or None) -> how many of its last attributes came with no sender
    """

    def __init__(
        self,
        signal: Signal,
        raw: bytes,
        arrival: int,
        *,
        trusted: bool = False,
        event_ids: Mapping[int, str] | None = None,
        plain: bool = False,
        gpc: bool = False,
        as_it_is: bool = False,
    ) -> None:
        self.signal = signal
        self.raw = raw
        self.arrival = arrival
        self.trusted = trusted
        self.event_ids = event_ids or {}
        self.plain = plain
        self.gpc = gpc
        self.left_out = 0
        self.flagged: list[tuple[int, int]] = []
        self.said: int | None = None
        self.counts: dict[tuple[str, ...], int] = {}
        self.added: dict[tuple[int, int | None], int] = {}
        self.whom: dict[tuple[int, int | None], str] = {}
        self.behind: Mapping[str, str] = {}
        self.shape = SHAPES[signal]
        self._as_it_is = as_it_is
        self._known: Cut | None = None
        self._rules: dict[int, str] = {}  # place of what is rejected -> rule
        self._warnings: list[tuple[int, str, int]] = []
        self._views: dict[int, Any] = {}
        self._changed: set[int] = set()
        self._subjects: dict[int, tuple[str, list[bytes]]] = {}  # token and attributes of a log record
        self._dropped: set[int] = set()
        self._ids: dict[int, list[tuple[int, bytes]]] = {}
        self._hits: tuple[dict[int, int], list[tuple[Head, int]]] | None = None
        self._points: dict[int, int] | None = None  # metric -> place of its first data point
        self._unscanned: list[tuple[int | Head, bytes]] = []  # what was added since the scan
        self._finished: bytes | None = None

    # Reading.

    @property
    def _cut(self) -> Cut:
        if self._known is None:
            for number, rule in self._read().items():
                self.reject(number, rule)
        assert self._known is not None
        return self._known

    def _read(self) -> Mapping[int, str]:
        """Number of a record that is none -> what is wrong with it."""
        broken: Mapping[int, str] = {}
        # Decoded as a whole to check it: UTF-8 and all that the shallow messages take as bytes.
        try:
            request = decode_bounded(self.signal, self.raw)
        except Malformed as error:
            if self._as_it_is:
                raise Unread(str(error)) from None
            mended = mend(self.signal, self.raw)
            self.raw, broken = mended.raw, mended.broken
            for number, what, count in mended.notes:
                self.mended(number, what, count)
            request = decode(self.signal, self.raw)
        names, sizes = contents(self.signal, request)
        del request  # of a large one it is twice the bytes, and what follows takes as much again
        self._known = Cut(self.shape, self.raw, names, sizes)
        return broken

    @property
    def records(self) -> int:
        """Log records, spans or data points that came. Raises Malformed."""
        known = self._cut
        return sum(known.sizes.values()) if self.signal == "metrics" else len(known.slices)

    @property
    def kept(self) -> int:
        """Those that are left."""
        return self.records - len(self._rules) - self.left_out

    @property
    def resources(self) -> Sequence[Head]:
        """All resources, in order."""
        return self._cut.resources

    @property
    def heads(self) -> Sequence[Head]:
        """Resources, then scopes."""
        return self._cut.heads

    @property
    def named(self) -> Mapping[int, str]:
        """Slice -> name as it came: of log records with an `event_name`, of all spans."""
        return self._cut.names

    @property
    def sizes(self) -> Mapping[int, int]:
        """Slice -> how many span events, or data points, it came with; none is left out."""
        return self._cut.sizes

    def __len__(self) -> int:
        return len(self._cut.slices)

    @property
    def slices(self) -> Sequence[bytes]:
        """Records as they came, or were last written."""
        return self._cut.slices

    def slice(self, number: int) -> bytes:
        """A record as it is now."""
        view = self._views.get(number)
        if view is not None and number in self._changed:
            view.DiscardUnknownFields()
            self._cut.slices[number] = view.SerializeToString()
        return self._cut.slices[number]

    def view(self, number: int) -> Any:
        """A record's shallow message; whoever changes it calls `touch`."""
        view = self._views.get(number)
        if view is None:
            view = self._views[number] = self.shape.view.FromString(self._cut.slices[number])
        return view

    def event_name(self, number: int) -> str:
        """The name of a log record as it is now; "" for a plain line."""
        if not self._groups(number) & NAME:
            return self._cut.names.get(number, "")
        view = self.view(number)
        return event_name(view, view.attributes)

    def resource_of(self, number: int) -> Head:
        """The resource of a slice."""
        return self._cut.resource_of(number)

    # The one scan.

    def scan(self, scanner: Scanner) -> None:
        """Looks at everything as it is now, once: later calls do nothing."""
        if self._hits is not None:
            return
        heads = self.heads
        if self.plain:
            self._hits = (dict.fromkeys(range(len(self)), EVERYTHING), [(head, EVERYTHING) for head in heads])
            return
        pieces = [part for head in heads for part in (head.data, head.url)]
        first = len(pieces)
        found = scanner.hits(pieces + self._cut.slices)
        around: dict[int, int] = {}
        records: dict[int, int] = {}
        for place in sorted(found):
            if place < first:
                around[place // 2] = around.get(place // 2, 0) | found[place]
            else:
                records[place - first] = found[place]
        self._hits = (records, [(heads[place], groups) for place, groups in around.items()])

    def hits(self, groups: int) -> list[tuple[int, int]]:
        """(slice, groups) of slices in which one of the groups was found, in order; not of rejected ones."""
        assert self._hits is not None
        return [
            (number, found)
            for number, found in self._hits[0].items()
            if found & groups and number not in self._dropped
        ]

    def head_hits(self, groups: int) -> list[tuple[Head, int]]:
        """The same of resources and scopes."""
        assert self._hits is not None
        return [(head, found) for head, found in self._hits[1] if found & groups and not head.gone]

    def _groups(self, number: int) -> int:
        """What may be found in a slice as it is now."""
        if self._hits is None or number in self._changed:
            return EVERYTHING
        return self._hits[0].get(number, 0)

    def scan_added(self, scanner: Scanner) -> None:
        """Looks at what was added since the scan, which has hit all that something was added to."""
        assert self._hits is not None
        added, self._unscanned = self._unscanned, []
        if not added or self.plain:
            return
        records, heads = self._hits
        around = {head: place for place, (head, _) in enumerate(heads)}
        for place, groups in scanner.hits([data for _, data in added]).items():
            where = added[place][0]
            if isinstance(where, int):
                records[where] |= groups
            else:
                heads[around[where]] = where, heads[around[where]][1] | groups

    # Changing.

    def add(self, number: int, pairs: Sequence[bytes], event: int | None = None) -> None:
        """Encoded attributes are put behind those of a record, or of a span event. `scan_added` looks at them."""
        view = self.view(number)
        if event is None:
            view.attributes.extend(pairs)
            self._cut.slices[number] += b"".join([delimited(self.shape.attributes, data) for data in pairs])
        else:
            view.events[event] += b"".join([delimited(_EVENT_ATTRIBUTES, data) for data in pairs])
            self._cut.slices[number] = view.SerializeToString()
        self._changed.add(number)
        self.added[number, event] = len(pairs)
        self._unscanned.append((number, b"".join(pairs)))

    def add_to(self, head: Head, pairs: Sequence[bytes]) -> None:
        """The same for a resource or scope that was hit; what we don't know in it goes."""
        message = _HEADS[head.kind].FromString(head.data)
        message.DiscardUnknownFields()
        message.attributes.extend([KeyValue.FromString(data) for data in pairs])
        head.data, head.present, head.changed = message.SerializeToString(), True, True
        self._unscanned.append((head, b"".join(pairs)))

    def touch(self, number: int, token: str | None = None, pairs: list[bytes] | None = None) -> None:
        """The view of a slice was changed. Fields of the record that we don't know go with it.

        token, pairs  if the caller knows them: of the subject that the record itself names now, and its attributes
        """
        self._changed.add(number)
        if token is not None and pairs is not None:
            self._subjects[number] = token, pairs
        elif self._subjects:
            self._subjects.pop(number, None)

    def strip(self, number: int) -> None:
        """Fields of the record that we don't know go, if there are any: the scan has found something there."""
        if number not in self._changed:
            view = self.view(number)
            view.DiscardUnknownFields()
            if view.ByteSize() != len(self._cut.slices[number]):
                self._changed.add(number)

    def replace(self, number: int, data: bytes) -> None:
        """A slice becomes other bytes."""
        self._cut.slices[number] = data
        self._views.pop(number, None)
        self._subjects.pop(number, None)
        self._changed.add(number)

    def identify(self, number: int, ids: list[tuple[int, bytes]]) -> None:
        """Event ids of a slice: (number of the span event in its span, or 0; id)."""
        self._ids[number] = ids

    def reject(self, number: int, rule: str, point: int | None = None) -> None:
        """A record is not taken; `rule` says which one it breaks, without the value.

        point  of a metric, the data point; None: all of them
        """
        if self.signal != "metrics":
            self._dropped.add(number)
            self._rules.setdefault(number, rule)
            return
        if self._points is None:
            sizes = self._cut.sizes
            self._points = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        if point is None:
            self._dropped.add(number)
        for at in range(self._cut.sizes.get(number, 0)) if point is None else (point,):
            self._rules.setdefault(self._points[number] + at, rule)

    def refusals(self, first: int, count: int) -> dict[int, str]:
        """Of so many records from `first` on, or data points, those that are not taken: place among them -> record,
        rule and what was found, without a value."""
        if not self._rules:
            return {}
        name = "data_points" if self.signal == "metrics" else self.shape.records
        return {
            place - first: f"{name}[{place - first}]: {rule}"
            for place, rule in self._rules.items()
            if first <= place < first + count
        }

    @property
    def rejected(self) -> dict[int, str]:
        """`refusals` of all."""
        return self.refusals(0, self.records)

    def warn(self, number: int, text: str, count: int = 1) -> None:
        """The sender is told about what was accepted. number: of a slice; in a text `%d` is how often in all."""
        self._warnings.append((number, text, count))

    def mended(self, number: int, what: str, count: int, text: str | None = None) -> None:
        """Something was not kept as it came; it is counted, too. text: what the sender is told, if not in TOLD."""
        self.warn(number, text or TOLD[what], count)
        self.counts["mended", what] = self.counts.get(("mended", what), 0) + count

    def warnings_of(self, first: int, end: int) -> list[str]:
        """Warnings about slices from `first` up to `end`."""
        told: dict[str, int] = {}
        for number, text, count in self._warnings:
            if first <= number < end:
                told[text] = told.get(text, 0) + count
        return [text.replace("%d", str(count)) for text, count in told.items()]

    @property
    def warnings(self) -> list[str]:
        """About everything that came."""
        return self.warnings_of(0, len(self) + 1)

    def drop(self, number: int, records: int = 1) -> None:
        """A slice goes, and its sender need not know.

        records  how many that is; of a metric, those data points that were not rejected
        """
        if number not in self._dropped:
            self._dropped.add(number)
            self.left_out += records

    def parts(self, number: int) -> int:
        """Records that a slice is now: 1; of a metric, its data points that are left."""
        return 1 if self.signal != "metrics" else points(self.shape.record.FromString(self.slice(number)))

    def drop_events(self, number: int, places: Set[int]) -> None:
        """Events of a span go, and their event ids."""
        events = self.view(number).events
        kept = [data for place, data in enumerate(events) if place not in places]
        del events[:]
        events.extend(kept)
        self.touch(number)
        self.forget(number, places, moved=True)

    def prune(self) -> None:
        """Resources and scopes of which no slice is left go, too."""
        if self._dropped:
            for head in self.heads:
                if not head.gone and all(number in self._dropped for number in range(head.first, head.end)):
                    head.gone = head.changed = True

    def gone(self, number: int) -> bool:
        """Whether a slice was rejected or dropped."""
        return number in self._dropped

    def forget(self, number: int, events: Set[int] | None = None, *, moved: bool = False) -> None:
        """Event ids of a slice go: all of them, or those of some events of a span.

        moved  these events are gone themselves, and those behind them have moved up
        """
        if events is None:
            self._ids.pop(number, None)
            return
        ids = [(at, id_) for at, id_ in self._ids.get(number, []) if at not in events]
        if moved:
            gone = sorted(events)
            ids = [(at - bisect_left(gone, at), id_) for at, id_ in ids]
            self._cut.sizes[number] -= len(gone)
            if not self._cut.sizes[number]:
                del self._cut.sizes[number]
            if self.whom:
                self._move(number, gone)
        self._ids[number] = ids

    def _move(self, number: int, gone: Sequence[int]) -> None:
        """`whom` follows events that move up."""
        own = sorted((at, who) for (n, at), who in self.whom.items() if n == number and at is not None)
        for at, _ in own:
            del self.whom[number, at]
        for at, who in own:
            if at not in gone:
                self.whom[number, at - bisect_left(gone, at)] = who

    # Results.

    def finish(self) -> bytes:
        """The request as it goes on: what was changed put back, rejected records gone, the rest as it came."""
        if self._finished is None:
            known, changed = self._cut, sorted(self._changed)
            if known.complete and not (changed or self._dropped or any(head.changed for head in self.heads)):
                self._finished = self.raw
            else:
                for number in changed:
                    self.slice(number)  # as it is now
                self._finished = known.joined(changed, self._dropped)
        return self._finished

    @property
    def ids(self) -> bytes:
        """Event ids by place in the finished request, packed: see `events.unpack_ids`."""
        return pack_ids(
            {first + at: id_ for number, first in self._places() for at, id_ in self._ids[number]}
        )

    def _places(self) -> Iterator[tuple[int, int]]:
        """(slice, place of its first id in the finished request) of the slices that have ids."""
        numbers = sorted(number for number in self._ids if number not in self._dropped)
        if self.signal == "logs":
            gone = sorted(self._dropped)
            yield from ((number, number - bisect_right(gone, number)) for number in numbers)
            return
        first = 0
        for number, size in self._cut.sizes.items():
            if number not in self._dropped:
                if number in self._ids:
                    yield number, first
                first += size

    def extract(self, rules: Rules) -> Extract:
        """The events of the finished request; the same as `events.extract` reads from its bytes."""
        reading = Reading(rules, self.arrival)
        if self.signal == "metrics":
            return reading.found
        sources: dict[int, Source] = {}
        events = reading.found.events
        for number in self._candidates(rules, reading.found):
            head = self.resource_of(number)
            source = sources.get(id(head))
            if source is None:
                source = sources[id(head)] = Source(head.data, reading.keys)
            ids = self._ids.get(number, [])
            before = len(events)
            if self.signal == "logs":
                token, pairs = self._subjects.get(number) or (None, None)
                reading.log(
                    ids[0][1] if ids else None,
                    self.view(number),
                    source,
                    token=token,
                    pairs=pairs,
                    groups=self._groups(number),
                )
            else:
                reading.span(dict(ids), 0, self.view(number), source)
            for place in range(before, len(events)):
                if events[place].flags:
                    self.flagged.append((number, events[place].flags))
        return reading.found

    def _candidates(self, rules: Rules, found: Extract) -> Iterator[int]:
        """Slices that may hold an event; names of other spans are counted here."""
        known = self._cut
        if self.signal == "logs" and not rules.lines:
            # A name from elsewhere than the field has its key in the record's bytes.
            named = (
                self._changed
                if self._hits is None
                else {number for number, found in self._hits[0].items() if found & NAME}
            )
            yield from sorted((known.names.keys() | self._ids.keys() | named) - self._dropped)
            return
        for number in range(len(self)):
            if number in self._dropped:
                continue
            if (
                self.signal == "logs"
                or rules.lines
                or number in self._changed
                or number in known.sizes
                or rules.wants_span(known.names[number])
            ):
                yield number
            else:
                found.count("span", known.names[number])
