from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

HERE = Path(__file__).parent
# What takes minutes together: killed servers, full disks, crowds of peers; a single test has the mark instead.
# ./scripts/test leaves them to .ci/run.
LONG = (
    *(f"crash/test_{name}.py" for name in ("kill_bad_records", "points", "power", "trim")),
    *(f"end_to_end/test_{name}.py" for name in ("disk", "sidecar", "wall_clock", "broken_files")),
    *(f"hostile/test_{name}.py" for name in ("table", "memory", "stopping")),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).as_posix() in LONG:
            item.add_marker("long")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """What the servers of one run compile they keep for each other, and not in anybody's home."""
    if hasattr(config, "workerinput"):  # it has the environment of the run
        return
    folder = tempfile.TemporaryDirectory(prefix="otel-ttf-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CACHE_HOME"] = folder.name


def pytest_collection_finish() -> None:
    """Thousands of tests are objects that stay: a collector that goes over them takes 0.4 s of whatever is timed."""
    gc.collect()
    gc.freeze()
