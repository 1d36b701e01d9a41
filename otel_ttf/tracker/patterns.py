"""What one milestone alone brings, whenever it was reached.

That is the change that comes most often. All that follows from it is the same for each subject but for the time,
so it is worked out once a milestone, by the functions that work out any other change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.rollup import share
from otel_ttf.journey.state import UNSET, State, empty, timeline
from otel_ttf.journey.transitions import advance, digests
from otel_ttf.tracker.derived import coming, stage_of


@dataclass(frozen=True, slots=True)
class Pattern:
    """A journey of which one milestone is known.

    kind, name  of its transition; digest: of a subject's
    told, stage, waiting  columns of its row
    head, tail  what stands before and behind the time in `reached`
    due_after   from the start to the first deadline; None where it has not started
    cells       its share of the rollup
    """

    kind: str
    name: str
    digest: Callable[[str], bytes]
    told: int
    stage: int
    waiting: int | None
    head: bytes
    tail: bytes
    due_after: int | None
    cells: dict[int, int]


def patterns(journey: Journey) -> list[Pattern | None]:
    """By milestone; None where it completes the journey."""
    return [_pattern(journey, place) for place in range(len(journey.milestones))]


def _pattern(journey: Journey, place: int) -> Pattern | None:
    nothing, at = empty(journey), 0
    state = State((*nothing.reached[:place], at, *nothing.reached[place + 1 :]), nothing.segments)
    line = timeline(journey, state)
    if line.completed_at is not None:
        return None
    (transition,), told = advance(journey, None, state, 0, subject="", recorded=at)
    part = share(journey, line, expired=False)
    assert part is not None
    assert transition.milestone is not None
    unset = UNSET.to_bytes(8, "big")
    return Pattern(
        transition.kind,
        transition.milestone,
        digests(
            journey.name, transition.kind, None if transition.kind == "started" else transition.milestone
        ),
        told,
        stage_of(journey, line, told, at),
        line.current,
        unset * place,
        unset * (len(journey.milestones) - place - 1),
        coming(journey, line, told),
        part.cells,
    )
