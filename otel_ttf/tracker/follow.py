"""Events become states, transitions and counts: what happens inside one transaction of the tracker."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Literal, TypeAlias

from otel_ttf.journey.definition import Journey, canonical, carried
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.sampling import ALL, Sampling
from otel_ttf.journey.state import UNSET, State, empty
from otel_ttf.otlp.events import FLAG_TOO_OLD, Event, Extract, Source
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import Definition, Kept, subject_hash
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.covered import joined as joined_keys
from otel_ttf.tracker.firsts import Firsts
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.keyed import by_subject, subjects_of
from otel_ttf.tracker.keyed import join as join_keyed
from otel_ttf.tracker.left_out import LeftOut, left_out
from otel_ttf.tracker.telling import tell
from otel_ttf.tracker.touches import Texts, Touch, Touches
from otel_ttf.tracker.writes import Writes, fresh

StoredEvents = Literal["named", "milestones", "all", "none"]
# Kinds of events that are kept whether they match a milestone or not.
KEPT: Mapping[StoredEvents, frozenset[str]] = {
    "named": frozenset({"log", "span_event"}),
    "milestones": frozenset(),
    "all": frozenset({"log", "span_event", "span", "line"}),
    "none": frozenset(),
}
SEEN_NAMES = 10_000
Missing: TypeAlias = Counter[tuple[str, str]]
"""(what was missing, milestone) -> events: a `subject`, a part of the `key`, or `room` for one more key."""
FOREVER = 2**63


class Follower:
    """Follows the configured journeys. One thread; the caller opens and ends the transaction."""

    def __init__(
        self,
        store: SqliteStore,
        journeys: Sequence[Journey],
        *,
        events: StoredEvents,
        retention: int,
        share: float = ALL,
    ) -> None:
        """share: of the users that is followed, see journey/sampling.py"""
        self.store = store
        self.dispatch = Dispatch(journeys)
        self.counts = Counts(store)
        self.followed: list[Followed] = []
        self.rebuilding = False
        self._journeys = journeys
        self._events = events
        self._texts = Texts(segment.attribute for journey in journeys for segment in journey.segments)
        self.retention = retention
        self.sampling = Sampling()
        self._share = share
        # Events that move no journey; by subject: id -> time.
        self.excluded: frozenset[bytes] = frozenset()
        self._excluded_of: dict[str, dict[bytes, int]] = {}

    def prepare(self, now: int) -> None:
        """Brings the stored definitions in step with the configured ones. In a transaction of its own."""
        known = self.store.sampling()
        # Of a store from before it was noted the share of today is all that is known.
        self.sampling = (
            Sampling().changed(self._share, 0) if known is None else known.changed(self._share, now)
        )
        if self.sampling != known:
            self.store.save_sampling(self.sampling)
        for journey in self._journeys:
            self._prepare(journey, now)
        self.reload()

    def reload(self) -> None:
        """Reads the stored definitions, and which events are excluded, again, as after a rollback."""
        excluded = self.store.events.excluded()
        self.excluded = frozenset([event for event, _, _ in excluded])
        self._excluded_of = {}
        for event, subject, at in excluded:
            self._excluded_of.setdefault(subject, {})[event] = at
        self.followed = []
        self.rebuilding = bool(self.store.rebuilds.all())
        for journey in self._journeys:
            stored = self.store.definitions(journey.name)
            mine = next(d for d in stored if d.version == journey.version)
            followed = Followed(journey, mine, tuple(segment.attribute for segment in journey.segments))
            followed.retold.update(self._excluded_of)
            self._rebuilds(followed)
            for other in stored:
                indices = carried(other.canonical, canonical(journey)) if other.id != mine.id else None
                if indices is not None:
                    followed.others.append((other, indices))
                elif other.id != mine.id and _same_key(other, mine):
                    followed.strangers.append(other)
            self.followed.append(followed)

    def _rebuilds(self, followed: Followed) -> None:
        """What is under way of a journey, see rebuild.py."""
        mine = followed.definition
        followed.rebuild = next((one for one in self.store.rebuilds.all() if one.definition == mine.id), None)
        if followed.rebuild is not None and followed.rebuild.phase == "walking":
            beside = replace(mine, id=followed.rebuild.beside)
            followed.beside = Followed(followed.journey, beside, followed.segments)

    @property
    def keeps_nothing(self) -> bool:
        """Whether no event is stored."""
        return self._events == "none"

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
            self._give_up(mine, "walking")
            self.store.clear_rollup(mine.id)
        if not mine.current:
            if before is not None:
                self._give_up(before, "walking", "telling")
                before.current = False
                self.store.save_definition(before)
            mine.current = True
            mine.epoch += 1
            if any(carried(d.canonical, canonical(journey)) is not None for d in stored if d.id != mine.id):
                mine.carrying = 0
        self.store.save_definition(mine)

    def _give_up(self, definition: Definition, *phases: str) -> None:
        """A rebuild that is under way is of a journey that was another. What it has not told yet is told as it is
        joined into the next version."""
        for rebuild in self.store.rebuilds.all():
            if rebuild.definition == definition.id and rebuild.phase in phases:
                self.store.rebuilds.drop(rebuild)

    # Events.

    def take(self, extracts: Iterable[tuple[int, Extract]], now: int) -> Missing:
        """Joins events into the states and keeps them, as configured. extracts: (arrival, what came).

        Returns how often milestones were matched without what a journey needs: to be told once it is committed.
        """
        touches = self.touches()
        kept = _Kept(self.store)
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        matched: dict[tuple[str, str], set[str]] = {}
        last_hits: dict[str, Sequence[tuple[int, int]]] = {}
        missing: Missing = Counter()
        always, oldest = KEPT[self._events], now - self.retention
        hits_of, excluded = self.dispatch.hits, self.excluded
        for arrival, extract in extracts:
            for event in extract.events:
                hits: Sequence[tuple[int, int]] = ()
                if event.kind != "line":
                    hits = hits_of(event)
                    # What a name alone decides is the same object each time.
                    if hits and hits is not last_hits.get(event.name):
                        last_hits[event.name] = hits
                        self._name_matches(event, hits, matched)
                    if not event.flags & FLAG_TOO_OLD and event.id not in excluded:
                        if event.subject is not None:
                            touches.add(event, event.subject, hits)
                        else:
                            missing.update(
                                ("subject", self.followed[j].journey.milestones[m].name) for j, m in hits
                            )
                if event.at >= oldest and (event.kind in always or (hits and self._events != "none")):
                    kept.add(event)
            for name, count in extract.names.items():
                have, last = seen.get(name) or (0, 0)
                seen[name] = (have + count, max(last, arrival))
        kept.write()
        if seen:
            self.store.events.add_seen(
                {name: (*told, matched.get(name, set())) for name, told in seen.items()}, most=SEEN_NAMES
            )
        for followed, subjects in zip(self.followed, touches.subjects, strict=True):
            if subjects:
                missing.update(("room", name) for name in self.join(followed, subjects, now))
        self.counts.flush()
        missing.update(("key", name) for name in touches.unkeyed)
        return missing

    def _name_matches(
        self, event: Event, hits: Sequence[tuple[int, int]], matched: dict[tuple[str, str], set[str]]
    ) -> None:
        kind = "span" if event.kind == "span" else "event"
        names = matched.setdefault((kind, event.name), set())
        for j, m in hits:
            journey = self.followed[j].journey
            names.add(f"{journey.name}.{journey.milestones[m].name}")

    # States.

    def touches(self) -> Touches:
        """Gathers what events say, for `join`."""
        return Touches(self.followed, self.dispatch, self._texts)

    def rows(self, followed: Followed, subjects: list[str], now: int) -> dict[str, Kept]:
        """Stored rows of these subjects by Kept.whose, with what other versions know of them joined in."""
        if followed.rebuild is not None and followed.rebuild.phase == "telling":
            tell(self.store, self.counts, followed, subjects, now)
        kept = self.store.load(followed.definition.id, followed.segments, subjects)
        if followed.definition.carrying is not None or followed.strangers:
            kept = self._carry_in(followed, subjects, kept, now)
        return kept

    def join(self, followed: Followed, subjects: dict[str, Touch], now: int) -> Sequence[str]:
        """Joins what events said into the stored states of one journey. subjects: see Touches.

        Returns the names of milestones that were reached with more keys than a subject may have.
        """
        batch = Writes(self.store, self.counts, followed, now)
        if followed.keyed:
            kept = self.rows(followed, subjects_of(subjects), now)
            refused = join_keyed(followed, batch, kept, subjects)
            batch.write()
            return refused
        kept = self.rows(followed, list(subjects), now)
        firsts = Firsts(self.store, self.counts, followed, now)
        settled = followed.settled
        for subject, touch in subjects.items():
            old = kept.get(subject)
            if old is None and settled and firsts.take(subject, touch):
                continue
            new = State(tuple(touch.reached), tuple(touch.segments))
            if old is None or old.id is None:
                batch.change(old or fresh(followed, subject), new)
            else:
                joined = old.state.join(new)
                if joined != old.state:
                    batch.change(old, joined)
        batch.write()
        firsts.write()
        return ()

    def _carry_in(
        self, followed: Followed, subjects: list[str], kept: dict[str, Kept], now: int
    ) -> dict[str, Kept]:
        """Joins other versions' states of these subjects first, where that has not been done yet.

        What only was told gets no row by that, but a Kept without an id.
        """
        epoch = followed.definition.epoch
        done = {row.subject for row in kept.values() if row.epoch >= epoch}
        wanted = [subject for subject in subjects if subject not in done]
        found: dict[str, tuple[State, int, int | None]] = {}
        for other, indices in followed.others:
            for whose, row in self.store.load(other.id, followed.segments, wanted).items():
                reached = tuple(UNSET if i is None else row.state.reached[i] for i in indices)
                state = self._without_excluded(followed, row.subject, State(reached, row.state.segments))
                told = followed.carry_told(other, row.told)
                known = found.get(whose)
                if known is not None:
                    state, told = known[0].join(state), known[1] | told
                recorded = min((r for r in (row.recorded, known and known[2]) if r is not None), default=None)
                found[whose] = (state, told, recorded)
        joined = set(found)
        for stranger in followed.strangers:
            for whose, row in self.store.load(stranger.id, (), wanted).items():
                if not row.shared:
                    state, told, recorded = found.get(whose) or (empty(followed.journey), 0, None)
                    found[whose] = state, told | followed.carry_told(stranger, row.told), recorded
        batch = Writes(self.store, self.counts, followed, now, backfilled=True)
        only_told: dict[str, Kept] = {}
        changed: dict[str, tuple[Kept, State, int]] = {}
        for whose, (state, told, recorded) in found.items():
            old = kept.get(whose)
            subject, key = whose[:TOKEN_LENGTH], whose[TOKEN_LENGTH:]
            base = replace(old or fresh(followed, subject, key), epoch=epoch)
            base.recorded = base.recorded if base.recorded is not None else recorded
            if old is None and whose not in joined:
                only_told[whose] = replace(base, told=told)
            else:
                changed[whose] = base, base.state.join(state), base.told | told
        if followed.keyed:
            self._cover(kept, changed)
        for base, state, told in changed.values():
            # Not told into base: its share was counted with what it had been told itself.
            batch.change(base, state, told=told)
        batch.write()
        return only_told | self.store.load(followed.definition.id, followed.segments, subjects)

    def _cover(self, kept: Mapping[str, Kept], changed: dict[str, tuple[Kept, State, int]]) -> None:
        """What shared rows have learned goes to all rows of the subject, those of today, too."""
        for rows in by_subject(
            {whose: base for whose, (base, _, _) in changed.items()}
            | {whose: row for whose, row in kept.items() if whose not in changed}
        ).values():
            if not any(whose in changed for whose in rows):
                continue
            states = {
                whose: changed[whose][1] if whose in changed else row.state for whose, row in rows.items()
            }
            for whose, state in joined_keys(states).items():
                if whose in changed:
                    base, _, told = changed[whose]
                    changed[whose] = base, state, told
                elif state != rows[whose].state:
                    changed[whose] = rows[whose], state, rows[whose].told

    def excluded_times(self, subject: str) -> Set[int]:
        """Times of a subject's events that move no journey."""
        return frozenset(self._excluded_of.get(subject, {}).values())

    def note(self, out: LeftOut, event: Event, hits: Sequence[tuple[int, int]]) -> None:
        """An event that is left out."""
        out.add(event, hits, self.dispatch, self._texts)

    def _without_excluded(self, followed: Followed, subject: str, state: State) -> State:
        """An older version's state, which an event may have moved before it was excluded."""
        events = self._excluded_of.get(subject)
        if not events:
            return state
        out = left_out(self.store, self.dispatch, self._texts, subject, events)
        return out.without(self.followed.index(followed), followed.segments, state)

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
        ids = {id_ for id_, _ in rows}
        subjects = list({subject for _, subject in rows})
        for kept in self.store.load(definition.id, followed.segments, subjects).values():
            if kept.id in ids:
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
            due = self.store.due(followed.definition.id, now, left)
            if not due:
                continue
            left -= len(due)
            # Another version may know how the journey went on, or have told it.
            kept = self.rows(followed, list(set(due.values())), now)
            batch = Writes(self.store, self.counts, followed, now)
            travelling = {row.subject for row in kept.values() if followed.keyed and not row.shared}
            for row in kept.values():
                if row.id in due:
                    batch.look(row, needed=row.shared and row.subject in travelling)
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

    def undo_to_mark(self) -> None:
        """The same for what has happened since SqliteStore.mark; the transaction goes on."""
        self.untake()
        self.reload()

    def untake(self) -> None:
        """The same where nothing has happened but `take`, which changes no definition and leaves no event out."""
        self.store.back()
        self.counts.forget()


def _same_key(one: Definition, other: Definition) -> bool:
    return one.canonical["key"] == other.canonical["key"]


class _Kept:
    """Gathers the rows of events that are kept."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._events: list[tuple[object, ...]] = []
        self._lines: list[tuple[object, ...]] = []
        self._source: Source | None = None
        self._resource = 0
        self._resources: set[int] = set()

    def add(self, event: Event) -> None:
        source, arrival, subject = event.source, event.arrival, event.subject
        if source is not self._source:
            self._source = source
            digest = hashlib.blake2b(source.encoded, digest_size=16).digest()
            self._resource = self._store.events.resource(source.encoded, digest)
            self._resources.add(self._resource)
        # The sqlite3 module asks for an adapter of bytes, and of None, each time.
        what = event.at, arrival, event.flags, bytearray(event.attributes_bytes), self._resource
        if event.kind == "line" and subject is None:
            self._lines.append(what)
        else:
            self._events.append(
                (
                    None if event.id is None else bytearray(event.id),
                    subject_hash(subject) if subject else None,
                    subject,
                    event.kind,
                    event.name,
                    event.span_kind,
                    event.status,
                    *what,
                )
            )

    def write(self) -> None:
        """Into the open transaction."""
        self._store.events.add(self._events)
        self._store.events.add_lines(self._lines)
        if self._resources:
            self._store.events.use(self._resources)
