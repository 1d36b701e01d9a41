"""What requests become on their way into the log, and what their senders are told: no I/O.

Requests that came at the same moment become one row. The bytes of two OTLP requests, one after the other, are
one request with the resources of both; so a pass over many small ones costs about what a pass over one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from otel_ttf.clock import Clock
from otel_ttf.log.base import Entry, LogRefused
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules
from otel_ttf.otlp.wire import SHAPES, Signal
from otel_ttf.pii.consent import ConsentRefused
from otel_ttf.receivers.limits import MAX_OUTER, check

Pipeline = Callable[[Batch], Batch]
CONSENT_SECONDS = 5.0  # when consent cannot be kept, until the sender comes again


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a request that was taken.

    accepted  records that were taken: in the log, or left out because somebody has denied consent
    refused   records that are not: log records, spans, data points
    rejected  place in the request -> what is wrong with that record (safe to tell the sender, not to log);
              for metrics the place of the data point
    warnings  about what was accepted
    """

    accepted: int
    refused: int = 0
    rejected: Mapping[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """OTLP in protobuf as it came. event_ids: REST event ids by place of the record."""

    raw: bytes
    event_ids: Mapping[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Requests in a row, ready for the log.

    entry     None: there is nothing to keep
    receipts  one for each, in their order, for when the entry is in the log
    counts    what the processors have counted, for then, too (telemetry.counted)
    said      about consent: to be on the disk before the answers
    """

    entry: Entry | None
    receipts: Sequence[Receipt]
    counts: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    said: int | None = None


class Preparation:
    """Reads requests and runs the processors over them. Any thread may call."""

    def __init__(self, pipeline: Pipeline, rules: Rules, clock: Clock) -> None:
        self._pipeline = pipeline
        self._rules = rules
        self._clock = clock

    def __call__(
        self, signal: Signal, requests: Sequence[Request], trusted: bool, gpc: bool = False
    ) -> list[Prepared | Exception]:
        """All as one when nothing is wrong with any of them; else each alone, with what is wrong with it.

        Whatever one of them brings about, be it an error of ours, is no business of the others.
        """
        if len(requests) > 1:
            try:
                together = self._together(signal, requests, trusted=trusted, gpc=gpc)
            except Exception:  # noqa: BLE001 - it comes again below, alone, and is told to the one whose it is
                together = None
            if together is not None:
                return [together]
        return [self._alone(signal, request, trusted=trusted, gpc=gpc) for request in requests]

    def _alone(self, signal: Signal, request: Request, *, trusted: bool, gpc: bool) -> Prepared | Exception:
        try:
            check(signal, request.raw)
            batch = self._pipeline(
                self._batch(signal, request.raw, request.event_ids, trusted=trusted, gpc=gpc)
            )
            refused = len(batch.rejected)
            receipt = Receipt(batch.records - refused, refused, batch.rejected, batch.warnings)
            return self._prepared(batch, [receipt])
        except ConsentRefused as error:
            return LogRefused(str(error), CONSENT_SECONDS)
        except Exception as error:  # noqa: BLE001 - the intake's frame counts it where it is raised
            return error

    def _together(
        self, signal: Signal, requests: Sequence[Request], *, trusted: bool, gpc: bool
    ) -> Prepared | None:
        """None, or any error: something is the matter with one of them."""
        firsts = [0]
        outer = 0
        # In order, so that nothing is decoded that a broken one before it has hidden from the check.
        for request in requests:
            check(signal, request.raw)
            slices, around = _count(signal, request.raw)
            firsts.append(firsts[-1] + slices)
            outer += around
            if outer > MAX_OUTER:
                return None
        joined = b"".join([request.raw for request in requests])
        event_ids = {
            first + place: id_
            for request, first in zip(requests, firsts, strict=False)
            if request.event_ids
            for place, id_ in request.event_ids.items()
        }
        batch = self._batch(signal, joined, event_ids, trusted=trusted, gpc=gpc)
        # What could not be read as it came is known before any work is put into it.
        if len(batch) != firsts[-1] or batch.warnings or batch.rejected:
            return None
        batch = self._pipeline(batch)
        if batch.warnings or batch.rejected:
            return None
        places = pairwise(firsts)
        if signal == "metrics":
            counts = [sum(batch.sizes.get(n, 0) for n in range(first, end)) for first, end in places]
        else:
            counts = [end - first for first, end in places]
        return self._prepared(batch, [Receipt(count) for count in counts])

    def _batch(
        self, signal: Signal, raw: bytes, event_ids: Mapping[int, str] | None, *, trusted: bool, gpc: bool
    ) -> Batch:
        return Batch(signal, raw, self._clock.later(), trusted=trusted, event_ids=event_ids, gpc=gpc)

    def _prepared(self, batch: Batch, receipts: Sequence[Receipt]) -> Prepared:
        entry = None
        # An empty request, or one without a good record, needs no place in the log.
        if batch.kept:
            payload = batch.finish()
            view = batch.extract(self._rules)
            entry = Entry(batch.signal, batch.arrival, payload, batch.ids, batch.kept, view)
        return Prepared(entry, receipts, batch.counts, batch.said)


def _count(signal: Signal, raw: bytes) -> tuple[int, int]:
    """(log records, spans or metrics of a request; resources and scopes).

    Raises DecodeError: its fields don't end where it does. Joined, it would take in what follows, and what is
    malformed alone could be sound together.
    """
    resources = SHAPES[signal].shallow.FromString(raw).resources
    slices = outer = 0
    for resource in resources:
        outer += 1
        for scope in resource.scopes:
            outer += 1
            slices += len(scope.records)
    return slices, outer
