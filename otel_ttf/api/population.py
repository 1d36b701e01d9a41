"""GET /api/v1/ttf: figures of a population, per journey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from otel_ttf.api.context import AsOf, Context, KnownQuery
from otel_ttf.api.models import FiguresAnswer
from otel_ttf.api.problems import BadQuery, listed, responses
from otel_ttf.api.stuck import counting_anew
from otel_ttf.api.times import cohort_day, rfc3339_or_none
from otel_ttf.api.ttf import minutes_or_none
from otel_ttf.api.versions import chosen
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.figures import figures, longest_target, young
from otel_ttf.journey.rollup import cohort_day as cohort_day_of
from otel_ttf.store.base import UNKNOWN, Cohort, NotReady
from otel_ttf.units import SECOND

PREFIX = "segment."


def routes(context: Context) -> APIRouter:
    """The figures."""
    router = APIRouter(prefix="/api/v1", tags=["figures"])
    attributes = dict.fromkeys(s.attribute for journey in context.journeys.values() for s in journey.segments)

    @router.get(
        "/ttf",
        operation_id="getTtf",
        summary="Figures of a population, per journey",
        response_model=FiguresAnswer,
        dependencies=[Depends(KnownQuery("journey", "from", "to", prefix=PREFIX))],
        responses=responses(400, 404, 503),
        openapi_extra={"parameters": [_segment_parameter(attribute) for attribute in attributes]},
    )
    def figures_of_many(
        request: Request,
        journey: Annotated[str | None, Query(description="Journey; default: all.")] = None,
        first: Annotated[
            str | None,
            Query(
                alias="from",
                description="First cohort day, YYYY-MM-DD in the journey's time zone.",
                examples=["2026-01-01"],
            ),
        ] = None,
        beyond: Annotated[
            str | None,
            Query(alias="to", description="First day that is not meant any more.", examples=["2026-02-01"]),
        ] = None,
    ) -> Response:
        as_of = context.as_of()
        asked = [context.journey(journey)] if journey is not None else list(context.journeys.values())
        wanted = {
            name.removeprefix(PREFIX): value
            for name, value in request.query_params.items()
            if name.startswith(PREFIX)
        }
        asked = _with_segments(asked, list(wanted))
        cohort = Cohort(_day("from", first), _day("to", beyond), wanted or None)
        if (
            cohort.first_day is not None
            and cohort.last_day is not None
            and cohort.first_day > cohort.last_day
        ):
            raise BadQuery("to", "expected a day that is not before `from`")
        return as_of.answer(
            {
                "cohort": {"from": first, "to": beyond, "segments": wanted},
                "journeys": [_figures(context, one, cohort, as_of) for one in asked],
            }
            | _weight(asked, cohort, as_of)
        )

    return router


def _segment_parameter(attribute: str) -> dict[str, object]:
    return {
        "name": PREFIX + attribute,
        "in": "query",
        "required": False,
        "description": f"Only journeys with this value of `{attribute}`; `{UNKNOWN}`: those without one.",
        "schema": {"type": "string"},
    }


def _day(name: str, text: str | None) -> int | None:
    try:
        return None if text is None else cohort_day(text)
    except ValueError as error:
        raise BadQuery(name, str(error)) from None


def _with_segments(journeys: list[Journey], wanted: list[str]) -> list[Journey]:
    """Those of the journeys that have all wanted segments. Raises BadQuery where none has."""
    fitting = [j for j in journeys if {s.attribute for s in j.segments}.issuperset(wanted)]
    if not fitting:
        known = dict.fromkeys(PREFIX + s.attribute for j in journeys for s in j.segments)
        raise BadQuery("segment", f"no journey has these segments; known: {listed(list(known))}")
    return fitting


def _weight(journeys: Sequence[Journey], cohort: Cohort, as_of: AsOf) -> dict[str, object]:
    """Those who started after the share of users that is followed last changed all stand for as many."""
    since = as_of.sampling.since
    days = [cohort_day_of(since, journey.timezone) for journey in journeys] if since is not None else []
    alike = all(cohort.first_day is not None and cohort.first_day > day for day in days)
    return as_of.weight(since if alike else None)


def _figures(context: Context, journey: Journey, cohort: Cohort, as_of: AsOf) -> dict[str, object]:
    reader, now = context.reader, as_of.at
    try:
        with reader.snapshot():
            _, stored = chosen(reader, journey, None)
            recent = reader.young(journey.name, cohort, touched_after=now - longest_target(journey))
            unswept = reader.unswept(
                journey.name,
                cohort,
                started_until=now - journey.give_up_after,
                recorded_until=now + round(as_of.lag * SECOND),
            )
            packed = reader.shares(journey.name, cohort)
    except NotReady as error:
        raise counting_anew(journey, error) from error
    with reader.unpacking("journey"):
        still_young = young(journey, recent, now)
    with reader.unpacking("rollup"):
        got = figures(journey, packed, unswept_expired=unswept, young=still_young)
    return {
        "journey": journey.name,
        "version": journey.version,
        "complete_since": rfc3339_or_none(stored.complete_since if stored else None),
        "timezone": journey.timezone,
        "target_minutes": minutes_or_none(journey.target),
        **asdict(got),
    }
