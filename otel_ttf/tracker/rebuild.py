"""A journey anew from stored events, beside the figures of before, which stay until all of it takes over at once.

Rows of the definition are made a second time, under another id, subject by subject: what is known, joined with what
the stored events say. So no known time is lost, and twice is as good as once. What is followed meanwhile goes into
both, see `Writes`. In the transaction in which the last subject is done the definition takes the other id. Then it is
told, backfilled, what has become known by it, and the rows of before go; see telling.py. Each step is one small
transaction of the tracker's, so it goes on wherever it was ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from otel_ttf.journey.keys import MAX_KEYS
from otel_ttf.journey.state import State
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite_rows import Kept, parts
from otel_ttf.store.stored import stored
from otel_ttf.tracker.covered import joined
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.telling import tell
from otel_ttf.tracker.touches import Touch
from otel_ttf.tracker.writes import Writes, fresh
from otel_ttf.units import size_text

SUBJECTS = 200  # in one transaction
EVENTS = 2000  # read in one transaction; of one subject all
ROWS = 1000  # told in one transaction
IDS = 20_000  # passed for rows that go, in one transaction
ROW_BYTES = 600  # that a journey takes, with its indexes
SPARE = 64 << 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Begun:
    """Names of journeys whose rebuild has begun now; of those under way; or why none has."""

    begun: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()
    refused: str | None = None


def begin(follower: Follower, names: Sequence[str], now: int, *, max_size: int) -> Begun:
    """Begins with these journeys, all when none is named. The caller opens and ends the transaction.

    max_size  storage.max_size: journeys stand there twice for a while
    """
    known = {followed.journey.name: followed for followed in follower.followed}
    if unknown := [name for name in names if name not in known]:
        return Begun(refused=f"no such journey: {', '.join(unknown)}; followed are {', '.join(known)}")
    wanted = [known[name] for name in names or known]
    fresh_ones = [followed for followed in wanted if followed.rebuild is None]
    if follower.keeps_nothing and fresh_ones:
        return Begun(refused="storage.events is none, so no event is stored that could say more")
    store = follower.store
    rows = store.count_journeys([followed.definition.id for followed in fresh_ones])
    need, use = rows * ROW_BYTES, store.disk_use().total
    free = shutil.disk_usage(store.path.parent).free - SPARE
    for room, whose in ((max_size - SPARE - use, "storage.max_size leaves"), (free, "the disk has")):
        if fresh_ones and need > max(0, room):
            return Begun(
                refused=f"{rows} journeys stand in the store twice for a while, which takes {size_text(need)}; {whose} "
                f"{size_text(max(0, room))} above {size_text(SPARE)} that have to stay free: make room first"
            )
    for followed in fresh_ones:
        store.rebuilds.begin(followed.definition.id, now)
        log.info("a journey is computed anew from stored events", journey=followed.journey.name)
    follower.reload()
    names_of = [followed.journey.name for followed in fresh_ones]
    return Begun(tuple(names_of), tuple(f.journey.name for f in wanted if f.journey.name not in names_of))


def step(follower: Follower, now: int) -> bool:
    """A little of what is to be done; False: there is nothing. The caller opens and ends the transaction."""
    for followed in follower.followed:
        if followed.rebuild is None:
            continue
        if followed.rebuild.phase == "telling":
            _tell(follower, followed, now)
            return True
        if followed.definition.recounting is None and followed.definition.carrying is None:
            _walk(follower, followed, now)
            return True
    return _drop(follower)


def again(follower: Follower, subjects: Iterable[str], now: int) -> None:
    """Of these subjects something was taken back: what stands beside is made anew."""
    for followed in follower.followed:
        done = [subject for subject in subjects if followed.walked(subject)]
        if done:
            _build(follower, followed, done, now)
    follower.counts.flush()


def _walk(follower: Follower, followed: Followed, now: int) -> None:
    store, rebuild = follower.store, followed.rebuild
    assert rebuild is not None
    subjects: list[str] = []
    read = 0
    for hash_ in store.rebuilds.next_hashes(rebuild.place, SUBJECTS):
        for subject in store.rebuilds.subjects(hash_):
            subjects.append(subject)
            read += store.events.count(subject, EVENTS)
        rebuild.place = hash_
        if read >= EVENTS:
            break
    if subjects:
        _build(follower, followed, subjects, now)
        follower.counts.flush()
        store.rebuilds.save(rebuild)
        return
    follower.counts.flush()
    store.rebuilds.take_over(rebuild)
    log.info("a journey that was computed anew has taken over", journey=followed.journey.name)
    follower.reload()


def _build(follower: Follower, followed: Followed, subjects: Sequence[str], now: int) -> None:
    """What is known of these subjects, and what stored events say, becomes their rows beside."""
    j = follower.followed.index(followed)
    touches = follower.touches()
    for subject in subjects:
        for event in stored(subject, follower.store.events.of(subject)):
            if event.id is None or event.id not in follower.excluded:
                touches.add(event, subject, follower.dispatch.hits(event))
    live = follower.rows(followed, list(subjects), now)
    beside = followed.beside
    assert beside is not None
    kept = follower.store.load(beside.definition.id, followed.segments, subjects)
    batch = Writes(follower.store, follower.counts, beside, now)
    for whose, state in _states(live, touches.subjects[j]).items():
        row = kept.get(whose) or fresh(beside, whose[:TOKEN_LENGTH], whose[TOKEN_LENGTH:])
        batch.copy(row, live.get(whose), state)
    batch.write()


def _states(live: dict[str, Kept], touches: dict[str, Touch]) -> dict[str, State]:
    """whose -> what is known joined with what came."""
    by_subject: dict[str, dict[str, State]] = {}
    for whose, row in live.items():
        if row.id is not None:
            by_subject.setdefault(row.subject, {})[whose] = row.state
    for whose, touch in touches.items():
        states = by_subject.setdefault(whose[:TOKEN_LENGTH], {})
        said = State(tuple(touch.reached), tuple(touch.segments))
        if whose in states:
            states[whose] = states[whose].join(said)
        elif "" in parts(whose[TOKEN_LENGTH:]) or len(states) < MAX_KEYS:
            states[whose] = said
    return {whose: state for states in by_subject.values() for whose, state in joined(states).items()}


def _tell(follower: Follower, followed: Followed, now: int) -> None:
    store, rebuild = follower.store, followed.rebuild
    assert rebuild is not None
    rows, more = store.walk([followed.definition.id], rebuild.place, ROWS)
    tell(store, follower.counts, followed, list({subject for _, subject in rows}), now)
    follower.counts.flush()
    if more is None:
        store.rebuilds.drop(rebuild)
        follower.reload()
    else:
        rebuild.place = more
        store.rebuilds.save(rebuild)


def _drop(follower: Follower) -> bool:
    store = follower.store
    for rebuild in store.rebuilds.all():
        if rebuild.phase == "dropping":
            if store.rebuilds.drop_some(rebuild, IDS):
                follower.reload()
            return True
    return False
