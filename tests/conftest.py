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
# What takes minutes together: servers started and killed, full disks, crowds of peers; a single test has the mark
# instead. Of servers as a whole test_flow, test_life and some others stay in ./scripts/test.
# ./scripts/test leaves them to .ci/run.
LONG = {
    "client": "process",
    "crash": "kill_bad_records points power trim",
    "end_to_end": "access broken_files canary dead_letters disk encrypted ids_in_plain rebuild recompute reload replay"
    " sidecar tls wall_clock",
    "exporters": "otlp_http server",
    "hostile": "memory stopping table",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = item.path.stem.removeprefix("test_")
        if item.path.parent.parent == HERE and name in LONG.get(item.path.parent.name, "").split():
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
