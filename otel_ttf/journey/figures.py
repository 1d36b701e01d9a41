"""Figures of a population, from the packed cells of its journeys (rollup.py).

Counts are exact, durations within 2 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.metrics import minutes
from otel_ttf.journey.rollup import (
    COMPLETED,
    ENTERED_LATE,
    EXPIRED,
    FIRST_BUCKET_NS,
    GROWTH,
    OPENED,
    SCORE_SUM,
    SCORED,
    STARTED,
    STRIDE,
)
from otel_ttf.journey.state import UNSET
from otel_ttf.units import MINUTE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts: TypeAlias = NDArray[np.int64]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One stage. Minutes are over those who reached its end; None where nobody did.

    within_target     share reached within the target, of the within_target_of journeys in which the stage
                      opened at least the target ago; None where there is no target or no such journey
    """

    name: str
    milestone: str
    target_minutes: float | None
    reached: int
    median_minutes: float | None
    p90_minutes: float | None
    within_target: float | None
    within_target_of: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A population. started = completed + in_progress + expired; entered_late are in no other figure.

    Rates and shares are 0 to 1; None where they would divide by 0. within_target is about the total, as in
    StageFigures.
    """

    started: int
    completed: int
    completion_rate: float | None
    in_progress: int
    expired: int
    entered_late: int
    median_minutes_of_completed: float | None
    p90_minutes_of_completed: float | None
    mean_score_of_completed: float | None
    within_target: float | None
    within_target_of: int
    stages: tuple[StageFigures, ...]


@dataclass(frozen=True, slots=True)
class Young:
    """What opened less than its target ago, per measure (0: the total, i: the stage ending at milestone i).

    It is left out of the shares within target: anything else favours the fast ones of the last minutes.
    """

    opened: tuple[int, ...]
    reached_within: tuple[int, ...]


def longest_target(journey: Journey) -> int:
    """ns: nothing that was reached longer ago can be young. 0 without targets."""
    return max(target or 0 for target in _targets(journey))


def young(journey: Journey, packed: Sequence[bytes], now: int) -> Young:
    """Counts what is young.

    packed  times (times.pack_times) of at least those started journeys of which something was reached after
            now - longest_target
    now     unix ns
    There may be very many: it does what state.timeline does, for all of them at once.
    Raises ValueError: they are no such times.
    """
    targets = _targets(journey)
    opened = [0] * len(targets)
    within = [0] * len(targets)
    if not packed:
        return Young(tuple(opened), tuple(within))
    # Only a process that answers questions about many pays for numpy.
    import numpy as np

    reached = (
        np.frombuffer(b"".join(packed), dtype=">i8")
        .astype(np.int64)
        .reshape(len(packed), len(journey.milestones))
    )
    reached = reached[reached[:, 0] != UNSET]
    first, last = reached[:, 0], reached[:, -1]
    whole = last != UNSET if journey.complete_when == "last" else (reached != UNSET).all(axis=1)
    done_at = np.maximum(first, last) if journey.complete_when == "last" else reached.max(axis=1)
    # Only what happened until the completion counts.
    counts = reached <= np.where(whole, done_at, UNSET - 1)[:, None]
    known = np.maximum.accumulate(np.where(counts, reached, np.iinfo(np.int64).min), axis=1)
    for measure, target in enumerate(targets):
        if target is None:
            continue
        if measure:
            since, closed = known[:, measure - 1], counts[:, measure - 1] & counts[:, measure]
            started, took = counts[:, measure - 1], known[:, measure] - since
        else:
            since, closed, started, took = first, whole, np.ones(len(first), bool), done_at - first
        recent = started & (since > now - target) & (closed | ~whole)
        opened[measure] = int(recent.sum())
        within[measure] = int((recent & closed & (took <= target)).sum())
    return Young(tuple(opened), tuple(within))


def figures(journey: Journey, packed: Iterable[bytes], *, unswept_expired: int, young: Young) -> Figures:
    """The figures of the journeys whose shares were packed.

    unswept_expired  those that have expired by now, but are not counted as such yet
    Raises ValueError: they are no such shares.
    """
    counts = _summed(packed, len(journey.milestones))
    started, completed = int(counts[STARTED]), int(counts[COMPLETED])
    expired = int(counts[EXPIRED]) + unswept_expired
    scored = int(counts[SCORED])
    targets = _targets(journey)
    stages = []
    for place, milestone in enumerate(journey.milestones):
        if place:
            share, among = _within(counts, place, int(counts[OPENED + place]), targets[place], young)
            median, p90 = _quantiles(counts, place, targets[place])
            stages.append(
                StageFigures(
                    name=milestone.stage,
                    milestone=milestone.name,
                    target_minutes=None if milestone.target is None else minutes(milestone.target),
                    reached=int(_measure(counts, place).sum()),
                    median_minutes=median,
                    p90_minutes=p90,
                    within_target=share,
                    within_target_of=among,
                )
            )
    share, among = _within(counts, 0, started, targets[0], young)
    median, p90 = _quantiles(counts, 0, targets[0])
    return Figures(
        started=started,
        completed=completed,
        completion_rate=completed / started if started else None,
        in_progress=started - completed - expired,
        expired=expired,
        entered_late=int(counts[ENTERED_LATE]),
        median_minutes_of_completed=median,
        p90_minutes_of_completed=p90,
        mean_score_of_completed=int(counts[SCORE_SUM]) / scored / _MILLION if scored else None,
        within_target=share,
        within_target_of=among,
        stages=tuple(stages),
    )


def _targets(journey: Journey) -> list[int | None]:
    """Per measure."""
    return [journey.target, *(milestone.target for milestone in journey.milestones[1:])]


def _summed(packed: Iterable[bytes], measures: int) -> Counts:
    """All cells, summed over the rows."""
    # Only a process that answers questions about many pays for numpy.
    import numpy as np

    numbers, counts = [], []
    for row in packed:
        split = len(row) // 12 * 4
        numbers.append(row[:split])
        counts.append(row[split:])
    summed = np.zeros((measures + 1) * STRIDE, dtype=np.int64)
    cells = np.frombuffer(b"".join(numbers), dtype="<u4")
    if cells.size and cells.max() >= summed.size:
        raise ValueError
    np.add.at(summed, cells, np.frombuffer(b"".join(counts), dtype="<i8"))
    return summed


def _measure(counts: Counts, measure: int) -> Counts:
    """Its buckets: an even cell holds what is within the target, the odd one after it what is beyond."""
    return counts[(measure + 1) * STRIDE : (measure + 2) * STRIDE]


def _within(
    counts: Counts, measure: int, opened: int, target: int | None, young: Young
) -> tuple[float | None, int]:
    if target is None:
        return None, 0
    among = opened - young.opened[measure]
    within = int(_measure(counts, measure)[::2].sum()) - young.reached_within[measure]
    return (within / among if among else None), among


def _quantiles(counts: Counts, measure: int, target: int | None) -> tuple[float | None, float | None]:
    """Median and 90th percentile, in minutes.

    They lie between two neighbours in rank, as numpy's and R's default has it (Hyndman & Fan, type 7); each
    of these is placed in its bucket, so that the result is as close as the buckets are narrow.
    """
    import numpy as np

    buckets = _measure(counts, measure)
    filled = np.flatnonzero(buckets)
    if not filled.size:
        return None, None
    ends = np.cumsum(buckets[filled])

    def ranked(rank: int) -> float:
        """The duration of that rank, from 0."""
        place = int(np.searchsorted(ends, rank, side="right"))
        cell, end = int(filled[place]), int(ends[place])
        low, high = _bounds(cell, target)
        inside = (rank - (end - int(buckets[cell])) + 0.5) / int(buckets[cell])
        return low * (high / low) ** inside if low else high * inside

    def quantile(share: float) -> float:
        rank = (int(ends[-1]) - 1) * share
        below = ranked(int(rank))
        return below + (ranked(min(int(rank) + 1, int(ends[-1]) - 1)) - below) * (rank % 1)

    return quantile(0.5) / MINUTE, quantile(0.9) / MINUTE


def _bounds(cell: int, target: int | None) -> tuple[float, float]:
    """Between which durations (ns) a cell counts."""
    number, beyond = divmod(cell, 2)
    if number == 0:
        return 0.0, 0.0
    high = FIRST_BUCKET_NS * GROWTH ** (number - 1)
    low = high / GROWTH if number > 1 else 0.0
    if target is not None:
        low, high = (max(low, target), high) if beyond else (low, min(high, target))
    return low, high
