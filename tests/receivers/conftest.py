from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "processors"))
sys.path.insert(0, str(Path(__file__).parent))

from serving import Serving, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """All receivers on a log of their own; shared by a file's tests."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running
