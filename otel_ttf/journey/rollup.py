"""What one journey adds to the figures of its population, and how such counts are stored.

Counts stand in cells, numbered by what they count. Below STRIDE are the scalars; above, each measure (0: the
total, i: the stage that ends at milestone i) has STRIDE cells of durations in buckets 2 % wide, those within
the target apart from those beyond it. All journeys' shares of a cohort day and a combination of segments are
added up in one row of cells; a changed journey's old share is subtracted.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from otel_ttf.journey.definition import LEVELS, Journey
from otel_ttf.journey.metrics import score
from otel_ttf.journey.state import Timeline
from otel_ttf.units import DAY, SECOND

# Scalars.
STARTED = 0
COMPLETED = 1
EXPIRED = 2
ENTERED_LATE = 3
# Completed journeys that have a score, and their scores' sum in millionths of a point.
SCORED = 4
SCORE_SUM = 5
# Three cells: journeys in progress by their highest overdue level.
_OVERDUE = 8
# A cell a stage, by the index of the milestone at its end: journeys in which it opened.
OPENED = 32

STRIDE = 4096
_MILLION = 1_000_000
_EPOCH = date(1970, 1, 1).toordinal()

# Bucket 0 is for no time at all, bucket 1 for up to 1 ms; bucket k ends 1.02 times as late as the one before.
FIRST_BUCKET_NS = 1_000_000
GROWTH = 1.02
_PER_LOG = 1 / math.log(GROWTH)
_LOG_FIRST = math.log(FIRST_BUCKET_NS)


@dataclass(frozen=True, slots=True)
class Share:
    """What a journey counts.

    day       its cohort, days since 1970-01-01 in the journey's time zone
    segments  values as known; limits are the caller's matter
    cells     cell -> count
    """

    day: int
    segments: tuple[str | None, ...]
    cells: dict[int, int]


@dataclass(frozen=True, slots=True)
class Scalars:
    """The counts that need no durations. expired: those of which it was written."""

    started: int
    completed: int
    expired: int
    entered_late: int


def bucket(duration: int) -> int:
    """The bucket of a duration in ns, >= 0; at most 1,600 (292 years)."""
    if duration <= FIRST_BUCKET_NS:
        return 1 if duration else 0
    return math.ceil((math.log(duration) - _LOG_FIRST) * _PER_LOG) + 1


def share(journey: Journey, line: Timeline, *, expired: bool) -> Share | None:
    """The share of one journey; None where nothing of it is known. Called for every changed journey.

    expired  whether `expired` is counted, unless the journey is completed
    """
    if line.touched is None:
        return None
    known = line.known
    if line.started_at is None:
        first = next(at for at in known if at is not None)
        return Share(cohort_day(first, journey.timezone), line.segments, {ENTERED_LATE: 1})
    cells = {STARTED: 1}
    total = line.total
    if total is not None and line.completed_at is not None:
        cells[COMPLETED] = 1
        target = journey.target
        beyond = target is not None and total > target
        cells[STRIDE + 2 * bucket(total) + beyond] = 1
        points = score(journey, line, line.completed_at)
        if points is not None:
            cells[SCORED] = 1
            cells[SCORE_SUM] = round(points * _MILLION)
    elif expired:
        cells[EXPIRED] = 1
    milestones = journey.milestones
    for place, duration in enumerate(line.durations, 1):
        if duration is not None:
            cells[OPENED + place] = 1
            target = milestones[place].target
            beyond = target is not None and duration > target
            cells[(place + 1) * STRIDE + 2 * bucket(duration) + beyond] = 1
        elif total is None and known[place - 1] is not None:
            cells[OPENED + place] = 1
    return Share(cohort_day(line.started_at, journey.timezone), line.segments, cells)


def cohort_day(at: int, timezone: str) -> int:
    """The day of an instant in that time zone, counted from 1970-01-01."""
    if timezone == "UTC":
        return at // DAY
    return datetime.fromtimestamp(at // SECOND, ZoneInfo(timezone)).toordinal() - _EPOCH


def overdue_cell(level: str) -> int:
    """The cell that counts journeys in progress with this highest overdue level."""
    return _OVERDUE + LEVELS.index(level)


def add(target: dict[int, int], cells: Mapping[int, int], sign: int) -> None:
    """Adds cells (sign 1), or subtracts them (-1). Cells that become 0 go."""
    for cell, count in cells.items():
        left = target.get(cell, 0) + sign * count
        if left:
            target[cell] = left
        else:
            target.pop(cell, None)


def pack(cells: Mapping[int, int]) -> bytes:
    """Little-endian: all cell numbers (uint32, ascending), then all counts (int64)."""
    numbers = sorted(cells)
    return struct.pack(f"<{len(numbers)}I{len(numbers)}q", *numbers, *[cells[number] for number in numbers])


def unpack(packed: bytes) -> dict[int, int]:
    """The opposite of pack."""
    size = len(packed) // 12
    values = struct.unpack(f"<{size}I{size}q", packed)
    return dict(zip(values[:size], values[size:], strict=True))


def scalars(packed: Iterable[bytes]) -> Scalars:
    """Sums of packed rows, without touching their durations."""
    counts = _low_cells(packed)
    return Scalars(
        started=counts.get(STARTED, 0),
        completed=counts.get(COMPLETED, 0),
        expired=counts.get(EXPIRED, 0),
        entered_late=counts.get(ENTERED_LATE, 0),
    )


def overdue_cells(packed: Iterable[bytes]) -> dict[str, int]:
    """Journeys in progress by their highest overdue level."""
    counts = _low_cells(packed)
    return {level: counts.get(overdue_cell(level), 0) for level in LEVELS}


def _low_cells(packed: Iterable[bytes]) -> dict[int, int]:
    """Sums of the cells below STRIDE, which stand in front."""
    counts: dict[int, int] = {}
    for row in packed:
        numbers = len(row) // 12 * 4
        for place, (cell,) in enumerate(struct.iter_unpack("<I", memoryview(row)[:numbers])):
            if cell >= STRIDE:
                break
            (count,) = struct.unpack_from("<q", row, numbers + 8 * place)
            counts[cell] = counts.get(cell, 0) + count
    return counts
