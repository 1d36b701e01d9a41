"""What requests become on their way into the log, and what their senders are told: no I/O.

Requests that came at the same moment become one row. The bytes of two OTLP requests, one after the other, are
one request with the resources of both; so a pass over many small ones costs about what a pass over one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

from google.protobuf.message import DecodeError

from otel_ttf.clock import Clock
from otel_ttf.log.base import Entry, LogRefused
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import FLAG_NAMES, Extract, Rules
from otel_ttf.otlp.wire import SHAPES, Malformed, Signal, check_bounded
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
    flagged   (number of the record, FLAG_...) of accepted events that have a flag
    """

    accepted: int
    refused: int = 0
    rejected: Mapping[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    flagged: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """OTLP in protobuf.

    event_ids  REST event ids by place of the record
    mended     what was mended before it was protobuf, how often, see mend.TOLD
    broken     number of a record that was none before -> what is wrong with it
    """

    raw: bytes
    event_ids: Mapping[int, str] | None = None
    mended: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[int, str] = field(default_factory=dict)


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


# What became of some requests, and which these are.
Part = tuple[Prepared | Exception, Sequence[int]]


class Preparation:
    """Reads requests and runs the processors over them. Any thread may call."""

    def __init__(self, pipeline: Pipeline, rules: Rules, clock: Clock) -> None:
        self._pipeline = pipeline
        self._rules = rules
        self._clock = clock

    def __call__(
        self, signal: Signal, requests: Sequence[Request], trusted: bool, gpc: bool = False, mend: bool = True
    ) -> list[Part]:
        """All that can be read as they came as one, and each of the others alone, with what is wrong with it.

        mend  False: what would have to be mended, which may take a second, is Unread

        Whatever one of them brings about, be it an error of ours, is no business of the others.
        """
        numbers = list(range(len(requests)))
        joined = numbers
        parts: list[Part] = []
        if len(numbers) > 1:
            together = self._together(signal, requests, trusted=trusted, gpc=gpc)
            if together is None:
                joined = [number for number in numbers if _sound(signal, requests[number].raw)]
                if 1 < len(joined) < len(numbers):
                    sound = [requests[number] for number in joined]
                    together = self._together(signal, sound, trusted=trusted, gpc=gpc)
            if together is not None:
                parts.append((together, joined))
                numbers = sorted(set(numbers) - set(joined))
        for number in numbers:
            alone = self._alone(signal, requests[number], trusted=trusted, gpc=gpc, mend=mend)
            parts.append((alone, [number]))
        return parts

    def _alone(
        self, signal: Signal, request: Request, *, trusted: bool, gpc: bool, mend: bool
    ) -> Prepared | Exception:
        try:
            check(signal, request.raw)
            batch = self._batch(
                signal, request.raw, request.event_ids, trusted=trusted, gpc=gpc, as_it_is=not mend
            )
            for what, count in request.mended.items():
                batch.mended(0, what, count)
            for number, rule in request.broken.items():
                batch.reject(number, rule)
            batch = self._pipeline(batch)
            refused = batch.rejected
            receipt = Receipt(batch.records - len(refused), len(refused), refused, batch.warnings)
            return self._prepared(batch, [receipt], [0, len(batch)])
        except ConsentRefused as error:
            return LogRefused(str(error), CONSENT_SECONDS)
        except Exception as error:  # noqa: BLE001 - the intake's frame counts it where it is raised
            return error

    def _together(
        self, signal: Signal, requests: Sequence[Request], *, trusted: bool, gpc: bool
    ) -> Prepared | None:
        """None: something is the matter with one of them, be it an error of ours: it comes again when that one is
        alone."""
        try:
            return self._joined(signal, requests, trusted=trusted, gpc=gpc)
        except Exception:  # noqa: BLE001 - see above
            return None

    def _joined(
        self, signal: Signal, requests: Sequence[Request], *, trusted: bool, gpc: bool
    ) -> Prepared | None:
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
        batch = self._batch(signal, joined, event_ids, trusted=trusted, gpc=gpc, as_it_is=True)
        if len(batch) != firsts[-1]:
            return None
        for request, (first, end) in zip(requests, pairwise(firsts), strict=True):
            for what, count in request.mended.items():
                batch.mended(first if first < end else -1, what, count)
            for number, rule in request.broken.items():
                batch.reject(first + number, rule)
        batch = self._pipeline(batch)
        receipts = []
        place = 0
        for first, end in pairwise(firsts):
            count = end - first
            if signal == "metrics":
                count = sum(batch.sizes.get(number, 0) for number in range(first, end))
            refused = batch.refusals(place, count)
            place += count
            receipts.append(
                Receipt(count - len(refused), len(refused), refused, batch.warnings_of(first, end))
            )
        return self._prepared(batch, receipts, firsts)

    def _batch(
        self, signal: Signal, raw: bytes, event_ids: Mapping[int, str] | None, **options: bool
    ) -> Batch:
        return Batch(signal, raw, self._clock.later(), event_ids=event_ids, **options)

    def _prepared(self, batch: Batch, receipts: Sequence[Receipt], firsts: Sequence[int]) -> Prepared:
        """firsts: slice that the request of each receipt begins with, and their number."""
        entry = None
        # An empty request, or one without a good record, needs no place in the log.
        if batch.kept:
            payload = batch.finish()
            view: Extract | None = None
            # One bad record must not keep the others out: the tracker reads what is masked again, and sets it aside.
            with suppress(Exception):
                view = batch.extract(self._rules)
                for flag, count in view.flags.items():
                    batch.counts["flagged", FLAG_NAMES[flag]] = count
            entry = Entry(batch.signal, batch.arrival, payload, batch.ids, batch.kept, view)
        if batch.flagged:
            flagged = _by_request(batch.flagged, firsts)
            receipts = [replace(one, flagged=flags) for one, flags in zip(receipts, flagged, strict=True)]
        return Prepared(entry, receipts, batch.counts, batch.said)


def _by_request(flagged: Iterable[tuple[int, int]], firsts: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Receipt.flagged of requests that begin with these slices; see Batch.flagged."""
    found: list[list[tuple[int, int]]] = [[] for _ in firsts[1:]]
    request = 0
    for number, flags in flagged:
        while number >= firsts[request + 1]:
            request += 1
        found[request].append((number - firsts[request], flags))
    return found


def _sound(signal: Signal, raw: bytes) -> bool:
    """Whether a request can be read as it came, so that it harms nobody to be joined with it."""
    try:
        check(signal, raw)
        _count(signal, raw)
        check_bounded(signal, raw)
    except (Malformed, DecodeError):
        return False
    return True


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
