"""Where the subject of a record stands (journeys.md, Identity)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from otel_ttf.otlp.values import plain
from otel_ttf.pii.pseudonym import subject_text

_HEADERS = ("http.request.header.", "http.response.header.")


@lru_cache(maxsize=4096)
def canonical(key: str) -> str:
    """An attribute key with the two spellings of header names made one."""
    return key.replace("_", "-") if key.startswith(_HEADERS) else key


def subject_of(levels: Iterable[Any], wanted: Sequence[str], normalise: str) -> str | None:
    """The subject id of a record: by level (record, span, resource), there by the order of attributes.

    levels  repeated KeyValue fields
    wanted  attribute names in order, canonical
    """
    return found_at(levels, wanted, normalise)[1]


def found_at(levels: Iterable[Any], wanted: Sequence[str], normalise: str) -> tuple[str, str | None]:
    """(the attribute that names the subject, the subject id); ("", None) where there is none."""
    for pairs in levels:
        found: dict[str, Any] = {}
        for pair in pairs:
            key = canonical(pair.key)
            if key in wanted:
                found[key] = pair.value
        if found:
            for key in wanted:
                if key in found:
                    text = subject_text(plain(found[key]), normalise)
                    if text is not None:
                        return key, text
    return "", None
