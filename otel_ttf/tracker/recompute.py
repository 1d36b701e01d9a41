"""One user's journeys anew from stored events, with or without one of them.

Nothing is lost by it: a milestone that no stored event explains, since events go after a while, is a reason to change
nothing. Leaving an event out takes back only what it alone has said.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from otel_ttf.journey.state import State, empty
from otel_ttf.store.sqlite_rows import Kept
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.left_out import LeftOut, stored
from otel_ttf.tracker.touches import Touch
from otel_ttf.tracker.writes import Writes, fresh

Place = tuple[int, int]  # journey, milestone


class Refused(Exception):
    """Nothing was changed; `reason` says what is missing. known: what is there, where something is."""

    def __init__(self, reason: str, known: Sequence[Recomputed] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.known = known


@dataclass(slots=True)
class _Told:
    """What the stored events of one subject say, by number of the journey.

    rest   those that are not left out
    first  id and time of the event that reached a milestone first, of all
    gone   what those have said that are left out
    left   the time of the one that is to be left out now; None: it is not there
    known  whether there is any
    """

    rest: list[dict[str, Touch]]
    first: dict[Place, tuple[int, bytes | None]] = field(default_factory=dict)
    gone: LeftOut = field(default_factory=LeftOut)
    left: int | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One journey of one subject. after is before where nothing had to be changed.

    first  milestone -> id of the stored event that says what stood there before
    """

    followed: Followed
    subject: str
    before: State
    after: State
    first: Mapping[int, bytes]


def recompute(
    follower: Follower,
    subjects: Sequence[str],
    now: int,
    *,
    without: bytes | None = None,
    dry: bool = False,
) -> list[Recomputed]:
    """Recomputes the journeys of one person, whose tokens are `subjects`. The caller opens and ends the transaction.

    without  id of an event that moves no journey from now on, however often it comes
    dry      nothing is written
    Raises Refused.
    """
    told = {subject: _read(follower, subject, without) for subject in subjects}
    if without is not None and all(found.left is None for found in told.values()):
        raise Refused(
            "no stored event of this user has that id: see those that --dry-run lists, and storage.retention.events"
        )
    # What came after it with a time beyond retention was never stored, or is gone.
    if any(found.left is not None and found.left < now - follower.retention for found in told.values()):
        raise Refused(
            "that event is older than storage.retention.events, so others that came after it may be kept no longer: "
            "nothing known is given up, so nothing was changed"
        )
    done: list[Recomputed] = []
    kept: dict[tuple[int, str], Kept] = {}
    missing: list[str] = []
    for j, followed in enumerate(follower.followed):
        rows = follower.rows(followed, list(subjects), now)
        for subject, found in told.items():
            row = rows.get(subject)
            if row is None and subject not in found.rest[j]:
                continue
            kept[j, subject] = row or fresh(followed, subject)
            one, lost = _one(follower, j, kept[j, subject], found, partly=without is not None)
            done.append(one)
            missing += lost
    # Of what was joined in from other versions.
    follower.counts.flush()
    if missing:
        raise Refused(
            f"no stored event says when {', '.join(missing)} was reached: events are kept for a time only "
            "(storage.events, storage.retention.events), and nothing known is given up, so nothing was changed; "
            "--without EVENT_ID takes a single event out all the same",
            [replace(one, after=one.before) for one in done],
        )
    if not done and not any(found.known for found in told.values()):
        raise Refused("neither a journey nor a stored event of this user is known")
    if not dry:
        if without is not None:
            for subject, found in told.items():
                if found.left is not None:
                    follower.store.exclude(without, subject, found.left, now)
                    for followed in follower.followed:
                        followed.retold.add(subject)
        for j, followed in enumerate(follower.followed):
            batch = Writes(follower.store, follower.counts, followed, now)
            for one in done:
                if one.followed is followed and one.after != one.before:
                    batch.change(kept[j, one.subject], one.after)
            batch.write()
        follower.counts.flush()
        follower.reload()
    return done


def _read(follower: Follower, subject: str, without: bytes | None) -> _Told:
    rest = follower.touches()
    told = _Told(rest.subjects)
    rows = follower.store.events_of(subject)
    some = list(islice(rows, 1))
    told.known = bool(some)
    for event in stored(subject, chain(some, rows)):
        id_, at = event.id, event.at
        hits = follower.dispatch.hits(event)
        for place in hits:
            if place not in told.first or at < told.first[place][0]:
                told.first[place] = at, id_
        if id_ is not None and id_ == without:
            told.left = at
        elif id_ is None or id_ not in follower.excluded:
            rest.add(event, subject, hits)
            continue
        follower.note(told.gone, event, hits)
    return told


def _one(follower: Follower, j: int, row: Kept, told: _Told, *, partly: bool) -> tuple[Recomputed, list[str]]:
    """(one journey recomputed, milestones that no event explains).

    partly  what no event explains stays as it is: only one event is taken out
    """
    followed = follower.followed[j]
    nothing = empty(followed.journey)
    rest = told.rest[j].get(row.subject) or Touch(list(nothing.reached), list(nothing.segments))
    reached, missing = [], []
    for m, (before, after) in enumerate(zip(row.state.reached, rest.reached, strict=True)):
        explained = after <= before or told.gone.reaches(j, m, before)
        if not explained and not partly:
            missing.append(f"{followed.journey.milestones[m].name} of {followed.journey.name}")
        reached.append(after if explained else before)
    if any(map(operator.gt, reached, row.state.reached)):
        reached = _told_before(follower, j, row, told, reached)
    segments = []
    kept = told.gone.without(j, followed.segments, row.state).segments
    for known, still, found in zip(row.state.segments, kept, rest.segments, strict=True):
        # What came first may rest on events that are kept no longer, or never were.
        explained = still is None or (found is not None and found <= still)
        segments.append(found if explained else known)
    first = {m: id_ for (journey, m), (_, id_) in told.first.items() if journey == j and id_ is not None}
    state = State(tuple(reached), tuple(segments))
    return Recomputed(followed, row.subject, row.state, state, first), missing


def _told_before(follower: Follower, j: int, row: Kept, told: _Told, reached: list[int]) -> list[int]:
    """These times, or earlier ones that were told before an event that is left out now took their place.

    Where room is scarce, events that came first go first, so one may be gone that came before the one left out.
    What came after it is kept longer than it, whether events go by their time or in the order in which they came.
    """
    followed = follower.followed[j]
    places, left_out = followed.places(), follower.excluded_times(row.subject)
    for version, milestone, at in follower.store.told_times(followed.journey.name, row.subject):
        m = places.get((version, milestone))
        if m is not None and at is not None and at not in left_out and not told.gone.reaches(j, m, at):
            reached[m] = min(reached[m], at)
    return reached
