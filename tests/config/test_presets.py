"""Presets: configurations from the package, under one's own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from otel_ttf import presets
from otel_ttf.cli import main
from otel_ttf.config import Config, ConfigError, load

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_can_be_used_and_says_something(name):
    loaded = load(preset=name)
    assert loaded.warnings == ()
    assert loaded.config != Config()


def test_a_sidecar_takes_small_messages_and_a_small_disk():
    config = load(preset="sidecar").config
    protocols = config.receivers.otlp.protocols
    assert protocols.grpc is not None
    assert protocols.http is not None
    assert protocols.grpc.max_recv_msg_size_mib == 8
    assert protocols.http.max_request_body_size == 8 * MIB
    assert config.receivers.otlp.max_in_flight == 64 * MIB
    assert (config.log.max_size, config.storage.max_size) == (512 * MIB, 384 * MIB)


@pytest.mark.parametrize(
    ("text", "settings", "grpc", "http"),
    [
        pytest.param("{}", [], 8, 8 * MIB, id="nothing else"),
        pytest.param("receivers: {otlp: {protocols: }}", [], 8, 8 * MIB, id="nothing said"),
        pytest.param(
            "receivers: {otlp: {protocols: {grpc: , http: {max_request_body_size: 1MiB}}}}",
            [],
            8,
            MIB,
            id="a file wins, one setting at a time",
        ),
        pytest.param(
            "receivers: {otlp: {protocols: {grpc: }}}", [], 8, None, id="a protocol left out is off"
        ),
        pytest.param("receivers: {otlp: {protocols: {}}}", [], None, None, id="both are off"),
        pytest.param(
            "{}", ["receivers.otlp.protocols.grpc.max_recv_msg_size_mib=2"], 2, 8 * MIB, id="--set wins"
        ),
    ],
)
def test_files_and_settings_lie_over_it(tmp_path, text, settings, grpc, http):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    config = load([str(file)], settings, preset="sidecar").config
    protocols = config.receivers.otlp.protocols
    assert (protocols.grpc and protocols.grpc.max_recv_msg_size_mib) == grpc
    assert (protocols.http and protocols.http.max_request_body_size) == http
    assert config.storage.max_size == 384 * MIB


def test_an_error_in_a_file_over_it_has_its_place(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("storage:\n  max_size: small\n")
    with pytest.raises(ConfigError) as error:
        load([str(file)], preset="sidecar")
    (problem,) = error.value.problems
    assert str(problem).startswith(f"{file}:2: storage.max_size: expected a size")


def test_an_unknown_one_is_refused_with_those_that_there_are():
    result = CliRunner().invoke(main, ["validate", "--preset", "sidecart"], prog_name="otel-ttf")
    assert result.exit_code == 2
    assert "'sidecart'" in result.output
    for name in presets.names():
        assert f"'{name}'" in result.output


@pytest.mark.parametrize("command", ["run", "validate", "print-config", "mask"])
def test_commands_that_take_a_configuration_take_a_preset(command):
    assert "--preset" in CliRunner().invoke(main, [command, "--help"]).output


def test_print_config_shows_what_results():
    shown = CliRunner().invoke(main, ["print-config", "--preset", "sidecar"]).output
    assert "max_size: 384MiB" in shown


def test_they_are_part_of_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "presets/*.yaml" in data["otel_ttf"]
