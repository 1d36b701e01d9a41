"""Columns of a journey's row that follow from its state and the settings."""

from __future__ import annotations

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import UNSET, State, Timeline
from otel_ttf.journey.thresholds import deadlines
from otel_ttf.journey.transitions import EXPIRED, told_bit
from otel_ttf.store.sqlite_rows import STATES

NOT_STARTED, IN_PROGRESS, COMPLETED, EXPIRED_STATE = (
    STATES[name] for name in ("not_started", "in_progress", "completed", "expired")
)


def stage_of(journey: Journey, line: Timeline, told: int, now: int) -> int:
    """The code of STATES; expired is what was told so, as long as the settings of today say it, too."""
    if line.completed_at is not None:
        return COMPLETED
    if line.started_at is None:
        return NOT_STARTED
    gone = told & EXPIRED and now >= line.started_at + journey.give_up_after
    return EXPIRED_STATE if gone else IN_PROGRESS


def coming(journey: Journey, line: Timeline, told: int) -> int | None:
    """The next deadline of a journey in progress that was not told yet."""
    ahead = [
        at
        for kind, level, at in deadlines(journey, line)
        if kind == "expired" or not told & told_bit(kind, level)
    ]
    return min(ahead) if ahead else None


def unreached(state: State) -> bool:
    """Whether no milestone was reached: then a row is only a place where segments wait."""
    return state.reached.count(UNSET) == len(state.reached)
