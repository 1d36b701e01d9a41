"""Personal data is replaced: by attribute key, and by what texts hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch, Head
from otel_ttf.otlp.tree import Walker, plan
from otel_ttf.otlp.wire import SHAPES
from otel_ttf.pii.detectors import DETECTORS, Detector, is_card, masked
from otel_ttf.pii.names import PHRASES, SecretNames
from otel_ttf.pii.pseudonym import is_token
from otel_ttf.pii.scanner import CONTENT, KEY, Pattern, Scanner
from otel_ttf.pii.secrets import REDACTED
from otel_ttf.processors.base import Processor, Setting, rewritten


class Detectors(BaseModel):
    """What is looked for in texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: bool = Field(True, description="E-mail addresses become [EMAIL].")
    card: bool = Field(True, description="Payment card numbers become [CARD].")
    jwt: bool = Field(True, description="JSON web tokens become [TOKEN].")
    bearer: bool = Field(True, description="What follows Bearer or Basic becomes [TOKEN].")
    token: bool = Field(
        True, description="Tokens with a prefix of their vendor, such as ghp_ and AKIA, become [TOKEN]."
    )
    private_key: bool = Field(True, description="Private keys in PEM become [PRIVATE_KEY], also cut ones.")
    url: bool = Field(
        True, description="In URLs, user and password and the values of secret parameters become [REDACTED]."
    )


class MaskConfig(BaseModel):
    """What is masked before anything is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[str, ...] = Field(
        (),
        description="Further keys whose values become [REDACTED]: words next to each other in a key, in any "
        "spelling; `tax id` is tax_id, taxId and customer.tax-id, too.",
    )
    detectors: Detectors = Field(Detectors(), description="What is looked for in texts.")


def changes(config: MaskConfig, attribute: str) -> bool:
    """Whether the value of an attribute of that name is masked by its key."""
    return SecretNames((*PHRASES, *config.keys)).match(attribute)


class _Masker(Walker):
    """Replaces values by their key, and what the detectors find in any text."""

    def __init__(self, names: SecretNames, detectors: Sequence[Detector]) -> None:
        self._names = names
        self._detectors = detectors
        self._cards = next((one.placeholder for one in detectors if one.name == "card"), None)

    def pair(self, pair: Any) -> bool | None:
        if not self._names.match(pair.key):
            return None
        kind = pair.value.WhichOneof("value")
        text = pair.value.string_value
        if kind is None or text == REDACTED or is_token(text):
            return False
        pair.value.string_value = REDACTED
        return True

    def text(self, text: str) -> str:
        return masked(text, self._detectors)

    def number(self, number: int) -> str | None:
        return self._cards if number > 0 and is_card(str(number)) else None


class _Mask:
    def __init__(self, names: SecretNames, detectors: Sequence[Detector]) -> None:
        self._walker = _Masker(names, detectors)
        self.patterns = [
            *names.patterns,
            *(Pattern(one.group, expression) for one in detectors for expression in one.supersets),
        ]

    def processor(self, scanner: Scanner) -> Processor:
        def mask(batch: Batch) -> Batch:
            batch.scan(scanner)
            for head, _ in batch.head_hits(KEY | CONTENT):
                self._head(head)
            for number, _ in batch.hits(KEY | CONTENT):
                if batch.plain or batch.signal == "metrics":
                    data = batch.slice(number)
                    new = rewritten(batch.shape.record, data, self._walker)
                    if new is not None:
                        batch.replace(number, new)
                else:
                    self._record(batch, number, scanner)
            return batch

        return mask

    def _head(self, head: Head) -> None:
        new = rewritten(
            Resource if head.kind == "resource" else InstrumentationScope, head.data, self._walker
        )
        if new is not None:
            head.data, head.changed = new, True
        url = head.url.decode()
        if (new_url := self._walker.text(url)) != url:
            head.url, head.changed = new_url.encode(), True

    def _record(self, batch: Batch, number: int, scanner: Scanner) -> None:
        """Only what the record's own scan says is decoded."""
        view = batch.view(number)
        places: list[tuple[str, type[Any] | None, int]] = []
        parts: list[bytes] = []
        for field, kind in _PARTS[batch.signal]:
            value = getattr(view, field)
            if kind is None:
                places.append((field, None, 0))
                parts.append(value)
            elif value:
                if len(value) > 1 and field in _SINGLE:
                    value[:] = [b"".join(value)]
                places += [(field, kind, index) for index in range(len(value))]
                parts += value
        changed = False
        for place in scanner.hits(parts):
            field, kind, index = places[place]
            if kind is None:
                text = parts[place].decode()
                if (new_text := self._walker.text(text)) != text:
                    setattr(view, field, new_text.encode())
                    changed = True
            else:
                new = rewritten(kind, parts[place], self._walker)
                if new is not None:
                    getattr(view, field)[index] = new
                    changed = True
        for field, size in _IDS[batch.signal]:
            changed |= self._walker.id(view, field, size)
        if changed:
            batch.touch(number)
        else:
            batch.strip(number)


def _parts(record: Any) -> list[tuple[str, type[Any] | None]]:
    """Fields of a record that hold text, with the message that they are; None: a text."""
    found: list[tuple[str, type[Any] | None]] = []
    for field in record.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            found.append((field.name, None))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found.append((field.name, field.message_type._concrete_class))
    return found


_PARTS = {signal: _parts(SHAPES[signal].record) for signal in ("logs", "traces")}
_IDS = {signal: plan(SHAPES[signal].record.DESCRIPTOR).ids for signal in ("logs", "traces")}
_SINGLE = frozenset({"body", "status"})


def build(config: MaskConfig, setting: Setting) -> _Mask:
    """A processor that masks what the scan has found."""
    detectors = [one for one in DETECTORS if getattr(config.detectors, one.name)]
    return _Mask(SecretNames((*PHRASES, *config.keys)), detectors)
