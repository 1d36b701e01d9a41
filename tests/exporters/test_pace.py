"""When the next request may go: by a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from otel_ttf.exporters.pace import LONGEST_WISH, OPENS_AT, Pace, Stopping


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(1.0, 30.0, now=clock)


def test_waits_grow_and_are_spread_over_all_that_they_may_be(clock: Clock) -> None:
    bounds = [1, 2, 4, 8, 16, 30, 30]
    waits: list[list[float]] = [[] for _ in bounds]
    for _ in range(300):
        pace = Pace(1.0, 30.0, now=clock)
        for number in range(len(bounds)):
            waits[number].append(pace.failed())
    for bound, found in zip(bounds, waits, strict=True):
        assert max(found) <= bound
        assert min(found) < 0.2 * bound, "full jitter begins at 0"
        assert max(found) > 0.8 * bound


def test_what_is_asked_for_counts_where_it_is_longer(pace: Pace) -> None:
    assert pace.failed(7) == 7
    assert pace.failed(1e12) == LONGEST_WISH


def test_who_refuses_us_is_asked_at_the_longest_interval(pace: Pace) -> None:
    assert pace.failed(barred=True) == 30
    assert pace.open


def test_one_success_closes_the_circuit(pace: Pace) -> None:
    for _ in range(OPENS_AT - 1):
        pace.failed()
    assert not pace.open
    pace.failed()
    assert pace.open
    pace.answered()
    assert not pace.open


async def test_while_it_is_open_one_at_a_time_tries(pace: Pace, clock: Clock) -> None:
    for _ in range(OPENS_AT):
        pace.failed()
    clock.now += 31
    under_way = most = 0

    async def attempt() -> None:
        nonlocal under_way, most
        async with pace.turn():
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1

    await asyncio.gather(*(attempt() for _ in range(5)))
    assert most == 1
    pace.answered()
    await asyncio.gather(*(attempt() for _ in range(5)))
    assert most == 5


async def test_at_the_end_nobody_waits(pace: Pace) -> None:
    pace.failed(100)
    pace.stopping = True
    with pytest.raises(Stopping):
        async with pace.turn():
            raise AssertionError
    pace.answered()
    async with pace.turn():
        pass
