"""Sealed values: what an encrypted value looks like, and what is asked of whoever seals. No keys, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

NONCE_BYTES, TAG_BYTES = 12, 16
SEALED = re.compile(r"e1v?_(?:[a-p]{2}){28,}")
"""`e1_` and two letters a-p a byte of nonce, ciphertext, tag; `e1v_`: vendors get nothing in its place.

Letters alone after the mark, so that no detector can take a part of it for personal data.
"""
FOR_US = re.compile(SEALED.pattern.replace("v?", "v"))
"""Those that vendors get nothing in the place of."""
_TO_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_TO_HEX = str.maketrans("abcdefghijklmnop", "0123456789abcdef")


class VaultUnavailable(Exception):
    """Nothing can be sealed or opened now; the sender should come again.

    reason       for operators: what is full, broken or out of reach; holds no secrets and no data of senders
    retry_after  seconds
    """

    def __init__(self, reason: str, retry_after: float = 5.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class CannotOpen(Exception):
    """A value stays sealed. The message holds neither the value nor a key."""


class Destroyed(CannotOpen):
    """The subject's key was destroyed: nobody can open the value any more."""


class Tampered(CannotOpen):
    """The value was changed, or belongs to another subject, path or rule for vendors."""


class UnknownKey(CannotOpen):
    """There is no such key here: the value comes from elsewhere, or a master key is missing."""


class Sealer(Protocol):
    """Seals values under a key per subject. Threads may share one."""

    def prepare(self, subjects: Iterable[str]) -> None:
        """Makes and loads the keys of a request's subjects at once. Raises VaultUnavailable."""

    def remember(self, ids: Mapping[str, str]) -> None:
        """Keeps the raw user id of each token, sealed. Raises VaultUnavailable."""

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """Those whose user ids may not be kept yet; the others cost a look-up."""

    def seal(self, subject: str, path: str, text: str, *, vendors: bool = True) -> str | None:
        """The sealed form; None: the subject's key was destroyed.

        subject  its token
        path     where the value stands; it opens only with the same path
        vendors  False: exporters leave it out for vendors
        The key is on the disk before this returns. Raises VaultUnavailable.
        """

    def open(self, subject: str, path: str, sealed: str) -> str:
        """The text. Raises Destroyed, Tampered, UnknownKey, VaultUnavailable."""


def is_sealed(text: str) -> bool:
    """Whether a text has exactly the form of a sealed value."""
    return text.startswith("e1") and SEALED.fullmatch(text) is not None


def to_text(data: bytes, *, vendors: bool) -> str:
    """The sealed form of nonce, ciphertext and tag."""
    return ("e1_" if vendors else "e1v_") + data.hex().translate(_TO_LETTERS)


def from_text(sealed: str) -> tuple[bytes, bool]:
    """(nonce, ciphertext and tag; whether vendors may have it). Raises Tampered: it has not the form."""
    if not is_sealed(sealed):
        raise Tampered("not a sealed value: expected e1_ or e1v_ and an even number of letters a to p")
    mark, _, letters = sealed.partition("_")
    return bytes.fromhex(letters.translate(_TO_HEX)), mark == "e1"


def bound_to(subject: str, path: str, *, vendors: bool) -> bytes:
    """The associated data: version, rule for vendors, subject and path, so that no two run into one another."""
    return b"\0".join(
        (
            b"otel_ttf sealed 1" if vendors else b"otel_ttf sealed 1, not for vendors",
            subject.encode("utf-8", "surrogatepass").hex().encode(),
            path.encode("utf-8", "surrogatepass"),
        )
    )
