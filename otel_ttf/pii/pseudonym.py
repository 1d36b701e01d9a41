"""Subjects: from a user id to its token (journeys.md, Identity)."""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.pii.keys import Keys, key_id

MAX_SUBJECT_BYTES = 512
TOKEN = re.compile(r"u1_[a-z2-7]{4}_[a-z2-7]{32}")
TOKEN_LENGTH = 40
_CACHED = 50_000
_TOGETHER = 64
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
        return self.of([subject])[subject] if token is None else token

    def of(self, subjects: Iterable[str]) -> dict[str, str]:
        """Subject -> token under the newest key. Many at once cost half of what one by one cost."""
        known = self._known
        found = {subject: known.get(subject) for subject in subjects}
        new = [subject for subject, token in found.items() if token is None]
        for first in range(0, len(new), _TOGETHER):
            some = new[first : first + _TOGETHER]
            made = dict(zip(some, _tokens(*self._hmacs[0], some), strict=True))
            found.update(made)
            if len(known) >= _CACHED:
                known = self._known = {}
            known.update(made)
        return cast(dict[str, str], found)

    def tokens(self, subject: str) -> list[str]:
        """The tokens under all keys, the newest first."""
        return [token for prefix, hmac in self._hmacs for token in _tokens(prefix, hmac, [subject])]


def _tokens(prefix: str, hmac: Hmac, subjects: Sequence[str]) -> list[str]:
    digest = hmac.digest
    # 160 bits each, in the lower end of 192.
    cells = [b"\0\0\0\0" + digest(s.encode("utf-8", "surrogatepass"))[:20] for s in subjects]
    bits = int.from_bytes(b"".join(cells), "big")
    for low, high, gap in _spread(len(cells)):
        bits = bits & low | (bits & high) << gap
    told = b2a_base64(bits.to_bytes(24 * len(cells), "big"), newline=False)
    text = str(told.translate(_TO_BASE32), "ascii")
    return [prefix + text[at : at + 32] for at in range(0, len(text), 32)]


@cache
def _spread(count: int) -> list[tuple[int, int, int]]:
    """_SPREAD for so many in a row."""
    return [
        (*(int.from_bytes(bits.to_bytes(24, "big") * count, "big") for bits in (low, high)), gap)  # type: ignore[misc]
        for low, high, gap in _SPREAD
    ]
