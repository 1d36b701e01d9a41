"""For how many users a journey stands, when the share that is followed changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ttf.journey.sampling import Sampling

SHARES = st.sampled_from([0.1, 0.25, 0.5, 1.0])


@pytest.mark.parametrize(
    ("steps", "recorded", "weight"),
    [
        pytest.param((), 5, 1.0, id="all were always followed"),
        pytest.param(((0, 0.1),), None, 10.0, id="one share from the beginning, whatever is known"),
        pytest.param(((7, 0.1),), 6, 1.0, id="before there was a share"),
        pytest.param(((7, 0.1),), 7, 10.0, id="from its first moment on"),
        pytest.param(((7, 0.1),), None, None, id="nobody knows when"),
        pytest.param(((0, 0.1), (7, 0.5)), 6, 10.0, id="before it was raised"),
        pytest.param(((0, 0.1), (7, 0.5), (9, 1.0)), 8, 2.0, id="between two changes"),
        pytest.param(((0, 0.1), (7, 0.5), (9, 1.0)), 9, 1.0, id="since all are followed again"),
    ],
)
def test_weight(steps, recorded, weight):
    assert Sampling(steps).weight(recorded) == weight


@given(st.lists(SHARES))
def test_only_a_change_is_a_step(shares):
    sampling = Sampling()
    for now, share in enumerate(shares, 1):
        sampling = sampling.changed(share, now)
    wanted = [share for before, share in zip([1.0, *shares], shares, strict=False) if share != before]
    assert [share for _, share in sampling.steps] == wanted
    assert sampling.share == ([1.0, *shares])[-1]
    for now, share in enumerate(shares, 1):
        assert sampling.weight(now) == 1 / share
