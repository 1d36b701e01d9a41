"""GET /health: alive. GET /ready: takes telemetry and answers questions, or why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from otel_ttf.api.front import BRIEF


@dataclass(frozen=True, slots=True)
class Readiness:
    """For operators.

    reasons  why the service is not ready: starting, draining, the log refuses; empty: it is
    notes    what they should see to although it stops nothing
    """

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class HealthAnswer(BaseModel):
    """The process is alive."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class ReadyAnswer(BaseModel):
    """Whether to send traffic here. Where keys are needed, nobody without one with the scope read hears more."""

    status: str = Field(description="`ready` or `not ready`.", examples=["ready"])
    reasons: list[str] | None = Field(None, description="Why not; empty when ready.", examples=[[]])
    notes: list[str] | None = Field(
        None,
        description="What to see to, ready or not; it is no reason to send traffic elsewhere.",
        examples=[[]],
    )


def routes(readiness: Callable[[], Readiness]) -> APIRouter:
    """/health and /ready."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/health", operation_id="getHealth", summary="Is the process alive?", response_model=HealthAnswer
    )
    async def health() -> Response:
        # async: alive also while every worker thread waits for the store.
        return JSONResponse({"status": "ok"})

    @router.get(
        "/ready",
        operation_id="getReady",
        summary="Is it ready for traffic?",
        response_model=ReadyAnswer,
        responses={503: {"model": ReadyAnswer, "description": "Not ready, and why."}},
    )
    def ready(request: Request) -> Response:
        now = readiness()
        content: dict[str, object] = {"status": "not ready" if now.reasons else "ready"}
        if not request.scope.get(BRIEF):
            content |= {"reasons": list(now.reasons), "notes": list(now.notes)}
        return JSONResponse(content, 503 if now.reasons else 200)

    return router
