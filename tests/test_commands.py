"""Commands in what an operator reads work where they are pasted, and tell no secret."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from otel_ttf.commands import NOTHING_GIVEN, Given


def test_the_same_options_are_given_from_wherever_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = Given(Path("my data"), ("a.yaml", "/etc/b.yaml"), ("storage.url=sqlite:///x y.db",), "sidecar")
    assert shlex.split(given.command("restore FILE")) == [
        *("otel-ttf", "restore", "FILE", "--preset", "sidecar"),
        *("--config", f"{tmp_path}/a.yaml", "--config", "/etc/b.yaml"),
        *("--set", "storage.url=sqlite:///x y.db", "--data-dir", f"{tmp_path}/my data"),
    ]
    assert NOTHING_GIVEN.command("run") == "otel-ttf run"


def test_ports_are_for_the_server_alone():
    given = Given(settings=("api.endpoint=127.0.0.1:9090", "log.max_size=1GiB", "subject.normalise=lower"))
    assert given.command("salvage") == "otel-ttf salvage --set subject.normalise=lower"
    assert given.command("run").count("--set") == 3


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("exporters.x.api_key=1234", "exporters.x.api_key=..."),
        ("exporters.x.headers={authorization: 1234}", "exporters.x.headers=..."),
        ("storage.url=postgresql://ada:1234@db/x", "storage.url=..."),
        ("privacy.key_file=/etc/keys", "privacy.key_file=/etc/keys"),
        ("receivers.otlp.trusted_tokens=true", "receivers.otlp.trusted_tokens=true"),
    ],
)
def test_what_is_secret_is_left_to_whoever_types_it(setting, shown):
    assert Given(settings=(setting,)).command("run") == f"otel-ttf run --set {shown}"
