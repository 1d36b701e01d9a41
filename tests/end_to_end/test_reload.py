"""The configuration is read again while the server runs."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import ROOT, ServerProcess, wait_for

SECOND = 10**9
JOURNEY = """\
journeys:
  trip:
    milestones:
      - {name: start, match: {event: start}}
      - {name: end, match: {event: %s}, target: 5m}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    file = tmp_path / "config.yaml"
    file.write_text(JOURNEY % "end")
    with ServerProcess(tmp_path / "data", config=file) as running:
        yield running


def configure(server: ServerProcess, text: str) -> None:
    assert server.config is not None
    server.config.write_text(text)


def reload(server: ServerProcess, status: int = 200) -> Any:
    answer = server.request("POST", "/-/reload")
    assert answer.status == status, answer.body
    return answer.json


def successful(server: ServerProcess) -> float:
    return server.metrics().total("otel_ttf_config_last_reload_successful")


def send(server: ServerProcess, *names: str, user: str = "ada", ago: int = 600) -> None:
    now = time.time_ns()
    events = [
        {"event_type": "t", "event_name": name, "user_id": user, "timestamp": now - (ago - place) * SECOND}
        for place, name in enumerate(names)
    ]
    assert server.post_json("/api/v1/events", {"events": events}).status == 200
    server.wait_caught_up()


@pytest.mark.slow
def test_a_changed_journey_is_followed_at_once(server: ServerProcess) -> None:
    began = server.metrics().total("otel_ttf_config_last_reload_success_timestamp_seconds")
    assert began > 0
    send(server, "start", "arrive")
    before = server.get("/api/v1/ttf/ada").json
    assert before["state"] == "in_progress"

    configure(server, JOURNEY % "arrive")
    assert reload(server)["changed"] == ["journeys.trip.milestones"]
    after = server.get("/api/v1/ttf/ada").json
    assert after["version"] != before["version"]
    assert after["started_at"] == before["started_at"]
    send(server, "arrive", ago=590)
    assert server.get("/api/v1/ttf/ada").json["state"] == "completed"
    assert server.get(f"/api/v1/ttf/ada?version={before['version']}").json["state"] == "in_progress"
    assert server.metrics().total("ttf_started_total") == 1
    assert server.metrics().total("otel_ttf_config_last_reload_success_timestamp_seconds") > began
    # What runs is what would start.
    version = after["version"]
    server.terminate()
    server.start()
    assert server.get("/api/v1/ttf/ada").json["version"] == version


@pytest.mark.slow
def test_an_invalid_one_is_refused_whole_in_the_words_of_validate(server: ServerProcess) -> None:
    configure(server, JOURNEY % "arrive" + "storage: {max_size: 1, events: some}\n")
    refused = reload(server, 409)
    told = subprocess.run(
        [*server.command()[:3], "validate", *server.command()[6:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused["errors"] == told.stderr.splitlines()[:-1]
    assert len(refused["errors"]) == 2
    assert successful(server) == 0
    send(server, "start", "end")
    assert server.get("/api/v1/ttf/ada").json["state"] == "completed"

    configure(server, JOURNEY % "end")
    assert reload(server)["changed"] == []
    assert successful(server) == 1


@pytest.mark.slow
def test_what_needs_a_restart_is_refused_with_all_the_rest(server: ServerProcess) -> None:
    configure(server, JOURNEY % "arrive" + "log: {max_size: 2GiB}\nstorage: {url: 'sqlite:///x.db'}\n")
    refused = reload(server, 409)
    assert [error.partition(": ")[2].partition(": ")[0] for error in refused["errors"]] == [
        "storage.url",
        "log.max_size",
    ]
    assert all("needs a restart" in error for error in refused["errors"])
    send(server, "start", "end")
    assert server.get("/api/v1/ttf/ada").json["state"] == "completed"


@pytest.mark.slow
def test_hangup_reads_it_too_and_masks_anew(server: ServerProcess) -> None:
    configure(
        server,
        JOURNEY % "end" + "processors: {enrich: {attributes: {team: blue}}}\nsubject: {normalise: lower}\n",
    )
    server.running.send_signal(signal.SIGHUP)
    wait_for(lambda: "was taken over" in server.printed(), "the new configuration")
    send(server, "start", user="ADA")
    assert server.get("/api/v1/ttf/ada").json["state"] == "in_progress"
    with server.store() as db:
        (resource,) = db.execute("SELECT bytes FROM resource ORDER BY id DESC LIMIT 1").fetchone()
    assert b"blue" in resource
    configure(server, "nonsense")
    server.running.send_signal(signal.SIGHUP)
    wait_for(lambda: successful(server) == 0, "the refusal")
    assert server.get("/ready").status == 200


@pytest.mark.slow
def test_nothing_in_flight_is_lost_and_nothing_counted_twice(server: ServerProcess) -> None:
    accepted: list[int] = []
    stop = threading.Event()

    def sender(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            event = {
                "event_type": "t",
                "event_name": "start",
                "user_id": f"{number}-{count}",
                "event_id": "1",
            }
            answer = server.post_json("/api/v1/events", {"events": [event]})
            assert answer.status == 200, answer.body
            accepted.append(1)

    def asker() -> None:
        while not stop.is_set():
            assert server.get("/api/v1/ttf/0-1").status in (200, 404)
            assert server.get("/metrics").status == 200

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=asker))
    failed: list[object] = []
    hook, threading.excepthook = threading.excepthook, lambda told: failed.append(told.exc_value)
    try:
        for thread in threads:
            thread.start()
        for number in range(8):
            configure(server, JOURNEY % ("arrive" if number % 2 else "end"))
            reload(server)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        threading.excepthook = hook
    assert failed == []
    server.wait_caught_up()
    assert server.metrics().total("ttf_started_total") == len(accepted)
    with server.store() as db:
        assert (
            db.execute("SELECT count(DISTINCT id), count(*) FROM transition").fetchone()
            == (len(accepted),) * 2
        )


@pytest.mark.slow
def test_a_hangup_ends_no_server_that_still_answers(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.api_port), 10) as sender:
        head = "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sender.sendall(f"{head}Content-Length: 9\r\n\r\n{{".encode())
        server.get("/health")
        server.running.send_signal(signal.SIGTERM)
        wait_for(lambda: "stopping" in server.printed(), "the end")
        server.running.send_signal(signal.SIGHUP)
        assert server.running.wait(20) == 0
