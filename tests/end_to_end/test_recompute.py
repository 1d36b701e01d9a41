"""A user whose clock was wrong, repaired while the server runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, command_on

SECOND = 10**9


def recompute(server: ServerProcess, *arguments: str, code: int = 0) -> Any:
    done = command_on(server.data_dir, "recompute", *arguments, "--format", "json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def event(name: str, at: int) -> dict[str, object]:
    return {
        "event_type": "user",
        "event_name": name,
        "user_id": "jane",
        "timestamp": at,
        "event_id": f"{name}{at}",
    }


@pytest.mark.slow
def test_a_wrong_time_is_taken_out(tmp_path: Path) -> None:
    now = time.time_ns()
    signup, project = event("signup", now - 600 * SECOND), event("project_created", now - 480 * SECOND)
    wrong = event("project_created", now - 90_000 * SECOND)
    with ServerProcess(tmp_path / "data") as server:
        assert server.post_json("/api/v1/events", {"events": [signup, project, wrong]}).status == 200
        server.wait_caught_up()
        assert server.get("/api/v1/ttf/jane").json["flags"] == ["out_of_order"]

        (seen,) = recompute(server, "jane", "--dry-run")["journeys"]
        assert not seen["changed"]
        guilty = next(m["event_id"] for m in seen["milestones"] if m["milestone"] == "first_project_created")
        done = recompute(server, "jane", "--without", guilty)
        assert done["journeys"][0]["changed"]
        answer = server.get("/api/v1/ttf/jane").json
        assert answer["ttf_project_minutes"] == 2.0
        assert answer["flags"] == []

        # Sent again, and after a crash, it stays out.
        assert server.post_json("/api/v1/events", {"events": [wrong]}).status == 200
        server.wait_caught_up()
        server.kill()
        server.start()
        assert server.post_json("/api/v1/events", {"events": [wrong]}).status == 200
        server.wait_caught_up()
        assert server.get("/api/v1/ttf/jane").json["ttf_project_minutes"] == 2.0
        token = answer["subject"]
        assert not recompute(server, "--token", token)["journeys"][0]["changed"]
        assert recompute(server, "nobody", code=1)["refused"].startswith("neither")
        assert server.metrics().total("ttf_corrections_total") == 1

        assert server.terminate() == 0
        assert recompute(server, "jane")["pending"]
