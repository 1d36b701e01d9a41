"""Rows of the embedded store as values, and how their columns are packed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

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


@lru_cache(maxsize=16384)
def subject_hash(token: str) -> int:
    """60 bits of a subject token, as an index key: its digits happen to be digits of base 36 too."""
    return int(token[8:20], 36)


_json_text = lru_cache(maxsize=4096)(to_json)


def pack_touches(names: Iterable[str], touches: Iterable[tuple[int, str] | None]) -> str:
    """First touches of segments as JSON, name -> [time, value]."""
    # Put together by hand: an encoder takes ten times as long.
    known = [
        f"{_json_text(name)}:[{first[0]},{_json_text(first[1])}]"
        for name, first in zip(names, touches, strict=True)
        if first
    ]
    return f"{{{','.join(known)}}}"


def touch_pieces(names: Iterable[str], values: Iterable[str | None]) -> list[str]:
    """What pack_touches gives for values that were all touched at one time, cut where the time stands."""
    pieces = ["{"]
    for name, value in zip(names, values, strict=True):
        if value is not None:
            pieces[-1] += f"{',' if len(pieces) > 1 else ''}{_json_text(name)}:["
            pieces.append(f",{_json_text(value)}]")
    pieces[-1] += "}"
    return pieces


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
