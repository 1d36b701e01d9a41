"""User ids become tokens, in place, wherever an attribute list can stand (journeys.md, Identity).

Event ids are made here, too: from the subject as it came, and before anything of the record is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import BaseModel, ConfigDict

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.cut import Head
from otel_ttf.otlp.events import event_name
from otel_ttf.otlp.identity import EventIds, own_id
from otel_ttf.otlp.subject import with_text
from otel_ttf.otlp.values import mapping
from otel_ttf.otlp.wire import SPAN_EVENT
from otel_ttf.pii.pseudonym import TOKEN, Pseudonyms, subject_text
from otel_ttf.pii.scanner import NAME, SUBJECT, Pattern, Scanner, literal
from otel_ttf.pii.sealed import Sealer
from otel_ttf.processors.base import Processor, Setting, rewritten
from otel_ttf.processors.replacer import NOBODY, Noting, Replacer

_TOKENS = re.compile(TOKEN.pattern.encode()).findall


class PseudonymiseConfig(BaseModel):
    """How user ids become tokens. Which attributes hold them stands under `subject`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pseudonymise:
    """Makes event ids, and replaces subjects. whole: a record that names one is decoded, whatever it is."""

    whole = False

    def __init__(self, setting: Setting) -> None:
        self._keys = setting.subject
        self._normalise = setting.normalise
        self._plain = Pseudonyms(setting.keys)
        self._pseudonyms: Pseudonyms | Noting = self._plain
        self._keeps = setting.ids is not None
        self._trace = setting.trace
        self._notes = setting.notes
        self._ids = EventIds(setting.keys.event)
        self.patterns = [
            *(Pattern(SUBJECT, literal(text.decode())) for text in self._keys.literals),
            Pattern(NAME, literal("event.name")),
        ]

    def processor(self, scanner: Scanner) -> Processor:
        def pseudonymise(batch: Batch) -> Batch:
            batch.scan(scanner)
            self._pass(batch)
            return batch

        if not self._keeps:
            return pseudonymise

        def pseudonymise_and_note(batch: Batch) -> Batch:
            batch.scan(scanner)
            one = copy(self)
            one._pseudonyms = noting = Noting(self._plain)
            one._pass(batch)
            batch.behind = noting.ids
            return batch

        return pseudonymise_and_note

    def _pass(self, batch: Batch) -> None:
        for head in batch.resources:
            self._name(batch, head)
        for head, _ in batch.head_hits(SUBJECT):
            self._head(batch, head)
        if batch.signal == "logs":
            self._logs(batch)
        elif batch.signal == "traces":
            self._spans(batch)
        else:
            for number, _ in batch.hits(SUBJECT):
                self._metric(batch, number)

    def _replacer(self, batch: Batch) -> Replacer:
        return Replacer(self._keys, self._pseudonyms, self._normalise, trusted=batch.trusted)

    def _name(self, batch: Batch, head: Head) -> None:
        """Finds the subject of a resource, as received: enrich may have changed it since."""
        if self._keys.in_(head.received):
            replacer = self._replacer(batch)
            for pair in Resource.FromString(head.received).attributes:
                replacer.top(pair)
            head.subject = replacer.subject

    def _head(self, batch: Batch, head: Head) -> None:
        message = (Resource if head.kind == "resource" else InstrumentationScope).FromString(head.data)
        replacer = self._replacer(batch)
        replacer.trace, replacer.place = self._trace, f"{head.kind}.attributes"
        message.DiscardUnknownFields()
        changed = replacer.pairs(message.attributes)
        if changed or message.ByteSize() != len(head.data):
            head.data, head.changed = message.SerializeToString(), True
        if replacer.rule is not None:
            for number in range(head.first, head.end):
                batch.reject(number, f"{head.kind}: {replacer.rule}")

    # Logs.

    def _logs(self, batch: Batch) -> None:
        hits = dict(batch.hits(SUBJECT | NAME))
        names = batch.named
        services: dict[int, bytes] = {}
        replacer = self._replacer(batch)
        plain = batch.plain or self.whole
        done = set() if plain or batch.trusted else self._plainly(batch, hits, services)
        for number in sorted((hits.keys() | names.keys()) - done):
            groups = hits.get(number, 0)
            named = number in names or groups & NAME > 0
            view = batch.view(number)
            pairs = view.attributes[:]
            replacer.start()
            all_of_it = new = None
            if groups & SUBJECT:
                all_of_it = self._keys.all_in(pairs, batch.slice(number))
                new = replacer.pairs_of(pairs, all_of_it)
                if self._notes and replacer.subject is not None:
                    batch.whom[number, None] = replacer.subject
            if named:
                self._identify(batch, number, view, pairs, replacer.subject, services)
            if new is not None:
                if plain:
                    self._whole(batch, number, replacer)
                else:
                    self._put(batch, number, view, new, replacer, look=all_of_it is None)
            if replacer.rule is not None:
                batch.reject(number, replacer.rule)

    def _plainly(self, batch: Batch, hits: Mapping[int, int], services: dict[int, bytes]) -> set[int]:
        """Those records in which one plainly encoded attribute names the user, and nothing else anybody."""
        keys, names, slices, normalise = self._keys, batch.named, batch.slices, self._normalise
        found: list[tuple[int, Any, list[bytes], int, bytes, str]] = []
        # Records of one sender have their user at one place.
        place = 0
        for number, groups in hits.items():
            if not groups & SUBJECT:
                continue
            view, record = batch.view(number), slices[number]
            pairs = view.attributes[:]
            alone = keys.alone(pairs, record, place)
            if alone is None:
                place = keys.place(pairs)
                alone = keys.alone(pairs, record, place)
            if alone is not None:
                subject = subject_text(str(alone[1], "utf-8"), normalise)
                if subject is not None:
                    found.append((number, view, pairs, place, alone[2], subject))
        tokens = self._pseudonyms.of([one[-1] for one in found])
        for number, view, pairs, place, start, subject in found:
            if number in names or hits[number] & NAME:
                self._identify(batch, number, view, pairs, subject, services)
            if self._notes:
                batch.whom[number, None] = subject
            token = tokens[subject]
            view.attributes[place] = pairs[place] = with_text(start, token.encode())
            batch.touch(number, token, pairs)
        return {one[0] for one in found}

    def _put(
        self,
        batch: Batch,
        number: int,
        view: Any,
        new: Sequence[tuple[int, bytes]],
        replacer: Replacer,
        *,
        look: bool,
    ) -> None:
        """Puts changed attributes back. look: the body may hold a subject, too."""
        changed = bool(new)
        for index, data in new:
            view.attributes[index] = data
        if look:
            body = b"".join(view.body)
            other = rewritten(AnyValue, body, replacer) if self._keys.in_(body) else None
            if other is not None:
                view.body[:] = [other]
                changed = True
        if changed:
            batch.touch(number, replacer.token, view.attributes[:])
        else:
            batch.strip(number)

    def _whole(self, batch: Batch, number: int, replacer: Replacer) -> None:
        """The plain way: the record is decoded as a whole. Only this way tells what was replaced in a record."""
        replacer.trace = self._trace
        new = rewritten(batch.shape.record, batch.slice(number), replacer)
        replacer.trace = None
        if new is not None:
            batch.replace(number, new)

    def _identify(
        self,
        batch: Batch,
        number: int,
        view: Any,
        pairs: Sequence[bytes],
        subject: str | None,
        services: dict[int, bytes],
    ) -> None:
        if added := batch.added.get((number, None)):
            pairs = pairs[:-added]
        name = view.event_name or event_name(view, pairs).encode()
        if not name:
            return
        if subject is None:
            subject = batch.resource_of(number).subject
        own = own_id(pairs) if batch.trusted else None
        if own is None and number in batch.event_ids:
            own = self._ids.of_event_id(subject, batch.event_ids[number])
        if own is None:
            time = view.time_unix_nano or view.observed_time_unix_nano
            trace, span = view.trace_id, view.span_id
            where = (trace, span) if trace or span else _service(batch.resource_of(number), services)
            own = self._ids.of_record(name, time, subject, where, pairs)
        batch.identify(number, [(0, own)])

    # Spans.

    def _spans(self, batch: Batch) -> None:
        hits = dict(batch.hits(SUBJECT))
        services: dict[int, bytes] = {}
        replacer = self._replacer(batch)
        for number in sorted(hits.keys() | batch.sizes.keys()):
            view = batch.view(number)
            replacer.start()
            hit = number in hits
            new = replacer.pairs_of(view.attributes[:]) if hit else []
            subject = replacer.subject
            if self._notes and subject is not None:
                batch.whom[number, None] = subject
            changed = self._span_events(batch, number, view, subject, replacer, services, hit=hit)
            if hit:
                if batch.plain or self.whole:
                    self._whole(batch, number, replacer)
                else:
                    for index, data in new:
                        view.attributes[index] = data
                    links = self._links(view, replacer)
                    if new or links or changed:
                        batch.touch(number)
                    else:
                        batch.strip(number)
            if replacer.rule is not None:
                batch.reject(number, replacer.rule)

    def _span_events(
        self,
        batch: Batch,
        number: int,
        view: Any,
        subject: str | None,
        replacer: Replacer,
        services: dict[int, bytes],
        *,
        hit: bool,
    ) -> bool:
        """Identifies the events of a span and replaces the subjects in them; whether there were any."""
        head = batch.resource_of(number)
        span = view.trace_id, view.span_id
        ids = []
        changed = False
        for index, data in enumerate(view.events):
            event = SPAN_EVENT.FromString(data)
            pairs = event.attributes[:]
            replacer.subject, replacer.rank = None, NOBODY
            new = replacer.pairs_of(pairs) if hit and self._keys.in_(data) else []
            if self._notes and replacer.subject is not None:
                batch.whom[number, index] = replacer.subject
            if event.name:
                who = replacer.subject or subject or head.subject
                if added := batch.added.get((number, index)):
                    pairs = pairs[:-added]
                own = own_id(pairs) if batch.trusted else None
                if own is None:
                    where = span if any(span) else _service(head, services)
                    own = self._ids.of_record(event.name, event.time_unix_nano, who, where, pairs)
                ids.append((index, own))
            if hit and not (batch.plain or self.whole) and self._keys.in_(data):
                for at, other in new:
                    event.attributes[at] = other
                event.DiscardUnknownFields()
                view.events[index] = event.SerializeToString()
                changed = True
        if ids:
            batch.identify(number, ids)
        return changed

    def _links(self, view: Any, replacer: Replacer) -> bool:
        changed = False
        for index, data in enumerate(view.links):
            if self._keys.in_(data):
                new = rewritten(Span.Link, data, replacer)
                if new is not None:
                    view.links[index] = new
                    changed = True
        return changed

    # Metrics.

    def _metric(self, batch: Batch, number: int) -> None:
        data = batch.slice(number)
        metric = batch.shape.record.FromString(data)
        metric.DiscardUnknownFields()
        kind = metric.WhichOneof("data")
        replacer = self._replacer(batch)
        replacer.trace = self._trace
        changed = replacer.message(metric, without=() if kind is None else (kind,))
        if replacer.rule is not None:
            batch.reject(number, replacer.rule)
            return
        if kind is not None:
            points = getattr(metric, kind).data_points
            for place in range(len(points) - 1, -1, -1):
                replacer = self._replacer(batch)
                replacer.trace = self._trace
                changed |= replacer.message(points[place])
                if replacer.rule is not None:
                    batch.reject(number, replacer.rule, place)
                    del points[place]
        if changed or metric.ByteSize() != len(data):
            batch.replace(number, metric.SerializeToString())


def _service(head: Head, services: dict[int, bytes]) -> tuple[bytes]:
    """What tells records of one moment apart that have no span: the service that sent them, as received."""
    service = services.get(id(head))
    if service is None:
        told = mapping(Resource.FromString(head.received).attributes).get("service.name")
        service = services[id(head)] = told.encode() if isinstance(told, str) else b""
    return (service,)


def keeping(ids: Sealer) -> Processor:
    """The last step, where user ids are kept beside their tokens: of those users of whom something goes on."""

    def keep(batch: Batch) -> Batch:
        fresh = ids.unknown(batch.behind) if batch.kept else []
        if fresh:
            there = set(_TOKENS(batch.finish()))
            of_them = {token: batch.behind[token] for token in fresh if token.encode() in there}
            if of_them:
                ids.remember(of_them)
        return batch

    return keep
