"""Stored events, read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from otel_ttf.otlp.events import FLAG_TOO_OLD, Event, Source
from otel_ttf.otlp.subject import subject_keys

_NO_KEYS = subject_keys(())


def stored(subject: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
    """Stored events of one subject that may move a journey. rows: see Events.of"""
    sources: dict[bytes, Source] = {}
    for id_, kind, name, span_kind, status, at, arrival, flags, attributes, resource in rows:
        if kind == "line" or flags & FLAG_TOO_OLD:
            continue
        source = sources.get(resource)
        if source is None:
            source = sources[resource] = Source(resource, _NO_KEYS)
        yield Event(id_, kind, name, subject, at, arrival, flags, attributes, source, span_kind, status)
