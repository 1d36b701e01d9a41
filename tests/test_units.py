"""Durations and sizes as people write them."""

from __future__ import annotations

import time

import pytest

from otel_ttf.units import DAY, duration, size, size_text


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


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (duration, "40001d"),
        (duration, "9" * 90 + "s"),
        (size, "4097PiB"),
        (size, 2**63),
        (size, "9" * 90),
        (size, -1),
    ],
)
def test_what_64_bits_do_not_hold_is_refused(read, text):
    with pytest.raises(ValueError, match="expected a"):
        read(text)


def test_the_most():
    assert duration("40000d") == 40_000 * DAY
    assert size(2**62) == 2**62


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (0, "0B"),
        (512, "512B"),
        (1024, "1KiB"),
        (32 << 20, "32MiB"),
        (3 << 29, "1.5GiB"),
        (2**62, "4194304TiB"),
        (1_000_000, "976.6KiB"),
    ],
)
def test_a_size_is_written_as_people_read_it(told, text):
    assert size_text(told) == text
    assert size(text) == pytest.approx(told, rel=0.05)
