"""One bad record in a server with a planted defect, and what an operator does about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, command_on, wait_for

PLANTED = Path(__file__).with_name("planted_server.py")


def dead_letters(server: ServerProcess, *arguments: str, code: int = 0) -> Any:
    """What `otel-ttf dead-letters` says, as JSON where it can."""
    shape = () if arguments[0] == "show" else ("--format", "json")
    done = command_on(server.data_dir, "dead-letters", *arguments, *shape)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def signup(user: str, **properties: object) -> dict[str, object]:
    return {
        "event_type": "user",
        "event_name": "signup",
        "user_id": user,
        "event_id": f"of {user}",
        "properties": properties,
    }


def send(server: ServerProcess, *events: dict[str, object]) -> None:
    assert server.post_json("/api/v1/events", {"events": list(events)}).status == 200


def started(server: ServerProcess) -> float:
    return server.metrics().total("ttf_started_total")


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "planted"
    path.write_text("poison")
    monkeypatch.setenv("PLANTED", str(path))
    return path


@pytest.mark.slow
def test_from_the_bad_record_to_its_retry(tmp_path: Path, flag: Path) -> None:
    with ServerProcess(tmp_path / "data", program=[str(PLANTED)]) as server:
        send(server, *(signup(f"u{n}") for n in range(5)), signup("jane", poison="1"), signup("u5"))
        send(server, signup("u6"))
        server.wait_caught_up()
        assert started(server) == 7
        assert server.get("/api/v1/ttf/jane").status == 404

        server.wait_ready()
        ready = server.get("/ready")
        assert (ready.status, ready.json["reasons"]) == (200, [])
        (note,) = ready.json["notes"]
        assert "1 record" in note
        assert "dead-letters" in note
        metrics = server.metrics()
        assert metrics.total("otel_ttf_quarantine_records") == 1
        assert metrics.total("otel_ttf_quarantine_total", action="set_aside") == 1

        (letter,) = dead_letters(server, "list")["items"]
        assert (letter["error"], letter["signal"], letter["tries"]) == ("KeyError", "logs", 0)
        shown = dead_letters(server, "show", str(letter["id"]))
        assert len(shown["event_ids"]) == 1
        assert "signup" in json.dumps(shown["record"])
        assert "jane" not in json.dumps(shown)

        # The defect is still there.
        told = dead_letters(server, "retry", "--all", code=1)
        assert list(told["failed"]) == [str(letter["id"])]
        assert dead_letters(server, "list")["items"][0]["tries"] == 1

        flag.unlink()
        server.kill()
        # Asked while no server runs, asked again, and killed while it starts.
        assert dead_letters(server, "retry", str(letter["id"]))["pending"]
        assert dead_letters(server, "retry", "--all")["pending"]
        server.launch()
        server.kill()
        server.start()
        wait_for(lambda: started(server) == 8, "the retry")
        assert server.get("/api/v1/ttf/jane").json["started_at"] is not None
        gone = command_on(server.data_dir, "dead-letters", "retry", str(letter["id"]))
        assert (gone.returncode, gone.stderr[:31]) == (
            1,
            f"otel-ttf: no record has the id {letter['id']}"[:31],
        )
        assert dead_letters(server, "list")["count"] == 0
        assert server.get("/ready").json["notes"] == []

        # Sent again, it is the same event.
        send(server, signup("jane", poison="1"))
        server.wait_caught_up()
        assert started(server) == 8
        with server.store() as store:
            assert store.execute("SELECT count(*), count(DISTINCT event_id) FROM event").fetchone() == (8, 8)
        assert "poison" not in server.printed()
        assert server.terminate() == 0


@pytest.mark.slow
def test_drop_gives_one_up(tmp_path: Path, flag: Path) -> None:
    with ServerProcess(tmp_path / "data", program=[str(PLANTED)]) as server:
        send(server, signup("u1"), signup("jane", poison="1"), signup("john", poison="1"))
        server.wait_caught_up()
        first, second = (item["id"] for item in dead_letters(server, "list")["items"])
        done = {"pending": False, "done": [first], "unknown": [], "failed": {}}
        assert dead_letters(server, "drop", str(first)) == done
        assert [item["id"] for item in dead_letters(server, "list")["items"]] == [second]
        assert server.metrics().total("otel_ttf_quarantine_total", action="dropped") == 1
        assert server.terminate() == 0
