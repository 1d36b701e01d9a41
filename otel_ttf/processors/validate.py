"""Refuses requests that cannot be read. What breaks a rule of its own is refused where the rule is applied."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.processors.base import Processor, Setting


class ValidateConfig(BaseModel):
    """What is refused. There is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Validate:
    patterns: Sequence[Pattern] = ()

    def processor(self, scanner: Scanner) -> Processor:
        return _read


def _read(batch: Batch) -> Batch:
    _ = batch.records  # decodes all of it, or raises Malformed
    return batch


def build(config: ValidateConfig, setting: Setting) -> _Validate:
    """A processor that raises Malformed for what is not OTLP."""
    return _Validate()
