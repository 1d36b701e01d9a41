"""One bad record: a defect that is planted at run time costs that record its turn, and nobody else's."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from machine import Machine, until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from world import RULES, START, Spec, request, token

from otel_ttf.log.base import Entry
from otel_ttf.otlp.events import Extract, extract
from otel_ttf.store.quarantine import DeadLetter, Quarantine
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker import isolate, loop, tasks
from otel_ttf.tracker.follow import Follower, Missing
from otel_ttf.tracker.isolate import CREDIT
from otel_ttf.tracker.loop import CONSUMER, TRIES
from otel_ttf.units import DAY, MINUTE

KIB, MIB = 1 << 10, 1 << 20

POISON = {"poison": "somebody@example.com"}
Plant = Callable[..., None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes `Follower.take` fail on events with an attribute, after it has written all of them."""
    sound = Follower.take

    def planted(make: Callable[[str], Exception] = KeyError, attribute: bytes = b"poison") -> None:
        def take(self: Follower, extracts: Iterable[tuple[int, Extract]], now: int) -> Missing:
            extracts = list(extracts)
            missing = sound(self, extracts, now)
            if any(attribute in event.attributes_bytes for _, found in extracts for event in found.events):
                raise make("somebody@example.com")
            return missing

        monkeypatch.setattr(Follower, "take", take)

    planted.mend = lambda: monkeypatch.setattr(Follower, "take", sound)  # type: ignore[attr-defined]
    return planted


def users(first: int, last: int) -> list[Spec]:
    return [("a", f"u{n}", n / 100, {}) for n in range(first, last)]


def letters(machine: Machine) -> list[tuple[Any, ...]]:
    return machine.world.rows(
        "SELECT position, place, signal, arrival, error, tries FROM quarantine ORDER BY id"
    )


ERRORS = [
    pytest.param(KeyError, id="a defect of ours"),
    pytest.param(RecursionError, id="nested too deeply"),
    pytest.param(sqlite3.IntegrityError, id="what the store's rules refuse"),
    pytest.param(sqlite3.DataError, id="too large for the store"),
    pytest.param(OverflowError, id="a number beyond 64 bits"),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_the_bad_record_is_set_aside_and_all_others_are_taken_once(
    machine: Machine, plant: Plant, error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    plant(error)
    first = await machine.send(*users(0, 7))
    bad = await machine.send(*users(7, 12), ("a", "bad", 1, POISON), *users(12, 20))
    tracker = machine.start()
    await machine.taken(bad)
    await machine.taken(await machine.send(*users(20, 30)))
    assert (tracker.failing, tracker.set_aside) == (None, 1)
    await machine.stop()
    machine.once(30)
    assert letters(machine) == [(bad, 5, "logs", START, error.__name__, 0)]
    assert machine.quarantined == [("set_aside", 1)]
    said = capsys.readouterr()
    assert "dead-letters list" in said.out + said.err
    told = machine.world.rows("SELECT error, source FROM quarantine")
    assert "somebody" not in said.out + said.err + str(told)
    assert first < bad


async def test_what_comes_behind_it_is_taken_in_one_piece_again(
    machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant()
    tracker = machine.start()
    await machine.taken(await machine.send(*users(0, 3), ("a", "bad", 1, POISON)))
    await until(lambda: tracker.failing is None)
    pieces = []
    monkeypatch.setattr(SqliteStore, "mark", lambda store: pieces.append(store))
    await machine.taken(await machine.send(*users(3, 9)))
    await machine.stop()
    machine.once(9)
    assert pieces == []


@pytest.mark.parametrize("good", [set(), {0}, {150}, {40, 41, 90, 199}])
async def test_many_bad_records_in_a_row_are_tried_little_more_than_once_each(
    machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch, good: set[int]
) -> None:
    plant()
    tried: list[object] = []
    await machine.send(*users(1000, 1001))
    last = await machine.send(*[("a", f"u{n}", 1, {} if n in good else POISON) for n in range(200)])
    tracker = machine.made()
    rows = machine.log.read(0)
    mark = SqliteStore.mark

    def counted(store: SqliteStore) -> None:
        tried.append(store)
        mark(store)

    monkeypatch.setattr(SqliteStore, "mark", counted)
    machine.world.store.begin()
    letters = tracker._isolation.take(rows, START).letters
    machine.world.store.commit()
    assert [(one.position, one.place) for one in letters] == [(last, n) for n in range(200) if n not in good]
    machine.once(1 + len(good))
    assert len(tried) < 1.3 * 200 + 40 * len(good)


async def test_it_is_kept_as_it_was_read_from_the_log(machine: Machine, plant: Plant) -> None:
    plant()
    bad = await machine.send(*users(0, 3), ("a", "bad", 1, POISON), ("b", "bad", 2, {}))
    row = machine.log.read(bad - 1)[0]
    events = extract("logs", row.payload, row.ids, row.arrival, RULES).events
    machine.start()
    await machine.taken(bad)
    await machine.stop()
    (id_,) = machine.world.store.quarantine.ids()
    letter = machine.world.store.quarantine.get(id_)
    assert letter is not None
    (event,) = extract(letter.signal, letter.payload, letter.ids, letter.arrival, RULES).events
    assert event.facts() == events[3].facts()
    assert event.id is not None
    assert event.subject == token("bad")


async def test_a_row_that_is_no_request_is_set_aside_whole(machine: Machine) -> None:
    broken = await machine.log.append(Entry("logs", START, b"\x0a\xff", b"", 1))
    machine.start()
    await machine.taken(await machine.send(*users(0, 3)))
    await machine.stop()
    machine.once(3)
    assert letters(machine) == [(broken, 0, "logs", START, "Malformed", 0)]


async def test_a_view_that_was_read_wrongly_is_no_bad_record(machine: Machine) -> None:
    class Lying(Extract):
        @property
        def names(self) -> dict[Any, int]:  # type: ignore[override]
            raise KeyError("view")

        @names.setter
        def names(self, _value: object) -> None: ...

    payload, ids = request(users(0, 2))
    machine.start()
    await machine.taken(await machine.log.append(Entry("logs", START, payload, ids, 2, Lying())))
    await machine.stop()
    machine.once(2)
    assert letters(machine) == []


async def test_records_that_fail_together_only_are_all_taken(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Follower.take

    def take(self: Follower, extracts: list[tuple[int, Extract]], now: int) -> Missing:
        missing = sound(self, extracts, now)
        if sum(len(found.events) for _, found in extracts) > 5:
            raise ValueError
        return missing

    monkeypatch.setattr(Follower, "take", take)
    last = await machine.send(*users(0, 40))
    machine.start()
    await machine.taken(last)
    await machine.stop()
    machine.once(40)
    assert letters(machine) == []


ENVIRONMENT = [
    pytest.param(sqlite3.OperationalError, id="locked, full, an I/O error"),
    pytest.param(sqlite3.DatabaseError, id="corrupt"),
    pytest.param(OSError, id="the disk"),
    pytest.param(MemoryError, id="no memory"),
]


@pytest.mark.parametrize("error", ENVIRONMENT)
async def test_errors_of_the_machine_blame_no_record(
    machine: Machine, plant: Plant, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(error)
    tracker = machine.start()
    monkeypatch.setattr(tracker._stop, "wait", lambda seconds: machine.tracker is None)
    last = await machine.send(*users(0, 5), ("a", "bad", 1, POISON))
    await machine.send(*users(5, 9))
    tries = 0
    undo = Follower.undo

    def counted(self: Follower) -> None:
        nonlocal tries
        tries += 1
        undo(self)

    monkeypatch.setattr(Follower, "undo", counted)
    await until(lambda: tries > 12)
    assert tracker.failing is not None
    assert tracker.position < last
    assert tracker.set_aside == 0
    plant.mend()  # type: ignore[attr-defined]
    await machine.taken(last + 1)
    await until(lambda: tracker.failing is None)
    monkeypatch.undo()
    await machine.stop()
    machine.once(10)
    assert letters(machine) == []


async def test_a_machine_that_fails_while_the_record_is_looked_for_blames_none(
    machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant()
    add = Quarantine.add
    full = iter([True, True, False])

    def failing(self: Quarantine, found: list[DeadLetter]) -> int:
        gone = add(self, found)
        if next(full, False):
            raise sqlite3.OperationalError("database or disk is full")
        return gone

    monkeypatch.setattr(Quarantine, "add", failing)
    last = await machine.send(*users(0, 5), ("a", "bad", 1, POISON))
    machine.start()
    await machine.taken(last)
    await machine.stop()
    machine.once(5)
    assert len(letters(machine)) == 1


MISSING = ("a", None, 5, {})


class TestMatchesWithoutAUser:
    """They are counted once, when they are committed."""

    async def test_a_commit_that_fails_counts_none(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = SqliteStore.commit
        full = iter([True, True])

        def failing(store: SqliteStore) -> None:
            if store.cursor(CONSUMER, machine.log.log_id) and next(full, False):
                raise sqlite3.OperationalError("database or disk is full")
            commit(store)

        monkeypatch.setattr(SqliteStore, "commit", failing)
        last = await machine.send(*users(0, 5), MISSING, MISSING)
        machine.start()
        await machine.taken(last)
        await machine.stop()
        assert next(full, None) is None
        assert machine.missing == [("subject", "a", 2)]

    async def test_pieces_that_are_taken_before_the_machine_fails_count_none(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant()
        add = Quarantine.add
        full = iter([True, True])

        def failing(self: Quarantine, found: list[DeadLetter]) -> int:
            if next(full, False):
                raise sqlite3.OperationalError("database or disk is full")
            return add(self, found)

        monkeypatch.setattr(Quarantine, "add", failing)
        last = await machine.send(MISSING, *users(0, 5), ("a", "bad", 1, POISON), ("a", None, 5, POISON))
        machine.start()
        await machine.taken(last)
        await machine.stop()
        assert next(full, None) is None
        assert machine.missing == [("subject", "a", 1)]

    async def test_a_retry_counts_those_that_it_has_followed(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant()
        last = await machine.send(*users(0, 5), ("a", None, 5, POISON))
        machine.start()
        await machine.taken(last)
        await machine.stop()
        (id_,) = machine.world.store.quarantine.ids()
        plant.mend()  # type: ignore[attr-defined]
        commit = SqliteStore.commit
        full = iter([True, True])

        def failing(store: SqliteStore) -> None:
            if not store.quarantine.count() and next(full, False):
                raise sqlite3.OperationalError("database or disk is full")
            commit(store)

        monkeypatch.setattr(SqliteStore, "commit", failing)
        machine.world.store.tasks.ask("retry", {"ids": [id_]}, START)
        tracker = machine.start()
        await until(lambda: tracker.set_aside == 0)
        await machine.stop()
        assert next(full, None) is None
        assert machine.missing == [("subject", "a", 1)]


async def test_stopping_does_not_wait_until_all_bad_records_are_found(
    machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant()
    last = await machine.send(*[("a", f"bad{n}", 1, POISON) for n in range(200)], *users(0, 3))
    tracker = machine.start()
    looked = asyncio.Event()
    loop_ = asyncio.get_running_loop()
    undo = Follower.untake

    def slow(self: Follower) -> None:
        undo(self)
        loop_.call_soon_threadsafe(looked.set)
        tracker._stop.wait()

    monkeypatch.setattr(Follower, "untake", slow)
    await looked.wait()
    await machine.stop(0)
    assert tracker.position < last
    assert letters(machine) == []
    monkeypatch.undo()
    plant()
    machine.start()
    await machine.taken(last)
    await machine.stop()
    machine.once(3)
    assert len(letters(machine)) == 200


class TestADefectThatHitsEverything:
    async def test_sets_nothing_aside_and_says_so(self, machine: Machine, plant: Plant) -> None:
        plant(attribute=b"user.id")
        for n in range(40):
            last = await machine.send(*users(3 * n, 3 * n + 3))
        tracker = machine.start()
        await until(lambda: tracker.failing is not None and "defect of otel_ttf" in tracker.failing)
        assert tracker.failing is not None
        assert "KeyError at " in tracker.failing
        assert tracker.position == 0
        plant.mend()  # type: ignore[attr-defined]
        await machine.taken(last)
        await machine.stop()
        machine.once(120)
        assert letters(machine) == []

    async def test_requests_without_events_do_not_speak_for_the_others(
        self, machine: Machine, plant: Plant
    ) -> None:
        plant(attribute=b"user.id")
        for n in range(20):
            await machine.send(*users(n, n + 1))
            await machine.send(*[("", None, 1, {})] * 5)
        for _ in range(80):
            await machine.send(("", None, 1, {}))
        tracker = machine.start()
        await until(lambda: tracker.failing is not None and "defect of otel_ttf" in tracker.failing)
        assert letters(machine) == []

    async def test_one_request_after_the_other_ends_when_none_passes(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant(attribute=b"user.id")
        tracker = machine.start()
        monkeypatch.setattr(tracker._stop, "wait", lambda seconds: machine.tracker is None)
        for n in range(CREDIT):
            await machine.taken(await machine.send(*users(n, n + 1)))
        stopped = await machine.send(*users(CREDIT, CREDIT + 1))
        await until(lambda: tracker.failing is not None and "defect of otel_ttf" in tracker.failing)
        assert tracker.position == stopped - 1
        # Somebody else's event shows that it is not everybody.
        plant(attribute=b"poison")
        await machine.taken(stopped)
        plant(attribute=b"user.id")
        await machine.taken(await machine.send(*users(99, 100)))
        assert tracker.set_aside == CREDIT + 1
        monkeypatch.undo()

    async def test_a_flood_of_one_sender_is_set_aside_when_those_behind_it_pass(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loop, "BATCH_ROWS", 30)
        plant()
        for n in range(70):
            await machine.send(("a", f"bad{n}", 1, POISON), ("b", f"bad{n}", 2, POISON))
        for n in range(40):
            last = await machine.send(*users(n, n + 1))
        machine.start()
        await machine.taken(last)
        await machine.stop()
        machine.once(40)
        assert len(letters(machine)) == 140

    @pytest.mark.parametrize("others", ["another service", "another user of the same service"])
    async def test_one_sender_with_more_requests_than_all_others_stops_nobody(
        self, machine: Machine, plant: Plant, others: str
    ) -> None:
        plant()
        for n in range(15):
            await self.from_service(machine, "phone", ("a", "bad", n, POISON))
        for n in range(10):
            service = "web" if others == "another service" else "phone"
            last = await self.from_service(machine, service, ("a", f"u{n}", n, {}))
        machine.start()
        await machine.taken(last)
        await machine.stop()
        machine.once(10)
        assert len(letters(machine)) == 15

    async def test_a_defect_that_hits_most_of_every_sender_stops(
        self, machine: Machine, plant: Plant
    ) -> None:
        plant()
        for n in range(30):
            attributes = POISON if n % 3 else {}
            await self.from_service(machine, f"service {n % 2}", ("a", f"u{n}", n, attributes))
        tracker = machine.start()
        await until(lambda: tracker.failing is not None and "defect of otel_ttf" in tracker.failing)
        assert letters(machine) == []

    async def from_service(self, machine: Machine, service: str, *specs: Spec) -> int:
        payload, ids = request(specs)
        message = ExportLogsServiceRequest.FromString(payload)
        message.resource_logs[0].resource.attributes.add(key="service.name").value.string_value = service
        entry = Entry("logs", machine.clock.later(), message.SerializeToString(), ids, len(specs))
        return await machine.log.append(entry)


class TestRoom:
    """Parts of a request hold its resource, each for itself: together they are bounded, and nothing of it is lost."""

    COPIES = MIB
    RESOURCE = 64 * KIB

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
        monkeypatch.setattr(isolate, "COPIES", self.COPIES)
        plant()

    async def send(self, machine: Machine, *resources: tuple[int, list[Spec]]) -> int:
        """A request of resources of these sizes with these events."""
        whole = ExportLogsServiceRequest()
        payload, ids = request([spec for _, specs in resources for spec in specs])
        records = list(
            ExportLogsServiceRequest.FromString(payload).resource_logs[0].scope_logs[0].log_records
        )
        for size, specs in resources:
            resource = whole.resource_logs.add()
            resource.resource.attributes.add(key="large").value.string_value = "x" * size
            resource.scope_logs.add().log_records.extend(records[: len(specs)])
            del records[: len(specs)]
        entry = Entry(
            "logs", START, whole.SerializeToString(), ids, sum(len(specs) for _, specs in resources)
        )
        return await machine.log.append(entry)

    def poison(self, count: int, name: str = "bad") -> list[Spec]:
        return [("a", f"{name}{n}", 1, POISON) for n in range(count)]

    def aside(self, machine: Machine) -> list[tuple[int, int]]:
        """(first record in its row, records) of all letters."""
        letters = [machine.world.store.quarantine.get(id_) for id_ in machine.world.store.quarantine.ids()]
        return [
            (letter.place, len(extract(letter.signal, letter.payload, letter.ids, START, RULES).events))
            for letter in letters
            if letter is not None
        ]

    async def test_a_small_request_takes_little_memory_and_disk(self, machine: Machine) -> None:
        await machine.send(*users(0, 3))
        await self.send(machine, (self.RESOURCE, self.poison(300)))
        rows, store = machine.log.read(0), machine.world.store
        room = sum(len(row.payload) + len(row.ids) for row in rows) + self.COPIES
        tracker = machine.made()
        store.begin()
        tracemalloc.start()
        try:
            _, displaced = tracker._take_parts(rows, START)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        store.commit()
        assert displaced == 0
        (held,) = machine.world.rows("SELECT sum(length(payload) + length(ids)) FROM quarantine")[0]
        assert held <= room
        assert sum(file.stat().st_size for file in machine.folder.glob("store.db*")) < 2 * room + MIB
        assert peak < 3 * room + 2 * MIB  # all copies take 19 MiB
        machine.once(3)
        # Nothing of it is lost: what has no room alone is set aside together.
        aside = self.aside(machine)
        assert [first for first, _ in aside] == [sum(n for _, n in aside[:k]) for k in range(len(aside))]
        assert sum(records for _, records in aside) == 300
        assert [records for _, records in aside[:4]] == [1, 1, 1, 1]

    async def test_what_was_set_aside_together_is_followed_once_by_a_retry(
        self, machine: Machine, plant: Plant
    ) -> None:
        last = await self.send(machine, (self.RESOURCE, [*self.poison(40), *users(0, 5)]))
        machine.start()
        await machine.taken(await machine.send(*users(5, 6)))
        await machine.stop()
        ids = machine.world.store.quarantine.ids()
        assert 1 < len(ids) < 40
        plant.mend()  # type: ignore[attr-defined]
        machine.world.store.tasks.ask("retry", {"ids": ids}, START)
        tracker = machine.start()
        await until(lambda: tracker.set_aside == 0)
        await machine.stop()
        machine.once(46)
        assert last < tracker.position

    async def test_a_retry_parts_them_where_there_is_room_by_then(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        last = await self.send(machine, (self.RESOURCE, [*self.poison(40), *users(0, 5)]))
        tracker = machine.start()
        await machine.taken(await machine.send(*users(5, 6)))
        together = sum(records for _, records in self.aside(machine))
        assert tracker.set_aside == together > 40
        assert machine.quarantined == [("set_aside", together)]
        await machine.stop()
        ids = machine.world.store.quarantine.ids()
        monkeypatch.setattr(tasks, "CUTS", 3)
        number = machine.world.store.tasks.ask("retry", {"ids": ids[-1:]}, START)
        machine.start()
        await until(lambda: machine.world.store.tasks.answered(number) is not None)
        await machine.stop()
        # Not all of it at once: the tracker follows nothing meanwhile.
        assert len(ids) < len(machine.world.store.quarantine.ids()) < 40
        monkeypatch.undo()
        plant()
        ids = machine.world.store.quarantine.ids()
        number = machine.world.store.tasks.ask("retry", {"ids": ids}, START)
        tracker = machine.start()
        await until(lambda: machine.world.store.tasks.answered(number) is not None)
        await machine.stop()
        assert self.aside(machine) == [(place, 1) for place in range(40)]
        assert {letter[0] for letter in letters(machine)} == {last}
        assert tracker.set_aside == 40
        assert sum(records for action, records in machine.quarantined if action == "retried") == together - 40
        answer = machine.world.store.tasks.answered(number)
        assert answer["done"] == []
        assert "parted: " in str(answer["failed"])
        machine.once(6)

    async def test_a_retry_takes_no_room_of_others(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.send(machine, (self.RESOURCE, self.poison(40)))
        machine.start()
        await machine.taken(await machine.send(*users(5, 6)))
        await machine.stop()
        store = machine.world.store
        before = self.aside(machine)
        monkeypatch.setattr(tasks, "MAX_BYTES", store.quarantine.held())
        number = store.tasks.ask("retry", {"ids": store.quarantine.ids()}, START)
        machine.start()
        await until(lambda: store.tasks.answered(number) is not None)
        await machine.stop()
        assert self.aside(machine) == before
        assert {letter[-1] for letter in letters(machine)} == {1}

    async def test_one_bad_record_below_a_large_resource_is_found(self, machine: Machine) -> None:
        specs = [*users(0, 77), *self.poison(1), *users(77, 200)]
        await self.send(machine, (self.RESOURCE // 2, specs))
        machine.start()
        await machine.taken(await machine.send(*users(200, 201)))
        await machine.stop()
        machine.once(201)
        assert self.aside(machine) == [(77, 1)]

    async def test_other_resources_of_the_request_are_followed(self, machine: Machine) -> None:
        await self.send(
            machine,
            (10, users(0, 20)),
            (2 * self.COPIES, [*self.poison(3), *users(100, 105)]),
            (10, users(20, 40)),
        )
        machine.start()
        await machine.taken(await machine.send(*users(40, 41)))
        await machine.stop()
        machine.once(41)
        assert self.aside(machine) == [(20, 8)]

    async def test_behind_much_that_was_set_aside_rows_come_in_another_transaction(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(4):
            await self.send(machine, (self.RESOURCE, self.poison(30, f"bad{n} ")))
        last = await machine.send(*users(0, 3))
        tracker = machine.made()
        machine.log.register(CONSUMER, 0, required=True)
        tracker._failures = TRIES
        tracker._follow(machine.log.read(0))
        assert {position for position, *_ in letters(machine)} == {1}
        assert sum(records for _, records in self.aside(machine)) == 30
        assert tracker.position == machine.world.store.cursor(CONSUMER, machine.log.log_id) == 1
        assert tracker._failures == TRIES
        await machine.restart()  # kill -9
        machine.start()
        await machine.taken(last)
        await machine.stop()
        machine.once(3)
        assert {position for position, *_ in letters(machine)} == {1, 2, 3, 4}
        assert sum(records for _, records in self.aside(machine)) == 120


class TestBounds:
    def letter(self, arrival: int, size: int) -> DeadLetter:
        return DeadLetter(None, "log", 1, 0, "logs", arrival, bytes(size), b"", "E", "x.py:1", 0, START)

    def test_beyond_its_size_the_oldest_go(self, machine: Machine) -> None:
        quarantine = machine.world.store.quarantine
        quarantine.add([self.letter(n, 100) for n in range(10)])
        assert quarantine.displace(1000) == 0
        quarantine.add([self.letter(10, 250)])
        assert quarantine.displace(1000) == 3
        assert [letter.arrival for letter in quarantine.all(100)] == list(range(3, 11))

    def test_what_comes_at_once_takes_no_more_than_its_share(self, machine: Machine) -> None:
        quarantine = machine.world.store.quarantine
        assert quarantine.add([self.letter(n, 100) for n in range(3)], 500) == 0
        assert quarantine.add([self.letter(n, size) for n, size in ((3, 200), (4, 501), (5, 400))], 500) == 2
        assert [letter.arrival for letter in quarantine.all(100)] == [0, 1, 2, 5]

    async def test_it_is_counted_and_said(
        self,
        machine: Machine,
        plant: Plant,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        plant()
        monkeypatch.setattr(Quarantine.displace, "__defaults__", (300,))
        last = await machine.send(*[("a", f"bad{n}", 1, POISON) for n in range(6)], *users(0, 2))
        tracker = machine.start()
        await machine.taken(last)
        await machine.stop()
        kept = len(letters(machine))
        assert 0 < kept < 6
        assert dict(machine.quarantined) == {"set_aside": 6, "displaced": 6 - kept}
        assert tracker.set_aside == kept
        said = capsys.readouterr()
        assert "quarantine is full" in said.out + said.err

    async def test_what_is_older_than_events_are_kept_goes(self, machine: Machine) -> None:
        store = machine.world.store
        store.begin()
        store.quarantine.add([self.letter(START - 31 * DAY, 10), self.letter(START - 29 * DAY, 10)])
        store.commit()
        tracker = machine.start()
        await until(lambda: tracker.set_aside == 1)
        await machine.stop()
        assert machine.quarantined == [("expired", 1)]


class TestTasks:
    async def _one(self, machine: Machine, plant: Plant) -> int:
        """A record that was set aside; its id. The tracker does not run."""
        plant()
        last = await machine.send(*users(0, 3), ("a", "bad", 1, POISON))
        machine.start()
        await machine.taken(last)
        await machine.stop()
        (id_,) = machine.world.store.quarantine.ids()
        return id_

    async def _asked(self, machine: Machine, kind: str, **what: Any) -> Any:
        """Asks through a connection of its own, as the command line does, and waits for the answer."""
        store = SqliteStore(machine.world.path)
        try:
            number = store.tasks.ask(kind, what, START)  # type: ignore[arg-type]
            if machine.tracker is None:
                machine.start()
            await until(lambda: store.tasks.answered(number) is not None)
            return store.tasks.answered(number)
        finally:
            store.close()

    async def test_a_retry_counts_once_with_its_own_arrival_and_id(
        self, machine: Machine, plant: Plant
    ) -> None:
        id_ = await self._one(machine, plant)
        plant.mend()  # type: ignore[attr-defined]
        machine.manual.advance(DAY)
        answer = await self._asked(machine, "retry", ids=[id_])
        assert answer == {"done": [id_], "unknown": [], "failed": {}}
        assert await self._asked(machine, "retry", ids=[id_]) == {"done": [], "unknown": [id_], "failed": {}}
        await machine.stop()
        machine.once(4)
        assert machine.quarantined == [("set_aside", 1), ("retried", 1)]
        assert machine.world.rows("SELECT DISTINCT arrival FROM event") == [(START,)]
        assert machine.world.rows("SELECT count(*), count(DISTINCT event_id) FROM event") == [(4, 4)]

    async def test_one_that_fails_again_stays(self, machine: Machine, plant: Plant) -> None:
        id_ = await self._one(machine, plant)
        plant(ValueError)
        answer = await self._asked(machine, "retry", ids=[id_])
        assert answer["done"] == []
        assert answer["failed"][str(id_)].startswith("ValueError at ")
        await machine.stop()
        machine.once(3)
        assert [letter[4:] for letter in letters(machine)] == [("ValueError", 1)]

    async def test_a_crash_before_the_commit_repeats_it_whole(self, machine: Machine, plant: Plant) -> None:
        id_ = await self._one(machine, plant)
        plant.mend()  # type: ignore[attr-defined]
        store = machine.world.store
        number = store.tasks.ask("retry", {"ids": [id_]}, START)
        tracker = machine.made()
        store.begin()
        task = store.tasks.next()
        assert task is not None
        tracker._errands.do(task, START)
        store.rollback()  # what kill -9 leaves
        await machine.restart()
        machine.start()
        await until(lambda: machine.world.store.tasks.next() is None)
        await machine.stop()
        assert machine.world.store.tasks.answered(number)["done"] == [id_]
        machine.once(4)

    async def test_a_machine_that_fails_leaves_it_to_be_done(
        self, machine: Machine, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id_ = await self._one(machine, plant)
        plant(sqlite3.OperationalError)
        tracker = machine.start()
        store = SqliteStore(machine.world.path)
        number = store.tasks.ask("retry", {"ids": [id_]}, START)
        await until(lambda: tracker.failing is not None)
        assert store.tasks.answered(number) is None
        plant.mend()  # type: ignore[attr-defined]
        await until(lambda: store.tasks.answered(number) is not None)
        assert store.tasks.answered(number)["done"] == [id_]
        store.close()

    async def test_dropped_is_gone(self, machine: Machine, plant: Plant) -> None:
        id_ = await self._one(machine, plant)
        answer = await self._asked(machine, "drop", ids=[id_, 99])
        assert answer == {"done": [id_], "unknown": [99], "failed": {}}
        await machine.stop()
        machine.once(3)
        assert letters(machine) == []
        assert machine.quarantined == [("set_aside", 1), ("dropped", 1)]

    async def test_answers_are_forgotten_after_a_day(self, machine: Machine) -> None:
        await self._asked(machine, "drop", ids=[1])
        await machine.stop()
        machine.manual.advance(2 * DAY + MINUTE)
        machine.steady.now += 2 * DAY
        machine.start()
        await until(lambda: not machine.world.rows("SELECT 1 FROM task"))
