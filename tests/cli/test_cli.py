"""The commands: help with examples, exit codes, one sentence where something is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from otel_ttf import __version__
from otel_ttf.cli import main


def commands(command=main, path=()):
    yield pytest.param(path, command, id=" ".join(path) or "otel-ttf")
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from commands(below, (*path, name))


def invoke(*arguments: str, env=None):
    return CliRunner().invoke(main, list(arguments), env=env, prog_name="otel-ttf")


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_has_help_with_examples(path, command):
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert " ".join(("otel-ttf", *path)) in result.output.split("Examples:")[1]
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert all(option.help for option in options)


def test_the_commands_are_those_of_the_documentation():
    names = "run validate print-config demo ttf stuck seen keys mask dead-letters recompute replay subject version"
    more = "api-keys check-data rebuild restore salvage"
    assert sorted(main.commands) == sorted([*names.split(), *more.split()])


def test_version():
    assert invoke("version").output == f"otel-ttf {__version__}\n"
    assert invoke("--version").output == f"otel-ttf {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--nope"], id="an unknown option"),
        pytest.param(["nope"], id="an unknown command"),
        pytest.param(["ttf"], id="ttf without a user"),
        pytest.param(["ttf", "demo-0001", "--summary"], id="ttf with a user and --summary"),
        pytest.param(["demo", "--rate", "-1"], id="a negative rate"),
        pytest.param(["validate", "--set", "storage.events=some"], id="a wrong setting"),
        pytest.param(["run", "--config", "/nowhere.yaml"], id="a configuration that is not there"),
        pytest.param(["print-config", "--set", "x"], id="a setting without a value"),
    ],
)
def test_usage_and_configuration_errors_exit_with_2(arguments):
    assert invoke(*arguments).exit_code == 2


def test_configuration_errors_come_one_a_line_then_a_sentence():
    result = invoke("validate", "--set", "storage.events=some", "--set", "log.max_size=x")
    assert result.stderr.splitlines() == [
        '--set: log.max_size: expected a size such as 512MiB or 10GiB, found "x"',
        '--set: storage.events: expected named, milestones, all or none, found "some"',
        "otel-ttf: the configuration cannot be used: 2 things are wrong, see above.",
    ]


def test_a_valid_configuration_is_said_to_be_so(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("log: {max_size: 1GiB}\n")
    result = invoke("validate", "--config", str(file))
    assert (result.exit_code, result.output) == (0, f"{file}: valid\n")


def test_warnings_do_not_make_a_configuration_invalid():
    result = invoke("validate", "--set", "api.endpoint='0.0.0.0:8080'", "--set", "api.insecure=true")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: --set: api.endpoint: other machines reach it")


def test_a_new_key_file_is_one_and_no_two_are_the_same():
    from otel_ttf.pii.keys import parse

    first, second = invoke("keys", "new").output, invoke("keys", "new").output
    keys = parse(first)
    assert len(keys.event) == 32
    assert [len(key) for key in keys.subjects] == [32]
    assert first != second


def test_a_data_directory_that_cannot_be_made_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    result = invoke("run", "--data-dir", str(tmp_path / "file" / "data"))
    assert result.exit_code == 1
    assert result.stderr == (
        f"otel-ttf: the data directory {tmp_path}/file/data cannot be made: not a directory; "
        "choose another with --data-dir.\n"
    )


def test_a_port_in_use_is_said_in_one_sentence_and_no_file_is_for_others_to_read(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [
                *(sys.executable, "-m", "otel_ttf", "run", "--set", f"api.endpoint={endpoint}"),
                *("--data-dir", str(tmp_path)),  # others may look into it, as umask has it
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"otel-ttf: api.endpoint: {endpoint} is in use; ")
    files = list(tmp_path.iterdir())
    assert {"keys", "store.db", "log.db"} <= {file.name for file in files}
    assert [file.name for file in files if file.stat().st_mode & 0o077] == []


def test_a_demo_without_a_server_says_what_to_do():
    result = subprocess.run(
        [sys.executable, "-m", "otel_ttf", "demo", "--endpoint", "127.0.0.1:1", "--wait", "0.2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "otel-ttf: no OTLP/gRPC server answers at 127.0.0.1:1: "
        "start one with 'otel-ttf run', or give --endpoint.\n"
    )


def test_the_command_line_is_there_at_once():
    """Imports of the work are left to the commands; CPU time, and the best of five, since other things run beside."""
    code = "import time; t = time.process_time(); import otel_ttf.cli; print(time.process_time() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(seconds) < 0.15


def test_python_dash_m_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "otel_ttf", "version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert result.stdout == f"otel-ttf {__version__}\n"
