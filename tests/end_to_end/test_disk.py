"""Disks that are full, read-only, slow, or stand still: senders come again, questions are answered, nothing is lost."""

from __future__ import annotations

import errno
import random
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from books import Books
from destinations import GrpcDestination
from faulty_disk import MIB, CannotBreak, FaultyDisk, SmallDisk, small_disk
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from ledger import EXPORT, MINUTE, Ledger, send_unanswered, sending
from server_process import ServerProcess, wait_for
from test_life import one_sentence
from test_server import exporting, send
from test_server import request as named
from test_sidecar import EVENTS, on_disk, request

ADA = {"events": [{"event_name": "signup", "event_type": "milestone", "user_id": "ada"}]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 100 * MIB) as small:
            yield small
    except CannotBreak as missing:
        pytest.skip(str(missing))


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyDisk:
    try:
        return FaultyDisk(tmp_path / "data", tmp_path)
    except CannotBreak as missing:
        pytest.skip(str(missing))


def on(disk: SmallDisk, name: str = "data") -> ServerProcess:
    """A server whose data is on the small disk, and what it prints beside it."""
    server = ServerProcess(disk.folder / name)
    server.output = disk.folder.with_name(f"{name}.out")
    return server


def over(faulty: FaultyDisk, tmp_path: Path) -> ServerProcess:
    """A server whose data is on the faulty disk."""
    server = ServerProcess(tmp_path / "data")
    server.environment = faulty.environment
    return server


def know_ada(server: ServerProcess) -> None:
    assert server.post_json("/api/v1/events", ADA).status == 200
    server.wait_caught_up()


def questions_are_answered(server: ServerProcess, user: str | None = "ada") -> None:
    if user is not None:
        assert server.get(f"/api/v1/ttf/{user}").json["state"] == "in_progress"
    assert server.get("/api/v1/ttf").status == 200
    assert server.get("/api/v1/stuck").status == 200
    assert server.metrics().total("ttf_started_total") >= 1
    assert server.get("/health").status == 200


def every_door_says_come_again(server: ServerProcess, ledger: Ledger) -> None:
    """UNAVAILABLE with RetryInfo, 503 with Retry-After."""
    request = ledger.next("grpc")
    ledger.give_back(request)
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(EXPORT)(request.body, timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    retry = RetryInfo()
    assert any(detail.Unpack(retry) for detail in Status.FromString(details).details)
    assert retry.retry_delay.ToNanoseconds() > 0
    protobuf = {"content-type": "application/x-protobuf"}
    answers = [
        server.request("POST", "/v1/logs", request.body, headers=protobuf, port=port)
        for port in (server.http_port, server.api_port)
    ]
    answers.append(server.post_json("/api/v1/events", ADA))
    for answer in answers:
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1


def why_not_ready(server: ServerProcess) -> list[str]:
    answer = server.get("/ready")
    assert answer.status == 503
    reasons: list[str] = answer.json["reasons"]
    return reasons


def is_ready(server: ServerProcess) -> bool:
    return server.get("/ready").status == 200


def everything_is_there(server: ServerProcess, books: Books) -> None:
    server.wait_caught_up()
    books.settle()
    assert server.terminate() == 0
    assert "Traceback" not in server.printed()


def stored_once(server: ServerProcess, ledger: Ledger) -> None:
    """Beside Ada's event all that was sent, each once."""
    server.wait_caught_up()
    assert ledger.problems == []
    assert ledger.acknowledged == set(ledger.sent)
    with server.store() as store:
        (kept,) = store.execute("SELECT count(*) FROM event").fetchone()
    assert kept == 1 + len(ledger.sent)


# Full.


def test_below_min_free_senders_wait_and_questions_do_not(disk: SmallDisk) -> None:
    ledger = Ledger(random.Random(1))
    with on(disk) as server:
        know_ada(server)
        assert "make storage.max_size smaller" in server.printed()  # it may have 10 GiB
        disk.fill(leave=60 * MIB)  # 64 MiB have to stay free on so small a disk
        wait_for(lambda: not is_ready(server), "the server to see it")
        (reason,) = why_not_ready(server)
        assert reason.startswith("log.min_free: ")
        assert str(disk.folder) in reason
        every_door_says_come_again(server, ledger)
        questions_are_answered(server)
        disk.make_room()
        wait_for(lambda: is_ready(server), "the server to go on by itself")
        assert server.post_json("/api/v1/events", ADA).status == 200
        assert server.terminate() == 0


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["recovers", "killed meanwhile"])
def test_a_disk_that_is_filled_to_the_last_page_under_load_loses_nothing(
    disk: SmallDisk, killed: bool
) -> None:
    ledger = Ledger(random.Random(2))
    with on(disk) as server:
        books = Books(server, ledger)
        with sending(server, ledger):
            wait_for(lambda: len(ledger.acknowledged) > 300, "some load")
            disk.fill(leave=0)
            wait_for(lambda: not is_ready(server), "the server to see it")
            time.sleep(1)
            questions_are_answered(server, None)
            if killed:
                server.kill()
            disk.make_room()
            if killed:
                server.start()
            wait_for(lambda: is_ready(server), "the server to go on by itself")
            before = len(ledger.acknowledged)
            wait_for(lambda: len(ledger.acknowledged) > before, "senders to be taken again")
        everything_is_there(server, books)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["recovers", "killed meanwhile"])
def test_exporters_on_a_disk_that_is_filled_under_load_lose_nothing(disk: SmallDisk, killed: bool) -> None:
    destination, answered = GrpcDestination(), []
    destination.start()
    server = on(disk)
    server.settings = exporting(destination.port)

    def send_some(count: int) -> None:
        for _ in range(count):
            name = f"event {len(answered)}"
            with suppress(grpc.RpcError):
                send(server, named(name))
                answered.append(name)

    with server:
        send_some(50)
        disk.fill(leave=0)
        send_some(50)
        wait_for(lambda: not is_ready(server), "the server to see it")
        if killed:
            server.kill()
        disk.make_room()
        if killed:
            server.start()
        wait_for(lambda: is_ready(server), "the server to go on by itself")
        send_some(50)
        wait_for(lambda: set(answered) <= set(destination.counts), "all of it")
        wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the cursor")
        assert server.metrics().total("otel_ttf_quarantine_records", consumer="otlp:logs") == 0
        assert killed or max(destination.counts.values()) == 1
        assert len(answered) >= 100
        assert server.terminate() == 0
    destination.stop()


@pytest.mark.parametrize("kept", [True, False], ids=["with data", "a first start"])
def test_a_start_without_any_room_ends_with_what_to_do(disk: SmallDisk, kept: bool) -> None:
    server = on(disk)
    if kept:
        with server:
            know_ada(server)
            assert server.terminate() == 0
    disk.fill(leave=0)
    code, said = server.refusal()
    assert code == 1
    sentence = one_sentence(said)
    assert "the disk is full" in sentence
    assert "make room" in sentence
    assert str(disk.folder) in sentence
    disk.make_room()
    with server:
        if not kept:
            know_ada(server)
        questions_are_answered(server)


@pytest.mark.parametrize("kept", [True, False], ids=["with data", "a first start"])
def test_a_start_below_min_free_answers_questions_and_says_why_it_takes_nothing(
    disk: SmallDisk, kept: bool
) -> None:
    ledger = Ledger(random.Random(3))
    server = on(disk)
    if kept:
        with server:
            know_ada(server)
            server.kill()
    disk.fill(leave=3 * MIB // 2)
    try:
        server.launch()
        wait_for(lambda: _answers(server), "the server to answer", timeout=30)
        wait_for(lambda: why_not_ready(server)[0].startswith("log.min_free"), "all ports to be open")
        every_door_says_come_again(server, ledger)
        if kept:
            questions_are_answered(server)
        disk.make_room()
        wait_for(lambda: is_ready(server), "the server to go on by itself")
        know_ada(server)
        questions_are_answered(server)
        assert server.terminate() == 0
    finally:
        server.__exit__(None, None, None)


def _answers(server: ServerProcess) -> bool:
    try:
        return server.get("/health").status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_a_store_on_a_full_disk_of_its_own_falls_behind_and_loses_nothing(
    disk: SmallDisk, tmp_path: Path
) -> None:
    store = disk.folder / "store.db"
    with ServerProcess(tmp_path / "data", settings=(f"storage.url=sqlite:///{store}",)) as server:
        know_ada(server)
        disk.fill(leave=0)
        began, sent = time.time_ns() - MINUTE, 0
        with grpc.insecure_channel(server.grpc) as channel:
            while (answer := server.get("/ready")).status == 200:
                assert sent < 300, "that much had room on a full disk"
                assert channel.unary_unary(EXPORT)(request(sent, began), timeout=30) == b""
                sent += 1
            said = f"the store cannot be written: {store}: the disk is full (SQLITE_FULL): make room on it"
            assert answer.json["reasons"][0].startswith(said)
            questions_are_answered(server)
            assert channel.unary_unary(EXPORT)(request(sent, began), timeout=30) == b""
        disk.make_room()
        wait_for(lambda: is_ready(server), "the server to go on by itself", timeout=20)
        server.wait_caught_up()
        assert server.metrics().total("ttf_started_total") == 1 + (sent + 1) * EVENTS
        assert server.terminate() == 0


@pytest.mark.slow
def test_a_smaller_storage_max_size_makes_room_on_a_full_disk(disk: SmallDisk) -> None:
    """Deleting needs room itself, and begins with little of it."""
    began = time.time_ns() - MINUTE
    server = on(disk)
    server.settings = ("log.min_free=4MiB",)
    with server:
        know_ada(server)
        with grpc.insecure_channel(server.grpc) as channel:
            for number in range(220):
                channel.unary_unary(EXPORT)(request(number, began), timeout=30)
        server.wait_caught_up()
        assert server.terminate() == 0
    before = on_disk(server)
    assert before > 40 * MIB
    disk.fill(leave=5 * MIB // 2)
    server.settings = ("log.min_free=4MiB", "storage.max_size=32MiB")
    with server:
        wait_for(lambda: on_disk(server) <= 32 * MIB, "the store to shrink", timeout=30)
        # What is free is looked at four times a second, and shrinking takes some of it for a moment.
        wait_for(lambda: server.post_json("/api/v1/events", ADA).status == 200, "senders to be taken again")
        questions_are_answered(server)
        assert server.metrics().total("otel_ttf_events_dropped_total") > 0
        assert server.metrics().total("ttf_started_total") == 1 + 220 * EVENTS
        assert server.terminate() == 0


@pytest.mark.slow
def test_files_that_may_not_grow_lose_nothing_and_go_on_when_they_may(tmp_path: Path) -> None:
    """As a full disk, for whom may not mount one: a limit to the size of files."""
    ledger = Ledger(random.Random(4))
    with ServerProcess(tmp_path / "data") as server:
        books = Books(server, ledger)
        (usual, most) = resource.prlimit(server.running.pid, resource.RLIMIT_FSIZE)
        with sending(server, ledger):
            wait_for(lambda: len(ledger.acknowledged) > 300, "some load")
            wait_for(lambda: server.metrics().total("ttf_started_total") > 0, "the tracker to follow", 30)
            resource.prlimit(server.running.pid, resource.RLIMIT_FSIZE, (64 << 10, most))
            wait_for(lambda: not is_ready(server), "the server to see it")
            questions_are_answered(server, None)
            time.sleep(1)
            resource.prlimit(server.running.pid, resource.RLIMIT_FSIZE, (usual, most))
            wait_for(lambda: is_ready(server), "the server to go on by itself")
            before = len(ledger.acknowledged)
            wait_for(lambda: len(ledger.acknowledged) > before, "senders to be taken again")
        everything_is_there(server, books)


# Read-only, broken.


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        pytest.param("write_error", errno.EROFS, "cannot be written or read", id="read-only"),
        pytest.param("write_error", errno.ENOSPC, "the disk is full", id="full"),
        pytest.param("sync_error", errno.EIO, "cannot be written or read", id="no sync"),
    ],
)
def test_a_disk_that_fails_while_the_server_runs(
    tmp_path: Path, faulty: FaultyDisk, what: str, error: int, said: str
) -> None:
    ledger = Ledger(random.Random(6))
    with over(faulty, tmp_path) as server:
        know_ada(server)
        setattr(faulty.control, what, error)
        server.post_json("/api/v1/events", ADA)  # the first to notice
        reasons = why_not_ready(server)
        assert reasons[0].startswith("the event log cannot be written: ")
        assert said in reasons[0]
        every_door_says_come_again(server, ledger)
        questions_are_answered(server)
        setattr(faulty.control, what, 0)
        wait_for(lambda: is_ready(server), "the server to go on by itself")
        send_unanswered(server, ledger)
        stored_once(server, ledger)
        questions_are_answered(server)
        assert server.terminate() == 0
        assert "Traceback" not in server.printed()


@pytest.mark.parametrize("kept", [True, False], ids=["with data", "a first start"])
def test_a_start_on_a_disk_that_cannot_be_written_ends_with_a_sentence(
    tmp_path: Path, faulty: FaultyDisk, kept: bool
) -> None:
    server = over(faulty, tmp_path)
    if kept:
        with server:
            know_ada(server)
            server.kill()
    for error in (errno.EROFS, errno.ENOSPC):
        faulty.control.write_error = error
        code, said = server.refusal()
        assert code in (1, 2), errno.errorcode[error]
        assert str(tmp_path / "data") in one_sentence(said)
    faulty.control.write_error = 0
    with server:
        know_ada(server)
        questions_are_answered(server)


def test_a_start_on_a_read_only_disk_ends_with_a_sentence(disk: SmallDisk) -> None:
    server = on(disk)
    with server:
        know_ada(server)
        assert server.terminate() == 0
    disk.read_only()
    code, said = server.refusal()
    assert code == 1
    assert "is on a disk that is mounted read-only" in one_sentence(said)
    disk.writable()
    with server:
        questions_are_answered(server)


def test_a_start_with_one_file_read_only_ends_with_a_sentence(disk: SmallDisk) -> None:
    server = on(disk)
    server.settings = exporting(1)
    with server:
        know_ada(server)
        assert server.terminate() == 0
    for name in ("log.db", "store.db", "consent.db", "exporters.db"):
        file = str(server.data_dir / name)
        for options in ([file, file, "--bind"], [file, "-o", "remount,ro,bind"]):
            subprocess.run(["mount", *options], check=True)
        try:
            code, said = server.refusal()
        finally:
            subprocess.run(["umount", file], check=True)
        assert code in (1, 2), name
        sentence = one_sentence(said)
        assert file in sentence
        assert "read-only" in sentence
    with server:
        questions_are_answered(server)


# Slow.


def test_while_syncs_stand_still_nobody_gets_an_ok_and_questions_are_answered(
    tmp_path: Path, faulty: FaultyDisk
) -> None:
    answers: list[int] = []

    def send() -> None:
        answers.append(server.post_json("/api/v1/events", ADA).status)

    with over(faulty, tmp_path) as server:
        know_ada(server)
        faulty.control.hold = 1
        senders = [threading.Thread(target=send) for _ in range(8)]
        for sender in senders:
            sender.start()
        wait_for(lambda: faulty.control.held > 0, "a sync that stands still")
        ended = faulty.control.syncs
        questions_are_answered(server)
        assert is_ready(server)
        assert faulty.control.syncs == ended
        assert answers == []
        faulty.control.hold = 0
        for sender in senders:
            sender.join()
        assert answers == [200] * 8
        assert server.terminate() == 0


@pytest.mark.slow
def test_a_disk_that_takes_a_second_for_a_sync_is_slow_and_nothing_else(
    tmp_path: Path, faulty: FaultyDisk
) -> None:
    ledger = Ledger(random.Random(7))
    with over(faulty, tmp_path) as server:
        know_ada(server)
        faulty.control.sync_ms = 1000
        with sending(server, ledger):
            wait_for(lambda: len(ledger.acknowledged) > 60, "answers", timeout=40)
            questions_are_answered(server)
        assert ledger.problems == []
        assert server.terminate() == 0
        faulty.control.sync_ms = 0
        server.start()
        send_unanswered(server, ledger)
        stored_once(server, ledger)
