"""Refuses requests that cannot be read, and says how large their parts may be: see shorten.py.

What breaks a rule of its own is refused where the rule is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.processors.base import Processor, Setting
from otel_ttf.units import Size


class ValidateConfig(BaseModel):
    """What is refused, and what is cut. Cutting comes last, after masking; the sender is warned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_attributes: int = Field(
        1024,
        ge=16,
        description="Attributes of a record, resource, scope, span event, link or data point: the first ones stay, and "
        "behind them the user and the event's name; `dropped_attributes_count` tells how many went.",
    )
    max_elements: int = Field(
        1024, ge=16, description="Elements of a list, entries of a map: the first ones stay."
    )
    max_value_size: Size = Field(
        256 << 10,
        ge=1024,
        description="Bytes of a text, after masking; a letter or placeholder that would be cut in two goes as a whole.",
    )


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
