"""Events become states, transitions and counts: what happens inside one transaction of the tracker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from otel_ttf.journey.definition import Journey, canonical, carried
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.state import UNSET, State, empty, segment_text
from otel_ttf.otlp.events import FLAG_TOO_OLD, Event, Extract
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import Definition, Kept, subject_hash
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.writes import Followed, Writes, fresh
from otel_ttf.units import DAY

StoredEvents = Literal["named", "milestones", "all", "none"]
SEEN_NAMES = 10_000
FOREVER = 2**63


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
                    followed.others.append((other, indices))
                elif other.id != mine.id and _same_key(other, mine):
                    followed.strangers.append(other)
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
            mine.epoch += 1
            if any(carried(d.canonical, canonical(journey)) is not None for d in stored if d.id != mine.id):
                mine.carrying = 0
        self.store.save_definition(mine)

    # Events.

    def take(self, extracts: Iterable[tuple[int, Extract]], now: int) -> None:
        """Joins events into the states and keeps them, as configured. extracts: (arrival, what came)."""
        touched: list[dict[str, Touch]] = [{} for _ in self.followed]
        rows: list[tuple[object, ...]] = []
        seen: dict[tuple[str, str], tuple[int, int, set[str]]] = {}
        missing: list[str] = []
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
                    else:
                        missing += [self.followed[j].journey.milestones[m].name for j, m in hits]
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
        # Last, since nobody takes it back where something above fails.
        for milestone in missing:
            self._on_missing_subject(milestone)

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
            touch = touched[j].get(subject) or self._untouched(j, subject, touched)
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
                touch = touched[j].get(subject) or self._untouched(j, subject, touched)
                first = touch.segments[s]
                # Code points are in the order of their UTF-8 bytes, as in State.join.
                if first is None or (at, value) < first:
                    touch.segments[s] = (at, value)

    def _untouched(self, j: int, subject: str, touched: list[dict[str, Touch]]) -> Touch:
        """The entry of a subject of whom nothing has come yet."""
        followed = self.followed[j]
        touch = Touch([UNSET] * len(followed.journey.milestones), [None] * len(followed.segments))
        touched[j][subject] = touch
        return touch

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
        if definition.carrying is not None or followed.strangers:
            kept = self._carry_in(followed, list(subjects), kept, now)
        batch = Writes(self.store, self.counts, followed, now)
        for subject, touch in subjects.items():
            old = kept.get(subject)
            new = State(tuple(touch.reached), tuple(touch.segments))
            if old is None or old.id is None:
                batch.change(old or fresh(followed, subject), new)
            else:
                joined = old.state.join(new)
                if joined != old.state:
                    batch.change(old, joined)
        batch.write()

    def _carry_in(
        self, followed: Followed, subjects: list[str], kept: dict[str, Kept], now: int
    ) -> dict[str, Kept]:
        """Joins other versions' states of these subjects first, where that has not been done yet.

        Of whom only something that was told is known gets no row by that, but a Kept without an id.
        """
        epoch = followed.definition.epoch
        wanted = [s for s in subjects if s not in kept or kept[s].epoch < epoch]
        found: dict[str, tuple[State, int, int | None]] = {}
        for other, indices in followed.others:
            for subject, row in self.store.load(other.id, followed.segments, wanted).items():
                reached = tuple(UNSET if i is None else row.state.reached[i] for i in indices)
                state = State(reached, row.state.segments)
                told = followed.carry_told(other, row.told)
                known = found.get(subject)
                if known is not None:
                    state, told = known[0].join(state), known[1] | told
                recorded = min((r for r in (row.recorded, known and known[2]) if r is not None), default=None)
                found[subject] = (state, told, recorded)
        joined = set(found)
        for stranger in followed.strangers:
            for subject, row in self.store.load(stranger.id, (), wanted).items():
                state, told, recorded = found.get(subject) or (empty(followed.journey), 0, None)
                found[subject] = state, told | followed.carry_told(stranger, row.told), recorded
        batch = Writes(self.store, self.counts, followed, now, backfilled=True)
        only_told: dict[str, Kept] = {}
        for subject in wanted:
            old = kept.get(subject)
            if subject in found:
                state, told, recorded = found[subject]
                base = replace(old or fresh(followed, subject), epoch=epoch)
                base.recorded = base.recorded if base.recorded is not None else recorded
                if old is None and subject not in joined:
                    only_told[subject] = replace(base, told=told)
                    continue
                # Not into base: its share was counted with what it had been told itself.
                batch.change(base, base.state.join(state), told=base.told | told)
        batch.write()
        return only_told | self.store.load(followed.definition.id, followed.segments, subjects)

    def carry(self, followed: Followed, limit: int, now: int) -> None:
        """One step of joining other versions in."""
        ids = [other.id for other, _ in followed.others]
        rows, more = self.store.walk(ids, followed.definition.carrying or 0, limit)
        if rows:
            subjects = list({subject for _, subject in rows})
            kept = self.store.load(followed.definition.id, followed.segments, subjects)
            self._carry_in(followed, subjects, kept, now)
            self.counts.flush()
        followed.definition.carrying = more
        self.store.save_definition(followed.definition)

    def recount(self, followed: Followed, limit: int, now: int) -> None:
        """One step of counting a version's rows anew, with the settings of today."""
        definition = followed.definition
        rows, definition.recounting = self.store.walk([definition.id], definition.recounting or 0, limit)
        # What follows from other settings alone is history: it moves no counter.
        batch = Writes(self.store, self.counts, followed, now, backfilled=True)
        for kept in self.store.load(definition.id, followed.segments, [s for _, s in rows]).values():
            batch.recount(kept)
        batch.write()
        self.counts.flush()
        self.store.save_definition(definition)

    def sweep(self, now: int, limit: int = 1000, *, up: int = FOREVER) -> bool:
        """Writes what time alone brought: overdue, expired. At most `limit` rows; whether there is more to do.

        up  ns since our start: before a journey's `settle` its senders' queues come first
        Versions that are not followed keep their deadlines: they may be followed again.
        """
        left = limit
        for followed in self.followed:
            if up < followed.journey.settle:
                continue
            subjects = self.store.due(followed.definition.id, now, left)
            if not subjects:
                continue
            left -= len(subjects)
            kept = self.store.load(followed.definition.id, followed.segments, subjects)
            if followed.definition.carrying is not None or followed.strangers:
                # Another version may know how the journey went on, or have told it.
                kept = self._carry_in(followed, subjects, kept, now)
            batch = Writes(self.store, self.counts, followed, now)
            for row in kept.values():
                batch.look(row)
            batch.write()
            if not left:
                break
        self.counts.flush()
        return not left

    def undo(self) -> None:
        """Nothing of a failed transaction stays, neither in the store nor in memory."""
        self.store.rollback()
        # Only now: what they read must not be of that transaction.
        self.counts.forget()
        self.reload()


def _same_key(one: Definition, other: Definition) -> bool:
    return one.canonical["key"] == other.canonical["key"]


def _is_kept(keep: StoredEvents, event: Event, hit: bool) -> bool:
    if keep == "named":
        return hit or event.kind in ("log", "span_event")
    return keep == "all" or (keep == "milestones" and hit)
