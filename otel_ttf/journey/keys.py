"""Keys of journeys beyond the subject: one journey per subject and, say, project.

A whole key is a tuple of texts, one for each attribute. One with empty parts stands for what is known of the subject
whatever those parts are: milestones that are `shared`, and segments. Every whole key that agrees with its other
parts is joined with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from otel_ttf.journey.values import Value

MAX_KEY_PARTS = 3
MAX_PART_BYTES = 512
# Journeys of one kind that a subject has at most, the first that arrived.
MAX_KEYS = 1000

Key = tuple[str, ...]


def part_of(value: Value) -> str:
    """A part of a key as text; empty for what is none, as of subject ids: trimmed, at most 512 bytes."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value).strip()
    return text if len(text.encode(errors="replace")) <= MAX_PART_BYTES else ""


def key_of(names: Sequence[str], *sources: Mapping[str, Value]) -> Key:
    """The parts of these names, each from the first source that has it; empty where none does."""
    return tuple([next((part for one in sources if (part := part_of(one.get(name)))), "") for name in names])


def covering(key: Key) -> list[Key]:
    """The keys with empty parts that a whole one is joined with."""
    return [some for some in product(*[("", part) for part in key]) if some != key]
