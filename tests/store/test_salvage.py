"""A salvaged store holds every row outside of what was damaged, once; and what is sent again counts once."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harm import DAMAGES, Recording, harmed_places
from world import START, World, journey, request, same_as_a_scan, token

from otel_ttf.check_data import Directory, checks, said
from otel_ttf.log.sqlite_file import LogFile
from otel_ttf.mending import CannotMend, salvage_store
from otel_ttf.otlp.events import unpack_ids
from otel_ttf.pages import PageFile
from otel_ttf.store.opening import PAGE_SIZE, open_store
from otel_ttf.store.sqlite import tables
from otel_ttf.tracker.recompute import recompute

USERS = 400
TRIP = journey()
Places = set[tuple[str, int]]


def events() -> list[tuple[str, str | None, float, dict[str, str]]]:
    rng = random.Random(3)
    found: list[Any] = []
    for user in range(USERS):
        for number, name in enumerate("abc"[: rng.randrange(4)]):
            minute = user / 10 + number * rng.uniform(1, 20)
            found.append(
                (name, f"user-{user}", minute, {"plan": rng.choice(("free", "pro")), "text": "x" * 200})
            )
    return found


SENT = events()


def fill(world: World) -> None:
    for start in range(0, len(SENT), 40):
        world.send(*SENT[start : start + 40])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """killed: with a write-ahead log; closed: without."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "data").mkdir()
    world = World(folder / "data", TRIP)
    fill(world)
    world.store.db.execute("PRAGMA wal_checkpoint")
    for start in range(0, 100, 10):
        world.send(*[("a", f"late-{user}", 100.0 + user, {}) for user in range(start, start + 10)])
    shutil.copytree(folder / "data", folder / "killed")
    world.close()
    shutil.copytree(folder / "data", folder / "closed")
    return folder


def rows(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return {name: set(db.execute(f"SELECT * FROM {name}")) for name in tables()}


def places_of_rows(path: Path) -> Iterator[tuple[str, int | None, list[Any], Places]]:
    """Table, rowid, columns, and the pages that they were read from."""
    file = Recording(path, page_size=PAGE_SIZE)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    owners, _ = file.owners(roots)
    for number, name in owners.items():
        file.places.clear()
        image = file.page(number)
        own = set(file.places)
        file.places.clear()
        for rowid, values in file.rows(number, image):
            yield name, rowid, values, own | file.places
            file.places.clear()
    file.close()


def behind(wal: bytes, first: int) -> Places:
    """Pages of a write-ahead log from the transaction on of which one was harmed; salvage takes what it can."""
    frame, start, found = PAGE_SIZE + 24, 32, set()
    for at in range(32, len(wal), frame):
        if at + 24 >= first:
            found.update(("wal", place + 24) for place in range(start, len(wal), frame))
            break
        if int.from_bytes(wal[at + 4 : at + 8]):  # a commit
            start = at + frame
    return found


def salvaged(folder: Path) -> Any:
    return salvage_store(folder / "store.db", folder / "log.db", [TRIP], START, lambda _, __: None)


def wrong(folder: Path) -> list[str]:
    """What `otel-ttf check-data` finds in the store."""
    directory = Directory(folder, folder / "store.db", [TRIP])
    return [
        sentence
        for what, check in checks(directory)
        if what.startswith("store.db")
        for sentence in said(check, lambda done, total: None)
    ]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("state", "file"), [("closed", "db"), ("killed", "db"), ("killed", "wal")])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_outside_of_the_damage_is_there_and_what_is_sent_again_counts_once(
    made, tmp_path, damage, state, file, seed
):
    data = tmp_path / "data"
    shutil.copytree(made / state, data)
    before = rows(data / "store.db") if state == "closed" else rows(made / "closed" / "store.db")
    harmed = data / ("store.db-wal" if file == "wal" else "store.db")
    held = list(places_of_rows(data / "store.db"))
    content = bytearray(harmed.read_bytes())
    before_harm = bytes(content)
    spans = DAMAGES[damage](random.Random(f"{damage} {state} {file} {seed}"), content, PAGE_SIZE)
    harmed.write_bytes(content)
    bad = harmed_places(file, spans, PAGE_SIZE)
    if file == "wal":
        bad = behind(before_harm, min(at for _, at in bad))

    report = salvaged(data)
    assert report.mended.kept is not None
    after = rows(data / "store.db")
    for name in ("journey", "transition", "event", "resource", "label", "seen"):
        whole = [
            (rowid, values) for table, rowid, values, places in held if table == name and not places & bad
        ]
        keys = {row[0] for row in after[name]} if name not in ("label", "seen") else set()
        if name in ("label", "seen"):
            assert {tuple(values) for _, values in whole} <= after[name]
        else:
            lost = {rowid for rowid, _ in whole} - keys
            # Without its definition a journey is made again from its transitions, under another number.
            assert not lost or (
                name == "journey" and report.found.harmed & {"definition", "?"} and report.without
            )
    if "bit" not in damage:
        for name in ("transition", "event"):
            assert after[name] <= before[name]

    world = World(data, TRIP)
    world.jobs(100)
    same_as_a_scan(world)
    assert wrong(data) == [], "what is lost is known"
    (left,) = world.rows("SELECT count(*) FROM journey WHERE state > 0")[0]
    fill(world)
    world.send(*[("a", f"late-{user}", 100.0 + user, {}) for user in range(100)])
    same_as_a_scan(world)
    if "bit" not in damage:
        told = world.rows("SELECT count(*), count(DISTINCT id) FROM transition")[0]
        assert told[0] == told[1], "told twice"
        (subjects,) = world.rows("SELECT count(*), count(DISTINCT subject) FROM journey")
        assert subjects[0] == subjects[1] == len(before["journey"])
        started = sum(row[11] > 0 for row in before["journey"])
        # Who is lost altogether counts again where the counter, which knew them, is whole.
        assert started <= world.counter("ttf_started_total") <= started + (started - left)
        assert wrong(data) == []
        expected = {(row[3], row[5]) for row in before["journey"]}
        assert {(row[3], row[5]) for row in world.rows("SELECT * FROM journey")} == expected
    world.close()


def test_a_salvaged_store_is_the_one_that_was_here(made, tmp_path):
    shutil.copytree(made / "closed", tmp_path / "data")
    store, book = tmp_path / "data" / "store.db", tmp_path / "data" / "log.db"
    log = LogFile(book)
    log.close()
    with closing(open_store(store, book, log.log_id, followed=False)) as opened:
        opened.begin()
        opened.save_cursor("tracker", log.log_id, 5)
        opened.commit()
    content = bytearray(store.read_bytes())
    content[PAGE_SIZE * 30 : PAGE_SIZE * 31] = bytes(PAGE_SIZE)
    store.write_bytes(content)
    assert salvaged(tmp_path / "data").mended.cursor == 5
    with closing(open_store(store, book, log.log_id, followed=True)) as opened:
        assert opened.cursor("tracker", log.log_id) == 5


A, B4, B30 = (("a", "ada", 0.0, {}), ("b", "ada", 4.0, {}), ("b", "ada", 30.0, {}))
EARLY, SAME_SECOND = (("b", "ada", -300.0, {}), ("c", "ada", 0.0, {}))


@pytest.mark.parametrize("lost", ["", "DELETE FROM transition WHERE old = (SELECT at FROM excluded)"])
@pytest.mark.parametrize(
    ("sent", "without", "then", "minutes"),
    [
        ((A, B4), B4, (B30,), [0, 30, None]),
        ((A, B4), B4, (), [0, None, None]),
        ((A, B4, EARLY), EARLY, (), [0, 4, None]),
        ((A, B4, SAME_SECOND), SAME_SECOND, (), [0, 4, None]),
        ((A,), A, (), [None, None, None]),
    ],
)
def test_what_was_recomputed_stays_so(tmp_path, sent, without, then, minutes, lost):
    """lost: with the transition that took it back"""
    world = World(tmp_path, TRIP)
    for spec in sent:
        world.send(spec)
    world.store.begin()
    recompute(world.follower, [token("ada")], world.now, without=unpack_ids(request([without])[1])[0])
    world.store.commit()
    for spec in then:
        world.send(spec)
    told, bits = world.told(), world.rows("SELECT told FROM journey")
    world.rows("DELETE FROM journey")
    if lost:
        world.rows(lost)
    world.close()
    salvaged(tmp_path)

    world.open([TRIP])
    world.jobs()
    assert world.rows("SELECT told FROM journey") == bits
    found = world.minutes("ada") or [None] * 3
    assert found == minutes
    same_as_a_scan(world)
    world.send(*sent, *then)
    assert world.told() == told or lost
    assert (world.minutes("ada") or [None] * 3) == minutes
    world.close()


def test_where_nothing_is_there_nothing_is_made(tmp_path):
    with pytest.raises(CannotMend, match="otel-ttf restore FILE"):
        salvaged(tmp_path)
    assert not list(tmp_path.iterdir())


def spoil(path: Path, table: str, place: int) -> None:
    """Zeroes a page of a closed store's table."""
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with closing(PageFile(path, page_size=PAGE_SIZE)) as file:
        page = list(file.tree(root))[place]
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_SIZE : page * PAGE_SIZE] = bytes(PAGE_SIZE)
    path.write_bytes(content)


@pytest.mark.parametrize("tables", [["transition"], ["transition", "counter"]])
def test_counters_do_not_fall_where_transitions_are_lost_and_journeys_are_not(made, tmp_path, tables):
    data = tmp_path / "data"
    shutil.copytree(made / "closed", data)
    world = World(data, TRIP)
    before = {row[:2]: row[2] for row in world.rows("SELECT metric, sum(value), 0 FROM counter GROUP BY 1")}
    world.close()
    for table in tables:
        spoil(data / "store.db", table, 5 if table == "transition" else 0)
    salvaged(data)
    world = World(data, TRIP)
    after = {row[:2]: row[2] for row in world.rows("SELECT metric, sum(value), 0 FROM counter GROUP BY 1")}
    assert after == before
    (loss,) = world.store.losses
    assert (loss.why, loss.pages) == ("salvaged", len(tables))
    gone = loss.transitions
    assert gone > 10
    assert loss.counted["ttf_started_total", "trip", ""] > 0
    world.jobs(1000)
    assert wrong(data) == []
    # It is told of later changes, too, and a second salvage has nothing to add.
    world.rows("UPDATE counter SET value = value + 1 WHERE metric = 'ttf_started_total'")
    world.rows("DELETE FROM transition WHERE position = 1")
    found = wrong(data)
    assert [one for one in found if "that a salvage found counted besides" in one]
    assert "1 transitions are missing, at positions 1 to 1" in found
    world.rows("UPDATE counter SET value = value - 1 WHERE metric = 'ttf_started_total'")
    world.close()
    salvaged(data)
    salvaged(data)
    world = World(data, TRIP)
    assert [(one.pages, one.transitions) for one in world.store.losses] == [
        (len(tables), gone),
        (0, gone + 1),
    ]
    world.jobs(1000)
    assert wrong(data) == []
    fill(world)
    assert {
        row[:2] for row in world.rows("SELECT metric, sum(value) FROM counter GROUP BY 1")
    } == before.keys()
    world.close()
