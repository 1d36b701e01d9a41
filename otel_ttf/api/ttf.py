"""GET /api/v1/ttf/{user_id} and /api/v1/subjects/{token}: one user's journey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from otel_ttf.api.context import AsOf, Context, KnownQuery, token
from otel_ttf.api.evidence import evidence as evidence_of
from otel_ttf.api.models import UserAnswer
from otel_ttf.api.problems import BadQuery, Problem, listed, responses
from otel_ttf.api.times import rfc3339_or_none
from otel_ttf.api.versions import chosen
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.keys import MAX_PART_BYTES, Key, part_of
from otel_ttf.journey.metrics import minutes, score, status
from otel_ttf.journey.state import UNSET, State, Timeline, named_segments, timeline
from otel_ttf.store.base import JourneyRow, Version

JourneyName = Annotated[str | None, Query(description="Journey; default: the first configured one.")]
VersionName = Annotated[str | None, Query(description="A stored version of it; default: the current one.")]
All = Annotated[
    bool,
    Query(
        alias="all",
        description="All of the user's journeys of that name, a list; default: the first to start.",
    ),
]
Evidence = Annotated[bool, Query(description="With the stored events that set each stage's times.")]
# How a part of the key is asked for: ?key.project.id=7
KEY_PREFIX = "key."
MOST_EVIDENCE = 50
UserId = Annotated[str, Path(description="The raw user id, percent-encoded: one segment, `/` as %2F.")]


def minutes_or_none(duration: int | None) -> float | None:
    """Minutes of nanoseconds, not rounded; None stays None."""
    return None if duration is None else minutes(duration)


def routes(context: Context) -> APIRouter:
    """Both ways of asking for one user."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["journeys"],
        dependencies=[Depends(KnownQuery("journey", "version", "all", "evidence", prefix=KEY_PREFIX))],
        responses=responses(400, 404),
    )
    parts = dict.fromkeys(part for journey in context.journeys.values() for part in journey.key[1:])
    asked = {"parameters": [_key_parameter(part) for part in parts]}

    @router.get(
        "/ttf/{user_id}",
        operation_id="getUserTtf",
        summary="One user's journey: minutes per stage, total, score",
        response_model=UserAnswer | list[UserAnswer],
        openapi_extra=asked,
    )
    def by_user(
        request: Request,
        user_id: UserId,
        journey: JourneyName = None,
        version: VersionName = None,
        all_: All = False,
        evidence: Evidence = False,
    ) -> Response:
        as_of = context.as_of()
        sent, tokens = context.tokens(user_id)
        wanted = _Wanted(journey, version, _parts(request), every=all_, evidence=evidence)
        return _answer(context, as_of, sent, tokens, wanted)

    @router.get(
        "/subjects/{token}",
        operation_id="getSubjectTtf",
        summary="The same by subject token",
        response_model=UserAnswer | list[UserAnswer],
        openapi_extra=asked,
    )
    def by_token(
        request: Request,
        text: Annotated[str, Path(alias="token", description="A token, as `stuck` lists them.")],
        journey: JourneyName = None,
        version: VersionName = None,
        all_: All = False,
        evidence: Evidence = False,
    ) -> Response:
        as_of = context.as_of()
        wanted = _Wanted(journey, version, _parts(request), every=all_, evidence=evidence)
        return _answer(context, as_of, None, [token(text)], wanted)

    return router


def _key_parameter(part: str) -> dict[str, object]:
    return {
        "name": KEY_PREFIX + part,
        "in": "query",
        "required": False,
        "description": f"Only journeys with this value of `{part}` in their key.",
        "schema": {"type": "string"},
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked of a user. parts: of the key, by attribute"""

    journey: str | None
    version: str | None
    parts: Mapping[str, str]
    every: bool
    evidence: bool


@dataclass(frozen=True, slots=True)
class OfUser:
    """One journey of a user. subject: the newest token that has it; recorded: when its start was"""

    key: Key
    subject: str
    state: State
    recorded: int | None


def of_user(rows: Sequence[JourneyRow], tokens: Sequence[str]) -> list[OfUser]:
    """The journeys of one person, the one that started first in front; those that have not started by their keys.

    Under several subject keys a person has several tokens: what each knows is joined. tokens: newest first
    """
    by_key: dict[Key, list[JourneyRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    found = [
        OfUser(
            key,
            min((row.subject for row in some), key=tokens.index),
            reduce(State.join, (row.state for row in some)),
            min((row.recorded for row in some if row.recorded is not None), default=None),
        )
        for key, some in by_key.items()
    ]
    return sorted(found, key=lambda one: (one.state.reached[0], one.key))


def _parts(request: Request) -> dict[str, str]:
    """?key.project.id=7"""
    query = request.query_params.items()
    return {name.removeprefix(KEY_PREFIX): value for name, value in query if name.startswith(KEY_PREFIX)}


def _has(journey: Journey, parts: Mapping[str, str]) -> Callable[[OfUser], bool]:
    """Whether a journey has these parts of its key. Raises BadQuery."""
    names = journey.key[1:]
    known = f"parts of the key of {journey.name} beyond the subject: {listed(names)}"
    for name, value in parts.items():
        if name not in names:
            raise BadQuery("key", f"no such part; {known}")
        if not part_of(value):
            raise BadQuery(KEY_PREFIX + name, f"expected 1 to {MAX_PART_BYTES} bytes besides blanks")
    places = [(names.index(name), part_of(value)) for name, value in parts.items()]
    return lambda one: all(one.key[place] == part for place, part in places)


def _answer(
    context: Context,
    as_of: AsOf,
    user_id: str | None,
    tokens: Sequence[str],
    wanted: _Wanted,
) -> Response:
    defined, stored = chosen(context.reader, context.journey(wanted.journey), wanted.version)
    has = _has(defined, wanted.parts)
    found = of_user(context.reader.find(defined.name, tokens, wanted.version and defined.version), tokens)
    if not found:
        raise Problem(404, "no-milestone", _nobody(context, defined, tokens, as_of.sampling.share))
    asked = list(filter(has, found))
    if not asked:
        more = {"keys": len(found)}
        raise Problem(404, "no-such-key", "this user has no journey with that key; see ?all=true", more=more)
    if wanted.evidence and wanted.every and len(asked) > MOST_EVIDENCE:
        raise BadQuery(
            "evidence",
            f"expected with at most {MOST_EVIDENCE} journeys at once: ask for a key, or without all=true",
        )
    answers = []
    for one in asked if wanted.every else asked[:1]:
        answer = described(defined, stored, one, as_of.at, user_id=user_id, keys=len(found))
        if wanted.evidence:
            for stage, events in zip(
                answer["stages"],
                evidence_of(context.reader, defined, one.key, one.state, tokens),
                strict=True,
            ):
                stage["evidence"] = events
        answers.append(answer | as_of.members() | as_of.weight(one.recorded))
    return as_of.answer(answers if wanted.every else answers[0])


def _nobody(context: Context, asked: Journey, tokens: Sequence[str], share: float) -> str:
    """That nothing is known of a user, who may be one of those that are not followed; after a change of the journey an
    older version may know something."""
    reader, name = context.reader, asked.name
    others = [v.version for v in reader.versions(name) if v.version != asked.version]
    known = [version for version in others if reader.find(name, tokens, version)]
    hint = f"; another version of it knows this user: ?version={known[0]}" if known else ""
    if share < 1:
        hint += f"; {share:.4g} of all users are followed (processors.sample)"
    return f"no milestone of {name} is known of this user{hint}"


def described(
    journey: Journey, stored: Version | None, one: OfUser, now: int, *, user_id: str | None, keys: int
) -> dict[str, Any]:
    """One user's journey as the API shows it.

    journey  as the asked version defines it; stored: what is known of that version
    now      unix ns, as_of
    keys     how many such journeys the user has
    """
    state = one.state
    line = timeline(journey, state)
    stages = journey.milestones[1:]
    took = [minutes_or_none(duration) for duration in line.durations]
    total = minutes_or_none(line.total)
    return {
        "user_id": user_id,
        **{f"ttf_{stage.stage}_minutes": value for stage, value in zip(stages, took, strict=True)},
        "ttf_complete_minutes": total,
        "ttf_efficiency_score": score(journey, line, now),
        "subject": one.subject,
        "key": list(one.key),
        "keys": keys,
        "journey": journey.name,
        "version": journey.version,
        "complete_since": rfc3339_or_none(stored.complete_since if stored else None),
        "state": status(journey, line, now),
        "started_at": rfc3339_or_none(line.started_at),
        "completed_at": rfc3339_or_none(line.completed_at),
        "flags": _flags(line),
        "segments": named_segments(journey, line),
        "stages": [
            {
                "name": stage.stage,
                "milestone": stage.name,
                "target_minutes": minutes_or_none(stage.target),
                "minutes": value,
                "reached_at": rfc3339_or_none(reached if reached != UNSET else None),
            }
            for stage, value, reached in zip(stages, took, state.reached[1:], strict=True)
        ],
    }


def _flags(line: Timeline) -> list[str]:
    flags = {
        "out_of_order": line.out_of_order,
        "start_unknown": line.start_unknown,
        "segment_after_start": line.segment_after_start,
    }
    return [name for name, raised in flags.items() if raised]
