"""An OpenID Connect issuer on this machine, which can be made to misbehave."""

from __future__ import annotations

import json
import time
from typing import Any

from joserfc import jwk, jwt
from local_http import LocalHttp, Request, reply

AUDIENCE = "otel-ttf"


class LocalIssuer(LocalHttp):
    """Signs tokens, and says by which keys.

    trouble  what it answers with instead: a status, `garbage`, `slow`, `large`, `elsewhere`, `another`
    asked    how often it was asked for its keys
    """

    def __init__(self) -> None:
        super().__init__()
        self.url = f"{self.address}/realms/test"
        self.trouble: int | str | None = None
        self.asked = 0
        self.signing = jwk.RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.keys: list[Any] = [self.signing]
        self.more: list[Any] = []  # as they stand in the document

    def answer(self, request: Request) -> None:
        keys = request.path == "/realms/test/keys"
        self.asked += keys
        document: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if keys:
            document = {"keys": [*(key.as_dict(private=False) for key in self.keys), *self.more]}
        status, body = 200, json.dumps(document).encode()
        match self.trouble:
            case int():
                status = self.trouble
            case "garbage":
                body = b"<html>"
            case "nested":
                body = b"[" * 100_000
            case "large":
                body = body[:-1] + b" " * (2 << 20) + b"}"
            case "slow":
                time.sleep(0.5)
            case "elsewhere":
                document["jwks_uri"] = "http://issuer.example/keys"
                body = json.dumps(document).encode()
            case "another":
                body = json.dumps({**document, "issuer": "https://another.example"}).encode()
        reply(request, status, body)

    def rotate(self, name: str, *, drop: bool = True) -> None:
        """Signs with a new key. drop: the old one is not published any more."""
        self.signing = jwk.RSAKey.generate_key(2048, {"kid": name, "use": "sig"})
        self.keys = [*([] if drop else self.keys), self.signing]

    def token(self, *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """Of a user who may ask; a claim that is None is left out."""
        now = int(time.time())
        told = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "jo",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "scope": "openid otel-ttf.read",
            **claims,
        }
        head = {"alg": "RS256", "kid": self.signing.kid, **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(head, told, key or self.signing, algorithms=[head["alg"]])
