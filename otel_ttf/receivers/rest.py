"""`POST /api/v1/events`: events as plain JSON, for whoever has no OpenTelemetry SDK."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from otel_ttf.access.gate import GRANT
from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.events import FLAG_NO_SUBJECT, FLAG_TIME_AHEAD, FLAG_TIME_IMPLAUSIBLE, FLAG_TOO_OLD
from otel_ttf.otlp.wire import Malformed
from otel_ttf.receivers.body import BODY_SECONDS, MAX_BODY, Unusable, header_fields, media_type, read_body
from otel_ttf.receivers.intake import Disconnected, Intake
from otel_ttf.receivers.otlp_http import has_gpc, retry_after
from otel_ttf.receivers.prepare import Receipt
from otel_ttf.receivers.rest_events import Built, build

JSON = "application/json"
PROBLEM = "application/problem+json"

# The `type` of a problem, named as the API names its own.
_TYPE = "urn:otel-ttf:problem:"
_KINDS = {
    400: "bad-request",
    408: "request-timeout",
    413: "too-large",
    415: "unsupported-media-type",
    503: "unavailable",
}

# What is said of events that were accepted with a flag; without a time is as documented.
_FLAGGED = {
    FLAG_NO_SUBJECT: "events without a user_id: %d, kept, and in no journey",
    FLAG_TIME_IMPLAUSIBLE: "timestamps before time.not_before or from 2262 on: %d, the arrival stands in their place",
    FLAG_TIME_AHEAD: "timestamps further ahead of our clock than time.max_ahead: %d, the arrival stands in their place",
    FLAG_TOO_OLD: "timestamps older than time.max_event_age: %d, kept, and in no journey",
}

# The pipeline names records of the request that was built; the caller knows indices.
_RECORD = re.compile(r"log_records\[\d+\](?:: |\.)")


def rest_router(intake: Intake, *, max_body: int = MAX_BODY, body_seconds: float = BODY_SECONDS) -> APIRouter:
    """The route, to be included in the API. A user id is an id here, also one that is a token.

    max_body      bytes, before and after inflation
    body_seconds  for a body to arrive
    """
    routes = APIRouter()

    async def post_events(request: Request) -> Response:
        """Takes events. Each is judged on its own: bad ones are listed, good ones are kept, durably.

        200 also when only some are accepted, with `warnings` if some of these were not kept as they came, or move no
        journey; 400 when none is. Come again after 503, never after 4xx.
        """
        try:
            headers = header_fields(request.scope["headers"])
            with intake.frame:
                built = await _read(headers, request, intake, max_body, body_seconds)
            return await _take(built, intake, gpc=has_gpc(headers))
        except Disconnected:
            return Response(status_code=408)
        except Unusable as error:
            return _problem(error.status, str(error), headers=error.headers)
        except Malformed as error:
            return _problem(400, str(error))
        except LogRefused as refused:
            return _problem(503, f"not taken now: {refused.reason}", headers=retry_after(refused))
        except asyncio.CancelledError:
            # The server has waited for this one long enough and goes; the sender should come again.
            return _problem(503, "the server is stopping", headers=retry_after(LogRefused("stopping")))

    routes.add_api_route(
        "/api/v1/events",
        post_events,
        methods=["POST"],
        summary="Send events",
        tags=["events"],
        response_class=Response,
        openapi_extra={"requestBody": REQUEST_BODY},
        responses=RESPONSES,
    )
    return routes


async def _read(
    headers: Mapping[bytes, bytes], request: Request, intake: Intake, limit: int, seconds: float
) -> Built:
    if media_type(headers) != JSON:
        raise Unusable(415, f"expected a content-type of {JSON} (UTF-8)", {"Accept": JSON})
    body = await read_body(headers, request.receive, intake, limit=limit, seconds=seconds)
    if (grant := request.scope.get(GRANT)) is not None:
        grant.charge(len(body))
    # Counted also while it waits for a worker.
    with intake.in_flight.hold(len(body)):
        return await intake.offload(len(body), build, body)


async def _take(built: Built, intake: Intake, *, gpc: bool) -> Response:
    rejected = dict(built.rejected)
    if rejected:
        intake.telemetry.error("rejected", len(rejected))
        intake.telemetry.way_in("logs", "rest").refused.inc(len(rejected))
    accepted = 0
    warnings: list[str] = []
    if built.places:
        receipt = await intake(
            "logs",
            built.raw,
            protocol="rest",
            event_ids=built.event_ids,
            mended=built.mended,
            gpc=gpc,
        )
        accepted = receipt.accepted
        warnings = [*receipt.warnings, *_flagged(receipt, built)]
        for place, reason in receipt.rejected.items():
            rejected[built.places[place]] = _RECORD.sub("", reason, count=1)
    listed = [{"index": index, "reason": rejected[index]} for index in sorted(rejected)]
    if listed and not accepted:
        return _problem(400, "no event was accepted", rejected=listed)
    more = {"warnings": warnings} if warnings else {}
    return _json(200, JSON, {"accepted": accepted, "rejected": listed, **more})


def _flagged(receipt: Receipt, built: Built) -> list[str]:
    counts = Counter(
        flag
        for number, flags in receipt.flagged
        for flag in _FLAGGED
        # Whose user has denied consent did name one.
        if flags & flag and (flag != FLAG_NO_SUBJECT or number in built.without_user)
    )
    return [text % counts[flag] for flag, text in _FLAGGED.items() if counts[flag]]


def _problem(
    status: int,
    detail: str,
    *,
    rejected: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    document = {
        "type": _TYPE + _KINDS[status],
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "rejected": rejected or [],
    }
    return _json(status, PROBLEM, document, headers)


def _json(status: int, media: str, document: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(document), status, headers, media)


EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["event_name", "event_type"],
    "additionalProperties": False,
    "properties": {
        "event_name": {"type": "string", "minLength": 1, "description": "What happened, in snake_case."},
        "event_type": {"type": "string", "minLength": 1, "description": "Kept as attribute `event.type`."},
        "user_id": {
            "type": ["string", "integer", "null"],
            "description": "Who; becomes `user.id` and is replaced by a pseudonym before anything is stored.",
        },
        "timestamp": {
            "type": ["number", "string", "null"],
            "description": "Unix time in seconds, milliseconds, microseconds or nanoseconds (told by its "
            "size), or RFC 3339 with zone; absent: the moment of arrival.",
        },
        "properties": {
            "type": ["object", "null"],
            "description": "Attributes. `user.id`, `event.type` and `ttf.*` are reserved.",
        },
        "event_id": {
            "type": ["string", "null"],
            "minLength": 1,
            "description": "Makes the event one event, however often it is sent by that user.",
        },
    },
}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["events"],
                "properties": {"events": {"type": "array", "items": EVENT_SCHEMA}},
            },
            "examples": {
                "signup": {
                    "summary": "A user signs up",
                    "value": {
                        "events": [
                            {
                                "event_name": "signup",
                                "event_type": "onboarding",
                                "user_id": "user-1",
                                "timestamp": 1714564800.5,
                                "properties": {"plan": "pro", "channel": "search"},
                            }
                        ]
                    },
                },
                "smallest": {
                    "summary": "As little as possible",
                    "value": {"events": [{"event_name": "page_viewed", "event_type": "page"}]},
                },
            },
        }
    },
}
_REJECTED: dict[str, Any] = {
    "type": "array",
    "description": "Events that were not accepted, by their index in the request.",
    "items": {
        "type": "object",
        "required": ["index", "reason"],
        "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}},
    },
}
_PROBLEM_CONTENT: dict[str, Any] = {
    PROBLEM: {
        "schema": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "rejected"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "rejected": _REJECTED,
            },
        }
    }
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Accepted, at least in part: synced to disk.",
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["accepted", "rejected"],
                    "properties": {
                        "accepted": {"type": "integer"},
                        "rejected": _REJECTED,
                        "warnings": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "What of the accepted was not kept as it came, names no user, or has a "
                            "time that is not believed, each with how many; absent if nothing.",
                        },
                    },
                },
                "example": {
                    "accepted": 1,
                    "rejected": [
                        {"index": 1, "reason": "event_name: expected a string that is not empty, found none"}
                    ],
                    "warnings": [_FLAGGED[FLAG_NO_SUBJECT] % 1],
                },
            }
        },
    },
    400: {"description": "No event was accepted, or the body cannot be read.", "content": _PROBLEM_CONTENT},
    408: {"description": "The body took too long to arrive.", "content": _PROBLEM_CONTENT},
    413: {"description": "The body is too large.", "content": _PROBLEM_CONTENT},
    415: {
        "description": "The body is not JSON, or compressed in an unknown way.",
        "content": _PROBLEM_CONTENT,
    },
    503: {"description": "Come again after `Retry-After` seconds.", "content": _PROBLEM_CONTENT},
}
