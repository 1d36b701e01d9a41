"""API keys: shown once, when they are made, and kept as hashes.

The hash is SHA-256. A slow one protects what people choose, by making each guess dear. A key of ours has 256 random
bits, which nobody guesses however cheap a guess is, while a slow hash would make each call dear for us, and be a gift
for whoever sends wrong ones.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from otel_ttf.files import write_secret

Scope = Literal["ingest", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE = "api-keys"
VARIABLE = "TELEMETRY_API_KEY"
SHORTEST = 16  # characters of a key that somebody else has made
MOST = 10_000  # keys; each has its own counter and buckets
_KEY = re.compile(r"ttfk_([a-z2-7]{8})_[a-z2-7]{52}")
_HEAD = "# API keys of otel-ttf by their SHA-256, a line each; made and ended by `otel-ttf api-keys`.\n"


class KeysUnreadable(Exception):
    """A file of API keys cannot be used; the message says why, and never what stands in it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key.

    id                   stands in the key, in metrics and in lists; no secret
    digest               SHA-256 of the whole key
    created, expires     unix seconds; None: never
    trusted_tokens       user ids that are tokens already are taken as they are
    requests_per_second  a limit of its own, and so is bytes_per_second; None: the configured one
    """

    id: str
    digest: bytes
    scopes: frozenset[Scope]
    name: str = ""
    created: int = 0
    expires: int | None = None
    trusted_tokens: bool = False
    requests_per_second: float | None = None
    bytes_per_second: int | None = None

    def good(self, now: float) -> bool:
        """Whether it has not expired. now: unix seconds."""
        return self.expires is None or now < self.expires


def digest(key: str) -> bytes:
    """What a key is kept and compared as."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def id_of(key: str) -> str | None:
    """The id in a key; None: it is none that we have made."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def make(key: ApiKey) -> tuple[ApiKey, str]:
    """A new key with the name, scopes, limits and times of this one: (what is kept, the key itself)."""
    id_ = _random(5)
    text = f"ttfk_{id_}_{_random(32)}"
    return replace(key, id=id_, digest=digest(text)), text


def _random(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()


def parse(text: str) -> tuple[ApiKey, ...]:
    """The keys of a file; one that holds none says so by a remark. Raises KeysUnreadable."""
    if not text.strip():
        # As it is for a moment when it is copied over, or for good on a full disk.
        raise KeysUnreadable(
            "expected keys, or the first line alone that `otel-ttf api-keys` writes, where there is to be none; found "
            "nothing: put it back from your copy, or delete it and make new keys"
        )
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = _read(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise KeysUnreadable(
                f"line {number}: expected a key as `otel-ttf api-keys new` writes it, found something else"
            ) from None
        if key.id in keys:
            raise KeysUnreadable(f"line {number}: expected each id once, found {key.id} again")
        keys[key.id] = key
    if len(keys) > MOST:
        raise KeysUnreadable(f"expected at most {MOST} keys, found {len(keys)}")
    return tuple(keys.values())


def _read(told: dict[str, object]) -> ApiKey:
    """Raises ValueError, TypeError, KeyError."""
    known = {"id", "sha256", "name", "scopes", "created", "expires", "trusted_tokens", *_LIMITS}
    if dict(told).keys() - known:
        raise ValueError  # one that is not understood may be a restriction
    id_, name, scopes = told["id"], told.get("name", ""), told["scopes"]
    trusted = told.get("trusted_tokens", False)
    if not isinstance(id_, str) or not re.fullmatch("[a-z2-7]{8}", id_) or not isinstance(scopes, list):
        raise ValueError
    if not isinstance(name, str) or not isinstance(trusted, bool) or not set(scopes) <= set(SCOPES):
        raise ValueError
    sha = bytes.fromhex(str(told["sha256"]))
    requests, size = (_limit(told.get(name)) for name in _LIMITS)
    if len(sha) != hashlib.sha256().digest_size:
        raise ValueError
    return ApiKey(
        id_,
        sha,
        frozenset(scopes),
        name,
        _seconds(told.get("created")) or 0,
        _seconds(told.get("expires")),
        trusted,
        requests,
        None if size is None else int(size),
    )


_LIMITS = ("requests_per_second", "bytes_per_second")


def _limit(told: object) -> float | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told < 2**62:
        raise ValueError
    return told


def _seconds(told: object) -> int | None:
    return None if told is None else round(datetime.fromisoformat(str(told)).timestamp())


def written(keys: Sequence[ApiKey]) -> str:
    """What `parse` reads."""
    return _HEAD + "".join(json.dumps(_line(key)) + "\n" for key in keys)


def _line(key: ApiKey) -> dict[str, object]:
    return {"id": key.id, "sha256": key.digest.hex()} | {
        name: value for name, value in shown(key).items() if name != "id" and value not in (None, "", False)
    }


def shown(key: ApiKey) -> dict[str, object]:
    """All but the hash, for eyes."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": [scope for scope in SCOPES if scope in key.scopes],
        "created": _time(key.created),
        "expires": None if key.expires is None else _time(key.expires),
        "trusted_tokens": key.trusted_tokens,
        "requests_per_second": key.requests_per_second,
        "bytes_per_second": key.bytes_per_second,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def changing(path: Path) -> Iterator[list[ApiKey]]:
    """The keys of a file, to be changed within the block; written at its end, as a whole, synced.

    One at a time: the folder is locked meanwhile. Raises KeysUnreadable, OSError.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = list(parse(path.read_text()) if path.exists() else ())
        yield keys
        text = written(keys)
        parse(text)  # else no start would take it any more
        write_secret(path, text, group=True)
    finally:
        os.close(folder)
