"""Keys for pseudonyms and event ids: the key file, ids and fingerprints of keys (journeys.md, Identity)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass

KEY_BYTES = 32


class KeyFileError(ValueError):
    """A key file cannot be used; says which line and what was expected, never what was found."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """event: for event ids, never changes. subjects: for pseudonyms, newest first. 32 bytes each."""

    event: bytes
    subjects: tuple[bytes, ...]


def new() -> str:
    """The text of a new key file."""
    event, subject = (base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() for _ in range(2))
    return (
        "# Keys of otel_ttf. Keep a copy, keep it secret: without them nobody can be found again.\n"
        f"event {event}\n"
        f"subject {subject}\n"
    )


def decode(text: str) -> bytes:
    """One key from base64. Raises KeyFileError."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"expected base64 of {KEY_BYTES} bytes")
    return key


def parse(text: str) -> Keys:
    """The keys of a key file: `event BASE64` once, `subject BASE64` newest first. Raises KeyFileError."""
    found: dict[str, list[bytes]] = {"event": [], "subject": []}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in found:
            raise KeyFileError(f"line {number}: expected `event BASE64` or `subject BASE64`")
        try:
            key = decode(words[1])
        except KeyFileError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        if key in found[words[0]]:
            raise KeyFileError(f"line {number}: expected another key than in a line before")
        found[words[0]].append(key)
    if len(found["event"]) != 1 or not found["subject"]:
        raise KeyFileError(
            f"expected one `event` line and at least one `subject` line, "
            f"found {len(found['event'])} and {len(found['subject'])}; `otel-ttf keys new` makes a key file"
        )
    return Keys(found["event"][0], tuple(found["subject"]))


def key_id(key: bytes) -> str:
    """4 characters a-z2-7 by which tokens name their key: of the SHA-256 of the key."""
    return base64.b32encode(hashlib.sha256(key).digest())[:4].decode().lower()


def fingerprint(key: bytes) -> str:
    """16 hex digits by which a store remembers a key without holding it."""
    return hashlib.sha256(b"otel_ttf fingerprint" + key).hexdigest()[:16]
