"""POST /api/v1/subjects/resolve: tokens of raw user ids, so that a team can join them with its own user table.

Nothing is kept, and nothing that was sent is in an answer, an error or a log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from otel_ttf.api.context import Context, KnownQuery
from otel_ttf.api.models import ResolveAnswer
from otel_ttf.api.problems import Problem, responses
from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES, Pseudonyms, subject_text
from otel_ttf.units import size_text

MAX_IDS = 10_000
# So many ids of the greatest length, quoted.
MAX_BODY = MAX_IDS * (MAX_SUBJECT_BYTES + 8)
BODY_SECONDS = 30.0
MOST_AT_ONCE = 16  # requests whose ids are in memory

_REQUEST = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["ids"],
                "additionalProperties": False,
                "properties": {
                    "ids": {
                        "type": "array",
                        "maxItems": MAX_IDS,
                        "items": {"type": ["string", "integer"]},
                        "description": "Raw user ids, as they are sent with events.",
                    }
                },
            },
            "example": {"ids": ["alice", "bob"]},
        }
    },
}


def routes(context: Context) -> APIRouter:
    """Raw ids in, tokens out."""
    router = APIRouter(prefix="/api/v1", tags=["journeys"])
    places = asyncio.Semaphore(MOST_AT_ONCE)

    @router.post(
        "/subjects/resolve",
        operation_id="resolveSubjects",
        summary="Tokens of raw user ids; nothing is kept",
        response_model=ResolveAnswer,
        dependencies=[Depends(KnownQuery())],
        openapi_extra={"requestBody": _REQUEST},
        responses=responses(400, 408, 413, 415, 503),
    )
    async def resolve(request: Request) -> Response:
        if places.locked():
            expected = f"expected at most {MOST_AT_ONCE} such requests at once; come again"
            raise Problem(503, "busy", expected, headers={"Retry-After": "1", "Connection": "close"})
        async with places:
            ids = _ids(await _body(request))
            tokens = await run_in_threadpool(resolved, context.pseudonyms, ids, context.normalise)
        return context.as_of().answer({"tokens": tokens})

    return router


def resolved(pseudonyms: Pseudonyms, ids: Sequence[object], normalise: str) -> list[list[str] | None]:
    """Per id its tokens under all keys, the newest first; None for what can be nobody's id."""
    found: list[list[str] | None] = []
    for id_ in ids:
        subject = subject_text(id_, normalise) if not isinstance(id_, list) else None
        if subject is not None and len(subject.encode(errors="surrogatepass")) <= MAX_SUBJECT_BYTES:
            # Not `token`: that remembers ids.
            found.append(pseudonyms.tokens(subject))
        else:
            found.append(None)
    return found


async def _body(request: Request) -> bytes:
    """The whole body. Raises Problem."""
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "unsupported-media-type", "expected a content-type of application/json")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "unsupported-media-type", "expected a body without content-encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    expected = f"expected at most {size_text(MAX_BODY)}; send ids in several requests"
                    raise Problem(413, "too-large", expected, headers={"Connection": "close"})
    except TimeoutError:
        expected = f"expected the whole body within {BODY_SECONDS:g} s"
        raise Problem(408, "request-timeout", expected, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "bad-request", "expected the whole body") from None
    return bytes(body)


# From quote to quote, or to the end: so nothing is looked at twice.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?(?:"|\Z)', re.DOTALL)


def _crowded(body: bytes) -> bool:
    return body.count(b",") > MAX_IDS or body.count(b"[") + body.count(b"{") > MAX_IDS


def _ids(body: bytes) -> list[Any]:
    """Raises Problem."""
    # Each is an object of Python's, and so would be whatever else stands there; not what stands in a text.
    if _crowded(body) and _crowded(_TEXT.sub(b"", body)):
        raise Problem(413, "too-large", f"expected at most {MAX_IDS} ids; send them in several requests")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "bad-request", 'expected JSON in UTF-8: {"ids": ["alice", "bob"]}') from None
    if not isinstance(data, dict) or data.keys() != {"ids"} or not isinstance(data["ids"], list):
        raise Problem(400, "bad-request", 'expected an object with a list `ids`: {"ids": ["alice", "bob"]}')
    ids: list[Any] = data["ids"]
    if len(ids) > MAX_IDS:
        raise Problem(413, "too-large", f"expected at most {MAX_IDS} ids; send them in several requests")
    return ids
