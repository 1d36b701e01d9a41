"""Versions of a journey: the followed one, and older ones, which stay readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from otel_ttf.api.problems import Problem, listed
from otel_ttf.journey.definition import Journey, Milestone
from otel_ttf.journey.match import parse
from otel_ttf.store.base import Reader, Version


def chosen(reader: Reader, journey: Journey, wanted: str | None) -> tuple[Journey, Version | None]:
    """The journey as the wanted version defines it (None: the configured one), and what is stored about it.

    None beside it: the configured version has not been started yet.
    Raises Problem 404, naming the known versions.
    """
    stored = reader.versions(journey.name)
    version = next((v for v in stored if v.version == (wanted or journey.version)), None)
    if wanted is None or wanted == journey.version:
        return journey, version
    if version is None:
        known = dict.fromkeys([journey.version, *(v.version for v in stored)])
        raise Problem(
            404, "unknown-version", f"{journey.name} has no such version; known: {listed(list(known))}"
        )
    return as_defined(journey, version.definition), version


def as_defined(journey: Journey, definition: Mapping[str, Any]) -> Journey:
    """An older version's milestones, key and `only`, with today's settings.

    Stage names and targets are no part of a version. They are those of the milestone that has the same match
    today, or else the same name; a milestone that is no more has its own name for a stage, and no target.

    definition  journey.definition.canonical of the older version
    """
    milestones: list[Milestone] = []
    for entry in definition["milestones"]:
        old = Milestone(entry["name"], parse(entry["match"]), "")
        if milestones:
            alike = [m for m in journey.milestones if m.match == old.match] or [
                m for m in journey.milestones if m.name == old.name
            ]
            today = next((m for m in alike if m.name == old.name), alike[0] if alike else old)
            taken = {m.stage for m in milestones}
            stage = today.stage if today.stage and today.stage not in taken else old.name
            old = replace(old, stage=stage, target=today.target)
        milestones.append(old)
    only = definition["only"]
    return replace(
        journey,
        milestones=tuple(milestones),
        key=tuple(definition["key"]),
        only=None if only is None else parse(only),
    )
