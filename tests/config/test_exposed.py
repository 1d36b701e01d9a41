"""Doors that other machines reach: what makes them possible, and what is said of them."""

from __future__ import annotations

import pytest

from otel_ttf.config import ConfigError, load

OPEN = ["api.endpoint=0.0.0.0:8080"]
TLS = "api.tls={cert_file: c, key_file: k}"
CERTIFIED = "api.tls={cert_file: c, key_file: k, client_ca_file: a}"
KEY = {"TELEMETRY_API_KEY": "a key of sixteen characters"}


@pytest.mark.parametrize(
    ("settings", "env", "warned"),
    [
        pytest.param(["auth.required=true", TLS], {}, [], id="keys and TLS"),
        pytest.param([TLS], KEY, [], id="a key of the environment, and TLS"),
        pytest.param([CERTIFIED], {}, [], id="certificates"),
        pytest.param([CERTIFIED, "auth.required=false"], KEY, [], id="certificates and no keys"),
        pytest.param(["auth.required=true"], {}, ["in plain"], id="keys in plain"),
        pytest.param(["auth.required=true", "api.insecure=true"], {}, [], id="keys in plain, as meant"),
        pytest.param(["api.insecure=true"], {}, ["nobody is asked"], id="nothing"),
        pytest.param(["api.insecure=true", "auth.required=false"], KEY, ["nobody is asked"], id="no keys"),
    ],
)
def test_a_door_to_others(settings, env, warned):
    told = [str(problem) for problem in load([], [*OPEN, *settings], env).warnings]
    assert len(told) == len(warned)
    assert all(part in line for part, line in zip(warned, told, strict=True))


@pytest.mark.parametrize(
    ("settings", "env"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([TLS], {}, id="TLS alone, which asks nobody"),
        pytest.param([], {"TELEMETRY_API_KEY": ""}, id="an empty key"),
        pytest.param(["auth.required=false"], KEY, id="keys that nobody is asked for"),
        pytest.param(
            ["receivers.otlp.protocols.http.tls={cert_file: c, key_file: k, client_ca_file: a}"],
            {},
            id="certificates at another door",
        ),
    ],
)
def test_a_door_to_others_without_anything_is_refused(settings, env):
    with pytest.raises(ConfigError, match="since nobody is asked who they are"):
        load([], [*OPEN, *settings], env)


def test_grpc_cannot_be_told_to_want_a_newer_version():
    tls = "receivers.otlp.protocols.grpc.tls={cert_file: c, key_file: k, min_version: '1.3'}"
    with pytest.raises(ConfigError, match=r"grpc\.tls\.min_version: expected 1\.2, found"):
        load([], [tls])
