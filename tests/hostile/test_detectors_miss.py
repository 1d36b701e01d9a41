"""Personal data between neighbours that hide it."""

from __future__ import annotations

import base64
import json

import pytest

from otel_ttf.pii.masking import Where, for_messages

EMAIL = "alice.canary@example.com"
CARD = "4539148803436467"


def jwt(header_bytes: int) -> str:
    parts = ({"alg": "RS256", "x5c": "M" * header_bytes}, {"sub": "alice"})
    head, payload = (base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
    return f"{head}.{payload}.c2ln"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        # (?![\w@]) behind the top level domain lets the whole address go.
        pytest.param(f"ssh {EMAIL}@10.0.0.1", "alice", id="an address before another @"),
        pytest.param(f"{EMAIL}2024.csv", "alice", id="an address before digits"),
        pytest.param(f"{EMAIL};{EMAIL}@", "alice", id="two addresses and an @"),
        # The header is cut at 4096 characters, is no JSON then, and the token stays.
        pytest.param(jwt(6000), "eyJzdWIi", id="a token with its certificates"),
        # (?<![0-9A-Za-z_.]) and (?![0-9A-Za-z_]): neighbours that no number has, but texts do.
        pytest.param(f"Declined.{CARD}", CARD, id="a card behind a full stop"),
        pytest.param(f"card_{CARD}", CARD, id="a card behind an underscore"),
        pytest.param(f"{CARD}_receipt.pdf", CARD, id="a card before an underscore"),
    ],
)
def test_it_goes(text, secret):
    assert secret not in for_messages().text(text, Where())
