"""Events become states, transitions and counts: what happens inside one transaction of the tracker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from otel_ttf.journey.definition import LEVELS, Journey, canonical, carried
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.metrics import score
from otel_ttf.journey.rollup import add, overdue_cell, share
from otel_ttf.journey.state import (
    UNSET,
    State,
    Timeline,
    empty,
    named_segments,
    segment_text,
    timeline,
)
from otel_ttf.journey.thresholds import deadlines, due
from otel_ttf.journey.transitions import EXPIRED, Transition, advance, carry_told, told_bit
from otel_ttf.otlp.events import FLAG_TOO_OLD, Event, Extract
from otel_ttf.store.sqlite import (
    STATES,
    Definition,
    Kept,
    SqliteStore,
    pack_segments,
    pack_times,
    subject_hash,
)
from otel_ttf.tracker.counts import Counts, Place
from otel_ttf.units import DAY

StoredEvents = Literal["named", "milestones", "all", "none"]
SEEN_NAMES = 10_000

NOT_STARTED, IN_PROGRESS, COMPLETED, EXPIRED_STATE = (
    STATES[name] for name in ("not_started", "in_progress", "completed", "expired")
)


@dataclass(slots=True)
class Followed:
    """A configured journey with its stored definition and the versions that are joined into it."""

    journey: Journey
    definition: Definition
    segments: tuple[str, ...]
    keys: tuple[bytes, ...]
    # Other versions: their definition, segments, and per milestone of ours the index of theirs.
    others: list[tuple[Definition, tuple[str, ...], tuple[int | None, ...]]] = field(default_factory=list)


@dataclass(slots=True)
class Touch:
    """What a batch of events says of one subject in one journey."""

    reached: list[int]
    segments: list[tuple[int, str] | None]


class Follower:
    """Follows the configured journeys. One thread; the caller opens and ends the transaction."""

    def __init__(
        self,
        store: SqliteStore,
        journeys: Sequence[Journey],
        *,
        events: StoredEvents,
        retention: int,
        on_missing_subject: Callable[[str], None],
    ) -> None:
        self.store = store
        self.dispatch = Dispatch(journeys)
        self.counts = Counts(store)
        self.followed: list[Followed] = []
        self._journeys = journeys
        self._events = events
        self._retention = retention
        self._on_missing_subject = on_missing_subject

    def prepare(self, now: int) -> None:
        """Brings the stored definitions in step with the configured ones. In a transaction of its own."""
        for journey in self._journeys:
            self._prepare(journey, now)
        self.reload()

    def reload(self) -> None:
        """Reads the stored definitions again, as after a rollback."""
        self.followed = []
        for journey in self._journeys:
            stored = self.store.definitions(journey.name)
            mine = next(d for d in stored if d.version == journey.version)
            names = tuple(segment.attribute for segment in journey.segments)
            followed = Followed(journey, mine, names, tuple(name.encode() for name in names))
            for other in stored:
                indices = carried(other.canonical, canonical(journey)) if other.id != mine.id else None
                if indices is not None:
                    followed.others.append((other, names, indices))
            self.followed.append(followed)

    def _prepare(self, journey: Journey, now: int) -> None:
        stored = self.store.definitions(journey.name)
        mine = next((d for d in stored if d.version == journey.version), None)
        if mine is not None and mine.current and mine.derived == journey.derived:
            return
        before = next((d for d in stored if d.current), None)
        if mine is None:
            since = None
            if before is not None:
                indices = carried(before.canonical, canonical(journey))
                whole = indices is not None and None not in indices
                since = before.complete_since if whole else now
            self.store.add_definition(journey, now, since)
            mine = self.store.definitions(journey.name)[-1]
        if mine.derived != journey.derived:
            # Another target, segment or zone: the same states, other figures.
            mine.derived = journey.derived
            mine.recounting = 0
            self.store.clear_rollup(mine.id)
        if not mine.current:
            if before is not None:
                before.current = False
                self.store.save_definition(before)
            mine.current = True
            if any(carried(d.canonical, canonical(journey)) is not None for d in stored if d.id != mine.id):
                mine.epoch += 1
                mine.carrying = 0
        self.store.save_definition(mine)

    # Events.

    def take(self, extracts: Iterable[tuple[int, Extract]], now: int) -> None:
        """Joins events into the states and keeps them, as configured. extracts: (arrival, what came)."""
        touched: list[dict[str, Touch]] = [{} for _ in self.followed]
        rows: list[tuple[object, ...]] = []
        seen: dict[tuple[str, str], tuple[int, int, set[str]]] = {}
        keep, oldest = self._events, now - self._retention
        hits_of = self.dispatch.hits
        for arrival, extract in extracts:
            matched: dict[tuple[str, str], set[str]] = {}
            for event in extract.events:
                hits = hits_of(event) if event.kind != "line" else []
                if hits:
                    self._name_matches(event, hits, matched)
                if event.kind != "line" and not event.flags & FLAG_TOO_OLD:
                    if event.subject is not None:
                        self._touch(event, hits, touched)
                    elif hits:
                        for j, m in hits:
                            self._on_missing_subject(self.followed[j].journey.milestones[m].name)
                if _is_kept(keep, event, bool(hits)) and event.at >= oldest:
                    rows.append(self._event_row(event))
            for name, count in extract.names.items():
                have, last, matches = seen.get(name) or (0, 0, set())
                seen[name] = (have + count, max(last, arrival), matches | matched.get(name, set()))
        if rows:
            self.store.add_events(rows)
        if seen:
            self.store.add_seen(seen, most=SEEN_NAMES)
        for j, subjects in enumerate(touched):
            if subjects:
                self.join(self.followed[j], subjects, now)
        self.counts.flush()

    def _name_matches(
        self, event: Event, hits: Sequence[tuple[int, int]], matched: dict[tuple[str, str], set[str]]
    ) -> None:
        kind = "span" if event.kind == "span" else "event"
        names = matched.setdefault((kind, event.name), set())
        for j, m in hits:
            journey = self.followed[j].journey
            names.add(f"{journey.name}.{journey.milestones[m].name}")

    def _touch(self, event: Event, hits: Sequence[tuple[int, int]], touched: list[dict[str, Touch]]) -> None:
        subject, at = event.subject, event.at
        assert subject is not None
        for j, m in hits:
            subjects = touched[j]
            touch = subjects.get(subject)
            if touch is None:
                followed = self.followed[j]
                touch = subjects[subject] = Touch(
                    [UNSET] * len(followed.journey.milestones), [None] * len(followed.segments)
                )
            if at < touch.reached[m]:
                touch.reached[m] = at
        encoded = event.attributes_bytes
        for j in self.dispatch.admits(event):
            followed = self.followed[j]
            for s, key in enumerate(followed.keys):
                # Searching the bytes is far cheaper than decoding the attributes of every event.
                if key not in encoded or followed.segments[s] not in event.attributes:
                    continue
                value = segment_text(event.attributes[followed.segments[s]])
                if value is None:
                    continue
                touch = touched[j].get(subject)
                if touch is None:
                    touch = touched[j][subject] = Touch(
                        [UNSET] * len(followed.journey.milestones), [None] * len(followed.segments)
                    )
                first = touch.segments[s]
                if first is None or (at, value.encode()) < (first[0], first[1].encode()):
                    touch.segments[s] = (at, value)

    def _event_row(self, event: Event) -> tuple[object, ...]:
        resource = self.store.resource(
            event.resource_bytes,
            hashlib.blake2b(event.resource_bytes, digest_size=16).digest(),
            event.arrival // DAY,
        )
        return (
            event.id,
            subject_hash(event.subject) if event.subject else None,
            event.subject,
            event.kind,
            event.name,
            event.span_kind,
            event.status,
            event.at,
            event.arrival,
            event.flags,
            event.attributes_bytes,
            resource,
        )

    # States.

    def join(self, followed: Followed, subjects: dict[str, Touch], now: int) -> None:
        """Joins what events said into the stored states of one journey."""
        definition = followed.definition
        kept = self.store.load(definition.id, followed.segments, list(subjects))
        if definition.carrying is not None:
            kept = self._carry_in(followed, list(subjects), kept, now)
        batch = Writes(self, followed, now)
        for subject, touch in subjects.items():
            old = kept.get(subject)
            new = State(tuple(touch.reached), tuple(touch.segments))
            if old is None:
                batch.change(_fresh(followed, subject), new)
            else:
                joined = old.state.join(new)
                if joined != old.state:
                    batch.change(old, joined)
        batch.write()

    def _carry_in(
        self, followed: Followed, subjects: list[str], kept: dict[str, Kept], now: int
    ) -> dict[str, Kept]:
        """Joins other versions' states of these subjects first, where that has not been done yet."""
        epoch = followed.definition.epoch
        wanted = [s for s in subjects if s not in kept or kept[s].epoch < epoch]
        found: dict[str, tuple[State, int, int | None]] = {}
        for other, names, indices in followed.others:
            old_names = [str(m["name"]) for m in other.canonical["milestones"]]  # type: ignore[attr-defined]
            for subject, row in self.store.load(other.id, names, wanted).items():
                reached = tuple(UNSET if i is None else row.state.reached[i] for i in indices)
                state = State(reached, row.state.segments)
                told = carry_told(old_names, row.told, followed.journey)
                known = found.get(subject)
                if known is not None:
                    state, told = known[0].join(state), known[1] | told
                recorded = min((r for r in (row.recorded, known and known[2]) if r is not None), default=None)
                found[subject] = (state, told, recorded)
        batch = Writes(self, followed, now, backfilled=True)
        for subject in wanted:
            old = kept.get(subject)
            if subject in found:
                state, told, recorded = found[subject]
                base = replace(old or _fresh(followed, subject), epoch=epoch)
                base.told |= told
                base.recorded = base.recorded if base.recorded is not None else recorded
                batch.change(base, base.state.join(state))
        batch.write()
        return self.store.load(followed.definition.id, followed.segments, subjects)

    def carry(self, followed: Followed, limit: int, now: int) -> None:
        """One step of joining other versions in."""
        ids = [other.id for other, _, _ in followed.others]
        after = followed.definition.carrying or 0
        rows = self.store.walk(ids, after, limit)
        if rows:
            subjects = list({subject for _, subject in rows})
            kept = self.store.load(followed.definition.id, followed.segments, subjects)
            self._carry_in(followed, subjects, kept, now)
            self.counts.flush()
        followed.definition.carrying = rows[-1][0] if len(rows) == limit else None
        self.store.save_definition(followed.definition)

    def recount(self, followed: Followed, limit: int, now: int) -> None:
        """One step of counting a version's rows anew, with the settings of today."""
        definition = followed.definition
        rows = self.store.walk([definition.id], definition.recounting or 0, limit)
        definition.recounting = rows[-1][0] if len(rows) == limit else None
        batch = Writes(self, followed, now)
        for kept in self.store.load(definition.id, followed.segments, [s for _, s in rows]).values():
            batch.settle(replace(kept, day=None, combo=None), timeline(followed.journey, kept.state))
        batch.write()
        self.counts.flush()
        self.store.save_definition(definition)

    def sweep(self, now: int, limit: int = 1000) -> bool:
        """Writes what time alone brought: overdue, expired. Whether there is more to do."""
        rows = self.store.due(now, limit)
        by_definition: dict[int, list[str]] = {}
        for definition, subject in rows:
            by_definition.setdefault(definition, []).append(subject)
        for followed in self.followed:
            subjects = by_definition.pop(followed.definition.id, [])
            batch = Writes(self, followed, now)
            for kept in self.store.load(followed.definition.id, followed.segments, subjects).values():
                batch.look(kept)
            batch.write()
        for definition, subjects in by_definition.items():
            # Versions that are followed no more have no deadlines.
            self.store.undue(definition, subjects)
        self.counts.flush()
        return len(rows) == limit


class Writes:
    """Rows of one journey that change together."""

    def __init__(self, follower: Follower, followed: Followed, now: int, *, backfilled: bool = False) -> None:
        self.store = follower.store
        self.counts = follower.counts
        self.followed = followed
        self.journey = followed.journey
        self.now = now
        self.backfilled = backfilled
        self._transitions: list[Transition] = []
        self._inserts: list[tuple[object, ...]] = []
        self._updates: list[tuple[object, ...]] = []
        self._deletes: list[int] = []

    def change(self, kept: Kept, state: State) -> None:
        """The state of a row becomes `state`, which joins the old one."""
        journey = self.journey
        before = kept.state if kept.id is not None else None
        line = timeline(journey, state)
        transitions, told = advance(
            journey,
            before,
            state,
            kept.told,
            subject=kept.subject,
            recorded=self.now,
            backfilled=self.backfilled,
            line=line,
        )
        if kept.recorded is None and line.started_at is not None:
            kept.recorded = self.now
        self._tell(transitions, line)
        self.settle(kept, line, state=state, told=told)

    def look(self, kept: Kept) -> None:
        """A row is due: it is overdue, has expired, or is to be forgotten."""
        line = timeline(self.journey, kept.state)
        if all(time == UNSET for time in kept.state.reached):
            if kept.id is not None:
                self._deletes.append(kept.id)
            return
        told = kept.told
        if kept.recorded is not None and self.now >= kept.recorded + self.journey.settle:
            transitions, told = due(
                self.journey,
                line,
                told,
                subject=kept.subject,
                segments=named_segments(self.journey, line),
                now=self.now,
                recorded_start=kept.recorded,
            )
            first = self.followed.definition.first_started
            # A deadline from before this version was followed is history, not news.
            transitions = [replace(t, backfilled=t.backfilled or t.at < first) for t in transitions]
            self._tell(transitions, line)
        self.settle(kept, line, told=told)

    def _tell(self, transitions: list[Transition], line: Timeline) -> None:
        for transition in transitions:
            final = None
            if transition.kind == "completed" and line.completed_at is not None:
                final = score(self.journey, line, line.completed_at)
            self.counts.told(self.journey, transition, final, line.total)
        self._transitions += transitions

    def settle(
        self, kept: Kept, line: Timeline, *, state: State | None = None, told: int | None = None
    ) -> None:
        """Works out the derived columns, moves the row's share in the rollup, and puts the row in the queue."""
        journey, definition = self.journey, self.followed.definition
        new_state = kept.state if state is None else state
        new_told = kept.told if told is None else told
        stage = self._stage(line, new_told)
        uncounted = definition.recounting is not None and (kept.id is None or kept.id > definition.recounting)
        place: Place | None = None
        if not uncounted and kept.day is not None and kept.combo is not None:
            old = share(journey, timeline(journey, kept.state), expired=kept.stage == EXPIRED_STATE)
            if old is not None:
                cells = self.counts.cells((definition.id, kept.day, kept.combo))
                add(cells, _with_level(journey, old.cells, kept.stage, kept.told), -1)
        if not uncounted:
            new = share(journey, line, expired=stage == EXPIRED_STATE)
            if new is not None:
                place = (
                    definition.id,
                    new.day,
                    self.counts.combo(definition.id, journey, new.segments),
                )
                add(self.counts.cells(place), _with_level(journey, new.cells, stage, new_told), 1)
        derived = (
            pack_times(new_state.reached),
            pack_segments(journey, new_state),
            new_told,
            kept.recorded,
            kept.epoch,
            stage,
            line.started_at,
            line.current,
            line.opened,
            line.touched,
            self._due(kept, line, new_told, stage, new_state),
            place[1] if place else None,
            place[2] if place else None,
        )
        if kept.id is None:
            row = (definition.id, subject_hash(kept.subject), kept.subject, *derived, 1.0)
            self._inserts.append(row)
        else:
            self._updates.append((*derived, kept.id))

    def _stage(self, line: Timeline, told: int) -> int:
        if line.completed_at is not None:
            return COMPLETED
        if line.started_at is None:
            return NOT_STARTED
        gone = told & EXPIRED and self.now >= line.started_at + self.journey.give_up_after
        return EXPIRED_STATE if gone else IN_PROGRESS

    def _due(self, kept: Kept, line: Timeline, told: int, stage: int, state: State) -> int | None:
        """When time alone changes something about this row."""
        if stage == NOT_STARTED:
            if all(time == UNSET for time in state.reached):
                return self.now + self.journey.give_up_after
            return None
        if stage != IN_PROGRESS:
            return None
        recorded = kept.recorded if kept.recorded is not None else self.now
        coming = [
            at
            for kind, level, at in deadlines(self.journey, line)
            if kind == "expired" or not told & told_bit(kind, level)
        ]
        return max(min(coming), recorded + self.journey.settle) if coming else None

    def write(self) -> None:
        """Everything queued, into the open transaction."""
        if self._inserts:
            self.store.insert(self._inserts)
        if self._updates:
            self.store.update(self._updates)
        if self._deletes:
            self.store.delete(self._deletes)
        if self._transitions:
            self.store.add_transitions(self._transitions)


def _fresh(followed: Followed, subject: str) -> Kept:
    return Kept(
        None, subject, empty(followed.journey), 0, None, followed.definition.epoch, NOT_STARTED, None, None
    )


def _is_kept(keep: StoredEvents, event: Event, hit: bool) -> bool:
    if keep == "named":
        return hit or event.kind in ("log", "span_event")
    return keep == "all" or (keep == "milestones" and hit)


def _with_level(journey: Journey, cells: dict[int, int], stage: int, told: int) -> dict[int, int]:
    """The share plus the highest overdue level, which only journeys in progress have."""
    if stage == IN_PROGRESS:
        for level in reversed(LEVELS):
            if level in journey.overdue and told & told_bit("overdue", level):
                return cells | {overdue_cell(level): 1}
    return cells
