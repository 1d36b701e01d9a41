"""Keeps a share: of the users, each as a whole, so that figures stay unbiased; or of what no journey reads.

Whether a user stays follows from the id as it came, by a key of its own that is never rotated; whether a record stays
follows from its trace or its bytes. So a record that comes again, or elsewhere, is judged alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.bucket import Bucket
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.conditions import Reads, Seen, seen
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.processors import trace_state
from otel_ttf.processors.base import Processor, Setting

_RANGE = 1 << 64
_SAMPLED = 1  # the lowest bit of W3C's trace flags


class SampleConfig(BaseModel):
    """Which share goes on. Data points are never sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["subject", "event", "rate"] | None = Field(
        None,
        description="subject: `ratio` of the users, each with all that names them; what names nobody stays. event: "
        "`ratio` of the traces, and of the log records without one. rate: so many records `per_second`. The last two "
        "never touch what a milestone or a segment reads.",
    )
    ratio: float | None = Field(None, gt=0, le=1, description="The share that stays, by subject or event.")
    per_second: int | None = Field(
        None, ge=1, le=10**9, description="Log records a second that stay, and as many spans, by rate."
    )
    burst: int | None = Field(
        None, ge=1, le=10**9, description="How many at most at once; by default as many as in a second."
    )
    head: Literal["ignore", "honour"] = Field(
        "ignore",
        description="honour: log records of traces that their sender has not sampled go, unless a journey reads them; "
        "`by: event` counts the share that `ot=th:` in a span's trace state tells, and tells its own there.",
    )

    @model_validator(mode="after")
    def _whole(self) -> SampleConfig:
        share, rate = self.by in ("subject", "event"), self.by == "rate"
        if share != (self.ratio is not None):
            raise ValueError("expected ratio beside `by: subject` and `by: event`, and only there")
        if rate != (self.per_second is not None):
            raise ValueError("expected per_second beside `by: rate`, and only there")
        if self.burst is not None and not rate:
            raise ValueError("expected burst only beside `by: rate`")
        return self

    @property
    def subjects(self) -> float | None:
        """The share of users that is followed; None: all."""
        return self.ratio if self.by == "subject" and self.ratio != 1 else None


class Share:
    """A share of all texts, always the same; of a larger share a smaller one is a part."""

    def __init__(self, keys: Keys, what: bytes, ratio: float) -> None:
        self._start = hashlib.blake2b(
            key=hashlib.sha256(b"otel_ttf sample " + keys.event).digest(), person=what, digest_size=8
        ).copy
        self._below = round(ratio * _RANGE)

    def holds(self, data: bytes) -> bool:
        """Whether it is in."""
        state = self._start()
        state.update(data)
        return int.from_bytes(state.digest(), "big") < self._below


class Sample:
    patterns: Sequence[Pattern] = ()

    def __init__(self, config: SampleConfig, setting: Setting) -> None:
        self._honours = config.head == "honour"
        self._reads = Reads(setting.journeys, lines=setting.lines)
        self._keys = setting.subject
        self._subjects: Callable[[Batch], None] | None = None
        if config.subjects is not None:
            share = Share(setting.keys, b"subject", config.subjects)
            self._subjects = lambda batch: _by_subject(batch, share, setting.subject)
        steps: list[Callable[[Batch], None]] = []
        if self._honours:
            steps.append(self._head)
        if config.by == "event" and config.ratio is not None and config.ratio < 1:
            self._share = Share(setting.keys, b"event", config.ratio)
            self._threshold = trace_state.threshold(config.ratio)
            steps.append(self._by_event)
        if config.by == "rate" and config.per_second is not None:
            self._bucket = Bucket(config.per_second, config.burst or config.per_second)
            steps.append(self._by_rate)
        self._steps = steps

    def processor(self, scanner: Scanner) -> Processor:
        return _pruning(self._steps)

    @property
    def of_subjects(self) -> list[Processor]:
        """The step that asks nothing but whom records name, if there is one: it may come before all others."""
        return [] if self._subjects is None else [_pruning([self._subjects])]

    def _unread(self, batch: Batch) -> Iterator[tuple[int, Seen]]:
        """(slice, record) that no journey reads, nor any event in it."""
        for number, record, events in seen(batch):
            if not (self._reads(record) or any(map(self._reads, events))):
                yield number, record

    def _head(self, batch: Batch) -> None:
        """Their traces are not there. What a span's flags say is not asked: it came, so it was sampled."""
        if batch.signal == "logs":
            for number, _ in self._unread(batch):
                view = batch.view(number)
                if view.trace_id and not view.flags & _SAMPLED:
                    _drop(batch, number, "head")

    def _by_event(self, batch: Batch) -> None:
        honours, threshold = self._honours, self._threshold
        for number, _ in self._unread(batch):
            view = batch.view(number)
            if honours and view.trace_id:
                state = view.trace_state if batch.signal == "traces" else b""
                kept = trace_state.randomness(state, view.trace_id) >= threshold
                if kept and batch.signal == "traces":
                    told = trace_state.told(state, threshold)
                    if told != state:
                        view.trace_state = told
                        batch.touch(number)
            else:
                kept = self._share.holds(view.trace_id or batch.slice(number))
            if not kept:
                _drop(batch, number, "event")

    def _by_rate(self, batch: Batch) -> None:
        unread = [number for number, _ in self._unread(batch)]
        had = self._bucket.part(len(unread), batch.arrival)
        for number in unread[had:]:
            _drop(batch, number, "rate")


def _pruning(steps: Sequence[Callable[[Batch], None]]) -> Processor:
    def sample(batch: Batch) -> Batch:
        if batch.signal != "metrics":
            for step in steps:
                step(batch)
            batch.prune()
        return batch

    return sample if steps else lambda batch: batch


def _by_subject(batch: Batch, share: Share, keys: SubjectKeys) -> None:
    named = {number for number, _ in batch.whom}
    for head in batch.resources:
        if head.subject is not None:
            named.update(range(head.first, head.end))
    for number in sorted(named):
        if not batch.gone(number):
            _judge(batch, number, lambda subject: share.holds(subject.encode("utf-8", "surrogatepass")), keys)


def _judge(batch: Batch, number: int, stays: Callable[[str], bool], keys: SubjectKeys) -> None:
    head, whom = batch.resource_of(number), batch.whom
    who = whom.get((number, None)) or head.subject
    out = who is not None and not stays(who)
    events = range(batch.sizes.get(number, 0)) if batch.signal == "traces" else range(0)
    # Those that name somebody themselves may be another's than the span.
    own = {place: stays(one) for place in events if (one := whom.get((number, place))) is not None}
    if out and not any(own.values()):
        _drop(batch, number, "subject")
        return
    gone = {place for place in events if not own.get(place, not out)}
    if out:
        if head.subject is not None:
            # Without its own user the span would be that of its resource.
            _drop(batch, number, "subject")
            return
        view = batch.view(number)
        kept = [data for data in view.attributes if keys.rank(KeyValue.FromString(data).key) is None]
        del view.attributes[:]
        view.attributes.extend(kept)
        batch.touch(number)
    if gone:
        batch.drop_events(number, gone)
        _count(batch, "subject", len(gone))


def _drop(batch: Batch, number: int, by: str) -> None:
    batch.drop(number)
    _count(batch, by, 1)


def _count(batch: Batch, by: str, records: int) -> None:
    key = ("sampled_out", by)
    batch.counts[key] = batch.counts.get(key, 0) + records


def build(config: SampleConfig, setting: Setting) -> Any:
    """A processor that keeps the configured share."""
    return Sample(config, setting)
