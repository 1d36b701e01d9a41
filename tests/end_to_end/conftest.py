from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "exporters"))
sys.path.insert(0, str(Path(__file__).parent))
if "books" not in sys.modules:  # the other folder's conftest may have been first
    pytest.register_assert_rewrite("books", "ledger")

from server_process import ServerProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without any configuration. Shared: each test has users of its own."""
    with ServerProcess(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running
