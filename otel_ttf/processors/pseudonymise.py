"""User ids become tokens, in place, wherever an attribute list can stand (journeys.md, Identity)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.subject import canonical
from otel_ttf.otlp.tree import pair_lists
from otel_ttf.otlp.values import plain
from otel_ttf.pii.pseudonym import Hmac, Pseudonyms, is_token, subject_text
from otel_ttf.pii.scanner import NAME, SUBJECT, Patterns, Scanner, literal
from otel_ttf.processors.base import Processor, Setting

REDACTED = "[REDACTED]"


class PseudonymiseConfig(BaseModel):
    """How user ids become tokens. Which attributes hold them stands under `subject`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def patterns(config: PseudonymiseConfig, setting: Setting) -> Patterns:
    """The subject attributes' keys, and those of attributes that name an event."""
    keys = [
        literal(name).replace(r"\-", "[-_]") if "http." in name else literal(name)
        for name in setting.subject_from
    ]
    return {SUBJECT: keys, NAME: [literal("event.name")]}


def build(config: PseudonymiseConfig, setting: Setting, scanner: Scanner) -> Processor:
    """A processor that makes the event ids, then replaces every subject attribute."""
    hmac = Hmac(setting.keys.event)
    pseudonyms = Pseudonyms(setting.keys)
    wanted, normalise = frozenset(setting.subject_from), setting.normalise

    def replace(pairs: Any, trusted: bool) -> bool:
        """Replaces the subject attributes of one list; whether there were any."""
        changed = False
        for pair in pairs:
            if canonical(pair.key) in wanted:
                changed |= _replace(pair.value, pseudonyms, normalise, trusted)
            else:
                kind = pair.value.WhichOneof("value")
                if kind == "kvlist_value":
                    changed |= replace(pair.value.kvlist_value.values, trusted)
                elif kind == "array_value":
                    changed |= replace_in(pair.value.array_value.values, trusted)
        return changed

    def replace_in(values: Any, trusted: bool) -> bool:
        changed = False
        for value in values:
            kind = value.WhichOneof("value")
            if kind == "kvlist_value":
                changed |= replace(value.kvlist_value.values, trusted)
            elif kind == "array_value":
                changed |= replace_in(value.array_value.values, trusted)
        return changed

    def pseudonymise(batch: Batch) -> Batch:
        batch.scan(scanner)
        batch.identify(hmac, setting.subject_from, normalise)
        for piece in batch.hit(SUBJECT):
            part = (
                piece.message.resource
                if piece.place == -1
                else piece.message.scope
                if piece.place == -2
                else piece.message
            )
            for pairs in pair_lists(part):
                piece.changed |= replace(pairs, batch.trusted)
            if piece.place >= 0 and part.DESCRIPTOR.name == "LogRecord":
                kind = part.body.WhichOneof("value")
                if kind == "kvlist_value":
                    piece.changed |= replace(part.body.kvlist_value.values, batch.trusted)
                elif kind == "array_value":
                    piece.changed |= replace_in(part.body.array_value.values, batch.trusted)
        return batch

    return pseudonymise


def _replace(value: Any, pseudonyms: Pseudonyms, normalise: str, trusted: bool) -> bool:
    """Replaces one subject attribute's value; whether there was something to replace."""
    kind = value.WhichOneof("value")
    if kind is None:
        return False
    if kind == "string_value":
        text = value.string_value
        if trusted and is_token(text):
            return False
        subject = subject_text(text, normalise)
        if subject is None:
            return False
        value.string_value = pseudonyms.token(subject)
        return True
    subject = subject_text(plain(value), normalise)
    if kind == "array_value" and subject is None:
        if not value.array_value.values:
            return False
        for element in value.array_value.values:
            _replace(element, pseudonyms, normalise, trusted)
        return True
    if subject is not None and trusted and is_token(subject):
        return False
    # What is no id is no subject either, but nothing of it may stay.
    value.string_value = REDACTED if subject is None else pseudonyms.token(subject)
    return True
