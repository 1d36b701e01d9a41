"""One user's journeys anew from stored events, with or without one of them.

Nothing is lost by it: a milestone that no stored event explains, since events go after a while, is a reason to change
nothing. Leaving an event out takes back only what it alone has said.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from otel_ttf.journey.keys import MAX_KEYS, covering
from otel_ttf.journey.state import State, empty
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite_rows import Kept, pack_key, parts
from otel_ttf.store.stored import stored
from otel_ttf.tracker.covered import joined
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.left_out import LeftOut
from otel_ttf.tracker.rebuild import again
from otel_ttf.tracker.writes import Writes, fresh

Place = tuple[int, int, str]  # journey, milestone, whose row: see Kept.whose


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

    rest: list[dict[str, State]]
    first: dict[Place, tuple[int, bytes | None]] = field(default_factory=dict)
    gone: LeftOut = field(default_factory=LeftOut)
    left: int | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One journey of one subject. after is before where nothing had to be changed.

    key    as in Kept; with empty parts: what is known in all journeys of the subject
    first  milestone -> id of the stored event that says what stood there before
    """

    followed: Followed
    subject: str
    key: str
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
            have = {whose: row for whose, row in rows.items() if row.subject == subject}
            new = [
                fresh(followed, subject, whose[TOKEN_LENGTH:]) for whose in found.rest[j] if whose not in have
            ]
            room = max(0, MAX_KEYS - sum(not row.shared for row in have.values()))
            whole = islice((row for row in new if not row.shared), room)
            for row in [*have.values(), *(row for row in new if row.shared), *whole]:
                kept[j, row.whose] = row
                one, lost = _one(follower, j, row, found, partly=without is not None)
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
                    follower.store.events.exclude(without, subject, found.left, now)
                    for followed in follower.followed:
                        followed.retold.add(subject)
        for j, followed in enumerate(follower.followed):
            batch = Writes(follower.store, follower.counts, followed, now)
            for one in done:
                if one.followed is followed and one.after != one.before:
                    batch.change(kept[j, one.subject + one.key], one.after)
            batch.write()
        follower.counts.flush()
        follower.reload()
        again(follower, subjects, now)
    return done


def _read(follower: Follower, subject: str, without: bytes | None) -> _Told:
    rest = follower.touches()
    told = _Told([])
    rows = follower.store.events.of(subject)
    some = list(islice(rows, 1))
    told.known = bool(some)
    for event in stored(subject, chain(some, rows)):
        id_, at = event.id, event.at
        hits = follower.dispatch.hits(event)
        for j, m in hits:
            whose = rest.whose(event, subject, j, m)
            if whose is not None and ((j, m, whose) not in told.first or at < told.first[j, m, whose][0]):
                told.first[j, m, whose] = at, id_
        if id_ is not None and id_ == without:
            told.left = at
        elif id_ is None or id_ not in follower.excluded:
            rest.add(event, subject, hits)
            continue
        follower.note(told.gone, event, hits)
    told.rest = [
        joined(
            {whose: State(tuple(touch.reached), tuple(touch.segments)) for whose, touch in touches.items()}
        )
        for touches in rest.subjects
    ]
    return told


def _one(follower: Follower, j: int, row: Kept, told: _Told, *, partly: bool) -> tuple[Recomputed, list[str]]:
    """(one journey recomputed, milestones that no event explains).

    partly  what no event explains stays as it is: only one event is taken out
    """
    followed = follower.followed[j]
    rest = told.rest[j].get(row.whose)
    if rest is None:
        # No event has the whole key; shared ones may be there.
        shared = {whose: state for whose, state in told.rest[j].items() if row.key}
        rest = joined(shared | {row.whose: empty(followed.journey)})[row.whose]
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
    first = {}
    for m in range(len(followed.journey.milestones)):
        known_of = [
            told.first[j, m, whose]
            for whose in (row.whose, *(row.subject + pack_key(some) for some in covering(parts(row.key))))
            if (j, m, whose) in told.first
        ]
        id_ = min(known_of)[1] if known_of else None
        if id_ is not None:
            first[m] = id_
    state = State(tuple(reached), tuple(segments))
    return Recomputed(followed, row.subject, row.key, row.state, state, first), missing


def _told_before(follower: Follower, j: int, row: Kept, told: _Told, reached: list[int]) -> list[int]:
    """These times, or earlier ones that were told before an event that is left out now took their place.

    Where room is scarce, events that came first go first, so one may be gone that came before the one left out.
    What came after it is kept longer than it, whether events go by their time or in the order in which they came.
    """
    followed = follower.followed[j]
    places, left_out = followed.places(), follower.excluded_times(row.subject)
    for version, milestone, at in follower.store.told_times(followed.journey.name, row.subject, row.key):
        m = places.get((version, milestone))
        if m is not None and at is not None and at not in left_out and not told.gone.reaches(j, m, at):
            reached[m] = min(reached[m], at)
    return reached
