from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "end_to_end"):
    sys.path.insert(0, str(folder))

from server_process import ServerProcess  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without any configuration. Shared: each test has users of its own."""
    with ServerProcess(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running
