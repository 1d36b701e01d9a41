"""Puts static and environment attributes on every resource."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.processors.base import Processor, Setting

Scalar = str | int | float | bool


class EnrichConfig(BaseModel):
    """Attributes for the resource of everything that passes. They are masked like what was sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: dict[str, Scalar] = Field({}, description="Attribute: value.")
    environment: dict[str, str] = Field(
        {},
        description="Attribute: name of the environment variable that holds its value; unset ones are left out.",
    )
    overwrite: bool = Field(False, description="Whether they replace what the sender has set.")


class _Enrich:
    patterns: Sequence[Pattern] = ()

    def __init__(self, pairs: Mapping[str, KeyValue], *, overwrite: bool) -> None:
        self._pairs = pairs
        self._overwrite = overwrite

    def processor(self, scanner: Scanner) -> Processor:
        return self._add if self._pairs else _nothing

    def _add(self, batch: Batch) -> Batch:
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
        return batch


def _nothing(batch: Batch) -> Batch:
    return batch


def build(config: EnrichConfig, setting: Setting) -> _Enrich:
    """A processor that adds the configured attributes. A static one wins over one from the environment."""
    told: dict[str, Scalar] = {
        key: os.environ[name] for key, name in config.environment.items() if name in os.environ
    }
    told |= config.attributes
    return _Enrich({key: _pair(key, value) for key, value in told.items()}, overwrite=config.overwrite)


def _pair(key: str, value: Scalar) -> KeyValue:
    match value:
        case bool():
            return KeyValue(key=key, value=AnyValue(bool_value=value))
        case int():
            return KeyValue(key=key, value=AnyValue(int_value=value))
        case float():
            return KeyValue(key=key, value=AnyValue(double_value=value))
        case _:
            return KeyValue(key=key, value=AnyValue(string_value=value))
