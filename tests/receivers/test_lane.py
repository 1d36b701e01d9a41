"""Who is worked on together, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from otel_ttf.receivers import lane as lanes
from otel_ttf.receivers.lane import JOINED, Answer, Lane, tell
from otel_ttf.receivers.prepare import Receipt, Request


class Work:
    """Answers each request by its length, when told to. groups: what came together, in order."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.at_once = self.most_at_once = 0

    async def __call__(self, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
        self.groups.append([request.raw for request in requests])
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await self.go.wait()
        self.at_once -= 1
        if any(request.raw == b"poison" for request in requests):
            raise KeyError
        tell(answers, [Receipt(len(request.raw)) for request in requests])


async def send(lane: Lane, *raws: bytes) -> list[Receipt | Exception]:
    return list(await asyncio.gather(*(lane.enter(Request(raw)) for raw in raws)))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def patient(monkeypatch):
    """Nobody has an hour: whoever waits for company fails by the test's timeout."""
    monkeypatch.setattr(lanes, "CROWD_SECONDS", 3600)


@pytest.mark.usefixtures("patient")
async def test_one_alone_waits_for_nobody():
    work = Work()
    lane = Lane(work)
    for _ in range(3):
        assert await send(lane, b"x") == [Receipt(1)]
    assert work.groups == [[b"x"]] * 3


async def test_those_of_one_moment_go_together_and_each_gets_its_own_answer():
    work = Work()
    assert await send(Lane(work), b"1", b"22", b"333") == [Receipt(1), Receipt(2), Receipt(3)]
    assert work.groups == [[b"1", b"22", b"333"]]


async def test_those_that_come_while_a_group_is_on_its_way_are_the_next():
    work = Work()
    lane = Lane(work)
    work.go.clear()
    first = asyncio.create_task(send(lane, b"1"))
    await settle()
    others = [asyncio.create_task(send(lane, raw)) for raw in (b"2", b"3")]
    await settle()
    assert work.groups == [[b"1"]]
    work.go.set()
    await asyncio.gather(first, *others)
    assert work.groups == [[b"1"], [b"2", b"3"]]


async def test_no_more_groups_at_a_time_than_allowed():
    work = Work()
    lane = Lane(work, groups=2)
    work.go.clear()
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(send(lane, b"%d" % number)))
        await settle()
    assert work.groups == [[b"0"], [b"1"]]
    work.go.set()
    await asyncio.gather(*tasks)
    assert work.most_at_once == 2
    assert work.groups[2] == [b"2", b"3", b"4", b"5"]


async def test_those_that_do_not_fit_into_a_group_need_not_wait_for_it():
    work = Work()
    lane = Lane(work, groups=3)
    work.go.clear()
    task = asyncio.create_task(send(lane, *[b"x" * JOINED] * 4))
    await settle()
    assert len(work.groups) == 3
    work.go.set()
    assert len(await task) == len(work.groups) == 4


async def test_a_group_is_not_larger_than_its_bound():
    work = Work()
    half = b"x" * (JOINED // 2)
    await send(Lane(work), half, half, b"y", half, b"x" * (JOINED * 2), b"z")
    assert [[len(raw) for raw in group] for group in work.groups] == [
        [JOINED // 2] * 2,
        [1, JOINED // 2],
        [JOINED * 2],
        [1],
    ]


@pytest.mark.usefixtures("patient")
async def test_a_crowd_that_comes_again_is_waited_for():
    work = Work()
    lane = Lane(work)
    await send(lane, b"1", b"2", b"3")
    first = asyncio.create_task(send(lane, b"4", b"5"))
    await settle()
    assert work.groups == [[b"1", b"2", b"3"]]
    await send(lane, b"6")
    await first
    assert work.groups[1] == [b"4", b"5", b"6"]


@pytest.mark.usefixtures("patient")
async def test_those_that_wait_already_go_with_the_crowd_that_comes_again():
    work = Work()
    lane = Lane(work)
    work.go.clear()
    crowd = asyncio.create_task(send(lane, b"1", b"2"))
    await settle()
    late = asyncio.create_task(send(lane, b"3", b"4"))
    await settle()
    work.go.set()
    await crowd
    await send(lane, b"5", b"6")
    await late
    assert work.groups == [[b"1", b"2"], [b"3", b"4", b"5", b"6"]]


@pytest.mark.usefixtures("patient")
async def test_a_whole_group_waits_for_nobody():
    work = Work()
    lane = Lane(work)
    work.go.clear()
    crowd = asyncio.create_task(send(lane, b"1", b"2"))
    await settle()
    whole = asyncio.create_task(send(lane, b"x" * JOINED))
    await settle()
    work.go.set()
    await asyncio.gather(crowd, whole)
    assert [len(group) for group in work.groups] == [2, 1]


async def test_a_crowd_that_does_not_come_again_is_not_waited_for_long():
    work = Work()
    lane = Lane(work)
    await send(lane, b"1", b"2", b"3")
    assert await send(lane, b"4") == [Receipt(1)]
    assert await send(lane, b"5") == [Receipt(1)]
    assert work.groups[1:] == [[b"4"], [b"5"]]


async def test_who_went_away_is_left_out_and_the_others_do_not_notice():
    work = Work()
    lane = Lane(work)
    work.go.clear()
    tasks = [asyncio.create_task(send(lane, raw)) for raw in (b"1", b"2")]
    await settle()
    waiting = [asyncio.create_task(send(lane, raw)) for raw in (b"3", b"4")]
    await settle()
    tasks[0].cancel()  # worked on already
    waiting[0].cancel()  # not yet
    work.go.set()
    assert await tasks[1] == await waiting[1] == [Receipt(1)]
    assert work.groups == [[b"1", b"2"], [b"4"]]


async def test_an_error_reaches_all_of_the_group_and_the_lane_goes_on():
    lane = Lane(Work())
    told = await send(lane, b"1", b"poison")
    assert [type(one) for one in told] == [KeyError, KeyError]
    assert await send(lane, b"22") == [Receipt(2)]
