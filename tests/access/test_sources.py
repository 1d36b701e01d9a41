"""Sources of wrong keys: told apart, bounded, and none held up for another's sake while there is room."""

from __future__ import annotations

import random

import pytest

from otel_ttf.access.sources import BURST, Sources, network
from otel_ttf.units import SECOND


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="an address"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="the next one"),
        pytest.param("192.0.2.1", "ipv4:192.0.2.1:50000", True, id="over gRPC"),
        pytest.param("ipv4:192.0.2.1:50000", "ipv4:192.0.2.1:50001", True, id="another port"),
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", True, id="IPv4 in IPv6"),
        pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.2", False, id="two of IPv4 in IPv6"),
        pytest.param("2001:db8::1", "2001:db8::ffff:1", True, id="a /64"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="the next /64"),
        pytest.param("2001:db8::1", "ipv6:%5B2001:db8::1%5D:50000", True, id="IPv6 over gRPC"),
        pytest.param("fe80::1%eth0", "fe80::2", True, id="a link"),
        pytest.param("", "unix:/tmp/x", True, id="no addresses"),
        pytest.param("", "ipv4:garbage", True, id="nothing that we know"),
    ],
)
def test_what_is_one_source(one, other, same):
    assert (network(one) == network(other)) is same


def test_what_was_quiet_for_long_enough_has_all_of_it_again():
    sources = Sources(2.0)
    at_once = int(2 * BURST)
    assert [sources.refuse("192.0.2.1", 0) == 0 for _ in range(at_once + 1)] == [True] * at_once + [False]
    assert sources.refuse("192.0.2.1", 0) == pytest.approx(0.5)
    later = int(BURST) * SECOND
    assert [sources.refuse("192.0.2.1", later) == 0 for _ in range(at_once + 1)] == [True] * at_once + [False]


def test_however_many_sources_there_are_what_is_kept_and_what_they_get_is_bounded():
    sources = Sources(1.0, most=100)
    let = sum(
        sources.refuse(f"2001:db8:{number >> 8:x}:{number & 255:x}::1", 0) == 0 for number in range(50_000)
    )
    assert len(sources) == 100
    # One each, and of all others as many as of one.
    assert let == 100 + BURST
    # In a second more come by: a hundred that are known, and one of the others.
    again = sum(
        sources.refuse(f"2001:db8:{number >> 8:x}:{number & 255:x}::1", SECOND) == 0
        for number in random.Random(1).sample(range(50_000), 50_000)
    )
    assert again <= 100 * BURST + 2


def test_a_source_that_is_known_keeps_its_place_while_it_is_refused_and_goes_when_it_is_quiet():
    sources = Sources(1.0, most=2)
    for _ in range(int(BURST)):
        sources.refuse("192.0.2.1", 0)
    sources.refuse("192.0.2.2", 0)
    for number in range(200):
        sources.refuse(f"198.51.100.{number}", 0)
    assert sources.refuse("192.0.2.1", 0) > 0, "strangers have not washed it out"
    # By then nothing is known of it, and somebody else may have its place.
    now = int(BURST) * SECOND
    assert sources.refuse("198.51.100.7", now) == 0
    assert len(sources) == 2
    assert sources.refuse("192.0.2.1", now) == 0
