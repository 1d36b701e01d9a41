"""States of one subject's journeys, with what is shared by them joined in: see journey/keys.py."""

from __future__ import annotations

from collections.abc import Mapping

from otel_ttf.journey.keys import covering
from otel_ttf.journey.state import State
from otel_ttf.pii.pseudonym import TOKEN_LENGTH
from otel_ttf.store.sqlite_rows import parts


def joined(states: Mapping[str, State]) -> dict[str, State]:
    """States of one subject, whose -> state, with what covers each joined in."""
    shared = {key: state for whose, state in states.items() if "" in (key := parts(whose[TOKEN_LENGTH:]))}
    if not shared:
        return dict(states)
    found = {}
    for whose, state in states.items():
        key = parts(whose[TOKEN_LENGTH:])
        if key not in shared:
            for some in covering(key):
                if some in shared:
                    state = state.join(shared[some])
        found[whose] = state
    return found
