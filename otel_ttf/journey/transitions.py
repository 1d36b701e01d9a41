"""Transitions: immutable facts about a journey, each told once for ever.

What was told is kept beside the state as an integer of bits, so that "once" outlives the transitions'
retention.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as json_string

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import UNSET, State, Timeline, named_segments, timeline

COMPLETED = 1
EXPIRED = 2
WARNING = 4
CRITICAL = 8
ESCALATION = 16
# Above these, two bits a milestone: that it was told (the first one: that the journey started), and that the
# duration of the stage that ends there was. 28 milestones fill a signed 64-bit integer.
_MILESTONES = 5
_GENERAL = (1 << _MILESTONES) - 1

_BITS: dict[tuple[str, str | None], int] = {
    ("completed", None): COMPLETED,
    ("expired", None): EXPIRED,
    ("overdue", "warning"): WARNING,
    ("overdue", "critical"): CRITICAL,
    ("overdue", "escalation"): ESCALATION,
}

TOTAL = "total"
"""What the whole is called in `changed`, beside the stages' names."""

# Two characters of base32 for ten bits.
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [one + two for one in _BASE32 for two in _BASE32]

Closed = tuple[str, int]
Changed = tuple[str, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Transition:
    """One fact. Times are unix ns, durations ns.

    digest        its id, 16 bytes: see transition_digest
    key           parts of the journey's key beyond the subject
    kind          started, reached, completed, corrected, overdue or expired
    milestone     of started, reached and corrected
    level         of overdue
    at            when it happened: the event's time, the completion, or the deadline
    recorded      when we learned of it
    segments      known values by attribute, as known when recorded
    backfilled    history that was filled in: moves no counter and notifies nobody
    after_expiry  a completion after expired was told
    old, new      times of a corrected milestone; new is None where it was not reached after all, old where that had
                  been told before
    closed        (stage, duration) that became known by it
    changed       (stage or "total", old, new duration) that it changed after they had been told
    """

    digest: bytes
    journey: str
    version: str
    key: tuple[str, ...]
    subject: str
    kind: str
    milestone: str | None
    level: str | None
    at: int
    recorded: int
    segments: dict[str, str]
    backfilled: bool = False
    after_expiry: bool = False
    old: int | None = None
    new: int | None = None
    closed: tuple[Closed, ...] = ()
    changed: tuple[Changed, ...] = ()

    @property
    def id(self) -> str:
        """26 characters a-z2-7."""
        return _base32(self.digest)


def told_bit(kind: str, level: str | None = None) -> int:
    """The bit of `completed`, `expired`, or of `overdue` at a level. Raises KeyError for others."""
    return _BITS[kind, level]


def milestone_bit(milestone: int) -> int:
    """The bit of a milestone that was told."""
    return 1 << (_MILESTONES + 2 * milestone)


def stage_bit(milestone: int) -> int:
    """The bit of the duration that was told of the stage that ends at a milestone."""
    return 2 << (_MILESTONES + 2 * milestone)


@lru_cache(maxsize=1024)
def _id_parts(journey: str, kind: str, what: str | None) -> tuple[str, str]:
    last = "null" if what is None else json_string(what)
    return f"[{json_string(journey)},[", f"],{json_string(kind)},{last}"


def transition_digest(
    journey: str, key: tuple[str, ...], kind: str, what: str | None, *times: int | None
) -> bytes:
    """The first 128 bits of SHA-256 over the compact ASCII JSON of a list.

    The list is [journey, [subject, further key parts...], kind, what], for `corrected` also the new time; of a user
    with events that are left out, whose milestones may come to the same time more than once, the new time, the old
    one, and when it was recorded.

    key   (subject, further parts...)
    what  the milestone of `reached` and `corrected`, the level of `overdue`, else None
    """
    head, tail = _id_parts(journey, kind, what)
    last = "".join([",null" if time is None else f",{time}" for time in times])
    text = f"{head}{','.join(map(json_string, key))}{tail}{last}]"
    return hashlib.sha256(text.encode()).digest()[:16]


def digests(journey: str, kind: str, what: str | None) -> Callable[[str], bytes]:
    """transition_digest for many subjects: what stands around a subject is made once."""
    head, tail = _id_parts(journey, kind, what)

    def digest(subject: str) -> bytes:
        return hashlib.sha256(f"{head}{json_string(subject)}{tail}]".encode()).digest()[:16]

    return digest


def transition_id(journey: str, key: tuple[str, ...], kind: str, what: str | None, *times: int | None) -> str:
    """transition_digest as 26 characters a-z2-7."""
    return _base32(transition_digest(journey, key, kind, what, *times))


def _base32(digest: bytes) -> str:
    # base64.b32encode takes half as long again.
    forties = [int.from_bytes(digest[place : place + 5]) for place in (0, 5, 10)]
    return (
        "".join([_PAIRS[bits >> shift & 1023] for bits in forties for shift in (30, 20, 10, 0)])
        + (_PAIRS[digest[15] << 2])
    )


def carry_told(old_names: Sequence[str], told: int, new: Journey) -> int:
    """What counts as told in a new version, of what was told in an older one.

    old_names  the older version's milestones in order
    `started`, `completed`, `expired` and `overdue` are told once a journey; a milestone is the one of the
    same name, a stage the one between two milestones of the same names.
    """
    carried = told & (_GENERAL | milestone_bit(0))
    places = {name: place for place, name in enumerate(old_names)}
    for place, milestone in enumerate(new.milestones):
        before = places.get(milestone.name)
        if place and before:
            if told & milestone_bit(before):
                carried |= milestone_bit(place)
            same_stage = old_names[before - 1] == new.milestones[place - 1].name
            if same_stage and told & stage_bit(before):
                carried |= stage_bit(place)
    return carried


def advance(
    journey: Journey,
    before: State | None,
    after: State,
    told: int,
    *,
    subject: str,
    key: tuple[str, ...] = (),
    recorded: int,
    backfilled: bool = False,
    line: Timeline | None = None,
    retold: bool = False,
) -> tuple[list[Transition], int]:
    """The transitions that a change of state brings, and told with their bits.

    before      the stored state; None: there was none (what was told then was told of another version)
    after       before joined with what came; or, recomputed, with later times or without some
    key         parts beyond the subject
    recorded    unix ns
    line        timeline(journey, after), if the caller has it
    retold      whether some event of the subject was left out: then a milestone that was told may be unknown, and
                its next time is a correction, too
    Several times may change at once: started comes first, then what was reached in order of time, then
    corrections, then completed. A stage is closed by the transition that supplies the second of its times.
    """
    if line is None:
        line = timeline(journey, after)
    fresh, corrected = _moved(before, after, told, retold=retold)
    moved = fresh + corrected
    new_told = told
    for place in fresh:
        new_told |= milestone_bit(place)

    closed: dict[int, list[Closed]] = {}
    bit = stage_bit(0)
    for place, duration in enumerate(line.durations, 1):
        bit <<= 2
        if duration is not None and not told & bit:
            new_told |= bit
            if moved:
                by = moved[0] if len(moved) == 1 else _closing(place, fresh, corrected)
                closed.setdefault(by, []).append((journey.milestones[place].stage, duration))

    changed: dict[int, list[Changed]] = {}
    skips = journey.complete_when == "last" and line.total is not None
    # Otherwise every moment is its milestone's own time, now as before.
    if before is not None and moved and (corrected or line.out_of_order or skips):
        changed = _changes(journey, before, after, line, told, moved, retold=retold)

    transitions: list[Transition] = []
    completes = line.completed_at is not None and not told & COMPLETED
    if not moved and not completes:
        return transitions, new_told
    segments = named_segments(journey, line)
    whose = (subject, *key)
    for number, place in enumerate(moved):
        name, time = journey.milestones[place].name, after.reached[place]
        old = new = what = None
        times: tuple[int | None, ...] = ()
        if number >= len(fresh) and before is not None:
            kind, what, old, new = "corrected", name, before.reached[place], time
            if time == UNSET:
                time, new = old, None
            elif old == UNSET:
                old = None
            times = (new, old, recorded) if retold else (new,)
        elif place:
            kind, what = "reached", name
        else:
            kind = "started"
        transitions.append(
            Transition(
                transition_digest(journey.name, whose, kind, what, *times),
                journey.name,
                journey.version,
                key,
                subject,
                kind,
                name,
                None,
                time,
                recorded,
                segments,
                backfilled,
                False,
                old,
                new,
                tuple(closed[place]) if place in closed else (),
                tuple(changed[place]) if place in changed else (),
            )
        )
    if completes and line.completed_at is not None:
        new_told |= COMPLETED
        transitions.append(
            Transition(
                transition_digest(journey.name, whose, "completed", None),
                journey.name,
                journey.version,
                key,
                subject,
                "completed",
                None,
                None,
                line.completed_at,
                recorded,
                segments,
                backfilled,
                after_expiry=bool(told & EXPIRED),
            )
        )
    return transitions, new_told


def _moved(before: State | None, after: State, told: int, *, retold: bool) -> tuple[list[int], list[int]]:
    """Milestones whose time is news, in the order in which they are told; and those with another time."""
    times = after.reached
    fresh: list[int] = []
    corrected: list[int] = []
    bit = milestone_bit(0)
    for place, time in enumerate(times):
        if time != UNSET and not told & bit:
            fresh.append(place)
        elif (
            before is not None
            and time != before.reached[place]
            and (retold or before.reached[place] != UNSET)
        ):
            corrected.append(place)
        bit <<= 2
    if len(fresh) > 1:
        fresh.sort(key=lambda place: (place != 0, times[place]))
    return fresh, corrected


def _closing(stage: int, fresh: Sequence[int], corrected: Sequence[int]) -> int:
    """The moved milestone whose transition closes the stage that ends at milestone `stage`.

    A correction closes one where the stage had been skipped: its end lay beyond the completion.
    """
    for moved in (fresh, corrected):
        for place in reversed(moved):
            if stage - 1 <= place <= stage:
                return place
    return (fresh or corrected)[-1]


def _changes(
    journey: Journey,
    before: State,
    after: State,
    line: Timeline,
    told: int,
    moved: Sequence[int],
    *,
    retold: bool,
) -> dict[int, list[Changed]]:
    """Told durations that are others now, by the moved milestone that did it."""
    then = timeline(journey, before)
    pairs = [
        (place, milestone.stage, then.durations[place - 1], line.durations[place - 1])
        for place, milestone in enumerate(journey.milestones)
        if place and told & stage_bit(place)
    ]
    # Without a total then, it was another version's that was told, or it was taken back.
    if told & COMPLETED and (retold or then.total is not None):
        pairs.append((0, TOTAL, then.total, line.total))
    pairs = [pair for pair in pairs if pair[2] != pair[3]]
    if not pairs:
        return {}

    # Move one time after the other; who moved a duration last, changed it.
    lines = []
    if len(moved) > 1:
        times = list(after.reached)
        for place in moved:
            times[place] = before.reached[place]
        lines.append(timeline(journey, State(tuple(times), after.segments)))
        for place in moved:
            times[place] = after.reached[place]
            lines.append(timeline(journey, State(tuple(times), after.segments)))
    changed: dict[int, list[Changed]] = {}
    for stage, name, old, new in pairs:
        by = moved[-1]
        for place, earlier, later in zip(moved, lines, lines[1:], strict=False):
            if _duration(earlier, stage) != _duration(later, stage):
                by = place
        changed.setdefault(by, []).append((name, old, new))
    return changed


def _duration(line: Timeline, stage: int) -> int | None:
    """Duration of the stage that ends at milestone `stage`; 0: the total."""
    return line.durations[stage - 1] if stage else line.total
