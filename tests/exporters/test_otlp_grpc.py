"""OTLP over gRPC keeps what every exporter has to, and what is its own."""

from __future__ import annotations

from typing import Any

from destinations import Destination, GrpcDestination
from exporter_contract import ExporterContract

from otel_ttf.exporters.otlp_grpc import OtlpGrpcConfig


class TestOtlpGrpc(ExporterContract):
    def make(self) -> Destination:
        return GrpcDestination()

    def config(self, port: int, **given: Any) -> OtlpGrpcConfig:
        return OtlpGrpcConfig(endpoint=f"127.0.0.1:{port}", **{"tls": {"insecure": True}} | given)
