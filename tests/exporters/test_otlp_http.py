"""OTLP over HTTP keeps what every exporter has to, in both encodings, and what is its own."""

from __future__ import annotations

from typing import Any

from destinations import Destination, HttpDestination
from exporter_contract import ExporterContract

from otel_ttf.exporters.otlp_http import OtlpHttpConfig


class TestOtlpHttp(ExporterContract):
    def make(self) -> Destination:
        return HttpDestination()

    def config(self, port: int, **given: Any) -> OtlpHttpConfig:
        return OtlpHttpConfig(endpoint=f"http://127.0.0.1:{port}", **given)


class TestOtlpHttpAsJson(TestOtlpHttp):
    def config(self, port: int, **given: Any) -> OtlpHttpConfig:
        return super().config(port, encoding="json", **given)
