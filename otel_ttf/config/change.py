"""What differs between two configurations, and what a running server can take over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otel_ttf.config.model import Config
from otel_ttf.config.problems import Path
from otel_ttf.otlp.wire import SIGNALS

# Settings by the beginning of their path, and why a change of them needs a restart; None: a reload takes it over. The
# longest that fits counts. What is not there needs a restart.
SETTINGS: Mapping[str, str | None] = {
    "journeys": None,
    "processors": None,
    "processors.consent.default": "consent.db was read with it",
    "processors.consent.max_subjects": "consent.db was read with it",
    "service.pipelines": None,
    "service.telemetry.logs": None,
    "storage.events": None,
    "storage.max_size": None,
    "storage.retention": None,
    "subject.normalise": None,
    "time": None,
    "receivers.otlp.max_in_flight": None,
    "receivers.otlp.protocols": "doors are opened at the start, with their limits",
    "receivers.otlp.trusted_tokens": "doors are opened at the start",
    "api": "doors are opened at the start, with their limits",
    "auth": "who may come in is read at the start; keys and certificates are read again by themselves",
    "subject.from": "what is in the log has its users there",
    "storage.url": "the store is opened at the start",
    "log": "the log is opened at the start",
    "privacy": "keys are read at the start",
    "exporters": "they are built at the start",
    **{f"service.pipelines.{name}.exporters": "exporters are built at the start" for name in SIGNALS},
}
_OTHERWISE = "it is read at the start"


def changed(old: Config, new: Config) -> list[Path]:
    """Paths of the settings that differ, in the order of the model; of a list, the list."""
    return list(_differing(_plain(old), _plain(new), ()))


def why_restart(path: Path) -> str | None:
    """Why a change of that setting needs a restart; None: a reload takes it over."""
    for length in range(len(path), 0, -1):
        beginning = ".".join(map(str, path[:length]))
        if beginning in SETTINGS:
            return SETTINGS[beginning]
    return _OTHERWISE


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(by_alias=True)


def _differing(old: Any, new: Any, path: Path) -> Iterator[Path]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if name in old and name in new:
                yield from _differing(old[name], new[name], (*path, name))
            else:
                yield (*path, name)
    elif old != new:
        yield path
