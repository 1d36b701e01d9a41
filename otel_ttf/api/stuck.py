"""GET /api/v1/stuck: who waits where for how long. GET /api/v1/ttf/{user_id}/alerts: thresholds passed."""

from __future__ import annotations

import base64
import heapq
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from otel_ttf.api.context import Context, KnownQuery
from otel_ttf.api.models import AlertItem, StuckAnswer
from otel_ttf.api.problems import BadQuery, Problem, listed, responses
from otel_ttf.api.times import rfc3339
from otel_ttf.api.ttf import JourneyName, UserId, minutes_or_none, of_user
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.metrics import minutes
from otel_ttf.journey.state import timeline
from otel_ttf.journey.thresholds import alerts
from otel_ttf.store.base import NotReady, StuckRow
from otel_ttf.units import duration

# Later than any time: senders may be ahead of us.
_EVER = 2**63 - 1
_CURSOR = struct.Struct(">qq")


def routes(context: Context) -> APIRouter:
    """Who is stuck, and one user's alerts."""
    router = APIRouter(prefix="/api/v1", tags=["stuck"])

    @router.get(
        "/stuck",
        operation_id="getStuck",
        summary="Who is in which current stage for how long, longest first",
        response_model=StuckAnswer,
        dependencies=[Depends(KnownQuery("journey", "stage", "over", "limit", "cursor"))],
        responses=responses(400, 404, 503),
    )
    def stuck(
        journey: JourneyName = None,
        stage: Annotated[
            str | None, Query(description="A stage, or the milestone at its end; default: all stages.")
        ] = None,
        over: Annotated[
            str | None,
            Query(
                description="Only who waits for longer; default: each stage's target, without one everybody.",
                examples=["30m"],
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="Items to a page.")] = 100,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
    ) -> Response:
        as_of = context.as_of()
        defined = context.journey(journey)
        places = _places(defined, stage)
        least = _over(over)
        after = None if cursor is None else read_cursor(cursor)
        # One snapshot: who goes on to the next stage meanwhile is on the page once.
        with context.reader.snapshot():
            rows = _stuck_rows(context, defined, places, as_of.at, least=least, after=after, limit=limit + 1)
        page = rows[:limit]
        return as_of.answer(
            {
                "journey": defined.name,
                "version": defined.version,
                "items": [_item(defined, row, as_of.at) | as_of.weight(row.recorded) for row in page],
                "next": write_cursor((page[-1].opened, page[-1].id)) if len(rows) > limit else None,
            }
        )

    @router.get(
        "/ttf/{user_id}/alerts",
        operation_id="getUserAlerts",
        summary="Thresholds that one user's journeys have passed; an empty list when none",
        response_model=list[AlertItem],
        dependencies=[Depends(KnownQuery("journey"))],
        responses=responses(400, 404),
    )
    def user_alerts(
        user_id: UserId,
        journey: Annotated[str | None, Query(description="Journey; default: all.")] = None,
    ) -> Response:
        as_of = context.as_of()
        _, tokens = context.tokens(user_id)
        asked = [context.journey(journey)] if journey is not None else list(context.journeys.values())
        return as_of.answer([alert for one in asked for alert in _alerts(context, one, tokens, as_of.at)])

    return router


def _alerts(
    context: Context, journey: Journey, tokens: Sequence[str], now: int
) -> list[Mapping[str, object]]:
    return [
        {
            "journey": journey.name,
            "key": list(one.key),
            "level": alert.level,
            "stage": alert.stage,
            "since": rfc3339(alert.since),
            "minutes": alert.minutes,
            "threshold_minutes": alert.threshold_minutes,
            "message": alert.message,
        }
        for one in of_user(context.reader.find(journey.name, tokens), tokens)
        for alert in alerts(journey, timeline(journey, one.state), now)
    ]


def _places(journey: Journey, stage: str | None) -> list[int]:
    """Indices of the milestones that end the asked stages. Raises BadQuery."""
    stages = list(enumerate(journey.milestones))[1:]
    if stage is None:
        return [place for place, _ in stages]
    # A stage's name comes first: it may also be the name of another stage's milestone.
    for places in (
        [place for place, milestone in stages if milestone.stage == stage],
        [place for place, milestone in stages if milestone.name == stage],
    ):
        if places:
            return places
    raise BadQuery("stage", f"no such stage of {journey.name}; known: {listed([m.stage for _, m in stages])}")


def _over(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise BadQuery("over", str(error)) from None


def _stuck_rows(
    context: Context,
    journey: Journey,
    places: Sequence[int],
    now: int,
    *,
    least: int | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[StuckRow]:
    """Rows of these stages, longest first. least: ns to have waited longer than; None: the stage's target."""
    found: list[list[StuckRow]] = []
    for place in places:
        wait = (journey.milestones[place].target or 0) if least is None else least
        try:
            rows = context.reader.stuck(
                journey.name,
                place,
                # Exactly on target is within: `over` is strictly longer. 0 means everybody.
                opened_until=now - wait - 1 if wait else _EVER,
                started_after=now - journey.give_up_after,
                after=after,
                limit=limit,
            )
        except NotReady as error:
            raise counting_anew(journey, error) from error
        found.append(rows)
    return list(heapq.merge(*found, key=lambda row: (row.opened, row.id)))[:limit]


def counting_anew(journey: Journey, error: NotReady) -> Problem:
    """What questions about many are answered while the figures are counted anew."""
    return Problem(
        503,
        "counting-anew",
        f"{journey.name}: {error}; single users are answered meanwhile",
        more={"journey": journey.name, "progress": error.progress},
        headers={"Retry-After": "5"},
    )


def _item(journey: Journey, row: StuckRow, now: int) -> dict[str, object]:
    milestone = journey.milestones[row.milestone]
    return {
        "subject": row.subject,
        "key": list(row.key),
        "stage": milestone.stage,
        "milestone": milestone.name,
        "since": rfc3339(row.opened),
        "minutes": minutes(max(0, now - row.opened)),
        "target_minutes": minutes_or_none(milestone.target),
        "started_at": rfc3339(row.started),
    }


def write_cursor(place: tuple[int, int]) -> str:
    """(opened, id) of a page's last row, as clients hand it back."""
    return base64.urlsafe_b64encode(_CURSOR.pack(*place)).decode().rstrip("=")


def read_cursor(text: str) -> tuple[int, int]:
    """The opposite. Raises BadQuery for anything that write_cursor didn't write."""
    try:
        opened, place = _CURSOR.unpack(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (ValueError, struct.error):
        raise BadQuery("cursor", "expected `next` of the page before") from None
    return opened, place
