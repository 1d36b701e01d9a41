"""Which stored events set a stage's times: why four minutes?"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from otel_ttf.api.times import rfc3339
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.keys import Key, covering, key_of
from otel_ttf.journey.state import State, timeline
from otel_ttf.journey.values import Value
from otel_ttf.otlp.events import Event
from otel_ttf.store.base import Reader

EVENTS = 10  # that say the same; one is enough to know
ATTRIBUTES_BYTES = 16 << 10  # of an event; beyond, they are left out


def evidence(
    reader: Reader, journey: Journey, key: Key, state: State, tokens: Sequence[str]
) -> list[dict[str, Any]]:
    """For each stage the stored events that opened it and that reached its end.

    A moment that is known and has no event rests on one that is stored no longer (storage.events, retention).
    """
    line = timeline(journey, state)
    moments = {at for at in line.known if at is not None}
    found = reader.events_at(tokens, moments) if moments else []
    hits = Dispatch([journey]).hits
    by_milestone: list[list[Event]] = [[] for _ in journey.milestones]
    for event in found:
        for _, m in hits(event):
            if event.at == state.reached[m] and _belongs(journey, key, m, event):
                by_milestone[m].append(event)

    def setting(place: int) -> list[dict[str, Any]]:
        """What set the moment at which that milestone and all known before it were reached."""
        at = line.known[place]
        return [
            _shown(event, journey.milestones[m].name)
            for m in range(place, -1, -1)
            if state.reached[m] == at
            for event in by_milestone[m]
        ][:EVENTS]

    return [
        {"opened": setting(place - 1), "reached": setting(place)}
        for place in range(1, len(journey.milestones))
    ]


def _belongs(journey: Journey, key: Key, milestone: int, event: Event) -> bool:
    if not key:
        return True
    own = key_of(journey.key[1:], event.attributes, event.resource)
    return own == key or (journey.milestones[milestone].shared and own in covering(key))


def _shown(event: Event, milestone: str) -> dict[str, Any]:
    small = len(event.attributes_bytes) <= ATTRIBUTES_BYTES
    service = event.resource.get("service.name") if small else None
    return {
        "milestone": milestone,
        "event_id": event.id.hex() if event.id is not None else None,
        "kind": event.kind,
        "name": event.name,
        "at": rfc3339(event.at),
        "arrived_at": rfc3339(event.arrival),
        "service": service if isinstance(service, str) else None,
        "attributes": {name: _json(value) for name, value in event.attributes.items()} if small else None,
    }


def _json(value: Value) -> Any:
    """A value as JSON has it: bytes as base64, numbers that are none as text."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, dict):
        return {name: _json(one) for name, one in value.items()}
    return value
