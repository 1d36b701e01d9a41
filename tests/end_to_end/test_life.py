"""How the server starts, ends, and says what is wrong."""

from __future__ import annotations

import os
import random
import socket
import time
from itertools import combinations
from pathlib import Path

import pytest
from books import Books
from ledger import Ledger, sending
from server_process import ServerProcess, free_ports

from otel_ttf.service import ANSWER_SECONDS, DRAIN_SECONDS


def one_sentence(text: str) -> str:
    """The only line of the text, which is no traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("otel-ttf: "), text
    return lines[0]


def test_sigterm_under_load_ends_with_0_in_time_and_loses_nothing(tmp_path: Path) -> None:
    ledger = Ledger(random.Random(1))
    with ServerProcess(tmp_path / "data") as server:
        books = Books(server, ledger)
        with sending(server, ledger):
            time.sleep(1.5)
            # By the server's own deadlines; on a busy machine it may wait for the processor, too.
            assert server.terminate(timeout=60) == 0
        assert ANSWER_SECONDS + DRAIN_SECONDS < 10
        assert "Traceback" not in server.printed()
        server.start()
        server.wait_caught_up()
        books.check()
        books.settle()
        assert server.terminate() == 0


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        server.post_json(
            "/api/v1/events",
            {"events": [{"event_name": "signup", "event_type": "milestone", "user_id": "ada"}]},
        )
        server.wait_caught_up()
        before = server.get("/api/v1/ttf/ada").json
        assert server.terminate() == 0
        server.start()
        after = server.get("/api/v1/ttf/ada").json
        assert (after["started_at"], after["subject"]) == (before["started_at"], before["subject"])
        assert server.metrics().total("ttf_started_total") == 1


def test_a_second_server_on_the_same_data_is_refused(server: ServerProcess) -> None:
    code, said = ServerProcess(server.data_dir).refusal()
    assert code == 1
    assert str(server.data_dir) in one_sentence(said)
    assert server.get("/ready").status == 200


@pytest.mark.parametrize(
    ("taken", "setting"),
    [
        pytest.param("grpc_port", "receivers.otlp.protocols.grpc.endpoint", id="grpc"),
        pytest.param("http_port", "receivers.otlp.protocols.http.endpoint", id="http"),
    ],
)
def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path, taken: str, setting: str) -> None:
    late = ServerProcess(tmp_path / "data")
    with socket.socket() as other:
        other.bind(("127.0.0.1", getattr(late, taken)))
        other.listen()
        code, said = late.refusal()
    assert code == 1
    # The first start of a data directory says where it put the keys.
    sentence = one_sentence("\n".join(line for line in said.splitlines() if "made keys" not in line))
    assert setting in sentence
    assert f"127.0.0.1:{getattr(late, taken)} is in use" in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_directory_that_cannot_be_written_is_said_with_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o500)
    code, said = ServerProcess(data).refusal()
    assert code == 1
    assert "--data-dir" in one_sentence(said)


def test_a_data_directory_below_a_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = ServerProcess(tmp_path / "file" / "data").refusal()
    assert code == 1
    assert "--data-dir" in one_sentence(said)


def test_a_wrong_setting_is_exit_code_2(tmp_path: Path) -> None:
    code, said = ServerProcess(tmp_path / "data", settings=["storage.evnets=all"]).refusal()
    assert code == 2
    assert "storage.evnets" in said
    assert "events" in said


def test_workers_of_one_test_run_find_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    found = []
    for worker in ("gw0", "gw1", "gw2"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        found.append(set(free_ports(100)))
    assert all(one.isdisjoint(other) for one, other in combinations(found, 2))
