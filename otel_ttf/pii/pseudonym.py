"""Subjects: from a user id to its token (journeys.md, Identity)."""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.pii.keys import Keys, key_id

MAX_SUBJECT_BYTES = 512
TOKEN = re.compile(r"u1_[a-z2-7]{4}_[a-z2-7]{32}")
TOKEN_LENGTH = 40
_CACHED = 50_000
# Base32 by way of base64, twice as fast as base64.b32encode: the 160 bits are spread until a zero bit stands before
# every five, by halving: 80 bits each, then 40, 20, 10, 5. Of base64's letters the first 32 are then in use.
_SPREAD = [
    (low, low << width, gap)
    for width, gap in ((80, 16), (40, 8), (20, 4), (10, 2), (5, 1))
    for low in [sum(((1 << width) - 1) << 2 * (width + gap) * at for at in range(80 // width))]
]
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"
_TO_BASE32 = bytes.maketrans(_BASE64, b"abcdefghijklmnopqrstuvwxyz234567")


class SubjectConfig(BaseModel):
    """Which attributes name the user, and how ids are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: tuple[str, ...] = Field(
        ("user.id", "enduser.id", "user_id"),
        alias="from",
        min_length=1,
        description="Attributes that may hold the user id: the first one present counts, in the record, then the "
        "span, then the resource. Every one of them is replaced by its token.",
    )
    normalise: Literal["none", "lower"] = Field(
        "none", description="`lower`: ids that differ in case only are one user."
    )


def is_token(text: str) -> bool:
    """Whether a text has exactly the form of a token."""
    return len(text) == TOKEN_LENGTH and TOKEN.fullmatch(text) is not None


def subject_text(value: object, normalise: str = "none") -> str | None:
    """The subject id that a value stands for; None for an empty one and for what is no id.

    A string, an integer as decimal text, a list of one as its element; trimmed. It may be too long: see
    MAX_SUBJECT_BYTES.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    if normalise == "lower":
        text = text.lower()
    return text or None


class Hmac:
    """HMAC-SHA-256 with a fixed key: both hash states are prepared once and copied (RFC 2104).

    digest  of a message, 32 bytes
    """

    __slots__ = ("digest",)

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        start_inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block)).copy
        start_outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block)).copy

        # A closure: it runs twice for each event.
        def digest(message: bytes) -> bytes:
            inner = start_inner()
            inner.update(message)
            outer = start_outer()
            outer.update(inner.digest())
            return outer.digest()

        self.digest = digest


class Pseudonyms:
    """Tokens for subject ids. Threads may share one."""

    def __init__(self, keys: Keys) -> None:
        self._hmacs = [(f"u1_{key_id(key)}_", Hmac(key)) for key in keys.subjects]
        self._known: dict[str, str] = {}

    def token(self, subject: str) -> str:
        """The token under the newest key."""
        token = self._known.get(subject)
        if token is None:
            token = _token(*self._hmacs[0], subject)
            if len(self._known) >= _CACHED:
                self._known = {}
            self._known[subject] = token
        return token

    def tokens(self, subject: str) -> list[str]:
        """The tokens under all keys, the newest first."""
        return [_token(prefix, hmac, subject) for prefix, hmac in self._hmacs]


def _token(prefix: str, hmac: Hmac, subject: str) -> str:
    bits = int.from_bytes(hmac.digest(subject.encode("utf-8", "surrogatepass"))[:20], "big")
    for low, high, gap in _SPREAD:
        bits = bits & low | (bits & high) << gap
    told = b2a_base64(bits.to_bytes(24, "big"), newline=False)
    return prefix + str(told.translate(_TO_BASE32), "ascii")
