"""OTLP over HTTP: one pure ASGI application, for its own port and for the API's."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Literal

from google.protobuf import json_format
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_ttf.access.gate import STATUS, Door, Gate, Grant, Refused, came_from, of_http
from otel_ttf.access.hosts import MISDIRECTED, Hosts
from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.json import Found, decode
from otel_ttf.otlp.wire import Malformed, Signal
from otel_ttf.receivers.answers import RESPONSES, come_again, http_status, not_admitted, response
from otel_ttf.receivers.body import MAX_BODY, Unusable, check_json, header_fields, media_type, read_body
from otel_ttf.receivers.connections import MaxConnections
from otel_ttf.receivers.endpoint import Endpoint
from otel_ttf.receivers.intake import GPC_HEADER, Disconnected, Intake
from otel_ttf.receivers.prepare import Receipt
from otel_ttf.units import SECOND, Duration, Size

SETTING = "receivers.otlp.protocols.http.endpoint"
PATHS: dict[str, Signal] = {"/v1/logs": "logs", "/v1/traces": "traces", "/v1/metrics": "metrics"}
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
# An attribute has two objects, so 64 MiB of records of the usual size hold two million of them.
MAX_CONTAINERS = 2_500_000
MAX_COMMAS = 10_000_000
_GPC = GPC_HEADER.encode()
_TYPES = f"expected a content-type of {PROTOBUF} or {JSON} (UTF-8)"


class CorsConfig(BaseModel):
    """Browsers: which pages may send."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins such as https://app.example.com or https://*.example.com; none: no browser.",
    )
    allowed_headers: tuple[str, ...] = Field(default=(), description="Request headers beyond the usual ones.")
    exposed_headers: tuple[str, ...] = Field(
        default=(), description="Response headers that scripts may read."
    )
    max_age: Duration = Field(
        default=600 * SECOND, description="How long a browser keeps the answer to its question."
    )


class HttpConfig(BaseModel):
    """OTLP/HTTP, protobuf and JSON, plain or compressed with gzip, deflate or zstd."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Endpoint = Field(
        default="127.0.0.1:4318", description="host:port to listen on; `:4318` is every interface."
    )
    max_request_body_size: Size = Field(
        default=MAX_BODY,
        gt=0,
        description="Largest body, before and after decompression, of REST too; a larger one is refused for good.",
    )
    body_timeout: Duration = Field(
        default=30 * SECOND, gt=0, description="A body that takes longer to arrive is refused."
    )
    max_connections: MaxConnections = Field(
        default=None,
        description="Connections at a time; beyond, one that waits for a request is closed, first of those that "
        "never sent one. By default 1000, or a quarter of the limit of open files.",
    )
    cors: CorsConfig = Field(default=CorsConfig(), description="Browsers: which pages may send.")


def otlp_app(
    config: HttpConfig,
    intake: Intake,
    *,
    door: Door = "http",
    trusted: bool = False,
    gate: Gate | None = None,
    hosts: Hosts | None = None,
) -> ASGIApp:
    """`POST /v1/logs|traces|metrics`, for a port of its own or mounted at "/v1" or "/" elsewhere.

    door     by which it is come in, for the count of refusals
    trusted  subjects that are tokens already are taken as they are
    gate     who may send; None: everybody
    hosts    by which names the server may be called; None: by any
    """
    app = _OtlpHttp(config, intake, door, trusted=trusted, gate=gate, hosts=hosts)
    cors = config.cors
    if not cors.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=[origin for origin in cors.allowed_origins if origin == "*" or "*" not in origin],
        allow_origin_regex="|".join(
            re.escape(origin).replace(r"\*", "[^/]*") for origin in cors.allowed_origins if "*" in origin[1:]
        )
        or None,
        allow_methods=["POST"],
        allow_headers=[
            "content-type",
            "content-encoding",
            "authorization",
            "x-api-key",
            *cors.allowed_headers,
        ],
        expose_headers=cors.exposed_headers,
        max_age=cors.max_age // SECOND,
    )


class _OtlpHttp:
    def __init__(
        self,
        config: HttpConfig,
        intake: Intake,
        door: Door,
        *,
        trusted: bool,
        gate: Gate | None,
        hosts: Hosts | None,
    ) -> None:
        self._door = door
        self._limit = config.max_request_body_size
        self._seconds = config.body_timeout / SECOND
        self._intake = intake
        self._trusted = trusted
        self._gate = gate
        self._hosts = hosts
        self._success = {
            (signal, encoding): _encoded(kind(), encoding)
            for signal, (kind, _) in RESPONSES.items()
            for encoding in (PROTOBUF, JSON)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = header_fields(scope["headers"])
        media = media_type(headers)
        # Whoever sent neither is most likely a person: JSON can be read.
        encoding = PROTOBUF if media == PROTOBUF else JSON
        status = 200
        more: dict[str, str] = {}
        try:
            if self._hosts is not None and not self._hosts.allow(headers.get(b"host")):
                self._intake.telemetry.access_refused(self._door, "host")
                raise Unusable(421, MISDIRECTED)
            # Before the body is read.
            gate = self._gate
            grant = None
            if gate is not None:
                grant = await gate.admit(self._door, "ingest", of_http(scope["headers"]), came_from(scope))
            signal, receipt = await self._take(scope, headers, media, receive, grant)
            if receipt.rejected or receipt.warnings:
                body = _encoded(response(signal, receipt), encoding)
            else:
                body = self._success[signal, encoding]
        except Disconnected:
            return
        except Unusable as error:
            status, more = error.status, error.headers
            body = _encoded(http_status(status, str(error)), encoding)
            more |= unread(headers)
        except Refused as refused:
            status, more = STATUS[refused.why], refused.headers | unread(headers)
            body = _encoded(not_admitted(refused), encoding)
        except Malformed as error:
            status, body = 400, _encoded(http_status(400, str(error)), encoding)
        except LogRefused as full:
            status, more = 503, retry_after(full)
            body = _encoded(come_again(full), encoding)
        except asyncio.CancelledError:
            # The server has waited for this one long enough and goes; the sender should come again.
            stopping = LogRefused("the server is stopping")
            status, more = 503, retry_after(stopping) | {"Connection": "close"}
            body = _encoded(come_again(stopping), encoding)
        await answer(send, status, encoding, body, more)

    async def _take(
        self, scope: Scope, headers: dict[bytes, bytes], media: str, receive: Receive, grant: Grant | None
    ) -> tuple[Signal, Receipt]:
        intake = self._intake
        with intake.frame:
            signal = PATHS.get(scope["path"])
            if signal is None:
                raise Unusable(404, f"expected one of {', '.join(PATHS)}")
            if scope["method"] != "POST":
                raise Unusable(405, "expected POST", {"Allow": "POST"})
            if media not in (PROTOBUF, JSON):
                raise Unusable(415, _TYPES, {"Accept": f"{PROTOBUF}, {JSON}"})
            raw = await read_body(headers, receive, intake, limit=self._limit, seconds=self._seconds)
            if grant is not None:
                grant.charge(len(raw))
            found = Found()
            if media == JSON:
                # Counted also while it waits for a worker.
                with intake.in_flight.hold(len(raw)):
                    raw = await intake.offload(len(raw), _from_json, signal, raw, found)
        gpc = has_gpc(headers)
        return signal, await intake(
            signal,
            raw,
            protocol="http",
            mended=found.mended,
            broken=found.broken,
            trusted=self._trusted or (grant is not None and grant.trusted_tokens),
            gpc=gpc,
        )


def unread(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Headers of an answer to a request whose body was not read: a long one is not read on for nothing."""
    long = len(headers.get(b"content-length", b"")) > 5 or b"transfer-encoding" in headers
    return {"Connection": "close"} if long else {}


def has_gpc(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says by Global Privacy Control that nothing may be sold."""
    return b"1" in [value.strip() for value in headers.get(_GPC, b"").split(b",")]


def _from_json(signal: Signal, body: bytes, found: Found) -> bytes:
    check_json(body, containers=MAX_CONTAINERS, commas=MAX_COMMAS)
    return decode(signal, body, found)


def retry_after(refused: LogRefused) -> dict[str, str]:
    """Header for a 503. Whole seconds, rounded up: 0 would mean at once."""
    return {"Retry-After": str(max(1, math.ceil(refused.retry_after)))}


async def answer(send: Send, status: int, media: str, body: bytes, headers: dict[str, str]) -> None:
    """Sends a whole response."""
    lines = [(b"content-type", media.encode()), (b"content-length", b"%d" % len(body))]
    lines += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def _encoded(
    message: Message, encoding: Literal["application/x-protobuf", "application/json"] | str
) -> bytes:
    if encoding == PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()
