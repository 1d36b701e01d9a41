from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE.parent / "end_to_end", HERE.parent / "receivers", HERE):
    sys.path.insert(0, str(folder))

if "doors" not in sys.modules:
    pytest.register_assert_rewrite("doors")

from server_process import ServerProcess  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that tells all it has to tell, and does not wait long for a body."""
    settings = ("service.telemetry.logs.level=debug", "receivers.otlp.protocols.http.body_timeout=2s")
    with ServerProcess(tmp_path_factory.mktemp("hostile") / "data", settings=settings) as running:
        yield running
