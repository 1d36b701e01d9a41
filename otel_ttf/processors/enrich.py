"""Adds attributes: fixed ones to every resource, and what follows from others where these stand.

Fixed ones go on the resource, once a request. What is derived goes beside what it follows from: on the resource, the
log record, the span or the span event. Only what the one scan has hit is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.values import plain
from otel_ttf.otlp.wire import SPAN_EVENT
from otel_ttf.pii.pseudonym import subject_text
from otel_ttf.pii.scanner import SOURCE, Pattern, Scanner, literal
from otel_ttf.processors import derive
from otel_ttf.processors.base import Derivation, Processor, Setting
from otel_ttf.processors.derive import (
    MAX_TEXT,
    CountryConfig,
    EmailDomainConfig,
    LookupConfig,
    UserAgentConfig,
    pair,
)
from otel_ttf.processors.kubernetes import KubernetesConfig, attributes
from otel_ttf.processors.lookup import Scalar, fits


def _fitting(value: Scalar) -> Scalar:
    if isinstance(value, int) and not fits(value):
        raise ValueError("expected a whole number of at most 64 bits")
    return value


_On = BeforeValidator(lambda data: {} if data is None else data)  # `kubernetes:` is on, with its defaults


class EnrichConfig(BaseModel):
    """What is added to what passes, before it is masked. Only `overwrite` replaces what a sender has set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: dict[str, Annotated[Scalar, AfterValidator(_fitting)]] = Field(
        {}, description="Attribute of every resource: value."
    )
    environment: dict[str, str] = Field(
        {},
        description="Attribute: name of the environment variable that holds its value; unset ones are left out.",
    )
    kubernetes: Annotated[KubernetesConfig | None, _On] = Field(
        None, description="The pod that this server runs in."
    )
    overwrite: bool = Field(False, description="Whether these three replace what the sender has set.")
    country: CountryConfig | None = Field(None, description="The country of an IP address.")
    user_agent: Annotated[UserAgentConfig | None, _On] = Field(
        None, description="Families of browser and operating system."
    )
    email_domain: Annotated[EmailDomainConfig | None, _On] = Field(
        None, description="The domain of an e-mail address."
    )
    lookups: dict[str, LookupConfig] = Field({}, description="Name: a table of attributes.")

    def derivations(self) -> list[Derivation]:
        """What is to be derived, made anew. Raises ProcessorRefused."""
        configs = {name: one for name in derive.MAKERS if (one := getattr(self, name)) is not None}
        return derive.made(configs, self.lookups)


_REMEMBERED = 8192
_LONGEST = 512  # bytes


class _Enrich:
    def __init__(
        self, pairs: Mapping[str, bytes], derivations: Sequence[Derivation], *, overwrite: bool
    ) -> None:
        self._pairs = {key: KeyValue.FromString(data) for key, data in pairs.items()}
        self._overwrite = overwrite
        self._derivations = derivations
        self._sources = SubjectKeys([name for one in derivations for name in one.sources])
        self._known: dict[bytes, tuple[int | None, str]] = {}
        self._ranked = [(one, [self._sources.rank(name) for name in one.sources]) for one in derivations]
        self.patterns = [Pattern(SOURCE, literal(text.decode())) for text in self._sources.literals]

    def processor(self, scanner: Scanner) -> Processor:
        def enrich(batch: Batch) -> Batch:
            if self._pairs:
                self._add(batch)
            if self._derivations:
                batch.scan(scanner)
                self._derive(batch)
                batch.scan_added(scanner)
            return batch

        return enrich

    def _add(self, batch: Batch) -> None:
        for head in batch.resources:
            resource = Resource.FromString(head.data)
            present = {pair.key for pair in resource.attributes}
            if self._overwrite and present & self._pairs.keys():
                kept = [pair for pair in resource.attributes if pair.key not in self._pairs]
                del resource.attributes[:]
                resource.attributes.extend(kept)
                present -= self._pairs.keys()
            added = [pair for key, pair in self._pairs.items() if key not in present]
            if added:
                resource.attributes.extend(added)
                head.data = resource.SerializeToString()
                head.present = head.changed = True

    def _derive(self, batch: Batch) -> None:
        for one in self._derivations:
            one.look()
        for head, _ in batch.head_hits(SOURCE):
            if head.kind == "resource":
                pairs = [one.SerializeToString() for one in Resource.FromString(head.data).attributes]
                if added := self._following(batch, pairs):
                    batch.add_to(head, added)
        if batch.signal == "metrics":
            return
        for number, _ in batch.hits(SOURCE):
            view = batch.view(number)
            if added := self._following(batch, view.attributes[:]):
                batch.add(number, added)
            if batch.signal == "traces":
                for place, data in enumerate(view.events):
                    if self._sources.in_(data):
                        pairs = SPAN_EVENT.FromString(data).attributes[:]
                        if added := self._following(batch, pairs):
                            batch.add(number, added, place)

    def _following(self, batch: Batch, pairs: Sequence[bytes]) -> list[bytes]:
        """What follows from encoded attributes, and is not among them; of a key that comes twice the last counts."""
        found: dict[int | None, str] = {}
        for _, data in self._sources.likely(pairs):
            rank, text = self._known.get(data) or self._read(data)
            if rank is not None:
                found[rank] = text
        added: dict[str, bytes] = {}
        for derivation, ranks in self._ranked if found else ():
            text = next((found[rank] for rank in ranks if rank in found), "")
            if text and len(text) <= MAX_TEXT:
                told = derivation.of(text)
                if told is None:
                    counts = batch.counts
                    counts["underived", derivation.name] = counts.get(("underived", derivation.name), 0) + 1
                for key, data in told or ():
                    if key not in added and not _holds(pairs, key):
                        added[key] = data
        return list(added.values())

    def _read(self, data: bytes) -> tuple[int | None, str]:
        """(rank, text) of an encoded attribute; of another one the rank is None. Short ones are remembered."""
        one = KeyValue.FromString(data)
        told = self._sources.rank(one.key), subject_text(plain(one.value)) or ""
        if len(data) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            self._known[data] = told
        return told


def _holds(pairs: Sequence[bytes], key: str) -> bool:
    """Whether an attribute of that name is among encoded ones."""
    name = key.encode()
    return key in [KeyValue.FromString(data).key for data in pairs if name in data]


class _Nothing:
    patterns: Sequence[Pattern] = ()

    def processor(self, scanner: Scanner) -> Processor:
        return lambda batch: batch


def build(config: EnrichConfig, setting: Setting) -> _Enrich | _Nothing:
    """A processor that adds what is configured. A static attribute wins over one from the environment, and that over
    one of Kubernetes."""
    told: dict[str, Scalar] = {}
    if config.kubernetes is not None:
        told |= attributes(config.kubernetes, os.environ)
    told |= {key: os.environ[name] for key, name in config.environment.items() if name in os.environ}
    told |= config.attributes
    if not told and not setting.derivations:
        return _Nothing()
    pairs = {key: pair(key, value) for key, value in told.items()}
    return _Enrich(pairs, setting.derivations, overwrite=config.overwrite)
