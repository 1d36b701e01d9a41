"""`privacy.subject: encrypted`: from a pseudonym back to the user id, until the key is destroyed."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from .server_process import ServerProcess, keys, wait_for


def one(user: str, name: str = "signup") -> dict[str, object]:
    return {"events": [{"event_name": name, "event_type": "milestone", "user_id": user}]}


def send(server: ServerProcess, user: str, name: str = "signup") -> None:
    answer = server.post_json("/api/v1/events", one(user, name))
    assert answer.status in (200, 202), answer.body


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_who_is_stuck_can_be_told_until_the_key_is_destroyed_beside_the_running_server(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    with ServerProcess(folder, settings=["privacy.subject=encrypted"]) as server:
        send(server, "jane.secret.id")
        send(server, "john.secret.id")
        server.wait_caught_up()
        jane = server.get("/api/v1/ttf/jane.secret.id").json["subject"]
        assert keys(folder, "reveal", jane).stdout == f"{jane}\tjane.secret.id\n"
        assert b"secret.id" not in everything(folder)

        server.kill()  # what was answered OK is revealed after it, too
        server.start()
        john = server.get("/api/v1/ttf/john.secret.id").json["subject"]
        assert keys(folder, "reveal", john).stdout == f"{john}\tjohn.secret.id\n"

        assert keys(folder, "destroy", "jane.secret.id", "--yes").returncode == 0
        send(server, "jane.secret.id", "project_created")  # taken as before, and not remembered again
        server.wait_caught_up()
        told = keys(folder, "reveal", jane)
        assert (told.returncode, told.stdout) == (1, "")
        assert "destroyed" in told.stderr
        assert b"secret.id" not in everything(folder)
        assert "secret.id" not in server.printed()
        assert server.terminate() == 0


@pytest.mark.slow
def test_a_vault_that_breaks_asks_senders_to_come_again_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ServerProcess(folder, settings=["privacy.subject=encrypted"]) as server:
        send(server, "jane")
        (folder / "master_key").rename(folder / "elsewhere")
        answer = server.post_json("/api/v1/events", one("john"))
        assert answer.status == 503
        assert "retry-after" in answer.headers
        send(server, "jane", "project_created")  # known already
        (folder / "elsewhere").rename(folder / "master_key")
        wait_for(
            lambda: server.post_json("/api/v1/events", one("john")).status in (200, 202),
            "the vault to work again",
        )
        assert "nothing can be encrypted" in server.printed()
        assert "master_key" in server.printed()


@pytest.mark.slow
def test_users_whom_the_log_does_not_take_get_no_keys(tmp_path: Path) -> None:
    """Else those of requests that are refused would take what room is left on a full disk."""
    folder = tmp_path / "data"
    full = ["privacy.subject=encrypted", "log.min_free=1000TiB"]
    server = ServerProcess(folder, settings=full).launch()
    try:
        wait_for(lambda: _refused(server, "jane"), "an answer")
    finally:
        server.kill()
    assert "nothing can be encrypted" not in server.printed()
    with closing(sqlite3.connect(folder / "vault.db")) as vault:
        assert vault.execute("SELECT count(*) FROM subject").fetchone() == (0,)


def _refused(server: ServerProcess, user: str) -> bool:
    with suppress(OSError):
        answer = server.post_json("/api/v1/events", one(user))
        return answer.status == 503 and b"log.min_free" in answer.body
    return False


def test_without_its_master_key_the_server_does_not_start_on_a_vault(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with ServerProcess(folder, settings=["privacy.subject=encrypted"]) as server:
        send(server, "jane")
    (folder / "master_key").unlink()
    code, said = server.refusal()
    assert code == 2
    assert "master_key is gone" in said
