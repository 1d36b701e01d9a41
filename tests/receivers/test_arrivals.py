"""Bodies that stop before their end take nobody's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from otel_ttf.log.base import LogRefused
from otel_ttf.receivers import arrivals
from otel_ttf.receivers.arrivals import Arrivals
from otel_ttf.receivers.body import Unusable, read_body
from otel_ttf.receivers.intake import InFlight

PART = 100 << 10


class Door:
    """What a body needs of the intake; bodies come from queues."""

    def __init__(self) -> None:
        self.intake: Any = SimpleNamespace(in_flight=InFlight(8 * PART), arrivals=Arrivals(4 * PART))

    async def begun(
        self, parts: int, *, seconds: float = 20
    ) -> tuple[asyncio.Task[bytes], asyncio.Queue[Message]]:
        """A body that has begun and goes on with what is put into the queue."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        for _ in range(parts):
            queue.put_nowait(part())
        reading = asyncio.create_task(read_body({}, queue.get, self.intake, limit=16 * PART, seconds=seconds))
        await rounds()
        return reading, queue


async def rounds() -> None:
    """Until all has been read that was put into queues."""
    for _ in range(20):
        await asyncio.sleep(0)


def part(*, last: bool = False) -> Message:
    return {"type": "http.request", "body": bytes(PART), "more_body": not last}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    assert door.intake.arrivals.used == door.intake.in_flight.used == 0


async def test_bodies_on_their_way_leave_room_for_whole_ones(door: Door) -> None:
    half = [await door.begun(2) for _ in range(2)]
    third, _ = await door.begun(1)
    with pytest.raises(LogRefused, match="on their way"):
        await third
    whole, queue = await door.begun(0)
    queue.put_nowait(part(last=True))
    assert len(await whole) == PART
    for reading, queue in half:
        queue.put_nowait(part(last=True))
        assert len(await reading) == 3 * PART


async def test_the_one_that_stands_still_longest_makes_room(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, _ = await door.begun(2)
    moving, queue = await door.begun(2)
    monkeypatch.setattr(arrivals, "STILL_SECONDS", 0)
    new, more = await door.begun(1)
    with pytest.raises(LogRefused, match="stood still"):
        await still
    for reading, parts in ((new, more), (moving, queue)):
        assert not reading.done()
        parts.put_nowait(part(last=True))
        await reading


async def test_little_is_no_movement(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    trickling, queue = await door.begun(2)
    moving, more = await door.begun(1)
    for _ in range(5):
        queue.put_nowait({"type": "http.request", "body": b"x", "more_body": True})
    await rounds()
    monkeypatch.setattr(arrivals, "STILL_SECONDS", 0)
    new, parts = await door.begun(1)
    with pytest.raises(LogRefused, match="stood still"):
        await trickling
    for reading, rest in ((new, parts), (moving, more)):
        rest.put_nowait(part(last=True))
        await reading


async def test_one_alone_always_fits_and_has_its_time(door: Door) -> None:
    alone, queue = await door.begun(7)
    queue.put_nowait(part(last=True))
    assert len(await alone) == 8 * PART
    late, _ = await door.begun(1, seconds=0.01)
    with pytest.raises(Unusable, match="within"):
        await late
