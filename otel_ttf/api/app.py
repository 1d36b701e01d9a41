"""The HTTP application of the API port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from otel_ttf import __version__
from otel_ttf.access.gate import Gate
from otel_ttf.access.hosts import Hosts
from otel_ttf.api import docs, health, metrics, names, population, problems, resolve, stuck, ttf
from otel_ttf.api.context import Context
from otel_ttf.api.front import Front, needed
from otel_ttf.api.health import Readiness
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.sampling import Sampling
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.base import Reader
from otel_ttf.telemetry import Telemetry

_DESCRIPTION = """\
How long until new users get value, where they get stuck, and who is stuck right now.

Times are RFC 3339 in UTC with nanoseconds; minutes are never rounded, and null where not known. Every answer
tells by `as_of` and `lag_seconds` (headers: `TTF-As-Of` and `TTF-Lag-Seconds`) what it knew. Errors
are problem documents (RFC 9457)."""


def build(
    journeys: Mapping[str, Journey],
    reader: Reader,
    pseudonyms: Pseudonyms,
    as_of: Callable[[], tuple[int, float]],
    readiness: Callable[[], Readiness],
    telemetry: Telemetry,
    *,
    routers: Sequence[APIRouter] = (),
    otlp: ASGIApp | None = None,
    normalise: Literal["none", "lower"] = "none",
    gate: Gate | None = None,
    open_metrics: bool = False,
    hosts: Hosts | None = None,
    sampling: Callable[[], Sampling] = Sampling,
) -> FastAPI:
    """The application of the API port.

    journeys   as configured, in that order; the first is the default in questions
    as_of      (unix ns, seconds behind), tracker.as_of; may be called from any thread
    readiness  why the service isn't ready, if so
    telemetry  whose registry /metrics shows beside the journeys' metrics
    routers    further routes, such as those of POST /api/v1/events
    otlp       takes every request below /v1/, with its path unchanged
    normalise  subject.normalise
    gate, open_metrics, hosts  see Front
    sampling   which share of the users was followed when, tracker.sampling
    """
    context = Context(journeys, reader, pseudonyms, as_of, normalise, sampling)
    app = _Documented(
        title="otel_ttf",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The framework's own tracing would export request paths, which hold user ids.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    problems.install(app, lambda: context.as_of().members())
    for router in (
        ttf.routes(context),
        resolve.routes(context),
        population.routes(context),
        stuck.routes(context),
        names.routes(context),
        *routers,
        health.routes(readiness),
        metrics.routes(context, telemetry.registry),
        docs.routes(),
    ):
        app.include_router(router)
    app.add_middleware(
        Front,
        otlp=otlp,
        gate=gate,
        open_metrics=open_metrics,
        hosts=hosts,
        refused=partial(telemetry.access_refused, "api"),
    )
    return app


class _Documented(FastAPI):
    """With an OpenAPI document that tells errors as they are."""

    def openapi(self) -> dict[str, object]:
        if not self.openapi_schema:
            schema = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schema["components"]["securitySchemes"] = {
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            }
            # Where there are no keys, nobody needs one.
            schema["security"] = [{"apiKey": []}, {"bearer": []}, {}]
            schemas["ProblemDocument"] = problems.ProblemDocument.model_json_schema()
            refusals = problems.responses(401, 403, 429)
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    answers = operation.get("responses", {})
                    if needed(method.upper(), path) is None:
                        operation["security"] = []
                    else:
                        answers |= {str(status): told for status, told in refusals.items() if status != 500}
                    # FastAPI's own shape of errors, which nobody gets.
                    if "HTTPValidationError" in str(answers.get("422")):
                        del answers["422"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            self.openapi_schema = schema
        return self.openapi_schema
