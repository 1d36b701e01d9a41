"""TLS on the way: the same of every exporter that has it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Certificates
from destinations import Destination, GrpcDestination, HttpDestination
from export_world import NAME, World, until
from exporter_contract import FAST

from otel_ttf.exporters.config import CannotExport, ExporterConfig
from otel_ttf.exporters.otlp_grpc import OtlpGrpcConfig
from otel_ttf.exporters.otlp_http import OtlpHttpConfig


def grpc_destination(made: Certificates) -> Destination:
    pair = made.server.key.read_bytes(), made.server.certificate.read_bytes()
    return GrpcDestination(
        credentials=grpc.ssl_server_credentials(
            [pair], made.ca.certificate.read_bytes(), require_client_auth=True
        )
    )


def http_destination(made: Certificates) -> Destination:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca.certificate))
    context.load_cert_chain(made.server.certificate, made.server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return HttpDestination(context=context)


def grpc_config(port: int, tls: dict[str, Any], **more: Any) -> ExporterConfig:
    return OtlpGrpcConfig(endpoint=f"127.0.0.1:{port}", tls=tls, **more)


def http_config(port: int, tls: dict[str, Any], **more: Any) -> ExporterConfig:
    return OtlpHttpConfig(endpoint=f"https://127.0.0.1:{port}", tls=tls, **more)


def only_logs_over_tls(port: int, tls: dict[str, Any], **more: Any) -> ExporterConfig:
    logs = f"https://127.0.0.1:{port}/v1/logs"
    return OtlpHttpConfig(endpoint="http://127.0.0.1:1", logs_endpoint=logs, tls=tls, **more)


WAYS = {
    "otlp_grpc": (grpc_destination, grpc_config),
    "otlp_http": (http_destination, http_config),
    "otlp_http, logs_endpoint": (http_destination, only_logs_over_tls),
}
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.open()
    yield world
    await world.close()


@every_way
@pytest.mark.parametrize(
    ("shown", "arrives"),
    [
        pytest.param({"ca", "client"}, True, id="with certificates"),
        pytest.param({"ca"}, False, id="without ours"),
        pytest.param({"client"}, False, id="theirs is not trusted"),
        pytest.param({"client", "insecure_skip_verify"}, True, id="any will do"),
    ],
)
async def test_both_sides_show_certificates(
    world: World, tmp_path: Path, way: str, shown: set[str], arrives: bool
) -> None:
    made = Certificates(tmp_path)
    destination_of, config_of = WAYS[way]
    if way == "otlp_grpc" and "insecure_skip_verify" in shown:
        with pytest.raises(ValueError, match="expected no insecure_skip_verify, which gRPC does not have"):
            config_of(1, {"insecure_skip_verify": True})
        return
    destination = destination_of(made)
    destination.start()
    tls: dict[str, Any] = {"server_name_override": "next.example.com"}
    if "ca" in shown:
        tls["ca_file"] = str(made.ca.certificate)
    if "client" in shown:
        tls |= {"cert_file": str(made.client.certificate), "key_file": str(made.client.key)}
    if "insecure_skip_verify" in shown:
        tls["insecure_skip_verify"] = True
    world.start({NAME: config_of(destination.port, tls, **FAST)})
    await world.send("r0")
    exporting = world.exporting
    assert exporting is not None
    await until(lambda: destination.taken or exporting.notes())
    assert destination.taken == (["r0"] if arrives else [])
    destination.stop()


@every_way
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["not there", "something else"])
@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, way: str, setting: str, content: str | None
) -> None:
    made = Certificates(tmp_path)
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_text(content)
    tls = {setting: str(file)} | ({"key_file": str(made.client.key)} if setting == "cert_file" else {})
    config = WAYS[way][1](1, tls)
    with pytest.raises(CannotExport, match=rf"exporters\.otlp/x\.tls\.{setting}: .*x\.pem cannot be used: "):
        config.build("otlp/x")
