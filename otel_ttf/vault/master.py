"""Master keys wrap data keys. One interface; where the master key is, is its own affair."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from otel_ttf.pii.sealed import VaultUnavailable


class MasterUnavailable(VaultUnavailable):
    """Whoever holds the master key cannot be reached, is overloaded or sealed: it may work later."""


class MasterRefused(VaultUnavailable):
    """Whoever holds the master key refuses us (credentials, permissions, settings) until somebody mends it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 30.0)


class Wrapped(NamedTuple):
    """A data key under a master key. key_id says which one, also to operators; it is no secret."""

    key_id: str
    data: bytes


class MasterKey(Protocol):
    """Threads may share one.

    Errors hold no keys and no answers of others. Each method raises VaultUnavailable (MasterUnavailable after
    some tries, MasterRefused at once) where whoever holds the key does not do as asked.
    """

    @property
    def remote(self) -> bool:
        """Whether each call is a question to another machine, so that several at once are faster."""

    def wrap(self, data_key: bytes, context: str) -> Wrapped:
        """The data key under the newest master key. It is unwrapped only with the same context (the subject)."""

    def unwrap(self, wrapped: Wrapped, context: str) -> bytes:
        """The data key. Raises Tampered: changed, or of another context. Raises UnknownKey."""

    def knows(self, key_id: str) -> bool:
        """Whether data keys under that master key can be ours to unwrap; asks nobody."""

    def newest(self) -> str | None:
        """Id of the key that wraps from now on; None: only whoever holds it knows."""

    def close(self) -> None:
        """Lets go of connections."""
