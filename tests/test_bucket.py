"""Token buckets: what they give, and never more than that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ttf.bucket import Bucket
from otel_ttf.units import SECOND


def test_it_is_bounded_and_time_that_goes_back_brings_nothing():
    bucket = Bucket(10, 20)
    assert bucket.part(50, 0) == 20
    assert bucket.part(50, SECOND) == 10
    assert bucket.part(50, 3600 * SECOND) == 20, "no more than its size"
    assert bucket.part(50, 0) == 0
    assert bucket.part(50, 3600 * SECOND) == 0
    assert bucket.part(1, 3600 * SECOND + SECOND // 10) == 1


def test_what_was_overdrawn_is_made_up_for_first():
    bucket = Bucket(100, 500)
    bucket.take(1500)
    assert bucket.part(1, 0) == 0
    assert bucket.wait(1, 0) == pytest.approx(10.01)
    assert bucket.wait(1, 10 * SECOND) == pytest.approx(0.01)
    assert bucket.part(50, 10 * SECOND + SECOND // 2) == 50
    assert bucket.wait(501, 100 * SECOND) == 0.0, "more than it ever holds"


def test_one_that_holds_less_than_one_gives_one_at_a_time():
    bucket = Bucket(0.001, 0.005)
    assert bucket.part(2, 0) == 1
    assert bucket.wait(1, 0) == pytest.approx(1000)


@given(
    st.integers(1, 50), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 99), st.integers(0, SECOND)))
)
def test_parts_are_never_more_than_its_size_and_what_time_brought(rate, size, takes):
    bucket, now, had = Bucket(rate, size), 0, 0
    for wanted, passed in takes:
        now += passed
        had += bucket.part(wanted, now)
        assert had <= size + now * rate / SECOND + 1e-6


@given(st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(1, 300)), max_size=60))
def test_who_waits_never_gets_more_than_its_rate_and_what_it_holds(steps):
    now = given_out = 0
    bucket = Bucket(10.0, 30.0)
    for pause, size in steps:
        now += pause
        if not bucket.wait(1, now):
            bucket.take(size)
            given_out += size
            # The last one may be more than there is.
            assert given_out - size <= 30 + 10 * now / SECOND
    now += round(bucket.wait(1, now) * SECOND) + 1000
    assert bucket.wait(1, now) == pytest.approx(0.0, abs=1e-5)
