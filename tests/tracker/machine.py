"""The tracker's thread over a real log and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from world import RULES, START, Spec, World, journey, request

from otel_ttf.clock import Clock, ManualClock
from otel_ttf.journey.definition import Journey
from otel_ttf.log.base import Entry
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.tracker.loop import Tracker
from otel_ttf.units import DAY


class Steady:
    """A clock that only a test moves; ns."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Machine:
    """A data directory with log and store; the tracker runs between `start` and `stop`."""

    def __init__(self, folder: Path, trip: Journey | None = None, clock: Clock | None = None) -> None:
        self.folder = folder
        self.manual = ManualClock(START)
        self.clock = clock or self.manual
        self.steady = Steady()
        self.world = World(folder, trip or journey())
        self.log = self._opened()
        self.tracker: Tracker | None = None
        self.quarantined: list[tuple[str, int]] = []
        self.missing: list[tuple[str, str, int]] = []

    def _opened(self) -> SqliteLog:
        return SqliteLog.open(self.folder / "log.db", LogConfig(), self.clock, free_space=lambda: 100 << 30)

    def made(self) -> Tracker:
        """A tracker that does not run."""
        return Tracker(
            self.log,
            self.world.store,
            self.world.follower,
            RULES,
            self.clock,
            retention=30 * DAY,
            max_size=10 << 30,
            dropped=lambda count: None,
            steady=self.steady,
            on_quarantine=lambda action, records: self.quarantined.append((action, records)),
            on_missing=lambda what, milestone, events: self.missing.append((what, milestone, events)),
            on_written_again=lambda: self.world.reader.renew(),
        )

    def start(self) -> Tracker:
        self.tracker = self.made()
        self.tracker.start()
        return self.tracker

    async def stop(self, drain: float = 5.0) -> None:
        if self.tracker is not None:
            await asyncio.to_thread(self.tracker.stop, drain)
            self.tracker = None

    async def send(self, *specs: Spec) -> int:
        """One request into the log; its position."""
        payload, ids = request(specs)
        return await self.log.append(Entry("logs", self.clock.later(), payload, ids, len(specs)))

    async def restart(self, *, new_log: bool = False, clock: Callable[[], Clock] | None = None) -> None:
        """Everything is opened again, with a clock that is made now; the tracker is not started."""
        await self.stop()
        await self.log.close()
        if clock is not None:
            self.clock = clock()
        if new_log:
            for file in self.folder.glob("log.db*"):
                file.unlink()
        self.world.restart()
        self.log = self._opened()

    async def taken(self, position: int) -> None:
        """Waits until the tracker has taken the row."""
        assert self.tracker is not None
        await until(lambda: self.tracker is not None and self.tracker.position >= position)

    def once(self, users: int) -> None:
        """Every user's start was taken and counted exactly once."""
        assert self.world.rows("SELECT count(*), min(position), max(position) FROM transition") == [
            (users, 1, users)
        ]
        assert self.world.counter("ttf_started_total") == users
        assert self.world.rows("SELECT sum(count) FROM seen") == [(users,)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the tracker's thread sets no asyncio.Event
            await asyncio.sleep(0.005)
