"""Puts static and environment attributes on every resource."""

from __future__ import annotations

import os

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.scanner import CONTENT, KEY, SUBJECT, Patterns, Scanner
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


def patterns(config: EnrichConfig, setting: Setting) -> Patterns:
    """It looks for nothing."""
    return {}


def build(config: EnrichConfig, setting: Setting, scanner: Scanner) -> Processor:
    """A processor that adds the configured attributes."""
    values: dict[str, Scalar] = {
        key: os.environ[name] for key, name in config.environment.items() if name in os.environ
    }
    pairs = {key: _pair(key, value) for key, value in (values | config.attributes).items()}

    def enrich(batch: Batch) -> Batch:
        for piece in batch.resources:
            attributes = piece.message.resource.attributes
            present = {pair.key: pair for pair in attributes}
            for key, pair in pairs.items():
                if key not in present:
                    attributes.append(pair)
                elif config.overwrite:
                    present[key].CopyFrom(pair)
                else:
                    continue
                piece.changed = True
            if piece.changed:
                # What was added is not in the scan: look at all of it.
                piece.hits |= SUBJECT | KEY | CONTENT
        return batch

    return enrich if pairs else lambda batch: batch


def _pair(key: str, value: Scalar) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))
