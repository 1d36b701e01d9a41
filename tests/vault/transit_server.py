"""A stand-in for the transit engine: encrypt and decrypt of aes256-gcm96 keys, with the documented errors."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from local_http import LocalHttp, Request, body_of, reply


class Failure(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass
class TransitServer(LocalHttp):
    """keys: name -> versions, the first is v1. broken: status codes for the next requests, then all is well."""

    token: str = "s.the-token-of-the-test"
    mount: str = "transit"
    namespace: str | None = None
    keys: dict[str, list[bytes]] = field(default_factory=lambda: {"ttf": [os.urandom(32)]})
    min_decryption_version: int = 1
    sealed: bool = False
    broken: list[int] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()
        self.url = self.address

    def answer(self, request: Request) -> None:
        try:
            status, answer = 200, self.answered(request.path, dict(request.headers.items()), body_of(request))
        except Failure as failure:
            status, answer = failure.status, {"errors": [failure.text]}
        reply(request, status, json.dumps(answer).encode(), {"content-type": "application/json"})

    def rotate(self, name: str = "ttf") -> None:
        self.keys[name].append(os.urandom(32))

    def answered(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        self.asked[path.split("/")[3]] += 1
        if self.broken:
            raise Failure(self.broken.pop(0), "internal error")
        if self.sealed:
            raise Failure(503, "Vault is sealed")
        headers = {name.lower(): value for name, value in headers.items()}
        if headers.get("x-vault-namespace") != self.namespace or headers.get("x-vault-token") != self.token:
            raise Failure(403, "permission denied")
        version, mount, operation, name = path.strip("/").split("/")
        if version != "v1" or mount != self.mount or operation not in ("encrypt", "decrypt"):
            raise Failure(404, f'no handler for route "{mount}/{operation}/{name}". route entry not found.')
        asked = json.loads(body)
        return {"request_id": "r", "data": getattr(self, operation)(name, asked), "auth": None}

    def encrypt(self, name: str, asked: dict[str, str]) -> dict[str, object]:
        # A key that is not there is made, if the token may create.
        versions = self.keys.setdefault(name, [os.urandom(32)])
        if "plaintext" not in asked:
            raise Failure(400, "missing plaintext to encrypt")
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(versions[-1]).encrypt(
            nonce, decoded(asked["plaintext"]), decoded(asked.get("associated_data", ""))
        )
        text = f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}"
        return {"ciphertext": text, "key_version": len(versions)}

    def decrypt(self, name: str, asked: dict[str, str]) -> dict[str, object]:
        if name not in self.keys:
            raise Failure(400, "encryption key not found")
        parts = asked.get("ciphertext", "").split(":")
        if parts[0] != "vault":
            raise Failure(400, "invalid ciphertext: no prefix")
        if len(parts) != 3:
            raise Failure(400, "invalid ciphertext: wrong number of fields")
        try:
            number = int(parts[1].removeprefix("v"))
        except ValueError:
            raise Failure(400, "invalid ciphertext: version number could not be decoded") from None
        if number > len(self.keys[name]):
            raise Failure(400, "invalid ciphertext: version is too new")
        if number < self.min_decryption_version:
            raise Failure(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(parts[2], validate=True)
        except binascii.Error:
            raise Failure(400, "invalid ciphertext: could not decode base64") from None
        try:
            plain = AESGCM(self.keys[name][number - 1]).decrypt(
                sealed[:12], sealed[12:], decoded(asked.get("associated_data", ""))
            )
        except (InvalidTag, ValueError):
            raise Failure(400, "cipher: message authentication failed") from None
        return {"plaintext": base64.b64encode(plain).decode()}


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Failure(400, "failed to base64-decode plaintext") from None
