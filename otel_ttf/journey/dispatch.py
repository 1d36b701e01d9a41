"""Which milestones a record reaches. Asked for every event, so a name costs one dictionary lookup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.match import Group, Match, Record, Test

Place: TypeAlias = tuple[int, int]
# Either the places that are hit whatever else the record holds, or places with what is left to test.
_Plan: TypeAlias = tuple[tuple[Place, ...], tuple[tuple[Place, Test | None], ...]]

_NO_PLAN: _Plan = ((), ())
# Names seen, for matches that no list of names can stand for (globs, attributes alone). Long names are not
# kept, so that a sender can fill a few megabytes at most.
_MAX_REMEMBERED = 4096
_MAX_NAME = 256


class Dispatch:
    """The milestones of several journeys, prepared for lookup by name. Threads may share one.

    For events and spans; plain log lines are never asked about.
    """

    def __init__(self, journeys: Sequence[Journey]) -> None:
        only: list[tuple[Match, ...]] = [
            () if journey.only is None else (journey.only,) for journey in journeys
        ]
        reached = [
            ((j, m), (*only[j], milestone.match))
            for j, journey in enumerate(journeys)
            for m, milestone in enumerate(journey.milestones)
        ]
        admitted = [((j, 0), matches) for j, matches in enumerate(only)]
        self._everyone = None if any(only) else tuple(range(len(journeys)))
        self._event_hits, self._span_hits = _Table("event", reached), _Table("span", reached)
        self._event_admits, self._span_admits = _Table("event", admitted), _Table("span", admitted)

    def hits(self, record: Record) -> Sequence[Place]:
        """(journey, milestone) indexes of what the record matches, `only` included, in ascending order.

        Attributes are read only where a match, or `only`, asks for them and the name leaves it open.
        """
        name = record.name
        table = self._span_hits if record.kind == "span" else self._event_hits
        sure, left = table.plans.get(name) or table.plan(name)
        if not left:
            return sure
        return [place for place, test in left if test is None or test(record)]

    def admits(self, record: Record) -> Sequence[int]:
        """Indexes of the journeys whose `only` the record passes, ascending: their segments it may set."""
        if self._everyone is not None:
            return self._everyone
        name = record.name
        table = self._span_admits if record.kind == "span" else self._event_admits
        sure, left = table.plans.get(name) or table.plan(name)
        if not left:
            return [j for j, _ in sure]
        return [j for (j, _), test in left if test is None or test(record)]

    def wants_span(self, name: str) -> bool:
        """Whether a span of that name can match a milestone."""
        plan = self._span_hits.plans.get(name) or self._span_hits.plan(name)
        return plan is not _NO_PLAN


class _Table:
    """Plans by name, for events or for spans."""

    def __init__(self, group: Group, wanted: Sequence[tuple[Place, tuple[Match, ...]]]) -> None:
        self._group = group
        self._open = [
            (place, matches) for place, matches in wanted if all(match.names() is None for match in matches)
        ]
        named = {
            name
            for _, matches in wanted
            for match in matches
            for kind, name in match.names() or ()
            if kind == group
        }
        self._fixed = {name: self._made(name, wanted) for name in named}
        self.plans = dict(self._fixed)

    def plan(self, name: str) -> _Plan:
        """The plan for a name that is not among `plans` yet."""
        if not self._open:
            return _NO_PLAN
        plan = self._made(name, self._open)
        if len(name) <= _MAX_NAME:
            if len(self.plans) >= len(self._fixed) + _MAX_REMEMBERED:
                self.plans = dict(self._fixed)
            self.plans[name] = plan
        return plan

    def _made(self, name: str, wanted: Sequence[tuple[Place, tuple[Match, ...]]]) -> _Plan:
        left: list[tuple[Place, Test | None]] = []
        for place, matches in wanted:
            answers = [match.given(self._group, name) for match in matches]
            if False not in answers:
                tests = [match.test for match, answer in zip(matches, answers, strict=True) if answer is None]
                left.append((place, _both(tests)))
        if not left:
            return _NO_PLAN
        if all(test is None for _, test in left):
            return tuple(place for place, _ in left), ()
        return (), tuple(left)


def _both(tests: Sequence[Test]) -> Test | None:
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    first, second = tests
    return lambda record: first(record) and second(record)
