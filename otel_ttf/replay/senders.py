"""Ways to an OTLP receiver: HTTP and gRPC, one call each. Whether it comes again is the caller's matter."""

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
import httpx2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from otel_ttf.access.entry import NOBODY, Entry, tls_error
from otel_ttf.exporters.otlp_grpc import retry_info
from otel_ttf.exporters.otlp_http import body_of, retry_after
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal

TIMEOUT = 60.0  # seconds for one answer
_PATHS = {signal: f"/v1/{signal}" for signal in SIGNALS}
_SERVICES: Mapping[Signal, str] = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}
# otlp.md: what is worth another try.
_HTTP_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_GRPC_AGAIN = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        # No request is to blame for these.
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
# What no other request would be spared.
_FATAL_HTTP = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407})
_FATAL_GRPC = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_GRPC_KEY_WANTED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_KEY_WANTED = ": set TELEMETRY_API_KEY to a key with the scope ingest, as `otel-ttf api-keys new` makes one"
_MOST_SECONDS = 300.0
_JITTER = random.SystemRandom()


class Again(Exception):
    """Not now. seconds: how long the receiver wants to be left alone, None: it said nothing."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = None if seconds is None else min(seconds, _MOST_SECONDS)


class Refused(Exception):
    """Never. fatal: nor anything else"""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request. rejected: records that the receiver did not take, and why"""

    rejected: int = 0
    reason: str = ""


class Sender(Protocol):
    """A way to a receiver."""

    async def send(self, signal: Signal, raw: bytes) -> Taken:
        """Raises Again, Refused."""

    async def close(self) -> None:
        """Ends its connections."""


def made(to: str, headers: Mapping[str, str], entry: Entry = NOBODY, *, packed: bool) -> Sender:
    """Of `http://HOST:PORT`, `https://...`, `grpc://HOST:PORT`, `grpcs://...`. Raises ValueError, CannotEnter.

    entry  a key in headers comes before its own
    """
    parts = urlsplit(to)
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname or parts.query:
        raise ValueError("expected http://HOST:PORT, https://, grpc:// or grpcs://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no password in it: give --header")
    if not {"authorization", "x-api-key"} & {name.lower() for name in headers}:
        headers = {**headers, **entry.headers}
    if parts.scheme.startswith("http"):
        trust = entry.trust() if parts.scheme == "https" else True
        return Http(to.rstrip("/"), headers, trust, packed=packed)
    if parts.port is None or parts.path.strip("/"):
        raise ValueError(f"expected {parts.scheme}://HOST:PORT")
    pem = entry.pem() if parts.scheme == "grpcs" else None
    return Grpc(parts.netloc, headers, pem, packed=packed)


class Http:
    """OTLP/HTTP in protobuf."""

    def __init__(
        self, url: str, headers: Mapping[str, str], trust: ssl.SSLContext | bool = True, *, packed: bool
    ) -> None:
        self._url = url
        self._headers = {
            **headers,
            "content-type": "application/x-protobuf",
            "accept-encoding": "identity",
            **({"content-encoding": "gzip"} if packed else {}),
        }
        self._packed = packed
        self._client = httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=trust)

    async def send(self, signal: Signal, raw: bytes) -> Taken:
        body = gzip.compress(raw, 1) if self._packed else raw
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._client.stream(
                    "POST", self._url + _PATHS[signal], content=body, headers=self._headers
                ) as answer,
            ):
                said = await body_of(answer)
        except (httpx2.HTTPError, TimeoutError) as error:
            tls = tls_error(error)
            if isinstance(tls, ssl.SSLCertVerificationError):
                why = (
                    f"its certificate is not trusted ({tls.verify_message}): name who signed it by --ca-file"
                )
                raise Refused(why, fatal=True) from None
            raise Again(f"{self._url} does not answer ({type(error).__name__})") from None
        status = answer.status_code
        if status == 200:
            return _taken(signal, said)
        if status in _HTTP_AGAIN:
            raise Again(f"it answers {status}", retry_after(answer.headers))
        hint = _KEY_WANTED if status in (401, 403) else ""
        raise Refused(f"it answers {status}{_said(said)}{hint}", fatal=status in _FATAL_HTTP)

    async def close(self) -> None:
        await self._client.aclose()


class Grpc:
    """OTLP/gRPC."""

    def __init__(
        self,
        target: str,
        headers: Mapping[str, str],
        pem: tuple[bytes | None, bytes | None, bytes | None] | None,
        *,
        packed: bool,
    ) -> None:
        """pem: see Entry; None: no TLS"""
        options = [("grpc.max_receive_message_length", 1 << 20), ("grpc.enable_retries", 0)]
        compression = grpc.Compression.Gzip if packed else None
        self._channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(*pem), options, compression)
            if pem is not None
            else grpc.aio.insecure_channel(target, options, compression)
        )
        self._headers = tuple((name.lower(), value) for name, value in headers.items())
        self._calls: dict[Signal, Any] = {
            signal: self._channel.unary_unary(
                f"/{service}/Export", request_serializer=None, response_deserializer=None
            )
            for signal, service in _SERVICES.items()
        }

    async def send(self, signal: Signal, raw: bytes) -> Taken:
        try:
            answer = await self._calls[signal](raw, timeout=TIMEOUT, metadata=self._headers)
        except grpc.aio.AioRpcError as error:
            code, name = error.code(), error.code().name
            wait = retry_info(error.trailing_metadata())
            if code in _GRPC_AGAIN or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and wait is not None):
                raise Again(f"it answers {name}", wait) from None
            # An answer of gRPC's own to a message that is too large comes under this code, too.
            hint = _KEY_WANTED if code in _GRPC_KEY_WANTED else ""
            raise Refused(
                f"it answers {name}{_visible(error.details() or '')}{hint}", fatal=code in _FATAL_GRPC
            ) from None
        return _taken(signal, answer)

    async def close(self) -> None:
        await self._channel.close(None)


def pause(tries: int, wanted: float | None) -> float:
    """Seconds before the next try: what the receiver asked for and a little, else with full jitter up to 30 s."""
    if wanted is not None:
        return wanted + _JITTER.uniform(0, min(1.0, wanted / 10 + 0.05))
    return _JITTER.uniform(0, min(30.0, 0.5 * 2 ** min(tries, 10)))


def _taken(signal: Signal, body: bytes) -> Taken:
    try:
        partial = SHAPES[signal].response.FromString(body).partial_success
    except DecodeError:
        return Taken()
    rejected = getattr(partial, SHAPES[signal].rejected)
    return Taken(rejected, partial.error_message) if rejected else Taken()


def _said(body: bytes) -> str:
    """What the answer's google.rpc.Status says."""
    try:
        return _visible(status_pb2.Status.FromString(body).message)
    except DecodeError:
        return ""


def _visible(text: str) -> str:
    shown = "".join(c for c in text[:300] if c.isprintable())
    return f": {shown}" if shown else ""
