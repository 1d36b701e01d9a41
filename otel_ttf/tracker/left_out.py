"""What events of one subject have said that are left out: it is taken back, and nothing else of the same second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.state import UNSET, State
from otel_ttf.otlp.events import Event
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.stored import stored
from otel_ttf.tracker.touches import Texts


@dataclass(slots=True)
class LeftOut:
    """reached: times by (journey, milestone) index; values: (time, value) by journey's index and attribute.

    unknown  times of those that are stored no longer: each may have said anything
    """

    reached: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    values: dict[tuple[int, str], set[tuple[int, str]]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)

    def add(self, event: Event, hits: Sequence[tuple[int, int]], dispatch: Dispatch, texts: Texts) -> None:
        """hits: what the event reaches."""
        for place in hits:
            self.reached.setdefault(place, set()).add(event.at)
        said = texts.of(event)
        for j in dispatch.admits(event) if said else ():
            for name, value in (said or {}).items():
                if value is not None:
                    self.values.setdefault((j, name), set()).add((event.at, value))

    def reaches(self, j: int, m: int, at: int) -> bool:
        """Whether this time of a milestone was theirs."""
        return at in self.unknown or at in self.reached.get((j, m), ())

    def without(self, j: int, names: Sequence[str], state: State) -> State:
        """A state without what they have said. names: the segments' attributes."""
        return State(
            tuple(UNSET if self.reaches(j, m, at) else at for m, at in enumerate(state.reached)),
            tuple(
                None
                if first is not None and (first[0] in self.unknown or first in self.values.get((j, name), ()))
                else first
                for name, first in zip(names, state.segments, strict=True)
            ),
        )


def left_out(
    store: SqliteStore, dispatch: Dispatch, texts: Texts, subject: str, events: Mapping[bytes, int]
) -> LeftOut:
    """What these events have said, which are left out. events: id -> time"""
    found = LeftOut()
    unknown = dict(events)
    for event in stored(subject, store.events.with_ids(list(events))):
        unknown.pop(event.id or b"", None)
        found.add(event, dispatch.hits(event), dispatch, texts)
    found.unknown.update(unknown.values())
    return found
