from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))
sys.path.insert(0, str(Path(__file__).parent))

from answering import FakeServer
from server_process import ServerProcess

from otel_ttf.client import TelemetryClient


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without any configuration. Shared: each test has users of its own."""
    with ServerProcess(tmp_path_factory.mktemp("client") / "data") as running:
        yield running


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """An HTTP server that answers as it is told."""
    with FakeServer() as running:
        yield running


@pytest.fixture
def client_of(request: pytest.FixtureRequest) -> Callable[..., TelemetryClient]:
    """Makes clients that end with the test."""

    def make(url: str, **options: object) -> TelemetryClient:
        made = TelemetryClient(**{"api_url": url, "flush_interval": 0.01, **options})  # type: ignore[arg-type]
        request.addfinalizer(lambda: made.close(0.2))
        return made

    return make
