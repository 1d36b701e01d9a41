"""What a processor is, and what all of them are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_ttf.journey.definition import Journey
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import TimeConfig
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.tree import Walker
from otel_ttf.pii.consent import Book
from otel_ttf.pii.keyrules import KeyRule
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.masking import Trace
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.pii.sealed import Sealer


class ProcessorRefused(ValueError):
    """What a processor needs is not there, or is not what it should be: setting, what was found, what to do."""


Processor = Callable[[Batch], Batch]
"""Takes a batch and returns it; raises Malformed to refuse the whole request."""


Pairs = Sequence[tuple[str, bytes]]
"""Attributes: name, and the encoded KeyValue."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """sources: attributes, of which the first that is there counts; of: its text -> what follows from it, None:
    that would take too long now.

    name     under which the last is counted
    targets  attributes that may follow
    look  to be called for each request: a file may have changed
    """

    name: str
    sources: tuple[str, ...]
    targets: frozenset[str]
    of: Callable[[str], Pairs | None]
    look: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Setting:
    """What all processors are told.

    keys          for pseudonyms, event ids, hashes
    subject       which attributes name the subject
    sealer        encrypts under a subject's key; only where something is to be encrypted
    ids           where the user ids behind tokens are kept; None: nowhere
    book          who has said what about consent; None: one of one's own, in memory
    key_rules     what the configuration masks by key
    time          which times are believed
    derivations   what enrich derives
    journeys      whose milestones and segments must be read; lines: whether storage.events is `all`
    notes         whether it is noted whom records name, see Batch.whom
    trace         told of each thing that was masked, see masking.Where; for `otel-ttf mask --explain`; user ids in
                  records are told of in plain batches only
    """

    keys: Keys
    subject: SubjectKeys
    normalise: str
    sealer: Sealer | None = None
    ids: Sealer | None = None
    book: Book | None = None
    key_rules: tuple[KeyRule, ...] = ()
    time: TimeConfig = field(default_factory=TimeConfig)
    derivations: Sequence[Derivation] = ()
    journeys: tuple[Journey, ...] = ()
    lines: bool = False
    notes: bool = False
    trace: Trace | None = None


class Built(Protocol):
    """A processor before the one scan is made. patterns: what it looks for."""

    @property
    def patterns(self) -> Sequence[Pattern]: ...

    def processor(self, scanner: Scanner) -> Processor:
        """The processor, given the one scan of all."""


def rewritten(kind: type[Any], data: bytes, walker: Walker) -> bytes | None:
    """An encoded message of OTLP (or AnyValue, KeyValue) after the walker's visit; None: it stays as it is.

    Fields that we don't know go: nobody could look into them.
    """
    message = kind.FromString(data)
    message.DiscardUnknownFields()
    name = message.DESCRIPTOR.name
    visit = walker.one if name == "KeyValue" else walker.value if name == "AnyValue" else walker.message
    if visit(message) or message.ByteSize() != len(data):
        return bytes(message.SerializeToString())
    return None
