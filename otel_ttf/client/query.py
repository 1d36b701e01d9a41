"""Questions to the API of the server: GET below /api/v1, answered or a TelemetryError."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from otel_ttf.client.answers import TelemetryError, UserUnknown
from otel_ttf.client.event import Wrong, user_text
from otel_ttf.client.options import KEY, URL, Options
from otel_ttf.client.sender import IMPORTING
from otel_ttf.client.tell import Tell
from otel_ttf.client.user import UserId

T = TypeVar("T")
_TYPE = "urn:otel-ttf:problem:"
_ANSWER = {
    401: f"the API key is missing or not known: set {KEY}, or api_key=",
    403: f"the API key may not ask: it needs the scope to read ({KEY}, or api_key=)",
}


def get(
    options: Options,
    tell: Tell,
    read: Callable[[Any], T],
    user_id: UserId,
    *below: str,
    query: Mapping[str, str | None],
) -> T:
    """The answer about a user. read: makes it of the JSON. Raises TelemetryError.

    below  segments behind the user's
    query  parameters; None: not asked for
    """
    if options.url is None:
        raise TelemetryError(f"{URL}: expected an address such as https://ttf.example.com, found none")
    try:
        user = user_text(user_id)
        if not user.strip():
            raise Wrong("user_id: expected a string that is not empty, found an empty one")
        segment = quote(user, safe="")
    except Wrong as error:
        raise TelemetryError(str(error)) from None
    except UnicodeEncodeError:
        raise TelemetryError("user_id: expected Unicode text, found something else") from None
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    # A single or double dot would be gone before it is sent.
    segment = segment.replace(".", "%2E") if segment in (".", "..") else segment
    path = "/".join(["/api/v1/ttf", segment, *below]) + (f"?{asked}" if asked else "")
    # The user's id stands in the path: it is in no message.
    where = f"GET {options.place}{'/'.join(['/api/v1/ttf', '{user_id}', *below])}"
    answer = _asked(options, tell, where, path)
    document = _json(answer.body)
    if answer.status == 200:
        try:
            return read(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TelemetryError(
                f"{where}: expected an answer of otel-ttf, found another ({error!r:.100})", status=200
            ) from None
    problem = document if isinstance(document, dict) else {}
    kind = str(problem.get("type", "")).removeprefix(_TYPE)
    said = (
        _ANSWER.get(answer.status) or problem.get("detail") or "no answer of otel-ttf: is the address right?"
    )
    kind_of_error = UserUnknown if kind == "no-milestone" else TelemetryError
    raise kind_of_error(
        f"{where}: {answer.status}: {said}",
        status=answer.status,
        kind=kind,
        retry_after=answer.retry_after,
    )


def _asked(options: Options, tell: Tell, where: str, path: str) -> Any:
    try:
        with IMPORTING:
            from otel_ttf.client import web
    except ImportError as error:
        raise TelemetryError(
            f"{error.name} is missing: pip install 'otel-ttf-client', or 'otel-ttf[client]' beside a server"
        ) from error
    try:
        with web.session(options) as session:
            answer = web.ask(session, "GET", f"{options.url}{path}", timeout=options.timeout)
    except web.Unanswered as error:
        tell.print(f"{where}: {error}")
        raise TelemetryError(
            f"{where}: {error}: is the server running, and is {URL} right?"
        ) from error.__cause__
    tell.print(f"{where}: {answer.status}, {len(answer.body)} bytes")
    return answer


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
