"""The official SDKs send to a running server, and its answers are what they expect."""

from __future__ import annotations

import pytest
from senders import LOGS_OF_A_USER, SENDERS, assert_followed, taken
from server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

USERS = 40
WAYS = [(language, protocol) for language, sender in SENDERS.items() for protocol in sender.protocols]


@pytest.mark.parametrize(
    ("language", "protocol"), WAYS, ids=[f"{language} {protocol}" for language, protocol in WAYS]
)
def test_what_an_sdk_sends_is_taken_once_and_followed(
    server: ServerProcess, language: str, protocol: str
) -> None:
    sender = SENDERS[language]
    if missing := sender.missing():
        pytest.skip(missing)
    prefix = f"{language}-{protocol.replace('/', '-')}-"
    before = taken(server)
    url = f"http://{server.grpc}" if protocol == "grpc" else server.http_url
    said = sender.send(protocol, url, USERS, prefix)
    server.wait_caught_up()
    after = taken(server)
    grown = {name: after[name] - before[name] for name in after}
    assert grown.pop("metrics") >= 1  # some collect again when they end
    assert grown == {
        "logs": LOGS_OF_A_USER * USERS,
        "traces": USERS,
        "rejected": 1,
        "refused": 0,
    }
    assert_followed(server, prefix, USERS)
    if sender.tells:
        assert "user.id: expected at most 512 bytes, found 600" in said


def test_an_address_in_a_body_is_on_no_disk(server: ServerProcess) -> None:
    SENDERS["python"].send("grpc", f"http://{server.grpc}", USERS, "clear-")
    server.wait_caught_up()
    files = [path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()]
    assert any(b"user_signed_up" in data for data in files)
    assert not any(b"ada@example.com" in data for data in files)
