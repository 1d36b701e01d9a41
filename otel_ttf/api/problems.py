"""Errors as problem documents (RFC 9457). They say what was expected; what a client sent is never in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from otel_ttf.store.base import StoreUnreadable

MEDIA_TYPE = "application/problem+json"

# Nothing here may be framed, guessed at or loaded from elsewhere; user ids in URLs stay out of Referer.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

# Identifies the kind of problem; the name behind it is stable.
_TYPE = "urn:otel-ttf:problem:"

# What FastAPI's and Starlette's own errors are called.
_KINDS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid-body",
    500: "internal",
    503: "unavailable",
}


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:otel-ttf:problem:unknown-journey",
                "title": "Not Found",
                "status": 404,
                "detail": "no such journey; known: onboarding",
                "as_of": "2026-01-02T03:04:05.000000006Z",
                "lag_seconds": 0.0,
            }
        },
    )

    type: str = Field(description="Identifies the kind of problem; stable.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was expected, for people.")
    as_of: str | None = Field(None, description="What had arrived until then was known (RFC 3339).")
    lag_seconds: float | None = Field(None, description="How far `as_of` lies behind our clock.")
    sampled: float | None = Field(
        None, description="Share of users that is followed, where not all are, or were."
    )
    sampled_since: str | None = Field(None, description="Since when, beside it; null: from the beginning.")
    weight: float | None = Field(None, description="For how many users each counts, beside it.")


class Problem(Exception):
    """A refusal that becomes a problem document.

    status, kind  the HTTP status; the stable name at the end of `type`
    detail        for people; holds names from the configuration, never a value that was sent
    more          further members of the document
    headers       further headers of the answer
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        more: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.more = more or {}
        self.headers = headers or {}


class BadQuery(Problem):
    """A query parameter that isn't understood: `name: expected ...`."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(400, "bad-query", f"{name}: {expected}", more={"parameter": name})


def document(problem: Problem) -> JSONResponse:
    """The answer that tells a problem."""
    content = {
        "type": _TYPE + problem.kind,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(content, problem.status, dict(problem.headers), MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """For a route's `responses=`: these statuses, and 500, come as problem documents."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in (*statuses, 500)
    }


def listed(names: Sequence[str]) -> str:
    """Names for a sentence; `none` when there are none."""
    return ", ".join(names) or "none"


def install(app: FastAPI, freshness: Callable[[], Mapping[str, object]]) -> None:
    """Makes every error of the application a problem document.

    freshness  as_of and lag_seconds, for problems below /api
    """

    def answer(request: Request, problem: Problem) -> Response:
        if request.scope["path"].startswith("/api/"):
            problem.more = {**problem.more, **freshness()}
        return document(problem)

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    def starlettes(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        headers = dict(error.headers or {})
        if "GET" in headers.get("Allow", "") and "HEAD" not in headers["Allow"]:
            headers["Allow"] += ", HEAD"
        details = {
            404: "nothing is here; /docs lists what is",
            405: f"this takes {headers.get('Allow', 'another method')}",
        }
        detail = details.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase)
        return answer(request, Problem(status, _KINDS.get(status, "http"), detail, headers=headers))

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # pydantic's messages and places; never its `input`, which is what was sent.
        errors = [
            {"in": str(e["loc"][0]), "name": ".".join(map(str, e["loc"][1:])), "reason": str(e["msg"])}
            for e in error.errors()
        ]
        status, kind = (422, "invalid-body") if any(e["in"] == "body" for e in errors) else (400, "bad-query")
        detail = "; ".join(f"{e['name'] or e['in']}: {e['reason']}" for e in errors)
        return answer(request, Problem(status, kind, detail, more={"errors": errors}))

    def unreadable(request: Request, error: Exception) -> Response:
        return answer(request, Problem(503, "store-unreadable", str(error)))

    def unexpected(request: Request, error: Exception) -> Response:
        # Answered outside of the front, hence the headers; and as_of may be what failed.
        detail = "this is a defect of the server; its log names the place"
        return document(Problem(500, "internal", detail, headers=ALWAYS))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(StoreUnreadable, unreadable)
    app.add_exception_handler(HTTPException, starlettes)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
