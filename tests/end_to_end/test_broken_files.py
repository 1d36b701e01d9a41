"""log.db and store.db damaged, gone or replaced: receivers start, nothing is silently empty, and the ways on work."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from server_process import Answer, ServerProcess, wait_for

from otel_ttf.pages import PageFile

PAGE = 16384


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as running:
        yield running


def send(server: ServerProcess, *users: str, event: str = "signup") -> None:
    for user in users:
        answer = server.post_json(
            "/api/v1/events",
            {"events": [{"event_name": event, "event_type": "milestone", "user_id": user}]},
        )
        assert answer.status == 200, answer.body


def started(server: ServerProcess) -> Answer:
    """Launched, and past starting; what /ready says."""
    server.launch()
    found: list[Answer] = []

    def answers() -> bool:
        try:
            answer = server.get("/ready")
        except (OSError, http.client.HTTPException):
            assert server.running.poll() is None, server.printed()
            return False
        found.append(answer)
        return "starting" not in answer.json["reasons"]

    wait_for(answers, "the server to listen", 30)
    return found[-1]


def otel_ttf(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", *arguments, "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def scribble(path: Path, *, after: int = 0, seed: int = 1) -> None:
    """Random bytes over the file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(after)
        file.write(random.Random(seed).randbytes(size - after))


def started_journeys(server: ServerProcess) -> float:
    return server.metrics().total("ttf_started_total")


def test_a_damaged_log_is_rescued_at_the_start_and_what_is_lost_is_told(server: ServerProcess) -> None:
    send(server, "ada", "bob")
    server.wait_caught_up()
    server.kill()
    log = server.data_dir / "log.db"
    scribble(log)
    scribble(log.with_name("log.db-wal"))
    ready = started(server)
    assert ready.status == 200
    (note,) = ready.json["notes"]
    assert "could not be read out of a damaged log.db" in note
    assert server.metrics().total("otel_ttf_log_lost_requests", why="damaged") >= 1
    send(server, "cyd")
    server.wait_caught_up()
    assert started_journeys(server) == 3
    assert list(server.data_dir.glob("log.db.damaged-*Z"))
    assert list(server.data_dir.glob("log.db.damaged-*Z-wal"))
    assert server.terminate() == 0
    assert started(server).json["notes"] == [note], "told for a week"


def test_a_log_that_is_deleted_while_the_server_runs_loses_nothing(server: ServerProcess) -> None:
    send(server, "ada")
    for file in server.data_dir.glob("log.db*"):
        file.unlink()
    time.sleep(0.5)
    wait_for(lambda: server.get("/ready").status == 200, "the log to be written again")
    send(server, "bob")
    server.wait_caught_up()
    server.kill()
    server.start()
    server.wait_caught_up()
    assert started_journeys(server) == 2
    assert "was deleted or replaced" in server.printed()


def test_a_log_that_is_overwritten_while_the_server_runs_is_rescued(server: ServerProcess) -> None:
    send(server, "ada")
    server.wait_caught_up()
    scribble(server.data_dir / "log.db")
    # The pages in its memory are whole: it is noticed when somebody reads the disk.
    for number in range(300):
        answer = server.post_json(
            "/api/v1/events",
            {"events": [{"event_name": "signup", "event_type": "milestone", "user_id": f"user-{number}"}]},
        )
        assert answer.status in (200, 503)
        if list(server.data_dir.glob("log.db.damaged-*")):
            break
    server.wait_caught_up()
    before = started_journeys(server)
    server.kill()
    assert started(server).status == 200
    server.wait_caught_up()
    assert started_journeys(server) == before


def lose_store(server: ServerProcess) -> None:
    for file in server.data_dir.glob("store.db*"):
        file.unlink()


def garble_store(server: ServerProcess) -> None:
    scribble(server.data_dir / "store.db")


def garble_pages(server: ServerProcess) -> None:
    scribble(server.data_dir / "store.db", after=4096)


def another_store(server: ServerProcess) -> None:
    lose_store(server)
    other = ServerProcess(server.data_dir.with_name("other"))
    other.data_dir.mkdir()
    shutil.copy(server.data_dir / "keys", other.data_dir)
    with other:
        send(other, "zoe")
        other.wait_caught_up()
        assert other.terminate() == 0
    shutil.copy(other.data_dir / "store.db", server.data_dir)


def accepted(reason: str) -> list[str]:
    """The option with which a start begins anew, as the reason names it."""
    (id_,) = re.findall("`otel-ttf run --accept-empty-store ([0-9a-f]{8}) ", reason)
    return ["--accept-empty-store", id_]


@pytest.mark.parametrize("harm", [lose_store, garble_pages, another_store])
def test_without_a_store_requests_are_taken_and_the_ways_on_are_named(server: ServerProcess, harm) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    shutil.copytree(server.data_dir, server.data_dir.with_name("copy"))
    harm(server)
    ready = started(server)
    assert ready.status == 503
    (reason,) = ready.json["reasons"]
    for way in ("otel-ttf restore FILE", "otel-ttf salvage"):
        assert f"`{way} --data-dir {server.data_dir}`" in reason
    accepting = accepted(reason)
    send(server, "bob")
    asked = server.get("/api/v1/ttf/ada")
    assert (asked.status, asked.json["detail"]) == (503, reason)
    assert server.get("/health").status == 200
    assert server.metrics().total("telemetry_events_total") == 1
    assert server.metrics().lag() == 1
    assert server.terminate() == 0
    # Asked again, nothing was made anew in silence.
    assert started(server).json["reasons"] == [reason]
    assert server.terminate() == 0

    for wrong in ("0" * 8, accepting[1][:7]):
        server.options = ["--accept-empty-store", wrong]
        said = started(server).json["reasons"][0]
        assert (
            said
            == f"{reason}. --accept-empty-store {wrong} is not its id, of which at least 8 characters are needed"
        )
        assert server.terminate() == 0
    server.options = accepting
    assert started(server).status == 200
    server.wait_caught_up()
    assert started_journeys(server) == 1, "bob, whom the log still had"
    assert "all that was counted is gone" in server.printed()
    assert server.terminate() == 0
    # Left in a unit file it accepts nothing more.
    assert started(server).status == 200
    assert server.get("/api/v1/ttf/bob").status == 200
    assert "--accept-empty-store: nothing is wrong with the store" in server.printed()
    assert server.terminate() == 0
    lose_store(server)
    again = started(server)
    assert (again.status, accepted(again.json["reasons"][0]) == accepting) == (503, False)


def test_without_an_id_the_first_loss_is_accepted_and_no_other(server: ServerProcess) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    server.options = ["--accept-empty-store"]
    lose_store(server)
    assert started(server).status == 200
    assert server.terminate() == 0
    lose_store(server)
    again = started(server)
    assert again.status == 503
    assert "--accept-empty-store without an id has begun anew here once already" in again.json["reasons"][0]


def test_a_store_that_is_damaged_while_the_server_runs_stops_the_tracker_alone(server: ServerProcess) -> None:
    send(server, *(f"user-{number}" for number in range(30)))
    server.wait_caught_up()
    with server.store() as store:  # all of it in the file
        store.execute("SELECT count(*) FROM journey").fetchone()
    assert server.terminate() == 0
    server.start()
    scribble(server.data_dir / "store.db")
    for number in range(50):
        send(server, f"late-{number}")
        if server.get("/ready").status == 503:
            break
        time.sleep(0.1)
    (reason,) = server.get("/ready").json["reasons"]
    assert "otel-ttf salvage" in reason
    send(server, "after")
    assert server.get("/api/v1/ttf/after").status == 503


def test_a_row_that_a_question_finds_damaged_is_noted(server: ServerProcess) -> None:
    send(server, "ada", "bob")
    server.wait_caught_up()
    with closing(sqlite3.connect(server.data_dir / "store.db", isolation_level=None, timeout=30)) as store:
        store.execute("UPDATE journey SET segments = '{' WHERE id = 1")
    asked = server.get("/api/v1/ttf/ada")
    assert (asked.status, "row 1 of table journey" in asked.json["detail"]) == (503, True)
    ready = server.get("/ready")
    assert (ready.status, ready.json["notes"]) == (200, [asked.json["detail"]])
    assert f"`otel-ttf check-data --data-dir {server.data_dir}`" in asked.json["detail"]
    assert users(server, "bob") == [200]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "running on"])
@pytest.mark.parametrize("parts", [("", "-wal", "-shm"), ("-wal",), ("-wal", "-shm")], ids="+".join)
def test_a_store_that_is_deleted_while_the_server_runs_is_written_again(
    server: ServerProcess, parts: tuple[str, ...], killed: bool
) -> None:
    """All of it is in its write-ahead log."""
    send(server, *(f"user-{number}" for number in range(20)))
    server.wait_caught_up()
    for part in parts:
        (server.data_dir / f"store.db{part}").unlink()
    written = "store.db was deleted or replaced: it was written again, nothing is lost"
    wait_for(lambda: written in server.printed(), "the tracker to notice")
    if killed:
        server.kill()
        server.start()
    send(server, "late")
    server.wait_caught_up()
    assert server.get("/ready").status == 200
    assert started_journeys(server) == 21
    assert users(server, "user-0", "user-19", "late") == [200] * 3
    assert otel_ttf(server, "check-data").returncode == 0


def deny(server: ServerProcess, user: str) -> None:
    sent = {
        "event_name": "consent_updated",
        "event_type": "x",
        "user_id": user,
        "properties": {"consent": "deny"},
    }
    assert server.post_json("/api/v1/events", {"events": [sent]}).status == 200


@pytest.mark.parametrize("parts", [("", "-wal", "-shm"), ("-wal",)], ids="+".join)
def test_consent_and_keys_that_are_deleted_while_the_server_runs_are_written_again(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """Nobody sends anything meanwhile. At last as after a kill before the new file has its name."""
    with ServerProcess(tmp_path / "data", settings=["privacy.subject=encrypted"]) as server:
        deny(server, "jane")
        send(server, "ada")
        server.wait_caught_up()
        files = [server.data_dir / name for name in ("consent.db", "vault.db")]
        for file in files:
            for part in parts:
                file.with_name(file.name + part).unlink()
        for file in files:
            told = f"{file.name} was deleted or replaced: it was written again, nothing is lost"
            wait_for(lambda told=told: told in server.printed(), told)
        server.kill()
        server.start()
        assert server.terminate() == 0
        for file in files:
            file.rename(file.with_name(f"{file.name}.new-found-20261126T120000Z"))
        server.start()
        ada = server.get("/api/v1/ttf/ada").json["subject"]
        assert otel_ttf(server, "keys", "reveal", ada).stdout == f"{ada}\tada\n"
        with closing(sqlite3.connect(server.data_dir / "consent.db")) as consent:
            assert consent.execute("SELECT count(*) FROM consent WHERE analytics & 1").fetchone() == (1,)
        send(server, "bob")


def users(server: ServerProcess, *names: str) -> list[int]:
    return [server.get(f"/api/v1/ttf/{name}").status for name in names]


@pytest.mark.parametrize("whole", [True, False], ids=["of the data directory", "of store.db"])
def test_an_older_copy_is_restored_and_what_is_sent_again_counts_once(
    server: ServerProcess, tmp_path: Path, whole: bool
) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    copy = tmp_path / "copy"
    shutil.copytree(server.data_dir, copy)
    server.start()
    send(server, "bob", "cyd")
    server.wait_caught_up()
    time.sleep(0.5)  # until they are gone from the log
    assert server.terminate() == 0
    garble_store(server)
    refused = otel_ttf(server, "restore", str(server.data_dir / "store.db"))
    assert (refused.returncode, "is the store itself" in refused.stderr) == (1, True)
    done = otel_ttf(server, "restore", str(copy if whole else copy / "store.db"))
    assert done.returncode == 0, done.stderr
    assert "Requests at positions 2 to 3 were followed after the copy" in done.stdout
    assert list(server.data_dir.glob("store.db.replaced-*"))
    ready = started(server)
    assert ready.status == 200
    (note,) = ready.json["notes"]
    assert "positions 2 to 3" in note
    assert server.metrics().total("otel_ttf_log_lost_requests", why="missed") == 2
    send(server, "ada", "bob", "cyd")
    server.wait_caught_up()
    assert users(server, "ada", "bob", "cyd") == [200] * 3
    assert started_journeys(server) == 3
    assert server.terminate() == 0
    with closing(sqlite3.connect(copy / "store.db")) as one, server.store() as other:
        ids = [db.execute("SELECT value FROM meta WHERE name = 'id'").fetchone() for db in (one, other)]
    assert ids[0] != ids[1], "an --accept-empty-store from before accepts nothing of it"
    checked = otel_ttf(server, "check-data")
    assert checked.returncode == 0, checked.stdout


def test_what_is_readable_is_salvaged_and_the_log_goes_on(server: ServerProcess) -> None:
    before = [f"user-{number}" for number in range(60)]
    send(server, *before)
    server.wait_caught_up()
    running = otel_ttf(server, "salvage")
    assert (running.returncode, "stop it" in running.stderr) == (1, True)
    checked = otel_ttf(server, "check-data")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert server.terminate() == 0
    scribble_first(server.data_dir / "store.db")
    started(server)
    send(server, "late")
    assert server.terminate() == 0
    checked = otel_ttf(server, "check-data")
    assert (checked.returncode, "otel-ttf salvage" in checked.stderr) == (1, True)
    done = otel_ttf(server, "salvage")
    assert done.returncode == 0, done.stderr
    assert "60 rows" in done.stdout
    assert list(server.data_dir.glob("store.db.damaged-*"))
    assert started(server).json == {"status": "ready", "reasons": [], "notes": []}
    server.wait_caught_up()
    send(server, *before)
    server.wait_caught_up()
    assert users(server, "user-0", "user-59", "late") == [200] * 3
    assert started_journeys(server) == 61
    assert server.terminate() == 0
    assert otel_ttf(server, "check-data").returncode == 0


def scribble_first(path: Path) -> None:
    """Random bytes over the first page: without it nothing says where a table begins."""
    with path.open("r+b") as file:
        file.write(random.Random(2).randbytes(4096))


def test_what_a_salvage_lost_is_told_to_whoever_comes_later(server: ServerProcess) -> None:
    send(server, *(f"user-{number}" for number in range(200)))
    server.wait_caught_up()
    assert server.terminate() == 0
    path = server.data_dir / "store.db"
    with closing(sqlite3.connect(path)) as store:
        (root,) = store.execute("SELECT rootpage FROM sqlite_master WHERE name = 'transition'").fetchone()
    with closing(PageFile(path, page_size=4096)) as pages:
        page = list(pages.tree(root))[3]
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    done = otel_ttf(server, "salvage")
    assert "1 pages are damaged" in done.stdout
    (start,) = re.findall("^Start the server: otel-ttf (.*)$", done.stdout, re.MULTILINE)
    assert start == f"run --data-dir {server.data_dir}"
    (note,) = started(server).json["notes"]
    assert "what stood on 1 damaged pages is gone" in note
    assert "transitions are missing" in note
    assert server.metrics().total("otel_ttf_store_losses", why="salvaged") == 1
    server.wait_caught_up()
    assert started_journeys(server) == 200, "the journeys know that they were counted"
    send(server, *(f"user-{number}" for number in range(210)))
    server.wait_caught_up()
    assert started_journeys(server) == 210
    assert server.terminate() == 0
    checked = otel_ttf(server, "check-data")
    assert checked.returncode == 0, checked.stdout
    assert f"known since it was found: {note}" in checked.stdout


def test_a_damaged_copy_is_refused_and_changes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    copy = tmp_path / "copy.db"
    shutil.copy(server.data_dir / "store.db", copy)
    scribble(copy, after=8192)
    refused = otel_ttf(server, "restore", str(copy))
    assert (refused.returncode, "is damaged, too" in refused.stderr) == (1, True)
    assert not list(server.data_dir.glob("store.db.draft*")), "a whole copy of what may be personal"
    missing = otel_ttf(server, "restore", str(tmp_path / "nothing"))
    assert (missing.returncode, "there is no such file" in missing.stderr) == (1, True)
    assert started(server).status == 200
    assert users(server, "ada") == [200]


def test_a_copy_that_was_made_under_other_keys_is_refused_and_changes_nothing(
    server: ServerProcess, tmp_path: Path
) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    with ServerProcess(tmp_path / "other") as other:
        send(other, "bob")
        other.wait_caught_up()
        assert other.terminate() == 0
    files = {file.name: file.read_bytes() for file in server.data_dir.iterdir() if file.name != "lock"}
    for copy in (other.data_dir, other.data_dir / "store.db"):
        refused = otel_ttf(server, "restore", str(copy))
        assert refused.returncode == 1
        assert f"{other.data_dir}/store.db: was written with the event key of fingerprint" in refused.stderr
        assert "put that key back" in refused.stderr
    assert {
        file.name: file.read_bytes() for file in server.data_dir.iterdir() if file.name != "lock"
    } == files
    (server.data_dir / "keys").rename(tmp_path / "keys")
    unknown = otel_ttf(server, "restore", str(other.data_dir))
    assert (unknown.returncode, "keys cannot be read" in unknown.stderr) == (2, True)
    (tmp_path / "keys").rename(server.data_dir / "keys")
    assert started(server).status == 200
    assert users(server, "ada", "bob") == [200, 404]


def test_a_copy_from_before_the_first_request_names_everything_that_is_gone(
    server: ServerProcess, tmp_path: Path
) -> None:
    assert server.terminate() == 0
    shutil.copytree(server.data_dir, tmp_path / "copy")
    server.start()
    send(server, *(f"user-{number}" for number in range(5)))
    server.wait_caught_up()
    time.sleep(0.5)  # until they are gone from the log
    assert server.terminate() == 0
    done = otel_ttf(server, "restore", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert "Requests at positions 1 to 5 were followed after the copy" in done.stdout
    assert "6 to 5" not in done.stdout
    (note,) = started(server).json["notes"]
    assert "positions 1 to 5" in note


def test_an_empty_store_that_was_accepted_misses_nothing_at_the_next_start(server: ServerProcess) -> None:
    send(server, "ada")
    server.wait_caught_up()
    time.sleep(0.5)  # until it is gone from the log
    assert server.terminate() == 0
    lose_store(server)
    server.options = accepted(started(server).json["reasons"][0])
    assert server.terminate() == 0
    (note,) = started(server).json["notes"]
    assert "store.db was begun anew, as --accept-empty-store said" in note
    assert server.terminate() == 0
    server.options = []
    assert started(server).json["notes"] == [note], "told for a week, and nothing else is missed"
    assert server.metrics().total("otel_ttf_store_losses", why="begun_anew") == 1
    checked = otel_ttf(server, "check-data")
    assert (checked.returncode, f"known since it was found: {note}" in checked.stdout) == (0, True)


def kill_before_following(server: ServerProcess, *users: str) -> None:
    """Users whom only the log knows."""
    with closing(sqlite3.connect(server.data_dir / "store.db", isolation_level=None, timeout=30)) as store:
        store.execute("BEGIN IMMEDIATE")  # the tracker waits
        send(server, *users)
        server.kill()
        store.execute("ROLLBACK")


# The tracker is quicker than the thread that starts the rest.
HASTY = """
import time
from otel_ttf.__main__ import main
from otel_ttf.tracker import Tracker
start = Tracker.start
def hasty(self):
    start(self)
    time.sleep(1)
Tracker.start = hasty
main()
"""


def test_what_is_followed_while_a_start_goes_on_is_not_told_as_lost(tmp_path: Path) -> None:
    program = tmp_path / "hasty.py"
    program.write_text(HASTY)
    with ServerProcess(tmp_path / "data", program=(str(program),)) as server:
        send(server, "ada")
        server.wait_caught_up()
        kill_before_following(server, "bob", "cyd")
        assert started(server).json["notes"] == []
        server.wait_caught_up()
        assert started_journeys(server) == 3


def test_a_log_that_was_put_back_from_a_copy_takes_no_request_for_followed(
    server: ServerProcess, tmp_path: Path
) -> None:
    send(server, "ada")
    server.wait_caught_up()
    assert server.terminate() == 0
    shutil.copy(server.data_dir / "log.db", tmp_path)
    server.start()
    send(server, "bob", "cyd", "dan")
    server.wait_caught_up()
    assert server.terminate() == 0
    shutil.copy(tmp_path / "log.db", server.data_dir)
    (note,) = started(server).json["notes"]
    assert "all from position 5 on" in note
    kill_before_following(server, "eve", "fay")
    server.start()
    server.wait_caught_up()
    assert started_journeys(server) == 6
