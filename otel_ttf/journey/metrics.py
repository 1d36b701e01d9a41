"""How a journey stands at an instant: its state, its efficiency score.

`now` is unix nanoseconds, the `as_of` of journeys.md.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import Timeline
from otel_ttf.units import MINUTE

Status: TypeAlias = Literal["not_started", "in_progress", "completed", "expired"]


def minutes(nanoseconds: int) -> float:
    """Minutes, never rounded."""
    return nanoseconds / MINUTE


def status(journey: Journey, line: Timeline, now: int) -> Status:
    """Where the journey stands. Without its first milestone it is not started, whatever else is known.

    Expired from `give_up_after` after the start; only completion ends that.
    """
    if line.started_at is None:
        return "not_started"
    if line.completed_at is not None:
        return "completed"
    return "expired" if now >= line.started_at + journey.give_up_after else "in_progress"


def score(journey: Journey, line: Timeline, now: int) -> float | None:
    """Efficiency score, 0 to 100: the mean of min(1, target / duration) over the stages, weighted by target.

    An open stage counts 0 once its target has passed, and is left out before. Left out, too: stages without
    a target, those that have not opened, those of unknown duration. None where nothing is left. A completed
    journey has no open stages, so its score stays.
    """
    gained: float = 0
    weight = 0
    milestones = journey.milestones
    for place, duration in enumerate(line.durations, 1):
        target = milestones[place].target
        if target is None:
            continue
        if duration is not None:
            weight += target
            gained += target if duration <= target else target * target / duration
        elif line.completed_at is None:
            opened = line.known[place - 1]
            if opened is not None and now - opened > target:
                weight += target
    return 100 * gained / weight if weight else None
