"""OTLP over gRPC: requests stay bytes from the socket to the processors."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, NoReturn

import grpc
from google.rpc import code_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health  # type: ignore[attr-defined]
from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.access.gate import Gate, Refused, of_grpc
from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.wire import Malformed, Signal
from otel_ttf.receivers.answers import RESPONSES, bad_data, come_again, not_admitted, response
from otel_ttf.receivers.calls import GROWTH_SHARE, Call, Calls
from otel_ttf.receivers.connections import MaxConnections, shares
from otel_ttf.receivers.endpoint import CannotListen, Endpoint, listen, split
from otel_ttf.receivers.intake import GPC_HEADER, Intake
from otel_ttf.units import SECOND, Duration

SETTING = "receivers.otlp.protocols.grpc.endpoint"
HANDSHAKE_MS = 10_000
SERVICES: dict[Signal, str] = {
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}

_GPC = (GPC_HEADER, "1")
_CODES = {
    code_pb2.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    code_pb2.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    code_pb2.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    code_pb2.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    code_pb2.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
}


class KeepaliveConfig(BaseModel):
    """When connections are checked and ended. `null`, or without a default: as gRPC has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_connection_idle: Duration | None = Field(
        default=300 * SECOND,
        description="A connection without calls ends after this; clients open another one when they need it.",
    )
    max_connection_age: Duration | None = Field(
        default=3600 * SECOND,
        description="A connection takes no new calls after this, a tenth more or less, and clients open another one: "
        "so those behind a balancer find new replicas, and nobody keeps a place for ever.",
    )
    max_connection_age_grace: Duration | None = Field(
        default=60 * SECOND,
        description="What calls get to finish when their connection has reached its age; null: they may stay, such "
        "as `Watch` of the health service.",
    )
    time: Duration | None = Field(
        default=60 * SECOND, description="A ping goes out after this without traffic."
    )
    timeout: Duration | None = Field(
        default=20 * SECOND, description="A connection ends when a ping has no answer for this."
    )


class GrpcConfig(BaseModel):
    """OTLP/gRPC. Clients may compress with gzip or not at all (`compression: gzip`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Endpoint = Field(
        default="127.0.0.1:4317", description="host:port to listen on; `:4317` is every interface."
    )
    max_recv_msg_size_mib: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Largest request in MiB, after decompression; a larger one is refused for good.",
    )
    max_concurrent_streams: int = Field(
        default=16, ge=1, description="Calls at a time on one connection; more wait in the client."
    )
    max_connections: MaxConnections = Field(
        default=None,
        description="Connections at a time; more are closed at once. By default what the limit of open files leaves.",
    )
    message_timeout: Duration = Field(
        default=30 * SECOND,
        gt=0,
        description="A call whose message takes longer to arrive is asked to come again.",
    )
    keepalive: KeepaliveConfig = Field(
        default_factory=KeepaliveConfig, description="Checking and ending connections."
    )


class GrpcServer:
    """A running listener; `port` is the one listened on, also when 0 was asked for."""

    def __init__(
        self, server: grpc.aio.Server, port: int, health: grpc_health.HealthServicer, calls: Calls
    ) -> None:
        self._server = server
        self._health = health
        self._watch = asyncio.create_task(calls.watch())
        self.port = port

    async def drain(self) -> None:
        """The health service says NOT_SERVING from now on; calls are still answered."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float = 5.0) -> None:
        """Takes no new calls, answers those in flight for up to `grace` seconds, closes."""
        await self.drain()
        await self._server.stop(grace)
        self._watch.cancel()
        with suppress(asyncio.CancelledError):
            await self._watch


async def serve(
    config: GrpcConfig,
    intake: Intake,
    health: grpc_health.HealthServicer | None = None,
    *,
    trusted: bool = False,
    gate: Gate | None = None,
    credentials: grpc.ServerCredentials | None = None,
    max_connections: int = shares(1024)[1],
) -> GrpcServer:
    """Starts the listener. Raises CannotListen.

    health           made here unless given
    trusted          subjects that are tokens already are taken as they are
    gate             who may send; None: everybody
    credentials      of TLS; None: the listener speaks plain HTTP/2
    max_connections  where the configuration says nothing
    """
    # gRPC's own error does not say why; a socket's does. Nothing stays open: gRPC binds for itself.
    for opened in listen(config.endpoint, SETTING):
        opened.close()
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_worth_a_line)
    # There is no maximum_concurrent_rpcs: beyond it gRPC answers RESOURCE_EXHAUSTED without RetryInfo, on
    # which clients drop their data.
    server = grpc.aio.server(options=_options(config, config.max_connections or max_connections))

    async def end(call: Call, refused: LogRefused) -> None:
        intake.telemetry.error("refused")
        await _abort(call, come_again(refused))

    calls = Calls(config.message_timeout / SECOND, GROWTH_SHARE * intake.in_flight.limit, end)
    for signal, service in SERVICES.items():
        # As if there could be several messages: only so the handler has the call before it has the first.
        method = grpc.stream_unary_rpc_method_handler(_export(signal, intake, calls, trusted, gate))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": method})])
    health = health or grpc_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    host, port = split(config.endpoint)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise CannotListen(f"{SETTING}: cannot listen on {config.endpoint}; set another one") from None
    await server.start()
    return GrpcServer(server, port, health, calls)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Of each peer that goes away in mid-answer gRPC says that an operation has failed: nobody has to do anything."""
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


def _options(config: GrpcConfig, max_connections: int) -> list[tuple[str, int]]:
    options = {
        "grpc.max_allowed_incoming_connections": max_connections,
        # Until a connection has said that it speaks HTTP/2.
        "grpc.server_handshake_timeout_ms": HANDSHAKE_MS,
        "grpc.http2.settings_timeout": HANDSHAKE_MS,
        "grpc.max_receive_message_length": config.max_recv_msg_size_mib << 20,
        "grpc.so_reuseport": 0,  # else a second server shares the port and takes half of the requests
        "grpc.max_concurrent_streams": config.max_concurrent_streams,
        "grpc.max_connection_idle_ms": _milliseconds(config.keepalive.max_connection_idle),
        "grpc.max_connection_age_ms": _milliseconds(config.keepalive.max_connection_age),
        "grpc.max_connection_age_grace_ms": _milliseconds(config.keepalive.max_connection_age_grace),
        "grpc.keepalive_time_ms": _milliseconds(config.keepalive.time),
        "grpc.keepalive_timeout_ms": _milliseconds(config.keepalive.timeout),
    }
    return [(name, value) for name, value in options.items() if value is not None]


def _milliseconds(duration: int | None) -> int | None:
    return None if duration is None else duration // 1_000_000


def _export(signal: Signal, intake: Intake, calls: Calls, trusted: bool, gate: Gate | None) -> Any:
    success = RESPONSES[signal][0]().SerializeToString()

    async def export(_: object, call: Call) -> bytes:
        trusts = trusted
        try:
            if gate is not None:  # before the message is read, or inflated
                shown = of_grpc(call.invocation_metadata() or ())
                grant = await gate.admit("grpc", "ingest", shown, call.peer())
                trusts = trusted or grant.trusted_tokens
            raw = await calls.message(call)
            if raw is None:
                raise Malformed("expected a message in the call")
            if gate is not None:
                grant.charge(len(raw))
            gpc = _GPC in (call.invocation_metadata() or ())
            receipt = await intake(signal, raw, protocol="grpc", trusted=trusts, gpc=gpc)
        except Malformed as error:
            refusal = bad_data(str(error))
        except LogRefused as refused:
            refusal = come_again(refused)
        except Refused as refused:
            refusal = not_admitted(refused)
            if refused.why == "limited":
                # With RetryInfo RESOURCE_EXHAUSTED asks to come again, and not every client looks for that; they all
                # do with this one.
                refusal.code = code_pb2.UNAVAILABLE
        else:
            if receipt.rejected or receipt.warnings:
                return response(signal, receipt).SerializeToString()
            return success
        # gRPC keeps what `abort` raises, in a circle with all frames that it has come through, and so with what
        # is in them: no more than this one, and not the request, which the collector might find a minute later.
        raw = None
        return await _abort(call, refusal)

    return export


async def _abort(call: Call, status: status_pb2.Status) -> NoReturn:
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    try:
        await call.abort(_CODES[status.code], status.message, details)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # the peer has gone, or broke the rules of HTTP/2: nobody listens
    raise AssertionError  # abort has raised
