"""Rows of journeys with keys beyond the subject.

A row of a whole key is a journey; its state has that of the rows that cover it joined in, so nobody who reads it has
to know of them. A row with empty parts is shared: no journey, counted nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otel_ttf.journey.keys import MAX_KEYS
from otel_ttf.journey.state import UNSET, State
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite_rows import Kept, parts
from otel_ttf.tracker.covered import joined
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.touches import Touch
from otel_ttf.tracker.writes import Writes, fresh


def subjects_of(whose: Iterable[str]) -> list[str]:
    """Whose rows these are; see Kept.whose."""
    return list(dict.fromkeys([one[:TOKEN_LENGTH] for one in whose]))


def by_subject(rows: Mapping[str, Kept]) -> dict[str, dict[str, Kept]]:
    """subject -> whose -> row"""
    found: dict[str, dict[str, Kept]] = {}
    for whose, row in rows.items():
        found.setdefault(row.subject, {})[whose] = row
    return found


def join(
    followed: Followed, batch: Writes, kept: Mapping[str, Kept], touches: Mapping[str, Touch]
) -> Sequence[str]:
    """Joins what events said. kept: all rows of their subjects.

    Returns the names of milestones that were reached with more keys than a subject may have.
    """
    refused: list[str] = []
    rows = by_subject(kept)
    said: dict[str, dict[str, State]] = {}
    for whose, touch in touches.items():
        state = State(tuple(touch.reached), tuple(touch.segments))
        said.setdefault(whose[:TOKEN_LENGTH], {})[whose] = state
    for subject, news in said.items():
        have = rows.get(subject, {})
        states = {whose: row.state for whose, row in have.items()}
        room = MAX_KEYS - sum(row.id is not None and not row.shared for row in have.values())
        for whose, state in news.items():
            old = have.get(whose)
            if (old is None or old.id is None) and "" not in parts(whose[TOKEN_LENGTH:]):
                if room <= 0:
                    refused += [
                        milestone.name
                        for milestone, at in zip(followed.journey.milestones, state.reached, strict=True)
                        if at != UNSET
                    ]
                    states.pop(whose, None)
                    continue
                room -= 1
            states[whose] = states[whose].join(state) if whose in states else state
        for whose, state in joined(states).items():
            old = have.get(whose)
            if old is None:
                batch.change(fresh(followed, subject, whose[TOKEN_LENGTH:]), state)
            elif whose in news if old.id is None else state != old.state:
                batch.change(old, state)
    return refused
