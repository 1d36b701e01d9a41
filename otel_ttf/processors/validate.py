"""Refuses records that cannot be taken, one by one; the rest of the request goes on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.subject import found_at
from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES
from otel_ttf.pii.scanner import SUBJECT, Patterns, Scanner
from otel_ttf.processors.base import Processor, Setting


class ValidateConfig(BaseModel):
    """What is refused. There is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def patterns(config: ValidateConfig, setting: Setting) -> Patterns:
    """It reads what the scan finds for `pseudonymise`."""
    return {}


def build(config: ValidateConfig, setting: Setting, scanner: Scanner) -> Processor:
    """A processor that rejects records whose user id is longer than 512 bytes."""
    wanted, normalise = setting.subject_from, setting.normalise

    def too_long(pairs: object) -> str | None:
        """The rule that a list of attributes breaks."""
        key, text = found_at((pairs,), wanted, normalise)
        size = len(text.encode("utf-8", "replace")) if text is not None else 0
        if size <= MAX_SUBJECT_BYTES:
            return None
        return f"{key}: expected at most {MAX_SUBJECT_BYTES} bytes, found {size}"

    def validate(batch: Batch) -> Batch:
        batch.scan(scanner)
        for piece in batch.hit(SUBJECT):
            if piece.place == -1:
                rule = too_long(piece.message.resource.attributes)
                for place in batch.records_of(piece.resource) if rule else ():
                    batch.reject(place, f"resource: {rule}")
            elif piece.place >= 0:
                rules = filter(None, map(too_long, attribute_lists(piece.message)))
                if rule := next(rules, None):
                    batch.reject(piece.place, rule)
        return batch

    return validate


def attribute_lists(record: object) -> list[object]:
    """Where a record's subject may stand: its attributes, and those of a span's events."""
    lists = [getattr(record, "attributes", ())]
    lists += [event.attributes for event in getattr(record, "events", ())]
    return lists
