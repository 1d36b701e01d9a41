"""Rows of one journey that change together: their transitions, counts, and derived columns."""

from __future__ import annotations

from dataclasses import replace

from otel_ttf.journey.definition import LEVELS, Journey
from otel_ttf.journey.metrics import score
from otel_ttf.journey.rollup import add, overdue_cell, share
from otel_ttf.journey.state import State, Timeline, empty, named_segments, timeline
from otel_ttf.journey.thresholds import due
from otel_ttf.journey.times import pack_times
from otel_ttf.journey.transitions import Transition, advance, told_bit
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import Kept, pack_touches, parts, subject_hash
from otel_ttf.tracker.counts import Counts, Place
from otel_ttf.tracker.covered import joined
from otel_ttf.tracker.derived import (
    EXPIRED_STATE,
    IN_PROGRESS,
    NOT_STARTED,
    coming,
    stage_of,
    unreached,
)
from otel_ttf.tracker.followed import Followed


class Writes:
    """Rows of one journey that change together."""

    def __init__(
        self, store: SqliteStore, counts: Counts, followed: Followed, now: int, *, backfilled: bool = False
    ) -> None:
        self.store = store
        self.counts = counts
        self.followed = followed
        self.journey = followed.journey
        self.now = now
        self.backfilled = backfilled
        self._transitions: list[Transition] = []
        self._inserts: list[tuple[object, ...]] = []
        self._updates: list[tuple[object, ...]] = []
        self._deletes: list[int] = []
        self._subjects: set[str] = set()

    def change(self, kept: Kept, state: State, *, told: int | None = None) -> None:
        """The state of a row becomes `state`, which joins the old one, or was recomputed.

        told  what counts as told before, where that is more than the row itself knows
        """
        if kept.shared:
            self._share(kept, state)
            return
        journey = self.journey
        before = kept.state if kept.id is not None else None
        line = timeline(journey, state)
        transitions, new_told = advance(
            journey,
            before,
            state,
            kept.told if told is None else told,
            subject=kept.subject,
            key=parts(kept.key),
            recorded=self.now,
            backfilled=self.backfilled,
            line=line,
            retold=kept.subject in self.followed.retold,
        )
        if kept.recorded is None and line.started_at is not None:
            kept.recorded = self.now
        self._tell(transitions, line)
        self.settle(kept, line, state=state, told=new_told)

    def recount(self, kept: Kept) -> None:
        """Counts a row anew whose share is gone, and tells what other settings have made of it."""
        if not kept.shared:
            self.change(replace(kept, day=None, combo=None), kept.state)

    def copy(self, kept: Kept, live: Kept | None, state: State) -> None:
        """A row that stands beside another becomes `state`; what was told, and when, is the other's."""
        told, recorded = (live.told, live.recorded) if live is not None else (0, None)
        if (
            kept.id is not None
            and (kept.state, kept.told) == (state, told)
            and recorded in (None, kept.recorded)
        ):
            return
        if kept.shared:
            self._share(kept, state)
            return
        line = timeline(self.journey, state)
        if recorded is not None:
            kept.recorded = recorded
        elif kept.recorded is None and line.started_at is not None:
            kept.recorded = self.now
        self.settle(kept, line, state=state, told=told)

    def news(self, kept: Kept, transitions: list[Transition], line: Timeline, told: int) -> None:
        """Tells of a row whose state stays as it is."""
        self._tell(transitions, line)
        self.settle(kept, line, told=told)

    def look(self, kept: Kept, *, needed: bool = False) -> None:
        """A row is due: it is overdue, has expired, or is to be forgotten.

        needed  whether other rows of the subject live on what waits here
        """
        if needed:
            self._share(kept, kept.state, needed=True)
            return
        line = timeline(self.journey, kept.state)
        if unreached(kept.state):
            # While rows are walked in order of id, none may come again for another row. And what was told of a journey
            # that was recomputed to nothing must not be told again.
            if kept.id is not None and not kept.told and self.followed.definition.recounting is None:
                self._deletes.append(kept.id)
            else:
                self.settle(kept, line)
            return
        told = kept.told
        if kept.recorded is not None and self.now >= kept.recorded + self.journey.settle:
            transitions, told = due(
                self.journey,
                line,
                told,
                subject=kept.subject,
                key=parts(kept.key),
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
        self._subjects.add(kept.subject)
        new_state = kept.state if state is None else state
        new_told = kept.told if told is None else told
        stage = stage_of(journey, line, new_told, self.now)
        uncounted = definition.recounting is not None and (kept.id is None or kept.id > definition.recounting)
        place: Place | None = None
        if not uncounted and kept.day is not None and kept.combo is not None:
            old = share(journey, timeline(journey, kept.state), expired=kept.stage == EXPIRED_STATE)
            if old is not None:
                cells = self.counts.cells((definition.id, kept.day, kept.combo))
                add(cells, with_level(journey, old.cells, kept.stage, kept.told), -1)
        if not uncounted:
            new = share(journey, line, expired=stage == EXPIRED_STATE)
            if new is not None:
                place = (
                    definition.id,
                    new.day,
                    self.counts.combo(definition.id, journey, new.segments),
                )
                add(self.counts.cells(place), with_level(journey, new.cells, stage, new_told), 1)
        derived = (
            pack_times(new_state.reached),
            pack_touches(self.followed.segments, new_state.segments),
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
            row = (definition.id, subject_hash(kept.subject), kept.subject, kept.key, *derived, 1.0)
            self._inserts.append(row)
        else:
            self._updates.append((*derived, kept.id))

    def _share(self, kept: Kept, state: State, *, needed: bool = False) -> None:
        """A shared row becomes `state`: it is counted nowhere."""
        self._subjects.add(kept.subject)
        due = self.now + self.journey.give_up_after if unreached(state) and not needed else None
        columns = (
            pack_times(state.reached),
            pack_touches(self.followed.segments, state.segments),
            0,
            None,
            kept.epoch,
            NOT_STARTED,
            *(None, None, None, None),
            due,
            None,
            None,
        )
        if kept.id is None:
            row = (self.followed.definition.id, subject_hash(kept.subject), kept.subject, kept.key)
            self._inserts.append((*row, *columns, 1.0))
        else:
            self._updates.append((*columns, kept.id))

    def _due(self, kept: Kept, line: Timeline, told: int, stage: int, state: State) -> int | None:
        """When time alone changes something about this row."""
        if stage == NOT_STARTED:
            return self.now + self.journey.give_up_after if unreached(state) else None
        if stage != IN_PROGRESS:
            return None
        recorded = kept.recorded if kept.recorded is not None else self.now
        deadline = coming(self.journey, line, told)
        return None if deadline is None else max(deadline, recorded + self.journey.settle)

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
        if self.followed.beside is not None:
            self._mirror(self.followed.beside)

    def _mirror(self, beside: Followed) -> None:
        """What was written goes into the rows beside, too, where they are made already."""
        subjects = [subject for subject in self._subjects if self.followed.walked(subject)]
        if not subjects:
            return
        live = self.store.load(self.followed.definition.id, self.followed.segments, subjects)
        kept = self.store.load(beside.definition.id, self.followed.segments, subjects)
        batch = Writes(self.store, self.counts, beside, self.now)
        by_subject: dict[str, dict[str, State]] = {}
        for row in [*kept.values(), *live.values()]:
            states = by_subject.setdefault(row.subject, {})
            states[row.whose] = states[row.whose].join(row.state) if row.whose in states else row.state
        for states in by_subject.values():
            for whose, state in joined(states).items():
                row = kept.get(whose) or fresh(beside, whose[:TOKEN_LENGTH], whose[TOKEN_LENGTH:])
                batch.copy(row, live.get(whose) or row, state)
        batch.write()


def fresh(followed: Followed, subject: str, key: str = "") -> Kept:
    epoch = followed.definition.epoch
    return Kept(None, subject, empty(followed.journey), 0, None, epoch, NOT_STARTED, None, None, key)


def with_level(journey: Journey, cells: dict[int, int], stage: int, told: int) -> dict[int, int]:
    """The share plus the highest overdue level, which only journeys in progress have."""
    if stage == IN_PROGRESS:
        for level in reversed(LEVELS):
            if level in journey.overdue and told & told_bit("overdue", level):
                return cells | {overdue_cell(level): 1}
    return cells
