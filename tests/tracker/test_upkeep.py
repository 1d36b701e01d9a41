"""What goes from the store, when, and that the file gets smaller."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from world import START, World, token

from otel_ttf.clock import ManualClock
from otel_ttf.store.sqlite_rows import subject_hash
from otel_ttf.tracker.upkeep import Upkeep
from otel_ttf.units import DAY, SECOND

MIB = 1 << 20
SUBJECT = token("somebody")


class Store:
    """A store with journeys, and an upkeep over it whose steps the test makes."""

    def __init__(self, world: World, max_size: int) -> None:
        self.world = world
        self.clock = ManualClock(START)
        self.steady = 0
        self.drops: list[int] = []  # by transaction
        self.stored = 0
        world.send(*[("a", f"u{i}", i / 100, {}) for i in range(50)])
        self.journeys = self.never()
        self.open(max_size)

    def open(self, max_size: int) -> None:
        self.max_size = max_size
        self.upkeep = Upkeep(
            self.world.store,
            self.clock,
            self.transact,
            retention=30 * DAY,
            max_size=max_size,
            steady=lambda: self.steady,
            dropped=self.drops.append,
        )

    @property
    def dropped(self) -> int:
        return sum(self.drops)

    def transact(self, work: Callable[[int], int]) -> int:
        self.world.store.begin()
        done = work(self.clock.now())
        self.world.store.commit()
        return done

    def never(self) -> list[object]:
        """What is never deleted for size."""
        return [
            self.world.rows(f"SELECT * FROM {table}")
            for table in ("journey", "transition", "rollup", "counter", "histogram", "label", "seen")
        ]

    def add(self, count: int, size: int = 1000, resource: bytes = b"") -> None:
        """Events, each a second after the one before; `size` bytes that don't compress."""
        rows = []
        store = self.world.store
        store.begin()
        place = store.events.resource(resource, resource[:16])
        for _ in range(count):
            self.stored += 1
            at = START + self.stored * SECOND
            event_id = (at // 10**6).to_bytes(6, "big") + os.urandom(10)
            line = ("log", f"event {self.stored}", "", "", at, at, 0, os.urandom(size), place)
            rows.append((event_id, subject_hash(SUBJECT), SUBJECT, *line))
        store.events.add(rows)
        store.events.use([place])
        store.commit()

    def tidy(self) -> None:
        """Steps until there is nothing more to do."""
        steps = 0
        while any([self.upkeep.trim(0), self.upkeep.clean(), self.upkeep.shrink()]):
            steps += 1
            assert steps < 1000

    def kept(self) -> list[int]:
        """Numbers of the events that are there, in order of their times."""
        return [
            int(str(name).split()[1])
            for (name,) in self.world.rows("SELECT name FROM event ORDER BY at")
            if str(name).startswith("event ")
        ]

    def on_disk(self) -> int:
        wal = Path(f"{self.world.path}-wal")
        return self.world.path.stat().st_size + wal.stat().st_size


@pytest.fixture
def store(world: World) -> Store:
    return Store(world, 8 * MIB)


def test_what_fits_stays(store: Store) -> None:
    store.add(3000)
    store.tidy()
    assert len(store.kept()) == 3000
    assert store.dropped == 0


def test_the_oldest_events_go_and_nothing_else_and_the_directory_shows_it(store: Store) -> None:
    for _ in range(40):
        store.add(500)
        store.upkeep.trim(500)
        store.upkeep.shrink()
        assert store.upkeep.use.pages <= store.max_size
    store.tidy()
    kept = store.kept()
    assert kept == list(range(20_001 - len(kept), 20_001))
    assert store.dropped == 20_000 + 50 - len(kept)
    # About as many as there is room for: 1.2 KB each, three quarters of 8 MiB.
    assert 3500 < len(kept) < 6000
    assert store.on_disk() <= store.max_size
    assert store.never() == store.journeys


def test_a_limit_that_was_lowered_makes_the_file_shrink(store: Store) -> None:
    store.open(1 << 30)
    store.add(20_000)
    store.tidy()
    assert store.on_disk() > 20 * MIB
    store.open(4 * MIB)
    store.tidy()
    assert store.on_disk() <= 4 * MIB
    assert store.kept()[-1] == 20_000


def test_it_is_done_in_small_transactions_a_few_at_a_time(store: Store) -> None:
    store.open(1 << 30)
    store.add(70_000, size=100)
    store.open(4 * MIB)
    assert store.upkeep.trim(0)
    assert store.drops == [10_000] * 4
    # Where more comes in at a time, more goes at a time.
    assert not store.upkeep.trim(90_000)
    assert max(store.drops) == 10_000


def test_it_is_said_once(store: Store) -> None:
    with capture_logs() as lines:
        for _ in range(10):
            store.add(3000)
            store.tidy()
    assert store.dropped > 10_000
    (line,) = lines
    assert line["log_level"] == "warning"
    assert line["event"].startswith("storage.max_size is reached")


def test_resources_go_with_the_last_event_that_has_them(store: Store) -> None:
    """A sender with another large resource in each request fills no disk."""
    store.add(10, resource=b"the first of them all")
    for number in range(60):
        store.add(1, resource=number.to_bytes(16, "big") + os.urandom(MIB // 2))
        store.upkeep.trim(1)
        store.upkeep.shrink()
        assert store.upkeep.use.pages <= store.max_size
    store.tidy()
    assert store.on_disk() <= store.max_size
    orphans = "SELECT count(*) FROM event WHERE resource NOT IN (SELECT id FROM resource)"
    assert store.world.rows(orphans) == [(0,)]
    # What was dropped is made anew, not remembered.
    store.add(1, resource=b"the first of them all")
    assert store.world.rows(orphans) == [(0,)]


def test_a_resource_stays_as_long_as_an_event_has_it(store: Store) -> None:
    store.add(1, resource=b"used at first and at last")
    for number in range(20):
        store.add(1000, resource=b"one of many %d" % number)
    store.add(1, resource=b"used at first and at last")
    store.tidy()
    assert store.dropped > 10_000
    kept = {
        bytes(str(row[0]), "latin1") if isinstance(row[0], str) else row[0]
        for row in store.world.rows("SELECT bytes FROM resource")
    }
    assert b"used at first and at last" in kept
    assert b"one of many 0" not in kept
    assert store.world.rows("SELECT count(*) FROM event WHERE resource NOT IN (SELECT id FROM resource)") == [
        (0,)
    ]


def test_journeys_that_alone_are_too_many_stay_and_it_is_said_once(store: Store) -> None:
    journeys = [("a", f"traveller {i}", i / 1000, {}) for i in range(12_000)]
    store.world.send(*journeys)
    before = store.never()
    with capture_logs() as lines:
        store.open(2 * MIB)
        for _ in range(3):
            store.tidy()
            store.add(10)
        store.tidy()
    assert store.upkeep.full
    assert store.upkeep.use.pages > 2 * MIB
    assert store.never() == before
    assert store.kept() == []
    assert [line["log_level"] for line in lines] == ["warning", "error"]
    assert "leave no room for events" in lines[1]["event"]
    store.open(1 << 30)
    store.add(10)
    store.tidy()
    assert len(store.kept()) == 10
    assert not store.upkeep.full


def test_without_events_there_is_nothing_to_delete(make: Callable[..., World]) -> None:
    world = make(events="none")
    world.send(*[("a", f"u{i}", i / 1000, {}) for i in range(12_000)])
    with capture_logs() as lines:
        store = Store(world, 2 * MIB)
        store.tidy()
    assert store.dropped == 0
    assert store.upkeep.full
    assert len(world.rows("SELECT 1 FROM journey")) == 12_000
    assert [line["log_level"] for line in lines] == ["error"]


def test_age_and_size_at_once(store: Store) -> None:
    store.add(20_000)
    store.clock.advance(30 * DAY + 18_000 * SECOND)
    store.tidy()
    kept = store.kept()
    assert kept == list(range(20_001 - len(kept), 20_001))
    assert len(kept) <= 2001
    assert store.never() == store.journeys
    assert store.on_disk() <= store.max_size


def test_free_pages_go_back_when_events_have_had_their_time(world: World) -> None:
    store = Store(world, 1 << 30)
    store.add(30_000)
    store.clock.advance(31 * DAY)
    store.clock.advance(30_000 * SECOND)
    store.tidy()
    assert store.kept() == []
    assert store.on_disk() < 12 * MIB
    assert store.world.rows("SELECT count(*) FROM resource") == [(0,)]


def test_a_reader_that_stays_holds_nothing_up(store: Store) -> None:
    store.add(20_000)
    other = sqlite3.connect(store.world.path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM event").fetchone()
    store.tidy()
    assert store.upkeep.use.pages <= store.max_size
    other.execute("ROLLBACK")
    other.close()
    store.tidy()
    assert store.on_disk() <= store.max_size
