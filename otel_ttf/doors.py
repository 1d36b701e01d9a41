"""The doors of a server: the API, OTLP over HTTP and gRPC, each with its limits, certificates and keys."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp

from otel_ttf import guards
from otel_ttf.access.gate import Gate
from otel_ttf.access.tls import Certificate, of_grpc
from otel_ttf.access.watch import Watched
from otel_ttf.config import Config
from otel_ttf.receivers.connections import open_files, shares
from otel_ttf.receivers.http_server import HttpServer
from otel_ttf.receivers.intake import Intake
from otel_ttf.receivers.otlp_grpc import GrpcServer, serve
from otel_ttf.receivers.otlp_http import SETTING as HTTP_SETTING
from otel_ttf.receivers.otlp_http import otlp_app
from otel_ttf.telemetry import Telemetry


class Doors:
    """None is open before `open`. grpc_endpoint: where OTLP/gRPC is from here; None: it is off."""

    def __init__(self) -> None:
        self.grpc_endpoint: str | None = None
        self._open: list[HttpServer | GrpcServer] = []

    async def open(
        self,
        config: Config,
        api: ASGIApp,
        intake: Intake,
        gate: Gate | None,
        certificates: Mapping[str, Watched[Certificate]],
        telemetry: Telemetry,
    ) -> None:
        """Raises CannotListen; what was opened before stays so until `close`."""
        otlp, trusted = config.receivers.otlp.protocols, config.receivers.otlp.trusted_tokens
        each, many = shares(open_files())
        await self._listen(
            HttpServer(
                api,
                config.api.endpoint,
                setting="api.endpoint",
                max_connections=config.api.max_connections or each,
                tls=guards.http_tls("api", certificates.get("api"), telemetry),
            )
        )
        if otlp.http is not None:
            await self._listen(
                HttpServer(
                    otlp_app(otlp.http, intake, trusted=trusted, gate=gate, hosts=guards.hosts(otlp.http)),
                    otlp.http.endpoint,
                    setting=HTTP_SETTING,
                    max_connections=otlp.http.max_connections or each,
                    tls=guards.http_tls("http", certificates.get("http"), telemetry),
                )
            )
        if otlp.grpc is not None:
            shown = certificates.get("grpc")
            grpc = await serve(
                otlp.grpc,
                intake,
                trusted=trusted,
                gate=gate,
                credentials=of_grpc(shown) if shown is not None else None,
                max_connections=many,
            )
            self._open.append(grpc)
            self.grpc_endpoint = f"127.0.0.1:{grpc.port}"

    async def close(self, grace: float) -> None:
        """All at once: no new calls; those in flight are answered for up to `grace` seconds."""
        await asyncio.gather(*(door.stop(grace) for door in self._open))

    async def _listen(self, server: HttpServer) -> None:
        await server.start()
        self._open.append(server)
