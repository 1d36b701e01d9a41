"""`otel-ttf replay` to a running server: whatever happens on the way, each event counts once."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from server_process import ROOT, ServerProcess, wait_for

KEY = "the key of the environment"
AT = time.time_ns() - 3600 * 10**9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as running:
        yield running


def lines(users: int, *, each: int = 1) -> bytes:
    """A signup for each user, so many to a request."""
    told = []
    for first in range(0, users, each):
        records = [
            {
                "timeUnixNano": str(AT + number * 10**6),
                "eventName": "signup",
                "attributes": [{"key": "user.id", "value": {"stringValue": f"person-{number}"}}],
            }
            for number in range(first, min(first + each, users))
        ]
        told.append(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}))
    return ("\n".join(told) + "\n").encode()


def command(server: ServerProcess, *files: Path, way: str = "http") -> list[str]:
    to = server.http_url if way == "http" else f"grpc://{server.grpc}"
    return [sys.executable, "-m", "otel_ttf", "replay", *map(str, files), "--to", to]


def replay(
    server: ServerProcess,
    *files: Path,
    way: str = "http",
    more: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command(server, *files, way=way), *more],
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def started(server: ServerProcess) -> float:
    server.wait_caught_up()
    return server.metrics().total("ttf_started_total")


@pytest.mark.slow
def test_files_are_sent_by_both_ways_and_each_event_counts_once(
    server: ServerProcess, tmp_path: Path
) -> None:
    plain, packed = tmp_path / "a.json", tmp_path / "b.json.gz"
    plain.write_bytes(lines(500, each=7))
    packed.write_bytes(gzip.compress(lines(700, each=1)))
    assert replay(server, plain) == (0, f"{plain}: 500 records sent\n", "")
    assert replay(server, packed, way="grpc")[:2] == (0, f"{packed}: 700 records sent\n")
    assert started(server) == 700
    # Once more, from the beginning.
    assert replay(server, plain, way="grpc", more=("--again", "--gzip"))[0] == 0
    assert started(server) == 700
    assert replay(server, plain)[1].startswith(f"{plain}: 500 records sent")
    with server.store() as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (700,)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(server: ServerProcess, tmp_path: Path) -> None:
    users = 60_000
    file = tmp_path / "many.json"
    file.write_bytes(lines(users, each=3))
    kills = 0
    for _ in range(3):
        with subprocess.Popen(
            command(server, file), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            before = server.metrics().total("telemetry_events_total")
            while run.poll() is None and server.metrics().total("telemetry_events_total") < before + 5000:
                time.sleep(0.01)
            kills += run.poll() is None
            run.kill()
    assert kills
    code, out, err = replay(server, file)
    assert (code, err) == (0, "")
    assert f"{users} records sent" in out
    assert started(server) == users
    sent = server.metrics().total("telemetry_events_total")
    assert sent < users * 1.8, "most of it was sent again"


@pytest.mark.slow
def test_a_server_that_is_killed_meanwhile_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    users = 40_000
    file = tmp_path / "many.json"
    file.write_bytes(lines(users, each=3))
    with subprocess.Popen(
        command(server, file), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        wait_for(lambda: server.metrics().total("telemetry_events_total") > 2000, "some records", pause=0.01)
        server.kill()
        server.start()
        _, err = run.communicate(timeout=120)
    assert (run.returncode, err) == (0, b"")
    assert started(server) <= users
    with server.store() as db:
        assert db.execute("SELECT count(*), count(DISTINCT subject) FROM journey").fetchone() == (
            users,
            users,
        )
        assert db.execute("SELECT count(*), count(DISTINCT id) FROM transition").fetchone() == (users, users)


@pytest.mark.slow
def test_broken_lines_are_named_by_file_and_line_and_nothing_of_them_is_said(
    server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(lines(2) + b"secret person@example.com\n" + b'{"resourceLogs": 7}\n' + lines(4))
    code, out, err = replay(server, file)
    assert code == 1
    assert out == f"{file}: 6 records sent, 2 pieces left out\n"
    assert [line.split(": ")[:2] for line in err.splitlines()[:2]] == [
        [str(file), "line 3"],
        [str(file), "line 4"],
    ]
    assert "2 pieces were left out" in err
    assert "secret" not in err
    assert started(server) == 4


@pytest.mark.slow
def test_csv_becomes_events(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "signups.csv"
    file.write_text(
        "id,at,plan\n" + "".join(f"p{number},{AT // 10**9 + number},pro\n" for number in range(50))
    )
    more = ("--csv", "time=at,user=id,plan=plan", "--event", "signup")
    assert replay(server, file, more=more)[0] == 0
    assert replay(server, file, more=(*more, "--again"))[0] == 0
    assert started(server) == 50
    assert server.get("/api/v1/ttf/p7").json["segments"] == {"plan": "pro"}


@pytest.mark.slow
def test_with_the_key_of_the_environment_and_records_without_a_time_count_once(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")
    server.environment = {"TELEMETRY_API_KEY": KEY}
    server.headers = {"x-api-key": KEY}
    file = tmp_path / "a.json"
    told = json.loads(lines(3, each=3))
    for record in told["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        del record["timeUnixNano"]
    file.write_text(json.dumps(told) + "\n" + json.dumps(told) + "\n")
    with server:
        for way in ("http", "grpc"):
            code, out, err = replay(server, file, way=way, more=("--again",), env={"TELEMETRY_API_KEY": KEY})
            assert (code, out, err) == (0, f"{file}: 6 records sent\n", "")
        assert started(server) == 3
        with server.store() as db:
            assert db.execute("SELECT count(*) FROM event").fetchone() == (6,)
        code, _, err = replay(server, file, more=("--again", "--api-key", "wrong"))
        assert (code, "the server refuses everything: it answers 401" in err) == (1, True)
        assert "set TELEMETRY_API_KEY to a key with the scope ingest" in err


@pytest.mark.slow
def test_ended_by_hand_it_says_how_it_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "many.json"
    file.write_bytes(lines(200_000, each=1))
    with subprocess.Popen(
        command(server, file), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        wait_for(lambda: server.metrics().total("telemetry_events_total") > 1000, "some records", pause=0.01)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert b"the same command goes on where it was" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "ftp://x"), "--to: expected http://HOST:PORT"),
        (("--csv", "time"), "--csv: expected WHAT=COLUMN"),
        (("--event", "x"), "--event: expected only with --csv"),
        (("--header", "x"), "--header: expected NAME=VALUE"),
        (("--give-up-after", "soon"), "expected a duration"),
        (
            ("--to", "http://127.0.0.1:1", "--give-up-after", "0s"),
            "takes nothing: http://127.0.0.1:1 does not answer",
        ),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(lines(1))
    done = subprocess.run(
        [sys.executable, "-m", "otel_ttf", "replay", str(file), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr
