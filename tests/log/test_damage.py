"""A damaged log.db: every row outside of what was damaged is there, once, in order, and what is lost is named."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from harm import DAMAGES, Place, Recording, harmed_places
from log_contract import START, entry, until
from sqlite_logs import KIB, noise
from structlog.testing import capture_logs

from otel_ttf.clock import ManualClock
from otel_ttf.log.base import Entry, LogError, LogRefused, Row
from otel_ttf.log.rescue import Known, note, told
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.log.sqlite_file import PAGE_SIZE

ROWS = 300


def places_of_rows(path: Path) -> dict[int, list[set[Place]]]:
    """position -> the pages of each image of it."""
    found = defaultdict(list)
    file = Recording(path, page_size=PAGE_SIZE)
    for number, image in file.images():
        own = {file.places.copy().pop()} if len(file.places) == 1 else set(file.places)
        file.places.clear()
        for position, values in file.rows(number, image):
            if position is not None and len(values) == 11:
                found[position].append(own | file.places)
            file.places.clear()
    file.close()
    return found


class Made:
    """A log that was killed, and one that was closed; with what was appended."""

    def __init__(self, folder: Path) -> None:
        self.killed, self.closed = folder / "killed", folder / "closed"
        self.rows: list[Entry] = []
        self.log_id = ""

    async def make(self, folder: Path) -> Made:
        log = open_log(folder / "log.db")
        self.log_id = log.log_id
        log.register("tracker", 0, required=True)
        rng = random.Random(1)
        for number in range(ROWS):
            if number == ROWS * 2 // 3:  # the rest stays in the write-ahead log of the killed one
                await until(lambda: log._upkeep._wal == 0 and log._upkeep._unchecked == 0)
                log._upkeep.tend = lambda **_: None
            one = entry(rng.randbytes(rng.choice((10, 300, 3000, 60 * KIB))), arrival=START + number)
            self.rows.append(one)
            await log.append(one)
        shutil.copytree(folder, self.killed)
        del log._upkeep.tend
        await log.close()
        shutil.copytree(folder, self.closed)
        return self


def open_log(path: Path, known: Known | None = None) -> SqliteLog:
    return SqliteLog.open(
        path, LogConfig(), ManualClock(START), free_space=lambda: 100 << 30, known=known or Known()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    (folder / "data").mkdir()
    return asyncio.run(Made(folder).make(folder / "data"))


async def read_all(log: SqliteLog) -> list[Row]:
    """All rows, as a consumer reads them: what is found while reading is mended beside it."""
    found: list[Row] = []

    async def read() -> bool:
        try:
            while rows := log.read(found[-1].position if found else 0):
                found.extend(rows)
        except LogError:
            return False
        return True

    for _ in range(200):
        if await read():
            return found
        await until(lambda: log._damage is None or log.refusing() is not None)
    raise AssertionError("never whole again")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("state", "file"), [("closed", "db"), ("killed", "db"), ("killed", "wal")])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_is_outside_of_the_damage_is_rescued(made, tmp_path, damage, state, file, seed):
    data = tmp_path / "data"
    shutil.copytree(getattr(made, state), data)
    path = data / "log.db"
    places = places_of_rows(path)
    harmed = path.with_name("log.db-wal") if file == "wal" else path
    content = bytearray(harmed.read_bytes())
    before = bytes(content)
    spans = DAMAGES[damage](random.Random(f"{damage} {state} {file} {seed}"), content, PAGE_SIZE)
    harmed.write_bytes(content)
    bad = harmed_places(file, spans, PAGE_SIZE)

    log = open_log(path, Known(made.log_id, {"tracker": 0}))
    try:
        rows = [row for row in await read_all(log) if row.records]
        positions = [row.position for row in rows]
        assert positions == sorted(set(positions))
        for row in rows:
            sent = made.rows[row.position - 1]
            assert (row.payload, row.ids, row.arrival) == (sent.payload, sent.ids, sent.arrival)
        whole = {at for at, images in places.items() if any(not image & bad for image in images)}
        assert whole - set(positions) - ({ROWS} if file == "wal" else set()) == set(), "whole and not rescued"
        lost = set(range(1, ROWS + 1)) - set(positions)
        named = {at for one in log.lost() for at in range(one.first, (one.last or ROWS) + 1)}
        if file == "db" or "bit" in damage:
            assert lost - {ROWS} <= named, "the last one may have been on its way to the disk"
        # Goes on: at a position that nobody has seen.
        assert await log.append(entry(b"next")) > max(positions, default=0)
        assert log.log_id == made.log_id or "bit" in damage
    finally:
        await log.close()
    if log.lost():
        kept = [
            one
            for one in data.glob("log.db.damaged-*")
            if one.name.endswith("Z" if file == "db" else "Z-wal")
        ]
        assert [one.read_bytes() for one in kept] == [bytes(content)]
    assert before != bytes(content)


@pytest.mark.parametrize("step", range(7))
async def test_a_kill_in_the_middle_of_a_rescue_is_gone_on_from(made, tmp_path, monkeypatch, step):
    shutil.copytree(made.killed, tmp_path / "data")
    path = tmp_path / "data" / "log.db"
    with path.open("r+b") as file:
        file.write(b"garbage" * 10)
    calls = iter(range(100))

    def killed(name: str) -> Callable[..., object]:
        original = getattr(Path, name)

        def call(*arguments: object, **named: object) -> object:
            if next(calls) == step:
                raise KeyboardInterrupt
            return original(*arguments, **named)

        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "unlink"):
            patched.setattr(Path, name, killed(name))
        try:
            log = open_log(path, Known(made.log_id, {"tracker": 0}))
        except KeyboardInterrupt:
            pass
        else:
            await log.close()
    log = open_log(path, Known(made.log_id, {"tracker": 0}))
    rows = [row for row in await read_all(log) if row.records]
    await log.close()
    assert [row.payload for row in rows] == [one.payload for one in made.rows]
    assert len(list(path.parent.glob("log.db.damaged-*Z"))) == 1
    assert not list(path.parent.glob("log.db.new*"))


def deleted(path: Path) -> None:
    for file in path.parent.glob("log.db*"):
        file.unlink()


def replaced(path: Path) -> None:
    deleted(path)
    path.write_bytes(b"another file")


@pytest.mark.parametrize(
    "harm",
    [deleted, replaced, lambda path: path.with_name("log.db-wal").unlink(), Path.unlink],
    ids=["deleted", "replaced", "only the write-ahead log deleted", "all but the write-ahead log deleted"],
)
async def test_a_file_that_is_taken_away_while_it_is_open_is_written_again_with_every_row(tmp_path, harm):
    log = open_log(tmp_path / "log.db")
    log.register("tracker", 0, required=True)
    sent = [entry(noise(size)) for size in (10, 3000, 50 * KIB) * 5]
    for one in sent[:10]:
        await log.append(one)
    harm(tmp_path / "log.db")
    taken = 10
    for one in sent[10:]:
        try:
            await log.append(one)
            taken += 1
        except LogRefused:
            break
    with capture_logs() as said:
        await until(lambda: not log._file.moved() and log.refusing() is None)
    await log.append(entry(b"after"))
    await log.close()
    assert any("was deleted or replaced" in each["event"] for each in said)
    for rest in tmp_path.glob("log.db.found-*-wal"):
        assert rest.with_name(rest.name.removesuffix("-wal")).exists(), "without its file it is of no use"
    log = open_log(tmp_path / "log.db")
    rows = log.read(0)
    await log.close()
    assert [row.payload for row in rows] == [one.payload for one in sent[:taken]] + [b"after"]
    assert log.lost() == []


async def test_a_log_that_is_gone_goes_on_behind_what_the_store_has_read(tmp_path):
    log = open_log(tmp_path / "log.db", Known("a" * 32, {"tracker": 100}))
    (lost,) = log.lost()
    assert told(lost) == "all from position 101 on, nobody knows how many"
    assert "nothing counts twice" in note(lost)
    assert (log.log_id, log.end(), log.register("tracker", 100, required=True)) == ("a" * 32, 100, 100)
    assert await log.append(entry()) == 101
    await log.close()


async def test_a_row_whose_bytes_have_changed_is_given_to_nobody(logs):
    log = await logs.open()
    for text in (b"one", b"two", b"three"):
        await log.append(entry(text))
    log.register("tracker", 0, required=True)
    await log.close()
    logs.sql("UPDATE entry SET payload = x'00' WHERE position = 2")
    log = await logs.open()
    rows = await read_all(log)
    assert [(row.position, row.payload) for row in rows] == [(1, b"one"), (3, b"three")]
    assert [told(one) for one in log.lost()] == ["position 2 (1 records)"]


async def test_a_rescue_that_cannot_be_written_leaves_everything_and_says_what_to_do(made, tmp_path):
    shutil.copytree(made.closed, tmp_path / "data")
    path = tmp_path / "data" / "log.db"
    content = b"garbage" * 10 + path.read_bytes()[70:]
    path.write_bytes(content)
    (tmp_path / "data" / "log.db.draft").mkdir()  # as good as a full disk
    with pytest.raises(LogError, match="make room on that disk"):
        open_log(path, Known(made.log_id, {"tracker": 0}))
    assert path.read_bytes() == content
    (tmp_path / "data" / "log.db.draft").rmdir()
    log = open_log(path, Known(made.log_id, {"tracker": 0}))
    rows = [row for row in await read_all(log) if row.records]
    await log.close()
    assert len(rows) == ROWS


async def test_an_older_copy_of_the_log_gives_no_position_away_twice(tmp_path):
    log = open_log(tmp_path / "log.db")
    for _ in range(3):
        await log.append(entry(b"before"))
    log_id = log.log_id
    await log.close()
    log = open_log(tmp_path / "log.db", Known(log_id, {"tracker": 20}))
    assert (log.log_id, log.end(), log.register("tracker", 20, required=True)) == (log_id, 20, 20)
    assert [told(one) for one in log.lost()] == ["all from position 21 on, nobody knows how many"]
    assert await log.append(entry(b"after")) == 21
    await log.close()
    assert list(tmp_path.glob("log.db.damaged-*"))
    log = open_log(tmp_path / "log.db", Known(log_id, {"tracker": 21}))
    assert (log.end(), len(log.lost())) == (21, 1)
    await log.close()


async def test_what_the_store_knows_of_another_log_counts_nothing_in_a_rescue(tmp_path):
    path = tmp_path / "log.db"
    log = open_log(path)
    log.register("tracker", 0, required=True)
    for number in range(30):
        await log.append(entry(noise(400), arrival=START + number))
    log_id = log.log_id
    await log.close()
    with path.open("r+b") as file:
        file.write(b"XXXX")
    log = open_log(path, Known("a" * 32, {"tracker": 40}))
    rows = [row for row in await read_all(log) if row.records]
    assert (log.log_id, len(rows), log.lost()) == (log_id, 30, [])
    await log.close()
