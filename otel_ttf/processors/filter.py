"""Drops what nobody needs, by conditions in the language of milestones. Senders get their OK.

A record that a milestone or a segment reads stays, unless a rule says `journeys_too`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.journey.match import Test, parse
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.conditions import Condition, Reads, Seen, seen
from otel_ttf.pii.scanner import Pattern, Scanner
from otel_ttf.processors.base import Processor, Setting

OTHERWISE = "otherwise"
MAX_RULES = 100


class FilterRule(BaseModel):
    """What is dropped, or kept whatever the rules behind say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z0-9_.-]{1,64}$", description="Under which it is counted.")
    drop: Condition | None = Field(
        None, description="Records that go: event, span, attributes, resource, any, all, not; a list: any."
    )
    keep: Condition | None = Field(None, description="Records that stay; either this or `drop`.")
    journeys_too: bool = Field(
        False,
        description="Whether records go, too, that a milestone or a segment reads: no journey will know of them.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> FilterRule:
        if (self.drop is None) == (self.keep is None):
            raise ValueError("expected drop or keep, one of the two")
        if self.keep is not None and self.journeys_too:
            raise ValueError("expected journeys_too beside drop only")
        return self


class FilterConfig(BaseModel):
    """Which records go on. The first rule whose condition holds decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[FilterRule, ...] = Field((), max_length=MAX_RULES, description="In order.")
    otherwise: Literal["keep", "drop"] = Field(
        "keep", description="What becomes of records for which no condition holds."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> FilterConfig:
        if len({OTHERWISE, *(rule.name for rule in self.rules)}) <= len(self.rules):
            raise ValueError(f"expected rules whose names differ, and none named {OTHERWISE}")
        return self


class _Filter:
    patterns: Sequence[Pattern] = ()

    def __init__(self, config: FilterConfig, setting: Setting) -> None:
        self._rules: list[tuple[Test, str | None, bool]] = [
            (parse(rule.keep).test, None, False)
            if rule.drop is None
            else (parse(rule.drop).test, rule.name, rule.journeys_too)
            for rule in config.rules
        ]
        if config.otherwise == "drop":
            self._rules.append((lambda _: True, OTHERWISE, False))
        self._reads = Reads(setting.journeys, lines=setting.lines)

    def processor(self, scanner: Scanner) -> Processor:
        def filtered(batch: Batch) -> Batch:
            for number, record, events in seen(batch):
                self._judge(batch, number, record, events)
            batch.prune()
            return batch

        return filtered if self._rules else lambda batch: batch

    def _judge(self, batch: Batch, number: int, record: Seen, events: Sequence[Seen]) -> None:
        rule, too = self._rule(record)
        if rule is not None:
            records = batch.parts(number)
            if too or not (self._reads(record) or any(map(self._reads, events))):
                batch.drop(number, records)
                _count(batch, rule, "dropped", records)
                return
            _count(batch, rule, "spared", records)
        gone = set()
        for place, event in enumerate(events):
            rule, too = self._rule(event)
            if rule is not None:
                if too or not self._reads(event):
                    gone.add(place)
                _count(batch, rule, "dropped" if place in gone else "spared", 1)
        if gone:
            batch.drop_events(number, gone)

    def _rule(self, record: Seen) -> tuple[str | None, bool]:
        """(name of the rule by which a record goes, or None; whether it does so even if it is read)."""
        for test, name, too in self._rules:
            if test(record):
                return name, too
        return None, False


def _count(batch: Batch, rule: str, action: str, records: int) -> None:
    key = ("filtered", rule, action)
    batch.counts[key] = batch.counts.get(key, 0) + records


def build(config: FilterConfig, setting: Setting) -> _Filter:
    """A processor that drops what the rules say."""
    return _Filter(config, setting)
