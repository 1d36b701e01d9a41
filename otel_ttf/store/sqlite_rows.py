"""Rows of the embedded store as values, and how their columns are packed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import State
from otel_ttf.journey.times import unpack_times

# One encoder: `json.dumps` with options makes a new one for every call.
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

STATES = {"not_started": 0, "in_progress": 1, "completed": 2, "expired": 3}


@dataclass(slots=True)
class Definition:
    """A stored version of a journey, as the `definition` table has it."""

    id: int
    journey: str
    version: str
    canonical: dict[str, object]
    derived: str
    first_started: int
    complete_since: int | None
    current: bool
    epoch: int
    recounting: int | None
    carrying: int | None


@dataclass(slots=True)
class Kept:
    """A journey row in memory. `stage` is the code of STATES; day and combo tell its place in the rollup."""

    id: int | None
    subject: str
    state: State
    told: int
    recorded: int | None
    epoch: int
    stage: int
    day: int | None
    combo: int | None


def subject_hash(token: str) -> int:
    """60 bits of a subject token, as an index key: its digits happen to be digits of base 36 too."""
    return int(token[8:20], 36)


def pack_segments(journey: Journey, state: State) -> str:
    """JSON, name -> [time, value]."""
    known = {
        segment.attribute: touch
        for segment, touch in zip(journey.segments, state.segments, strict=True)
        if touch
    }
    return to_json(known) if known else "{}"


def unpack_segments(names: Iterable[str], text: str) -> tuple[tuple[int, str] | None, ...]:
    if text == "{}":
        return tuple(None for _ in names)
    known = json.loads(text)
    return tuple(tuple(known[name]) if name in known else None for name in names)


def kept_from(row: tuple[object, ...], segments: Sequence[str]) -> Kept:
    """id, subject, reached, segments, told, recorded, epoch, state, day, combo of the `journey` table."""
    id_, subject, reached, touched, told, recorded, epoch, stage, day, combo = row
    state = State(unpack_times(reached), unpack_segments(segments, touched))  # type: ignore[arg-type]
    return Kept(id_, subject, state, told, recorded, epoch, stage, day, combo)  # type: ignore[arg-type]
