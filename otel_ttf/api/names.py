"""GET /api/v1/events/names: what came, and which milestones it matched.

The answer to "I send events and see no journey".
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from otel_ttf.api.context import Context, KnownQuery
from otel_ttf.api.models import NamesAnswer
from otel_ttf.api.problems import responses
from otel_ttf.api.times import rfc3339


def routes(context: Context) -> APIRouter:
    """The names that came."""
    router = APIRouter(prefix="/api/v1", tags=["events"], responses=responses(400))

    @router.get(
        "/events/names",
        operation_id="getEventNames",
        summary="Event and span names that came, with the milestones they matched",
        response_model=NamesAnswer,
        dependencies=[Depends(KnownQuery("limit"))],
    )
    def names(
        limit: Annotated[
            int, Query(ge=1, le=10_000, description="At most so many, the most frequent ones.")
        ] = 1000,
    ) -> Response:
        as_of = context.as_of()
        seen = [
            {
                "kind": name.kind,
                "name": name.name,
                "count": name.count,
                "last_seen": rfc3339(name.last_seen),
                "milestones": list(name.matched),
            }
            for name in context.reader.names(limit)
        ]
        return as_of.answer({"names": seen})

    return router
