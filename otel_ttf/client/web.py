"""HTTP for this package: one request at a time, with the key, bounded in time and size. Imported where it is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests
import urllib3
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from requests import PreparedRequest, Response, Session

from otel_ttf import __version__
from otel_ttf.client.options import Options
from otel_ttf.client.punctual import MAX_ANSWER, Adapter, TooLong, left, within

_ABOUT_THE_BODY = ("content-type", "content-encoding", "content-length", "accept")


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
        # An answer is taken as it comes: what is packed could be of any size.
        self._ours = {"User-Agent": f"otel-ttf-client/{__version__}", "Accept-Encoding": "identity"}
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
    for scheme in ("http://", "https://"):
        made.mount(scheme, Adapter())
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

    timeout  seconds, for all of it, but for looking up the server's name
    """
    # Instrumentation of this application would trace our own requests, whose paths hold user ids.
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        with (
            within(timeout),
            _answered(timeout),
            opened.request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
                verify=opened.verify,  # else the environment's would come before it
            ) as answer,
        ):
            body = b"".join(answer.raw.stream(64 * 1024, decode_content=False))
            return Answer(answer.status_code, body, _retry_after(answer))
    finally:
        detach(token)


@contextmanager
def _answered(timeout: float) -> Iterator[None]:
    """Whatever goes wrong in the block is Unanswered."""
    try:
        yield
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        cause = _cause(error)
        if not left() or isinstance(error, requests.exceptions.Timeout):
            said = f"no answer within {timeout:g} s"
        elif isinstance(cause, TooLong):
            said = f"an answer of more than {MAX_ANSWER >> 20} MiB"
        elif isinstance(error, requests.exceptions.SSLError):
            said = f"no TLS connection ({type(cause).__name__})"
        else:
            said = f"no connection ({type(cause).__name__})"
        raise Unanswered(said) from error


def _retry_after(answer: Response) -> float | None:
    told = answer.headers.get("retry-after", "").strip()
    try:
        if told.isdecimal():
            return float(told)
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _cause(error: BaseException) -> BaseException:
    """The innermost error: only its class may be told, since its text may hold the address, with whatever is in it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error
