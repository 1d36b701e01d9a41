"""POST /-/reload: the configuration is read again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from otel_ttf.api.problems import Problem, responses


class Outcome(Protocol):
    """What became of it; see reloading.Reloaded."""

    @property
    def refused(self) -> Sequence[str]: ...
    @property
    def changed(self) -> Sequence[str]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class ReloadAnswer(BaseModel):
    """The configuration was taken over."""

    changed: list[str] = Field(
        description="Settings that differ from what ran before.",
        examples=[["journeys.onboarding.target"]],
    )
    warnings: list[str] = Field(description="As `otel-ttf validate` prints them.", examples=[[]])


def routes(reload: Callable[[], Awaitable[Outcome]]) -> APIRouter:
    """/-/reload"""
    router = APIRouter(tags=["operations"])

    @router.post(
        "/-/reload",
        operation_id="reload",
        summary="Read the configuration again; an invalid one is refused as a whole",
        response_model=ReloadAnswer,
        responses=responses(409),
    )
    async def post_reload() -> Response:
        done = await reload()
        if done.refused:
            raise Problem(
                409,
                "not-reloaded",
                "the configuration was not taken over, see `errors`; the one before stays",
                more={"errors": list(done.refused), "changed": list(done.changed)},
            )
        return JSONResponse({"changed": list(done.changed), "warnings": list(done.warnings)})

    return router
