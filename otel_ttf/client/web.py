"""HTTP for this package: one request at a time, with the key, bounded in time and size. Imported where it is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from requests import PreparedRequest, Response, Session

from otel_ttf import __version__
from otel_ttf.client.options import Options

MAX_ANSWER = 4 * 1024 * 1024
_ABOUT_THE_BODY = ("content-type", "content-encoding", "content-length", "accept", "accept-encoding")


class Unanswered(Exception):
    """No answer came; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Answer:
    """retry_after: seconds, None if not said."""

    status: int
    body: bytes
    retry_after: float | None


class _OurHeaders(requests.auth.AuthBase):
    """The key and no others: those in the environment's headers for OTLP, and in .netrc, are for other servers."""

    def __init__(self, key: str | None) -> None:
        self._ours = {"User-Agent": f"otel-ttf-client/{__version__}"}
        if key is not None:
            self._ours["Authorization"] = f"Bearer {key}"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        about = {name: value for name, value in request.headers.items() if name.lower() in _ABOUT_THE_BODY}
        request.headers.clear()
        request.headers.update(about | self._ours)
        return request


def session(options: Options) -> Session:
    """A session for the server of these options; for one thread."""
    made = Session()
    made.auth = _OurHeaders(options.key)
    made.trust_env = not options.loopback
    made.verify = options.ca_file or True
    if options.certificate is not None:
        file, key = options.certificate
        made.cert = file if key is None else (file, key)
    return made


def ask(
    opened: Session,
    method: str,
    url: str,
    *,
    timeout: float,
    data: bytes | None = None,
    headers: Mapping[str, str | bytes] | None = None,
) -> Answer:
    """The answer, whatever its status. Raises Unanswered.

    timeout  seconds for a connection and for each next part of the answer; beyond, none that is still to come is read
    """
    deadline = time.monotonic() + timeout
    # Instrumentation of this application would trace our own requests, whose paths hold user ids.
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        with opened.request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
            verify=opened.verify,  # else the environment's would come before it
        ) as answer:
            return Answer(answer.status_code, _body(answer, deadline), _retry_after(answer))
    except requests.exceptions.SSLError as error:
        raise Unanswered(f"no TLS connection ({_cause(error)})") from error
    except requests.exceptions.Timeout as error:
        raise Unanswered(f"no answer within {timeout:g} s") from error
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        raise Unanswered(f"no connection ({_cause(error)})") from error
    finally:
        detach(token)


def _body(answer: Response, deadline: float) -> bytes:
    parts, size = [], 0
    for part in answer.iter_content(64 * 1024):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER or time.monotonic() > deadline:
            raise Unanswered("an answer without an end")
    return b"".join(parts)


def _retry_after(answer: Response) -> float | None:
    told = answer.headers.get("retry-after", "").strip()
    try:
        if told.isdecimal():
            return float(told)
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _cause(error: BaseException) -> str:
    """The innermost error's class: its text may hold the address, with whatever is in it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return type(error).__name__
