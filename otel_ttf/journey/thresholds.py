"""Overdue levels and expiry: what time alone does to a journey in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from otel_ttf.journey.definition import LEVELS, Journey
from otel_ttf.journey.metrics import minutes, status
from otel_ttf.journey.state import Timeline
from otel_ttf.journey.transitions import Transition, told_bit, transition_digest
from otel_ttf.units import HOUR

Deadline: TypeAlias = tuple[Literal["overdue", "expired"], str | None, int]
"""Kind, level (None for expired), and the first instant at which it holds."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that a journey in progress has passed.

    stage              name of the current stage
    since              when the deadline passed, unix ns
    minutes            since the start
    threshold_minutes  the threshold, since the start
    message            one sentence for people; without the user
    """

    level: str
    stage: str
    since: int
    minutes: float
    threshold_minutes: float
    message: str


def _passed(journey: Journey, line: Timeline, now: int) -> list[str]:
    """Levels passed, the lowest first. Exactly on the threshold is within."""
    if line.started_at is None or status(journey, line, now) != "in_progress":
        return []
    age = now - line.started_at
    return [level for level in LEVELS if level in journey.overdue and age > journey.overdue[level]]


def level(journey: Journey, line: Timeline, now: int) -> str | None:
    """The highest overdue level of a journey in progress; None where it has none."""
    passed = _passed(journey, line, now)
    return passed[-1] if passed else None


def alerts(journey: Journey, line: Timeline, now: int) -> list[Alert]:
    """One per overdue level that was passed, the highest first; none unless in progress."""
    passed = _passed(journey, line, now)
    if not passed or line.started_at is None or line.current is None:
        return []
    waited_for = journey.milestones[line.current]
    age = minutes(now - line.started_at)
    return [
        Alert(
            level=level,
            stage=waited_for.stage,
            since=line.started_at + journey.overdue[level],
            minutes=age,
            threshold_minutes=minutes(journey.overdue[level]),
            message=(
                f"{journey.name} is overdue ({level}): started {age:.0f} minutes ago, "
                f"threshold {minutes(journey.overdue[level]):g} minutes, waiting for {waited_for.name}"
            ),
        )
        for level in reversed(passed)
    ]


def deadlines(journey: Journey, line: Timeline) -> list[Deadline]:
    """What will come by time alone, the earliest first; empty unless started and incomplete.

    A level that expiry would overtake is left out.
    """
    start = line.started_at
    if start is None or line.completed_at is not None:
        return []
    expiry = start + journey.give_up_after
    found: list[Deadline] = []
    for level in LEVELS:
        threshold = journey.overdue.get(level)
        # Exactly on the threshold is within, hence the nanosecond.
        if threshold is not None and start + threshold + 1 < expiry:
            found.append(("overdue", level, start + threshold + 1))
    return [*found, ("expired", None, expiry)]


def due(
    journey: Journey,
    line: Timeline,
    told: int,
    *,
    subject: str,
    key: tuple[str, ...] = (),
    segments: Mapping[str, str],
    now: int,
    recorded_start: int,
) -> tuple[list[Transition], int]:
    """The `overdue` and `expired` that hold now and were not told yet, and told with their bits.

    One `overdue` per level passed while the journey is in progress; once it has expired, `expired` alone.
    Backfilled where the deadline lay more than an hour in the past when the start was recorded.

    key             parts beyond the subject
    segments        known values by attribute
    recorded_start  unix ns
    The caller waits until `settle` has passed and the log has been read.
    """
    start = line.started_at
    if start is None:
        return [], told
    holds: list[tuple[str, str | None, int]] = [
        ("overdue", level, start + journey.overdue[level]) for level in _passed(journey, line, now)
    ]
    if status(journey, line, now) == "expired":
        holds = [("expired", None, start + journey.give_up_after)]
    transitions = []
    for kind, level, at in holds:
        bit = told_bit(kind, level)
        if told & bit:
            continue
        told |= bit
        transitions.append(
            Transition(
                digest=transition_digest(journey.name, (subject, *key), kind, level),
                journey=journey.name,
                version=journey.version,
                key=key,
                subject=subject,
                kind=kind,
                milestone=None,
                level=level,
                at=at,
                recorded=now,
                segments=dict(segments),
                backfilled=recorded_start - at > HOUR,
            )
        )
    return transitions, told
