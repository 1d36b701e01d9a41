"""What a processor is, and what all of them are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.subject import canonical
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig

Processor = Callable[[Batch], Batch]
"""Takes a batch and returns it; raises Malformed to refuse the whole request."""


@dataclass(frozen=True, slots=True)
class Setting:
    """keys and subject attributes, as configured; subject_from is canonical, see otlp.subject."""

    keys: Keys
    subject_from: tuple[str, ...]
    normalise: str

    @classmethod
    def of(cls, keys: Keys, subject: SubjectConfig) -> Setting:
        return cls(keys, tuple(map(canonical, subject.from_)), subject.normalise)
