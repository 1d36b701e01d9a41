"""`clients/python`: the client without the server, from the same sources."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from server_process import ROOT, ServerProcess

ALONE = ROOT / "clients" / "python"


def built(folder: Path) -> Path:
    """The wheel."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run(
        [*command, str(ALONE)],
        check=True,
        timeout=50,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    (wheel,) = folder.glob("otel_ttf_client-*.whl")
    return wheel


def project(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]  # type: ignore[no-any-return]


def test_it_needs_what_the_extra_needs() -> None:
    assert project(ALONE)["dependencies"] == project(ROOT)["optional-dependencies"]["client"]  # type: ignore[index]


def test_the_wheel_has_the_client_and_nothing_else(tmp_path: Path) -> None:
    names = {name for name in zipfile.ZipFile(built(tmp_path)).namelist() if ".dist-info/" not in name}
    client = {path.relative_to(ROOT).as_posix() for path in (ROOT / "otel_ttf" / "client").glob("*.py")}
    assert names == {"otel_ttf/__init__.py", "otel_ttf/py.typed", *client}


TRACK = """
import sys
from otel_ttf.client import TelemetryClient

with TelemetryClient(api_url=sys.argv[1]) as client:
    client.track_ttf_milestone("signup", "from-a-wheel", {"plan": "pro"})
    assert client.flush_events(), client.counts
"""


@pytest.mark.long
@pytest.mark.timeout(240)
def test_from_a_fresh_environment_an_event_reaches_a_server(tmp_path: Path, server: ServerProcess) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built(tmp_path)]
    subprocess.run(install, check=True, timeout=200)
    listed = subprocess.run(
        [python, "-m", "pip", "list"], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    assert not {"grpcio", "fastapi", "pydantic", "numpy", "otel-ttf"} & set(listed.split())
    subprocess.run([python, "-I", "-c", TRACK, server.api_url], check=True, timeout=60, cwd=tmp_path)
    server.wait_caught_up()
    assert server.get("/api/v1/ttf/from-a-wheel").json["segments"] == {"plan": "pro"}
