"""OTLP over HTTP to the next collector or backend, as protobuf or JSON."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from otel_ttf.exporters.base import DONE, Outcome, Piece, Unreachable, merged
from otel_ttf.exporters.otlp import (
    ANSWER_BYTES,
    USER_AGENT,
    Kind,
    OtlpConfig,
    answered,
    certificates,
    outcome_of,
    partial,
    plain,
)
from otel_ttf.otlp.json import as_json, camel
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.units import SECOND

if TYPE_CHECKING:
    import httpx2  # who has no such exporter does not load it

# The table of the OTLP specification, as in otlp_grpc. What is not here is of the kind `data`: 400, say.
KINDS: Mapping[int, Kind] = {
    413: "size",
    **dict.fromkeys((429, 502, 503, 504), "later"),
    **dict.fromkeys((*range(300, 400), 401, 403, 404, 405, 407), "barred"),
}
MEDIA = {"proto": "application/x-protobuf", "json": "application/json"}
ANSWER_PARTS = 1024  # an answer in more chunks is none: each costs as much as a long one
_NO_COOKIES = DefaultCookiePolicy(allowed_domains=())  # they would be kept, and sent, without bound
GZIP_LEVEL = 3  # a third of the time of level 6, for some 5 % more bytes


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", text):
        raise ValueError("expected a URL such as http://collector:4318")
    return text


Url = Annotated[str, AfterValidator(_url)]


class OtlpHttpConfig(OtlpConfig):
    """OTLP over HTTP."""

    endpoint: Url = Field(description="URL of the destination; /v1/logs, /v1/traces, /v1/metrics are added.")
    logs_endpoint: Url | None = Field(None, description="URL for logs, as it is.")
    traces_endpoint: Url | None = Field(None, description="URL for traces, as it is.")
    metrics_endpoint: Url | None = Field(None, description="URL for metrics, as it is.")
    encoding: Literal["proto", "json"] = Field(
        "proto",
        description="json costs some hundred times the processor time: requests have to be decoded for it.",
    )

    def build(self, name: str) -> OtlpHttp:
        return OtlpHttp(self, name)


class OtlpHttp:
    """A pool of connections."""

    def __init__(self, config: OtlpHttpConfig, name: str) -> None:
        """Raises CannotExport."""
        import httpx2

        self._urls: dict[Signal, str] = {
            signal: getattr(config, f"{signal}_endpoint") or f"{config.endpoint.rstrip('/')}/v1/{signal}"
            for signal in SIGNALS
        }
        self._json = config.encoding == "json"
        self._gzip = config.compression == "gzip"
        self._headers = {
            "content-type": MEDIA[config.encoding],
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            **({"content-encoding": "gzip"} if self._gzip else {}),
            **plain(config.headers),
        }
        secure = any(url.startswith("https://") for url in self._urls.values())
        name_override = config.tls.server_name_override
        self._extensions = {"sni_hostname": name_override} if name_override else {}
        self._timeout = config.timeout / SECOND
        self._unreachable = (httpx2.HTTPError, TimeoutError, OSError)
        self._http = httpx2.AsyncClient(
            verify=not secure or certificates(config.tls, name),
            timeout=httpx2.Timeout(self._timeout),
            cookies=CookieJar(_NO_COOKIES),
        )

    async def send(self, batch: Sequence[Piece]) -> Outcome:
        signal = batch[0].row.signal
        body = await asyncio.to_thread(self._body, signal, batch)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    "POST",
                    self._urls[signal],
                    content=body,
                    headers=self._headers,
                    extensions=self._extensions,
                ) as answer,
            ):
                told = await body_of(answer)
        except self._unreachable as error:
            raise Unreachable(type(error).__name__) from None
        status = answer.status_code
        if 200 <= status < 300:
            return self._taken(signal, batch, answer, told)
        kind = KINDS.get(status, "data")
        return outcome_of(
            batch, kind, f"HTTP {status}", retry_after(answer.headers) if kind == "later" else None
        )

    def _body(self, signal: Signal, batch: Sequence[Piece]) -> bytes:
        body = merged(batch)
        if self._json:
            body = as_json(decode(signal, body)).encode()
        return gzip.compress(body, GZIP_LEVEL, mtime=0) if self._gzip else body

    def _taken(self, signal: Signal, batch: Sequence[Piece], answer: httpx2.Response, told: bytes) -> Outcome:
        if not answer.headers.get("content-type", "").startswith(MEDIA["json"]):
            return answered(signal, batch, told)
        try:
            said = json.loads(told or b"{}").get("partialSuccess") or {}
            return partial(signal, batch, int(said.get(camel(SHAPES[signal].rejected)) or 0))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return DONE  # it has taken it, whatever it says about it

    async def close(self) -> None:
        await self._http.aclose()


async def body_of(answer: httpx2.Response) -> bytes:
    """An answer's body as it came; empty where it is too long to be one."""
    told, left = b"", ANSWER_PARTS
    async for part in answer.aiter_raw():  # nothing is unpacked: we have asked for nothing that is packed
        told += part
        left -= 1
        if len(told) > ANSWER_BYTES or not left:
            return b""
    return told


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds of Retry-After; a date counts from the answer's own, so that no clock has to be right."""
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        then = parsedate_to_datetime(told)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
