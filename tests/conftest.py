from __future__ import annotations

import gc
import os
import tempfile

import pytest
from hypothesis import settings

# How long an example takes says more about the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


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
