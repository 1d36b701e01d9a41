"""Seals and opens values: data keys from the file, unwrapped once and kept for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from otel_ttf.pii.keys import KEY_BYTES
from otel_ttf.pii.sealed import (
    NONCE_BYTES,
    CannotOpen,
    Destroyed,
    Tampered,
    UnknownKey,
    VaultUnavailable,
    bound_to,
    from_text,
    to_text,
)
from otel_ttf.vault.file import New, Row, VaultFile
from otel_ttf.vault.master import MasterKey

KEYS = 20_000  # unwrapped keys in memory, at most
KEEP_SECONDS = 600.0  # an unwrapped key is asked for anew after that
LOOK_SECONDS = 0.2  # so old may be what we know of keys that another process destroyed
REMEMBERED = 200_000  # tokens whose user ids are known to be kept
ASK_AT_ONCE = 16  # questions to a remote master key
ID_PATH = "(user id)"

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Loaded(NamedTuple):
    """key None: it was destroyed, which lasts. until: by the monotonic clock."""

    key: AESGCM | None
    until: float


class _Found(NamedTuple):
    """key None: destroyed. row None: made just now, with its user id if there was one to keep."""

    key: AESGCM | None
    row: Row | None


class Vault:
    """The keys of all subjects (a Sealer, see pii.sealed). Threads may share one.

    may_grow  called before new keys are made; raises when what they are for cannot be kept
    """

    def __init__(
        self,
        file: VaultFile,
        master: MasterKey,
        *,
        keys: int = KEYS,
        keep_seconds: float = KEEP_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file = file
        self.may_grow: Callable[[], None] = lambda: None
        self.master = master
        self._most = keys
        self._keep = keep_seconds
        self._now = now
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._remembered: dict[str, None] = {}
        self._pool = ThreadPoolExecutor(ASK_AT_ONCE, "master-key") if master.remote else None
        file.changed()
        _, self._destroyed = file.destroyed_since(0)
        self._looked = now()

    @property
    def file_id(self) -> str:
        """Of the file; it stays."""
        return self.file.file_id

    def close(self) -> None:
        """Lets go of everything; nothing is pending."""
        if self._pool is not None:
            self._pool.shutdown()
        self.master.close()
        self.file.close()
        with self._lock:
            self._loaded.clear()

    # Sealing and opening.

    def prepare(self, subjects: Iterable[str]) -> None:
        self._look()
        with self._lock:
            missing = [subject for subject in dict.fromkeys(subjects) if self._cached(subject) is None]
        if missing:
            self._load(missing, make=True)

    def seal(self, subject: str, path: str, text: str, *, vendors: bool = True) -> str | None:
        key = self._key(subject, make=True)
        if key is None:
            return None
        bound = bound_to(subject, path, vendors=vendors)
        return to_text(_encrypt(key, bound, text), vendors=vendors)

    def open(self, subject: str, path: str, sealed: str) -> str:
        data, vendors = from_text(sealed)
        return _decrypt(self._key_to_open(subject), bound_to(subject, path, vendors=vendors), data)

    def remember(self, ids: Mapping[str, str]) -> None:
        unknown = {token: ids[token] for token in self.unknown(ids)}
        if not unknown:
            return
        self._look()
        late = []
        for token, (key, row) in self._load(list(unknown), make=True, ids=unknown).items():
            if key is not None and row is not None and row.sealed_id is None:
                late.append((_encrypt(key, _id_bound(token), unknown[token]), row.id))
        if late:
            self.file.keep_ids(late)
        known = self._remembered
        if len(known) + len(unknown) > REMEMBERED:
            self._remembered = known = {}
        known.update(dict.fromkeys(unknown))

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        known = self._remembered
        return [token for token in tokens if token not in known]

    def reveal(self, subject: str) -> str | None:
        """The raw user id of a token; None: it was not kept. Raises as `open`."""
        key = self._key_to_open(subject)
        row = self.file.rows([subject]).get(subject)
        if row is None or row.sealed_id is None:
            return None
        return _decrypt(key, _id_bound(subject), row.sealed_id)

    def destroy(self, subjects: Iterable[str]) -> dict[str, bool]:
        """Ends what was sealed for the subjects, for good, everywhere; subject -> whether there was a key.

        Raises VaultUnavailable: to be called again, until no bytes of the keys are left in the files.
        """
        names = list(subjects)
        had = self.file.destroy(names)
        with self._lock:
            for name in names:
                self._put(name, None)
        self.file.checkpoint()
        return had

    # Keys.

    def _key_to_open(self, subject: str) -> AESGCM:
        key = self._key(subject, make=False)
        if key is None:
            raise Destroyed("the subject's key was destroyed")
        return key

    def _key(self, subject: str, *, make: bool) -> AESGCM | None:
        """None: it was destroyed. Raises UnknownKey: there is none, and none is to be made."""
        self._look()
        with self._lock:
            loaded = self._cached(subject)
        if loaded is not None:
            return loaded.key
        found = self._load([subject], make=make).get(subject)
        if found is None:
            raise UnknownKey("there is no key of this subject here")
        return found.key

    def _cached(self, subject: str) -> _Loaded | None:
        loaded = self._loaded.get(subject)
        if loaded is None:
            return None
        if loaded.key is not None and loaded.until < self._now():
            del self._loaded[subject]
            return None
        self._loaded.move_to_end(subject)
        return loaded

    def _put(self, subject: str, key: AESGCM | None) -> None:
        now = self._now()
        self._loaded[subject] = _Loaded(key, now + self._keep)
        self._loaded.move_to_end(subject)
        while self._loaded:
            first = next(iter(self._loaded))
            if len(self._loaded) <= self._most and self._loaded[first].until >= now:
                break
            del self._loaded[first]

    def _look(self) -> None:
        """Forgets keys that another process destroyed."""
        now = self._now()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self.file.changed():
            gone, last = self.file.destroyed_since(self._destroyed)
            with self._lock:
                for subject in gone:
                    self._put(subject, None)
                self._destroyed = max(last, self._destroyed)

    def _load(
        self, subjects: list[str], *, make: bool, ids: Mapping[str, str] | None = None
    ) -> dict[str, _Found]:
        """Puts the subjects' keys into memory, made if need be, with their user ids."""
        rows = self.file.rows(subjects)
        missing = [subject for subject in subjects if subject not in rows]
        keys: dict[str, AESGCM | None] = {}
        if missing and make:
            self.may_grow()
            keys |= self._made(missing, ids)
            # Another process may have been faster with some of them: what the file has is what counts.
            beaten = [subject for subject in missing if subject not in keys]
            if beaten:
                rows |= self.file.rows(beaten)
        live = [row for row in rows.values() if row.wrapped is not None]
        keys |= dict.fromkeys(rows)
        try:
            keys |= dict(zip((row.subject for row in live), self._each(self._unwrapped, live), strict=True))
        except CannotOpen as error:
            if make:  # a damaged vault must not let anything pass, nor be the sender's fault
                raise VaultUnavailable(f"{self.file.path}: {error}", 30.0) from None
            raise
        with self._lock:
            for subject in keys:
                held = self._loaded.get(subject)
                if held is not None and held.key is None:
                    keys[subject] = None  # destroyed while we were at it
                self._put(subject, keys[subject])
        return {subject: _Found(key, rows.get(subject)) for subject, key in keys.items()}

    def _made(self, subjects: list[str], ids: Mapping[str, str] | None) -> dict[str, AESGCM]:
        """New keys, on the disk; those that the file had already are left out."""
        plain = {subject: secrets.token_bytes(KEY_BYTES) for subject in subjects}
        keys = {subject: AESGCM(key) for subject, key in plain.items()}
        sealed = [
            None if ids is None else _encrypt(key, _id_bound(subject), ids[subject])
            for subject, key in keys.items()
        ]
        added = None
        while added is None:
            generation = self.file.generation()
            wraps = self._each(lambda subject: self.master.wrap(plain[subject], subject), subjects)
            added = self.file.insert(
                [New(*each) for each in zip(subjects, wraps, sealed, strict=True)], generation
            )
        return {subject: keys[subject] for subject in added}

    def _unwrapped(self, row: Row) -> AESGCM:
        wrapped = row.wrapped
        assert wrapped is not None
        return AESGCM(self.master.unwrap(wrapped, row.subject))

    def _each(self, do: Callable[[_T], _R], items: list[_T]) -> list[_R]:
        """In order; several at once where each is a question to another machine."""
        if self._pool is None or len(items) < 2:
            return [do(item) for item in items]
        return list(self._pool.map(do, items))


def _id_bound(subject: str) -> bytes:
    return bound_to(subject, ID_PATH, vendors=False)


def _encrypt(key: AESGCM, bound: bytes, text: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + key.encrypt(nonce, text.encode("utf-8", "surrogatepass"), bound)


def _decrypt(key: AESGCM, bound: bytes, data: bytes) -> str:
    try:
        plain = key.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise Tampered("changed, or sealed for another subject, path or rule for vendors") from None
    return plain.decode("utf-8", "surrogatepass")
