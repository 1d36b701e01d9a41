"""GET /api/v1/ttf/{user_id} and /api/v1/subjects/{token}: one user's journey."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from otel_ttf.api.context import AsOf, Context, KnownQuery, token
from otel_ttf.api.models import UserAnswer
from otel_ttf.api.problems import Problem, responses
from otel_ttf.api.times import rfc3339_or_none
from otel_ttf.api.versions import chosen
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.metrics import minutes, score, status
from otel_ttf.journey.state import UNSET, State, Timeline, named_segments, timeline
from otel_ttf.store.base import Version

JourneyName = Annotated[str | None, Query(description="Journey; default: the first configured one.")]
VersionName = Annotated[str | None, Query(description="A stored version of it; default: the current one.")]
UserId = Annotated[str, Path(description="The raw user id, percent-encoded: one segment, `/` as %2F.")]


def minutes_or_none(duration: int | None) -> float | None:
    """Minutes of nanoseconds, not rounded; None stays None."""
    return None if duration is None else minutes(duration)


def routes(context: Context) -> APIRouter:
    """Both ways of asking for one user."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["journeys"],
        dependencies=[Depends(KnownQuery("journey", "version"))],
        responses=responses(400, 404),
    )

    @router.get(
        "/ttf/{user_id}",
        operation_id="getUserTtf",
        summary="One user's journey: minutes per stage, total, score",
        response_model=UserAnswer,
    )
    def by_user(user_id: UserId, journey: JourneyName = None, version: VersionName = None) -> Response:
        as_of = context.as_of()
        sent, tokens = context.tokens(user_id)
        return _answer(context, as_of, sent, tokens, journey, version)

    @router.get(
        "/subjects/{token}",
        operation_id="getSubjectTtf",
        summary="The same by subject token",
        response_model=UserAnswer,
    )
    def by_token(
        text: Annotated[str, Path(alias="token", description="A token, as `stuck` lists them.")],
        journey: JourneyName = None,
        version: VersionName = None,
    ) -> Response:
        as_of = context.as_of()
        return _answer(context, as_of, None, [token(text)], journey, version)

    return router


def _answer(
    context: Context,
    as_of: AsOf,
    user_id: str | None,
    tokens: Sequence[str],
    journey: str | None,
    version: str | None,
) -> Response:
    defined, stored = chosen(context.reader, context.journey(journey), version)
    rows = context.reader.find(defined.name, tokens, version and defined.version)
    if not rows:
        raise Problem(404, "no-milestone", _nobody(context, defined, tokens))
    state = reduce(State.join, (row.state for row in rows))
    # Under several keys a person has several tokens: the newest that has a row, as `stuck` lists it.
    subject = min((row.subject for row in rows), key=tokens.index)
    return as_of.answer(described(defined, stored, state, as_of.at, user_id=user_id, subject=subject))


def _nobody(context: Context, asked: Journey, tokens: Sequence[str]) -> str:
    """That nothing is known of a user; after a change of the journey an older version may know something."""
    reader, name = context.reader, asked.name
    others = [v.version for v in reader.versions(name) if v.version != asked.version]
    known = [version for version in others if reader.find(name, tokens, version)]
    hint = f"; another version of it knows this user: ?version={known[0]}" if known else ""
    return f"no milestone of {name} is known of this user{hint}"


def described(
    journey: Journey, stored: Version | None, state: State, now: int, *, user_id: str | None, subject: str
) -> dict[str, object]:
    """One user's journey as the API shows it.

    journey  as the asked version defines it; stored: what is known of that version
    now      unix ns, as_of
    """
    line = timeline(journey, state)
    stages = journey.milestones[1:]
    took = [minutes_or_none(duration) for duration in line.durations]
    total = minutes_or_none(line.total)
    return {
        "user_id": user_id,
        **{f"ttf_{stage.stage}_minutes": value for stage, value in zip(stages, took, strict=True)},
        "ttf_complete_minutes": total,
        "ttf_efficiency_score": score(journey, line, now),
        "subject": subject,
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
