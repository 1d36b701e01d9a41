"""Journeys and states in minutes, for tables and laws."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from otel_ttf.journey.definition import Journey, Milestone, Segment
from otel_ttf.journey.match import parse
from otel_ttf.journey.state import UNSET, State
from otel_ttf.units import DAY, HOUR, MINUTE

START = 20_000 * DAY + 8 * HOUR
NAMES = ("signup", "project", "agent", "workflow", "success")
SUBJECT = "u1_abcd_abcdefghijklmnopqrstuvwxyz234567"


def trip(
    names: Sequence[str] = NAMES, targets: Sequence[float | None] = (5, 10, 15, 30), **changes: object
) -> Journey:
    """Milestones of these names; targets of the stages in minutes."""
    stages = [None, *(None if target is None else round(target * MINUTE) for target in targets)]
    settings: dict[str, object] = {
        "segments": (Segment("plan"),),
        "target": 60 * MINUTE,
        "overdue": {"warning": 75 * MINUTE, "critical": 120 * MINUTE, "escalation": 180 * MINUTE},
    }
    return Journey(
        name="trip",
        milestones=tuple(
            Milestone(name, parse({"event": name}), f"to {name}" if place else "", stages[place])
            for place, name in enumerate(names)
        ),
        **(settings | changes),  # type: ignore[arg-type]
    )


def short(**changes: object) -> Journey:
    """a -> b (5 min) -> c (10) -> d (no target)."""
    return trip("abcd", (5, 10, None), **changes)


def at(minute: float) -> int:
    """Unix ns of a minute after START."""
    return START + round(minute * MINUTE)


def reached(*minutes: float | None, plan: tuple[float, str] | None = None) -> State:
    """A state by minutes after START; None: not reached. plan: (minute, value)."""
    return State(
        tuple(UNSET if minute is None else at(minute) for minute in minutes),
        (None if plan is None else (at(plan[0]), plan[1]),),
    )


def event(milestone: int, minute: float, size: int, plan: str | None = None) -> State:
    """What one event says: a journey's state with one time."""
    times = [minute if place == milestone else None for place in range(size)]
    return reached(*times, plan=None if plan is None else (minute, plan))


MODES = ("all", "last")
# Few distinct values, so that ties and collisions are common.
MINUTES = st.integers(0, 12)
PLANS = st.one_of(st.none(), st.tuples(MINUTES, st.sampled_from(["free", "pro"])))


def states(size: int) -> st.SearchStrategy[State]:
    return st.builds(
        lambda minutes, plan: reached(*minutes, plan=plan),
        st.lists(st.one_of(st.none(), MINUTES), min_size=size, max_size=size),
        PLANS,
    )
