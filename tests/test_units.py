"""Durations and sizes as people write them."""

from __future__ import annotations

import time

import pytest

from otel_ttf.units import duration, size


@pytest.mark.parametrize("read", [duration, size])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1" * 200_000, id="digits"),
        pytest.param("1." * 100_000, id="points"),
        pytest.param("1 " * 100_000, id="numbers"),
        pytest.param("1d" * 100_000 + "x", id="days"),
        pytest.param(" " * 200_000 + "x", id="blanks"),
    ],
)
def test_a_long_text_is_refused_at_once(read, text):
    began = time.thread_time()
    with pytest.raises(ValueError, match="expected a"):
        read(text)
    assert time.thread_time() - began < 0.5
