"""An OpenID Connect issuer on this machine, which can be made to misbehave."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from joserfc import jwk, jwt

AUDIENCE = "otel-ttf"


class LocalIssuer:
    """Signs tokens, and says by which keys.

    trouble  what it answers with instead: a status, `garbage`, `slow`, `large`, `elsewhere`, `another`
    asked    how often it was asked for its keys
    """

    def __init__(self) -> None:
        self.trouble: int | str | None = None
        self.asked = 0
        self.signing = jwk.RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.keys: list[Any] = [self.signing]
        self.more: list[Any] = []  # as they stand in the document
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/realms/test"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
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
        request.send_response(status)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

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
