"""The state of a journey, its join, and all that follows from it without knowing what time it is.

A state is a join-semilattice: events in any order, any number of times, give the same one. Times are integer
nanoseconds UTC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.values import Value, shortest

UNSET = 2**63 - 1
"""The time of a milestone that was not reached: later than any time, so that the minimum is right."""

MAX_SEGMENT_BYTES = 128
_BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one journey.

    reached   per milestone the earliest time of a matching event, or UNSET
    segments  per configured segment the (time, value) that is smallest, or None
    """

    reached: tuple[int, ...]
    segments: tuple[tuple[int, str] | None, ...]

    def join(self, other: State) -> State:
        """Pointwise minimum: commutative, associative, idempotent. Raises ValueError for another shape."""
        if len(self.reached) != len(other.reached):
            raise ValueError(f"a state of {len(self.reached)} milestones, another of {len(other.reached)}")
        segments = self.segments
        if segments != other.segments:
            segments = tuple(
                # Code points of text are in the order of its UTF-8 bytes.
                theirs if ours is None or (theirs is not None and theirs < ours) else ours
                for ours, theirs in zip(segments, other.segments, strict=True)
            )
        return State(tuple(map(min, self.reached, other.reached)), segments)


def empty(journey: Journey) -> State:
    """The state before the first event: joined with it, every state stays as it is."""
    return State((UNSET,) * len(journey.milestones), (None,) * len(journey.segments))


def segment_text(value: Value) -> str | None:
    """A segment's value as text of 1 to 128 bytes, cut on a character's border.

    An array of one is its element. None for what is no text, finite number or bool, and for empty text.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        value = shortest(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    if len(value) * 4 > MAX_SEGMENT_BYTES:
        value = value.encode(errors="replace")[:MAX_SEGMENT_BYTES].decode(errors="ignore")
    return value or None


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that follows from a journey's definition and state, without the present.

    known                per milestone the moment at which it was reached and all known before it, too; None
                         where it is unknown, or skipped (complete_when: last)
    durations            per stage (one fewer than milestones), ns; None where either end is unknown
    total                ns from the start to the completion; None until then
    completed_at         None until then
    started_at           time of the first milestone; None where unknown
    out_of_order         some milestone was reached before one that stands in front of it
    start_unknown        something is known, but not the first milestone
    current              index of the milestone at the end of the current stage: the first in order without a
                         time; None when completed or not started
    opened               when the current stage opened
    segments             per configured segment its value; None: unknown, or learned after the completion
    segment_after_start  some value that counts is from after the start
    touched              the greatest of known
    """

    known: tuple[int | None, ...]
    durations: tuple[int | None, ...]
    total: int | None
    completed_at: int | None
    started_at: int | None
    out_of_order: bool
    start_unknown: bool
    current: int | None
    opened: int | None
    segments: tuple[str | None, ...]
    segment_after_start: bool
    touched: int | None


def timeline(journey: Journey, state: State) -> Timeline:
    """The timeline of a state. Called for every changed journey, hence one pass and no helper calls."""
    reached = state.reached
    first = reached[0]
    started = first if first != UNSET else None
    completed: int | None = None
    if journey.complete_when == "last":
        if started is not None and reached[-1] != UNSET:
            completed = max(first, reached[-1])
    elif UNSET not in reached:
        completed = max(reached)

    # Only what happened until the completion counts.
    until = UNSET - 1 if completed is None else completed
    known: list[int | None] = []
    durations: list[int | None] = []
    out_of_order = False
    highest = _BEFORE_ALL
    before: int | None = None
    for time in reached:
        if time > until:
            known.append(None)
            durations.append(None)
            before = None
            continue
        if time < highest:
            out_of_order = True
        else:
            highest = time
        known.append(highest)
        durations.append(None if before is None else highest - before)
        before = highest
    del durations[0]

    current = opened = None
    if completed is None and started is not None:
        current = reached.index(UNSET)
        opened = known[current - 1]
    touched = highest if highest != _BEFORE_ALL else None

    values: list[str | None] = []
    after_start = False
    for first_touch in state.segments:
        if first_touch is None or first_touch[0] > until:
            values.append(None)
        else:
            values.append(first_touch[1])
            if first_touch[0] > first:
                after_start = True
    return Timeline(
        tuple(known),
        tuple(durations),
        None if completed is None else completed - first,
        completed,
        started,
        out_of_order,
        started is None and touched is not None,
        current,
        opened,
        tuple(values),
        after_start,
        touched,
    )


def named_segments(journey: Journey, line: Timeline) -> dict[str, str]:
    """The known segments by attribute."""
    return {
        segment.attribute: value
        for segment, value in zip(journey.segments, line.segments, strict=True)
        if value is not None
    }
