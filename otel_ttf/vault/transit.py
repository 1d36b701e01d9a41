"""Master key in the transit engine of HashiCorp Vault or OpenBao, over its HTTP API."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, Field
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from otel_ttf.pii.sealed import Tampered, UnknownKey
from otel_ttf.vault.master import MasterRefused, MasterUnavailable, Wrapped

PREFIX = "vault:"
TIMEOUT = httpx2.Timeout(5.0, connect=2.0)
TRIES = 3
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
_CIPHERTEXT = re.compile(r"vault:v(\d+):[A-Za-z0-9+/=]+")
# How the texts of a 400 begin that say that the key is not there, or not in that version.
_UNKNOWN = (
    "encryption key not found",
    "invalid ciphertext: version is too new",
    "ciphertext or signature version",
)


class TransitConfig(BaseModel):
    """A key of the transit engine, of a type with associated data (aes256-gcm96, chacha20-poly1305)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(pattern=r"^https?://\S+$", description="URL of the Vault or OpenBao server.")
    key: str = Field(pattern=NAME, description="Name of the transit key.")
    mount: str = Field(
        "transit", pattern=r"^[A-Za-z0-9_./-]+$", description="Path where the transit engine is mounted."
    )
    token_env: str = Field(
        "VAULT_TOKEN",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable with the token.",
    )
    namespace: str | None = Field(None, description="Namespace (Vault Enterprise, OpenBao).")


class Transit:
    """Each wrap and unwrap is a call to the server; the subject's token goes along as associated data."""

    remote = True

    def __init__(self, config: TransitConfig, environ: Mapping[str, str] = os.environ) -> None:
        """Raises MasterRefused: the environment holds no token."""
        token = environ.get(config.token_env, "").strip()
        if not token:
            raise MasterRefused(
                f"privacy.master_key.vault: environment variable {config.token_env} is not set"
            )
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if config.namespace is not None:
            headers["X-Vault-Namespace"] = config.namespace
        mount = config.mount.strip("/")
        self._name = f"{PREFIX}{mount}/{config.key}"
        self._encrypt = f"/v1/{mount}/encrypt/{config.key}"
        self._decrypt = f"/v1/{mount}/decrypt/{config.key}"
        self._http = httpx2.Client(base_url=config.address.rstrip("/"), headers=headers, timeout=TIMEOUT)
        self._tries = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=0.1, max=1.0) + wait_random(0, 0.1),
            retry=retry_if_exception_type(MasterUnavailable),
            reraise=True,
        )

    def wrap(self, data_key: bytes, context: str) -> Wrapped:
        answer = self._tries.copy()(
            self._ask, self._encrypt, {"plaintext": _base64(data_key), "associated_data": _context(context)}
        )
        found = _CIPHERTEXT.fullmatch(str(answer.get("ciphertext")))
        if found is None:
            raise MasterUnavailable("Vault's answer to encrypt holds no ciphertext")
        return Wrapped(f"{self._name}:v{found[1]}", found[0].encode())

    def unwrap(self, wrapped: Wrapped, context: str) -> bytes:
        if not self.knows(wrapped.key_id):
            raise UnknownKey(f"master key {wrapped.key_id} is not the configured one, {self._name}")
        try:
            ciphertext = wrapped.data.decode("ascii")
        except UnicodeDecodeError:
            raise Tampered("a wrapped data key was changed") from None
        answer = self._tries.copy()(
            self._ask, self._decrypt, {"ciphertext": ciphertext, "associated_data": _context(context)}
        )
        try:
            return base64.b64decode(str(answer.get("plaintext")), validate=True)
        except binascii.Error:
            raise MasterUnavailable("Vault's answer to decrypt holds no plaintext") from None

    def _ask(self, path: str, body: dict[str, str]) -> Mapping[str, Any]:
        """What the answer has under `data`."""
        try:
            answer = self._http.post(path, json=body)
        except httpx2.HTTPError as error:
            raise MasterUnavailable(f"Vault cannot be reached: {type(error).__name__}") from None
        match answer.status_code:
            case 200:
                data = _json(answer).get("data")
                if isinstance(data, dict):
                    return data
                raise MasterUnavailable("Vault's answer is none of the transit engine")
            case 400:
                # The texts may quote what was sent: they are compared, never shown.
                said = [str(text) for text in _json(answer).get("errors") or []]
                if any(text.startswith(_UNKNOWN) for text in said):
                    raise UnknownKey("Vault has no such transit key, or not in that version")
                if path == self._decrypt:
                    raise Tampered("a wrapped data key was changed, or belongs to another subject")
                raise MasterRefused(
                    "Vault refuses to encrypt (400): expected a key that takes associated data"
                )
            case 403:
                raise MasterRefused(
                    "Vault refuses us (403): the token has expired or its policy lacks the key"
                )
            case 404:
                raise MasterRefused("Vault knows no such path (404): see privacy.master_key.vault.mount")
            case 405 | 413:
                raise MasterRefused(f"Vault refuses us ({answer.status_code})")
            case 503:
                raise MasterUnavailable("Vault is sealed or in maintenance (503)")
            case other:
                raise MasterUnavailable(f"Vault cannot answer now ({other})")

    def knows(self, key_id: str) -> bool:
        return key_id.rpartition(":")[0] == self._name

    def newest(self) -> str | None:
        return None

    def close(self) -> None:
        self._http.close()


def _json(answer: httpx2.Response) -> Mapping[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _context(text: str) -> str:
    return _base64(b"otel_ttf data key 1\0" + text.encode("utf-8", "surrogatepass"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
