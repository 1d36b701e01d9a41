"""What a journey is: its milestones, targets and settings, as frozen values.

All durations are nanoseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from otel_ttf.journey.keys import MAX_KEY_PARTS
from otel_ttf.journey.labels import TAKEN, label_name
from otel_ttf.journey.match import Match, Path, parse
from otel_ttf.journey.values import found, json_text, listed, unknown
from otel_ttf.units import DAY, MINUTE, SECOND

LEVELS = ("warning", "critical", "escalation")
# Each takes two bits of a journey's `told` (a signed 64-bit integer), beside seven others.
MAX_MILESTONES = 28
MAX_SEGMENT_LIMIT = 10_000
_MAX_NAME_BYTES = 128
# What the total is called beside the stages: ttf_complete_minutes, and `total` in transitions.
_TOTAL = ("complete", "total")

Problem: TypeAlias = tuple[Path, str, str]
"""Where in the journey's configuration, what was expected, what was found."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """A point that a subject reaches once: at the earliest record that matches.

    stage   the stage that ends here; empty at the first milestone
    target  how long that stage should take at most; None where there is no target
    shared  whether it also takes events that lack parts of the key
    """

    name: str
    match: Match
    stage: str
    target: int | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """An attribute whose first value divides a journey's subjects.

    limit  how many values are told apart in figures; later ones count as `other`
    """

    attribute: str
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Journey:
    """A named, ordered list of milestones with targets. check() tells whether it makes sense.

    key            what there is one journey per: `subject`, then attributes
    only           whose records count; None: all
    timezone       of cohort days, an IANA name
    settle         how long after a start was recorded nothing is overdue
    target         how long the whole should take at most
    overdue        level -> time since the start after which a journey in progress has it
    give_up_after  time since the start after which an incomplete journey is expired
    version        8 hex digits that change with what is recorded: key, only, milestones' names and matches
    derived        16 hex digits that change with all else: what was derived has to be derived again
    """

    name: str
    milestones: tuple[Milestone, ...]
    key: tuple[str, ...] = ("subject",)
    only: Match | None = None
    segments: tuple[Segment, ...] = ()
    timezone: str = "UTC"
    settle: int = 60 * SECOND
    complete_when: Literal["all", "last"] = "all"
    target: int | None = None
    overdue: Mapping[str, int] = field(default_factory=dict, hash=False)
    give_up_after: int = 30 * DAY
    version: str = field(init=False, compare=False)
    derived: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", _digest(canonical(self))[:8])
        object.__setattr__(self, "derived", _digest(_derived(self))[:16])


def canonical(journey: Journey) -> dict[str, Any]:
    """What makes a version, JSON-able; the version is the SHA-256 of its JSON text."""
    return {
        "key": list(journey.key),
        "only": None if journey.only is None else journey.only.canonical,
        "milestones": [
            {"name": milestone.name, "match": milestone.match.canonical} for milestone in journey.milestones
        ],
    }


def _derived(journey: Journey) -> dict[str, Any]:
    return {
        "milestones": [
            [milestone.stage, milestone.target, milestone.shared] for milestone in journey.milestones
        ],
        "segments": [[segment.attribute, segment.limit] for segment in journey.segments],
        "timezone": journey.timezone,
        "settle": journey.settle,
        "complete_when": journey.complete_when,
        "target": journey.target,
        "overdue": dict(journey.overdue),
        "give_up_after": journey.give_up_after,
    }


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json_text(data).encode()).hexdigest()


def carried(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    """Which milestones of an older version live on in a newer one (both in canonical form).

    Returns for each milestone of new the place in old of the one with the same match, whatever its name (of
    several the one with the same name, else the first), or None. None as a whole: nothing carries over, since
    key or only differ.
    """
    if old["key"] != new["key"] or json_text(old["only"]) != json_text(new["only"]):
        return None
    places: dict[str, int] = {}
    named: dict[tuple[str, str], int] = {}
    for place, milestone in enumerate(old["milestones"]):
        match = json_text(milestone["match"])
        places.setdefault(match, place)
        named.setdefault((match, milestone["name"]), place)
    matches = [(json_text(milestone["match"]), milestone["name"]) for milestone in new["milestones"]]
    return tuple(named.get((match, name), places.get(match)) for match, name in matches)


def check(journey: Journey) -> list[Problem]:
    """Everything that is wrong with the journey; paths are those of its configuration."""
    return [
        *_check_key(journey),
        *_check_milestones(journey.milestones),
        *_check_segments(journey.segments),
        *_check_times(journey),
        *_check_words(journey),
    ]


def _check_key(journey: Journey) -> Iterator[Problem]:
    if not journey.key or journey.key[0] != "subject":
        what = found(journey.key[0]) if journey.key else found([])
        yield ("key", 0), "subject as the key's first part", what
    parts = journey.key[1:]
    for place, part in enumerate(parts, 1):
        if not part or len(part.encode()) > _MAX_NAME_BYTES:
            yield ("key", place), f"an attribute's name of 1 to {_MAX_NAME_BYTES} bytes", found(part)
        if part in journey.key[:place]:
            yield ("key", place), "each part once", found(part)
    if len(parts) > MAX_KEY_PARTS:
        yield ("key",), f"subject and at most {MAX_KEY_PARTS} attributes", f"{len(parts)} attributes"


def _check_milestones(milestones: Sequence[Milestone]) -> Iterator[Problem]:
    path: Path = ("milestones",)
    if not 2 <= len(milestones) <= MAX_MILESTONES:
        yield path, f"2 to {MAX_MILESTONES} milestones", str(len(milestones))
    names: set[str] = set()
    stages: set[str] = set()
    for place, milestone in enumerate(milestones):
        yield from _check_name((*path, place, "name"), milestone.name, names, "milestone")
        names.add(milestone.name)
        stage, target = (*path, place, "stage"), (*path, place, "target")
        if place == 0:
            if milestone.stage:
                yield stage, "no stage, since none ends at the first milestone", found(milestone.stage)
            if milestone.target is not None:
                yield target, "no target, since no stage ends at the first milestone", _time(milestone.target)
            continue
        yield from _check_name(stage, milestone.stage, stages, "stage")
        stages.add(milestone.stage)
        if milestone.stage in _TOTAL:
            yield stage, "another name, since this one stands for the whole journey", found(milestone.stage)
        if milestone.target is not None and milestone.target <= 0:
            yield target, "more than 0", _time(milestone.target)


def _check_name(path: Path, name: str, taken: set[str], thing: str) -> Iterator[Problem]:
    if not name or not name.isprintable() or name != name.strip() or len(name.encode()) > _MAX_NAME_BYTES:
        yield path, f"a name of 1 to {_MAX_NAME_BYTES} bytes, printable, no spaces around it", found(name)
    if name in taken:
        yield path, f"a name that no other {thing} of the journey has", found(name)


def _check_segments(segments: Sequence[Segment]) -> Iterator[Problem]:
    taken: set[str] = set()
    labels: dict[str, str] = {}
    for place, segment in enumerate(segments):
        path: Path = ("segments", place)
        if not segment.attribute:
            yield (*path, "attribute"), "an attribute's name", "empty text"
        if segment.attribute in taken:
            yield (*path, "attribute"), "each attribute once", found(segment.attribute)
        elif segment.attribute:
            yield from _check_label((*path, "attribute"), segment.attribute, labels)
        taken.add(segment.attribute)
        if not 1 <= segment.limit <= MAX_SEGMENT_LIMIT:
            yield (*path, "limit"), f"1 to {MAX_SEGMENT_LIMIT}", str(segment.limit)


def _check_label(path: Path, attribute: str, labels: dict[str, str]) -> Iterator[Problem]:
    """labels: those of the segments before, with their attributes."""
    label = label_name(attribute)
    before = labels.setdefault(label, attribute)
    if label in TAKEN or label.startswith("__"):
        yield path, f"an attribute whose Prometheus label is not {label}, which is taken", found(attribute)
    elif before != attribute:
        yield path, f"another Prometheus label than that of {before} ({label})", found(attribute)


def _check_times(journey: Journey) -> Iterator[Problem]:
    if journey.target is not None and journey.target <= 0:
        yield ("target",), "more than 0", _time(journey.target)
    if journey.settle < 0:
        yield ("settle",), "0 or more", _time(journey.settle)
    if journey.give_up_after <= 0:
        yield ("give_up_after",), "more than 0", _time(journey.give_up_after)
    for level in journey.overdue:
        if level not in LEVELS:
            yield ("overdue", level), listed(LEVELS), unknown(level, LEVELS)
    before, least = "", 0
    for level in LEVELS:
        after = journey.overdue.get(level)
        if after is not None:
            if after <= least:
                expected = f"more than {before} ({_time(least)})" if before else "more than 0"
                yield ("overdue", level), expected, _time(after)
            before, least = level, after
    if before and 0 < journey.give_up_after <= least:
        yield ("give_up_after",), f"more than overdue.{before} ({_time(least)})", _time(journey.give_up_after)


def _check_words(journey: Journey) -> Iterator[Problem]:
    yield from _check_name(("name",), journey.name, set(), "journey")
    if journey.complete_when not in ("all", "last"):
        yield ("complete_when",), "all or last", found(journey.complete_when)
    if not _is_timezone(journey.timezone):
        yield ("timezone",), "an IANA time zone such as UTC or Europe/Berlin", found(journey.timezone)


def _is_timezone(name: str) -> bool:
    if name == "UTC":
        return True
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A folder of zones (`Europe`), a path out of the database, a name that is no file name.
        return False
    return True


def _time(nanoseconds: int) -> str:
    """A duration as people write it: `75m`, `1.5s`."""
    if nanoseconds % MINUTE == 0:
        return f"{nanoseconds // MINUTE}m"
    return f"{nanoseconds / SECOND:g}s"


# Milestone, its stage and target, and the names under which applications already send it.
_ONBOARDING: tuple[tuple[str, str, int | None, tuple[str, ...]], ...] = (
    ("signup", "", None, ("user_signed_up", "sign_up", "user_registered", "account_created")),
    ("first_project_created", "project", 5 * MINUTE, ("project_created",)),
    ("first_agent_created", "agent", 10 * MINUTE, ("agent_created",)),
    ("first_workflow_executed", "workflow", 15 * MINUTE, ("workflow_executed",)),
    (
        "first_success_event",
        "success",
        30 * MINUTE,
        ("success_event", "first_success", "workflow_succeeded"),
    ),
)


def default_onboarding() -> Journey:
    """The journey of a configuration that names none."""
    return Journey(
        name="onboarding",
        milestones=tuple(
            Milestone(name, parse({"event": [name, *others]}), stage, target)
            for name, stage, target, others in _ONBOARDING
        ),
        segments=(Segment("plan"), Segment("channel")),
        target=60 * MINUTE,
        overdue={"warning": 75 * MINUTE, "critical": 120 * MINUTE, "escalation": 180 * MINUTE},
    )
