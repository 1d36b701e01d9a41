"""Master keys of a file or an environment variable: base64 of 32 bytes a line, the newest first."""

from __future__ import annotations

import base64
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from otel_ttf.files import write_secret
from otel_ttf.pii.keys import KEY_BYTES, KeyFileError, decode, fingerprint
from otel_ttf.pii.sealed import NONCE_BYTES, Tampered, UnknownKey
from otel_ttf.vault.master import MasterRefused, Wrapped

PREFIX = "local:"
COMMENT = "# Master keys of otel_ttf, newest first. Keep a copy, keep it secret, and not beside copies of vault.db.\n"


def parse(text: str) -> dict[str, bytes]:
    """id -> key, the newest first. Raises KeyFileError."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        encoded = line.split("#")[0].strip()
        if not encoded:
            continue
        try:
            key = decode(encoded)
        except KeyFileError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        name = PREFIX + fingerprint(key)
        if name in found:
            raise KeyFileError(f"line {number}: expected another key than in a line before")
        found[name] = key
    if not found:
        raise KeyFileError(f"expected at least one line, base64 of {KEY_BYTES} bytes")
    return found


def new_line() -> str:
    """A new master key as a line."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"


def add_newest(path: Path) -> None:
    """Puts a new key before those of the file, at once and for good. Raises OSError, KeyFileError."""
    text = path.read_text() if path.exists() else ""
    if text:
        parse(text)
    write_secret(path, COMMENT + new_line() + text.removeprefix(COMMENT))


class LocalMaster:
    """AES-256-GCM under a key that this process reads. A file that was replaced is read anew."""

    remote = False

    def __init__(
        self, *, file: Path | None = None, env: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Raises MasterRefused: there is no such file or variable, or no key in it."""
        self.file = file
        self._env = env
        self._environ = environ
        self._lock = threading.Lock()
        self._version: object = None
        self._keys: dict[str, AESGCM] = {}
        self._current()

    def _current(self) -> dict[str, AESGCM]:
        """id -> key, the newest first."""
        try:
            if self.file is None:
                version: object = self._environ[self._env or ""]
            else:
                stat = self.file.stat()
                version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            with self._lock:
                if version != self._version:
                    text = self.file.read_text() if self.file is not None else str(version)
                    self._keys = {name: AESGCM(key) for name, key in parse(text).items()}
                    self._version = version
                return self._keys
        except KeyError:
            raise MasterRefused(f"privacy.master_key: environment variable {self._env} is not set") from None
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "unreadable") if isinstance(error, OSError) else "not text"
            raise MasterRefused(
                f"privacy.master_key: the file {self.file} cannot be read: {why.lower()}"
            ) from None
        except KeyFileError as error:
            where = self.file if self.file is not None else self._env
            raise MasterRefused(f"privacy.master_key: {where}: {error}") from None

    def wrap(self, data_key: bytes, context: str) -> Wrapped:
        name, key = next(iter(self._current().items()))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Wrapped(name, nonce + key.encrypt(nonce, data_key, _bound(context)))

    def unwrap(self, wrapped: Wrapped, context: str) -> bytes:
        key = self._current().get(wrapped.key_id)
        if key is None:
            raise UnknownKey(f"master key {wrapped.key_id} is not among the configured ones")
        try:
            return key.decrypt(wrapped.data[:NONCE_BYTES], wrapped.data[NONCE_BYTES:], _bound(context))
        except (InvalidTag, ValueError):
            raise Tampered("a wrapped data key was changed, or belongs to another subject") from None

    def knows(self, key_id: str) -> bool:
        return key_id in self._current()

    def newest(self) -> str | None:
        return next(iter(self._current()))

    def ids(self) -> list[str]:
        """Of all keys, the newest first."""
        return list(self._current())

    def close(self) -> None:
        """There is nothing to let go of."""


def _bound(context: str) -> bytes:
    return b"otel_ttf data key 1\0" + context.encode("utf-8", "surrogatepass")
