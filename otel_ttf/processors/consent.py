"""Consent: whoever has denied it leaves no trace, and what must not be sold says so.

Statements come as attributes, as events, and by Global Privacy Control. Those of a request are taken first, each at
the time of its record; then all records of the request are judged by what counts now, whatever their own time. A
record that itself says `deny` or `do_not_sell` is treated so in any case, also when it names nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.cut import Head
from otel_ttf.otlp.events import Rules
from otel_ttf.otlp.leaving import MARK, keep, marked
from otel_ttf.otlp.statements import (
    DENY,
    DO_NOT_SELL,
    GRANT,
    SALE,
    STATEMENTS,
    UNREADABLE,
    Kind,
    Statements,
    attributes_of,
    below,
    literals,
    set_mark,
)
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.tree import Walker
from otel_ttf.pii.consent import DENIED, NOT_FOR_SALE, Book, Marks, mark
from otel_ttf.pii.pseudonym import TOKEN, is_token
from otel_ttf.pii.scanner import CONSENT, SUBJECT, Pattern, Scanner, literal
from otel_ttf.processors.anonymiser import Anonymiser, Telling
from otel_ttf.processors.base import Processor, Setting

ATTRIBUTES: dict[str, Kind] = {
    "ttf.consent": "consent",
    "ttf.consent.analytics": "consent",
    "ttf.consent.advertising": "sale",
    "ttf.consent.sale": "sale",
    MARK: "do_not_sell",
    "ttf.do_not_sell": "do_not_sell",
    "ttf.consent.gpc": "gpc",
    "http.request.header.sec-gpc": "gpc",
}
_TOKEN = re.compile(TOKEN.pattern.encode())
_TIME = ("time_unix_nano",)
_TIMES: dict[str, tuple[str, ...]] = {
    "LogRecord": ("time_unix_nano", "observed_time_unix_nano"),
    "Span": ("end_time_unix_nano",),
    "Metric": (),
}
# Fields of a record's view that may hold a subject attribute.
_HOLDING = {"logs": ("attributes", "body"), "traces": ("attributes", "events", "links")}
_WARNING = "a statement about consent has a value that is none: expected e.g. grant, deny, do_not_sell"
# What becomes of a part of a request.
_STAYS, _CHANGED, _NAMELESS, _GONE = range(4)


class ConsentConfig(BaseModel):
    """What people have said about the use of their data is kept, per subject, and done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: dict[str, Kind] = Field(
        ATTRIBUTES,
        description="Attribute of a resource, record, span, span event or data point: what it is. `consent`: grant, "
        "granted, true, deny, denied, false, do_not_sell, or a list of these; `sale`: whether data may go to others; "
        "`do_not_sell`: the opposite; `gpc`: 1 or true means do_not_sell. Given ones take the place of these.",
    )
    events: tuple[str, ...] = Field(
        ("ttf.consent", "consent_updated"),
        description="Names of consent events: in their attributes the names above count without `ttf.`, too.",
    )
    on_deny: Literal["drop", "anonymise"] = Field(
        "drop",
        description="What becomes of records that name somebody who has denied: they are not written at all, or "
        "without everything that tells who it was.",
    )
    default: Literal["grant", "deny"] = Field(
        "grant", description="What counts for a subject who has said nothing of analytics."
    )
    max_subjects: int = Field(
        1_000_000,
        gt=0,
        description="Of how many subjects a choice other than the default is kept, at 120 bytes of memory each; "
        "requests with a further one are refused until there is room.",
    )

    @property
    def usual(self) -> int:
        """Flags of a subject that has said nothing."""
        return DENIED if self.default == "deny" else 0


class _Subjects(Walker):
    """Finds the tokens of subject attributes."""

    looks_at_texts = False

    def __init__(self, keys: SubjectKeys) -> None:
        self._keys = keys
        self._found: set[bytes] = set()

    def pair(self, pair: Any) -> bool | None:
        if self._keys.rank(pair.key) is None:
            return None
        if is_token(pair.value.string_value):
            self._found.add(pair.value.string_value.encode())
        return False

    def within(self, message: Any) -> set[bytes]:
        """Those at all depths, but not those of the parts that are judged by themselves."""
        self._found = set()
        self.message(message, without=(below(message)[0],))
        return self._found

    def named(self, message: Any) -> set[bytes]:
        """Those of the attribute list itself."""
        pairs = [pair for pair in attributes_of(message) if self._keys.rank(pair.key) is not None]
        return {pair.value.string_value.encode() for pair in pairs if is_token(pair.value.string_value)}


@dataclass(slots=True, eq=False)
class _Around:
    """A resource or a scope. bits: what it states; named: whom in its own attributes; denied: it and all below."""

    head: Head
    message: Any
    bits: int
    named: set[bytes]
    denied: bool = False

    @property
    def slices(self) -> range:
        """Those below it."""
        return range(self.head.first, self.head.end)


class _Consent:
    def __init__(self, config: ConsentConfig, setting: Setting) -> None:
        self.drops = config.on_deny == "drop"
        self.book = setting.book if setting.book is not None else Book(usual=config.usual)
        self.keys = setting.subject
        self.rules = Rules(setting.time, (), lambda _name: False)
        self.statements = Statements(config.attributes, config.events)
        self.tells = Telling(setting.subject, setting.key_rules, setting.derivations)
        texts = [literal(text) for text in literals(config.attributes, config.events)]
        # The two spellings of header names.
        self.patterns = [
            Pattern(CONSENT, text.replace(r"\x2d", "[-_]").replace(r"\x5f", "[-_]")) for text in texts
        ]

    def processor(self, scanner: Scanner) -> Processor:
        def consent(batch: Batch) -> Batch:
            batch.scan(scanner)
            # As long as nobody says or has said anything, that is all.
            if batch.gpc or not self.book.silent or batch.hits(CONSENT) or batch.head_hits(CONSENT):
                _Request(self, batch).process()
            return batch

        return consent


class _Request:
    """One request on its way through."""

    def __init__(self, consent: _Consent, batch: Batch) -> None:
        self.consent = consent
        self.batch = batch
        self.subjects = _Subjects(consent.keys.masked)
        self.anonymiser = Anonymiser(consent.tells)
        self.said: dict[bytes, Marks] = {}
        self.around: list[_Around] = []
        self.over: dict[int, list[_Around]] = {}  # slice -> its resource and scope, where they matter

    def _count_said(self, bits: int) -> None:
        for bit, statement in STATEMENTS.items():
            if bits & bit:
                self._count("consent", statement)

    def _count_gone(self, records: int) -> None:
        self._count("consent_dropped", "drop" if self.consent.drops else "anonymise", records)

    def _count(self, what: str, label: str, count: int = 1) -> None:
        counts = self.batch.counts
        counts[what, label] = counts.get((what, label), 0) + count

    def process(self) -> None:
        """Takes the statements, then judges."""
        batch, book = self.batch, self.consent.book
        self._look_around()
        naming = [number for number, _ in batch.hits(SUBJECT)]
        numbers = {number for number, _ in batch.hits(CONSENT)}
        if batch.gpc:
            self._count_said(DO_NOT_SELL)
            numbers.update(naming)
        # A statement around records is about whom they name, or about whom is named around them: then at their time.
        names = set(naming)
        for one in self.around:
            if one.bits:
                numbers.update(n for n in one.slices if n in names or any(o.named for o in self.over[n]))
        records = {number: self._record(number) for number in numbers if not batch.gone(number)}
        for number, record in records.items():
            over = self.over.get(number, ())
            self._collect(number, record, {token for one in over for token in one.named}, over)
        if self.said:
            batch.said = book.join(self.said)

        for one in self.around:
            self._judge_around(one)
            if one.denied:
                numbers.update(one.slices)
        if not book.silent:
            numbers.update(number for number in names - numbers if self._suspicious(number))
        for number in sorted(numbers):
            if not batch.gone(number):
                self._judge_record(number, records.get(number) or self._record(number))

    def _look_around(self) -> None:
        batch = self.batch
        looked_at = [head for head, _ in batch.head_hits(CONSENT | SUBJECT)]
        if batch.gpc:
            looked_at = [*batch.resources, *(head for head in looked_at if head.kind == "scope")]
        for head in looked_at:
            message = (Resource if head.kind == "resource" else InstrumentationScope).FromString(head.data)
            message.DiscardUnknownFields()
            bits = self._stated(message, head.first if head.first < head.end else None)
            one = _Around(head, message, bits, self.subjects.named(message))
            self.around.append(one)
            if batch.gpc:
                self._say(self.subjects.within(message), DO_NOT_SELL, batch.arrival)
            for number in one.slices:
                self.over.setdefault(number, []).append(one)

    def _record(self, number: int) -> Any:
        record = self.batch.shape.record.FromString(self.batch.slice(number))
        record.DiscardUnknownFields()
        return record

    # Statements.

    def _stated(self, message: Any, number: int | None) -> int:
        """What a part of the request states, as bits. number: of a slice that it is part of, or stands above."""
        bits = self.consent.statements.of(message, trusted=self.batch.trusted)
        if bits:
            self._count_said(bits)
            if bits & UNREADABLE and number is not None:
                self.batch.warn(number, _WARNING)
        return bits

    def _say(self, tokens: Iterable[bytes], bits: int, at: int) -> None:
        """These subjects state that at that time, unix ns."""
        told = Marks(
            mark(at, strict=bool(bits & DENY)) if bits & (GRANT | DENY) else 0,
            mark(at, strict=bool(bits & DO_NOT_SELL)) if bits & (SALE | DO_NOT_SELL) else 0,
        )
        if any(told):
            for token in tokens:
                self.said[token] = self.said.get(token, told).join(told)

    def _collect(self, number: int, part: Any, above: set[bytes], over: Sequence[_Around]) -> None:
        """Statements of a part of a record, that of a slice. above: whom it is about if it names nobody itself."""
        named = self.subjects.named(part) or above
        times = [getattr(part, name) for name in _TIMES.get(part.DESCRIPTOR.name, _TIME)]
        at, _ = self.consent.rules.at(times, self.batch.arrival)
        self._say(named, self._stated(part, number), at)
        for one in over:
            self._say(named | one.named, one.bits, at)
        if self.batch.gpc:
            self._say(self.subjects.within(part), DO_NOT_SELL, self.batch.arrival)
        for child in below(part)[1]:
            self._collect(number, child, named, over)

    # Judging.

    def _flags(self, message: Any, bits: int) -> int:
        """What follows for a part of the request from its own statements and from whom it names."""
        flags = DENIED if bits & DENY else 0
        if bits & DO_NOT_SELL:
            flags |= NOT_FOR_SALE
        return flags | self.consent.book.flags(self.subjects.within(message))

    def _suspicious(self, number: int) -> bool:
        """Whether there is a token in a slice from which something follows: then it is decoded."""
        if self.batch.signal == "metrics":
            data = self.batch.slice(number)
        else:
            view = self.batch.view(number)
            data = b"".join([data for name in _HOLDING[self.batch.signal] for data in getattr(view, name)])
        return self.consent.book.flags(_TOKEN.findall(data)) != 0

    def _judge_around(self, one: _Around) -> None:
        head, message = one.head, one.message
        flags = self._flags(message, one.bits)
        if self.batch.gpc and head.kind == "resource":
            flags |= NOT_FOR_SALE
        one.denied = bool(flags & DENIED)
        if one.denied and self.consent.drops:
            head.gone = head.changed = True
            return
        changed = self._finish(message, flags)
        if changed or message.ByteSize() != len(head.data):
            head.data, head.present, head.changed = message.SerializeToString(), True, True

    def _finish(self, part: Any, flags: int) -> bool:
        """Anonymises what stays of whoever has denied, and marks what must not be sold; whether that changed it."""
        attributes = attributes_of(part)
        wanted = bool(flags & NOT_FOR_SALE) or marked(attributes)
        changed = False
        if flags & DENIED:
            # A statement that stayed would be about somebody else the next time it is read.
            changed = self.consent.statements.take_off(part) | self.anonymiser.message(part)
        return set_mark(attributes, wanted=wanted) or changed

    def _judge_record(self, number: int, record: Any) -> None:
        batch = self.batch
        denied = any(one.denied for one in self.over.get(number, ()))
        size = len(batch.slice(number))
        parts = len(below(record)[1]) if batch.signal == "metrics" else 1
        verdict, verdicts = self._judge(record, DENIED if denied else 0)
        gone = {at for at, one in enumerate(verdicts) if one == _GONE}
        nameless = {at for at, one in enumerate(verdicts) if one == _NAMELESS}
        if verdict == _GONE or (batch.signal == "metrics" and gone and len(gone) == parts):
            batch.drop(number, parts)
            self._count_gone(parts)
            return
        if verdict == _NAMELESS:
            batch.forget(number)
            self._count_gone(parts)
        elif gone or nameless:
            self._count_gone(len(gone | nameless))
            if batch.signal == "metrics":
                batch.left_out += len(gone)
            else:
                batch.forget(number, gone | nameless, moved=bool(gone))
        if verdict or record.ByteSize() != size:
            batch.replace(number, record.SerializeToString())

    def _judge(self, part: Any, flags: int) -> tuple[int, list[int]]:
        """(what becomes of a part of a record, the same of those below it); changes it.

        flags  what follows from what stands around it
        """
        bits = self.consent.statements.of(part, trusted=self.batch.trusted)
        flags |= self._flags(part, bits)
        denied = bool(flags & DENIED)
        if denied and self.consent.drops:
            return _GONE, []
        changed = self._finish(part, flags)
        parts = below(part)[1]
        verdicts = [self._judge(child, flags)[0] for child in parts]
        if _GONE in verdicts:
            of_the_next = iter(verdicts)
            keep(parts, lambda _: next(of_the_next) != _GONE)
        if denied:
            return _NAMELESS, verdicts
        return _CHANGED if changed or any(verdicts) else _STAYS, verdicts


def build(config: ConsentConfig, setting: Setting) -> _Consent:
    """A processor that takes what is said about consent, and does it."""
    return _Consent(config, setting)
