"""Rows of the embedded store as values, and how their columns are packed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from otel_ttf.journey.definition import carried
from otel_ttf.journey.keys import Key
from otel_ttf.journey.rollup import unpack
from otel_ttf.journey.sampling import Sampling
from otel_ttf.journey.state import State
from otel_ttf.journey.times import unpack_times
from otel_ttf.journey.transitions import Transition
from otel_ttf.sqlite_disk import RowDamaged
from otel_ttf.store.base import COUNTED, MINUTE_BOUNDS, SCORE_BOUNDS

# One encoder: `json.dumps` with options makes a new one for every call. And `json.loads` asks what it is given.
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode

SAMPLED = "sampled"  # in table meta: journey.sampling

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
class Rebuild:
    """A row of the `rebuild` table."""

    definition: int
    beside: int
    phase: str
    place: int
    since: int


@dataclass(slots=True)
class Kept:
    """A journey row in memory. `stage` is the code of STATES; day and combo tell its place in the rollup.

    key  as its column has it: parts beyond the subject
    """

    id: int | None
    subject: str
    state: State
    told: int
    recorded: int | None
    epoch: int
    stage: int
    day: int | None
    combo: int | None
    key: str = ""

    @property
    def whose(self) -> str:
        """Tells it from all others of its journey."""
        return self.subject + self.key

    @property
    def shared(self) -> bool:
        """Whether it is no journey: what is known of the subject in all of them, see journey/keys.py."""
        return bool(self.key) and "" in parts(self.key)


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
    known = unpack_touches(text)
    return tuple(known.get(name) for name in names)


# What functions that read a column raise where nothing of ours wrote it.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error)


def unpack_touches(text: str) -> dict[str, tuple[int, str]]:
    """The opposite of pack_touches."""
    touches: dict[str, tuple[int, str]] = {}
    for name, (time, value) in _object(text).items():
        if type(time) is not int or type(value) is not str:
            raise ValueError
        touches[name] = time, value
    return touches


def unpack_texts(text: str) -> dict[str, str | None]:
    """name -> value: segments of a transition or a combination, labels."""
    values = _object(text)
    if not all(value is None or type(value) is str for value in values.values()):
        raise ValueError
    return values


def unpack_counts(text: str, size: int | None = None) -> list[int]:
    """Of a histogram of so many buckets."""
    counts = _list(text)
    if not all(type(count) is int for count in counts) or len(counts) != (size or len(counts)):
        raise ValueError
    return counts


def _unpack_buckets(text: str) -> list[int]:
    counts = unpack_counts(text)
    if len(counts) not in (len(MINUTE_BOUNDS) + 1, len(SCORE_BOUNDS) + 1):
        raise ValueError
    return counts


def unpack_labels(text: str) -> dict[str, str]:
    """Of a counter or histogram."""
    labels = {name: value for name, value in unpack_texts(text).items() if value is not None}
    if not all(labels.values()) or "journey" not in labels or len(labels) != len(_object(text)):
        raise ValueError
    return labels


def _unpack_closed(text: str) -> list[tuple[str, int]]:
    closed = [(stage, took) for stage, took in _list(text)]
    if not all(type(stage) is str and type(took) is int for stage, took in closed):
        raise ValueError
    return closed


def _unpack_changed(text: str) -> list[tuple[str, object, object]]:
    changed = [(what, old, new) for what, old, new in _list(text)]
    if not all(type(what) is str for what, _, _ in changed):
        raise ValueError
    return changed


def unpack_key(text: str) -> Key:
    """Parts of a journey's key beyond the subject."""
    key = tuple(_list(text)) if text else ()
    if not all(type(part) is str for part in key):
        raise ValueError
    return key


# A subject's keys come again and again.
parts = lru_cache(maxsize=16384)(unpack_key)


@lru_cache(maxsize=16384)
def pack_key(key: Key) -> str:
    """The opposite of unpack_key."""
    return to_json(key) if key else ""


def _unpack_id(digest: bytes) -> bytes:
    if len(digest) != 16:
        raise ValueError
    return digest


def unpack_sampling(text: str) -> Sampling:
    """Steps as JSON: [[since, share]], the oldest first."""
    steps = tuple((since, share) for since, share in _list(text))
    if not all(type(since) is int and type(share) is float and 0 < share <= 1 for since, share in steps):
        raise ValueError
    return Sampling(steps)


def unpack_names(text: str) -> set[str]:
    """What a name matched."""
    names = _list(text)
    if not all(type(name) is str for name in names):
        raise ValueError
    return set(names)


def unpack_canonical(text: str) -> dict[str, object]:
    """journey.definition.canonical"""
    canonical = _object(text)
    if carried(canonical, canonical) is None or type(canonical["key"]) is not list:
        raise ValueError
    return canonical


def unpack_loss(text: str) -> dict[str, Any]:
    """pages, tables, gaps and counted of a loss, see store/losses.py."""
    what = _object(text)
    numbers = [what["pages"], *[n for gap in what["gaps"] for n in gap], *[row[3] for row in what["counted"]]]
    texts = [*what["tables"], *[name for row in what["counted"] for name in row[:3]]]
    pairs = all(len(gap) == 2 for gap in what["gaps"]) and all(len(row) == 4 for row in what["counted"])
    if not (pairs and {type(n) for n in numbers} <= {int} and {type(name) for name in texts} <= {str}):
        raise ValueError
    return what


def _object(text: str) -> dict[str, Any]:
    found = _from_json(text)
    if type(found) is not dict:
        raise ValueError
    return found


def _list(text: str) -> list[Any]:
    found = _from_json(text)
    if type(found) is not list:
        raise ValueError
    return found


# Columns whose bytes mean more than their type says: table -> column -> what reads it.
READERS: Mapping[str, Mapping[str, Callable[[Any], object]]] = {
    "definition": {"canonical": unpack_canonical},
    "journey": {"key": unpack_key, "reached": unpack_times, "segments": unpack_touches},
    "transition": {
        "id": _unpack_id,
        "key": unpack_key,
        "segments": unpack_texts,
        "closed": _unpack_closed,
        "changed": _unpack_changed,
    },
    "combo": {"segments": unpack_texts},
    "rollup": {"cells": unpack},
    "counter": {"metric": COUNTED["counter"].index, "labels": unpack_labels},
    "histogram": {"metric": COUNTED["histogram"].index, "labels": unpack_labels, "counts": _unpack_buckets},
    "seen": {"matched": unpack_names},
    "task": {"what": _object},
    "loss": {"what": unpack_loss},
}


@contextmanager
def reading(table: str, row: object) -> Iterator[None]:
    """What cannot be unpacked is RowDamaged: a defect of neither a record nor ours."""
    try:
        yield
    except UNREADABLE:
        raise RowDamaged(table, row) from None  # an error's own words may quote the value


def definition_from(row: tuple[Any, ...]) -> Definition:
    """All columns of the `definition` table in the order of Definition. Raises RowDamaged."""
    with reading("definition", row[0]):
        canonical = unpack_canonical(row[3])
    return Definition(row[0], row[1], row[2], canonical, row[4], row[5], row[6], bool(row[7]), *row[8:11])


# What `transition_from` takes.
TRANSITION = (
    "id, journey, version, key, subject, kind, milestone, level, at, recorded, segments, backfilled, after_expiry,"
    " old, new, closed, changed"
)


def transition_from(row: Sequence[Any], position: object) -> Transition:
    """The columns TRANSITION of a row. Raises RowDamaged."""
    id_, journey, version, key, subject, kind, milestone, level, at, recorded, segments, *rest = row
    backfilled, after_expiry, old, new, closed, changed = rest
    with reading("transition", position):
        return Transition(
            *(id_, journey, version, unpack_key(key), subject, kind, milestone, level, at, recorded),
            segments={name: value for name, value in unpack_texts(segments).items() if value is not None},
            backfilled=bool(backfilled),
            after_expiry=bool(after_expiry),
            old=old,
            new=new,
            closed=tuple((stage, took) for stage, took in json.loads(closed)),
            changed=tuple((name, before, after) for name, before, after in json.loads(changed)),
        )


def kept_from(row: tuple[object, ...], segments: Sequence[str]) -> Kept:
    """id, subject, key, reached, segments, told, recorded, epoch, state, day, combo of the `journey` table.

    Raises RowDamaged.
    """
    id_, subject, key, reached, touched, told, recorded, epoch, stage, day, combo = row
    try:
        state = State(unpack_times(reached), unpack_segments(segments, touched))  # type: ignore[arg-type]
        parts(key)
    except UNREADABLE:
        raise RowDamaged("journey", id_) from None
    return Kept(id_, subject, state, told, recorded, epoch, stage, day, combo, key)  # type: ignore[arg-type]
