"""What every door asks before it reads a body: who is it, may they, and how much.

Whatever is wrong with a key or a token, the answer is the same: which part it was is nobody's business. Where wrong
ones come too often, it is that one. A right one is never asked where it comes from: many may share an address.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Literal, Protocol

from prometheus_client import Counter

from otel_ttf.access.config import LimitConfig
from otel_ttf.access.keys import ApiKey, Scope, digest, id_of
from otel_ttf.access.sources import Sources
from otel_ttf.bucket import Bucket
from otel_ttf.telemetry import Telemetry
from otel_ttf.units import SECOND

Door = Literal["grpc", "http", "api"]
Why = Literal["unauthenticated", "too_often", "forbidden", "limited", "unavailable"]
LONGEST = 16 << 10  # characters of a credential; a token of an issuer with many groups has some 4,000
OF_SERVER = "environment"  # what the key in the server's environment is called, in the place of an id
MOST_CALLERS = 10_000  # users of an issuer that are told apart by what they send
GRANT = "otel_ttf.grant"  # in an ASGI scope: the Grant of who asks
_NOTHING = bytes(32)
_TOLD = {
    "unauthenticated": "expected an API key or token that is valid here, see docs/security.md",
    "too_often": "too many calls without an API key or token that is valid here have come from this address",
    "limited": "this key has sent what it may",
    "unavailable": "tokens cannot be checked now",
}


class Refused(Exception):
    """Nobody gets in: str() may be told to whoever asks.

    seconds  until it may be otherwise; 0.0: not by waiting
    """

    def __init__(self, why: Why, scope: Scope, seconds: float = 0.0) -> None:
        super().__init__(_TOLD.get(why) or f"expected a key or token with the scope {scope}")
        self.why = why
        self.seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        """Of an HTTP answer."""
        if self.why == "unauthenticated":
            return {"WWW-Authenticate": 'Bearer realm="otel-ttf"'}
        # Whole seconds, rounded up: 0 would mean at once.
        return {"Retry-After": str(max(1, math.ceil(self.seconds)))} if self.seconds else {}


# why -> HTTP status
STATUS: Mapping[Why, int] = {
    "unauthenticated": 401,
    "too_often": 429,
    "forbidden": 403,
    "limited": 429,
    "unavailable": 503,
}


class Buckets:
    """Calls and bytes of one caller. requests, size: a second; burst: seconds."""

    __slots__ = ("bytes", "requests")

    def __init__(self, requests: float | None, size: float | None, burst: float) -> None:
        self.requests = Bucket(requests, requests * burst) if requests else None
        self.bytes = Bucket(size, size * burst) if size else None

    def enter(self, now: int) -> float:
        """Takes a call; seconds until one may come, 0.0: it is taken. now: ns of a clock that only grows."""
        wait = self.requests.wait(1, now) if self.requests is not None else 0.0
        if self.bytes is not None:
            wait = max(wait, self.bytes.wait(1, now))
        if self.requests is not None and not wait:
            self.requests.take(1)
        return wait


@dataclass(frozen=True, slots=True)
class Grant:
    """Somebody who may do something.

    scopes          an admin has all of them
    trusted_tokens  user ids that are tokens already are taken as they are
    """

    scopes: frozenset[Scope]
    buckets: Buckets
    used: Counter
    trusted_tokens: bool = False
    good: Callable[[float], bool] = lambda _now: True

    def may(self, scope: Scope) -> bool:
        """Whether the scope is among them."""
        return scope in self.scopes or "admin" in self.scopes

    def charge(self, size: int) -> None:
        """Notes what came in by a call: bytes."""
        if self.buckets.bytes is not None:
            self.buckets.bytes.take(size)


class Tokens(Protocol):
    """What checks the tokens of an issuer."""

    async def check(self, token: str) -> tuple[str, frozenset[Scope]] | None:
        """(whose it is, what they may); None: it is not good. Raises Unavailable."""


class Unavailable(Exception):
    """Tokens cannot be checked now. seconds: until it may be otherwise."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class Gate:
    """Lets callers in. One event loop calls, and any thread may change the keys.

    own       a key that is not in the file: that of the server's environment
    tokens    None: only API keys are known
    refusals  of each source a second; None: all it likes
    now       unix seconds
    """

    def __init__(
        self,
        telemetry: Telemetry,
        limits: LimitConfig,
        keys: Sequence[ApiKey] = (),
        own: str | None = None,
        tokens: Tokens | None = None,
        *,
        refusals: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._telemetry = telemetry
        self._limits = limits
        self._tokens = tokens
        self._now = now
        self._sources = Sources(refusals) if refusals is not None else None
        self._buckets: dict[str, tuple[tuple[object, ...], Buckets]] = {}
        self._callers: OrderedDict[str, Buckets] = OrderedDict()
        self._own: tuple[bytes, Grant] | None = None
        self._known: Mapping[str, tuple[bytes, Grant]] = {}
        if own is not None:
            grant = self._granted(ApiKey(OF_SERVER, b"", frozenset({"ingest", "read"})))
            self._own = digest(own), grant
        self.change(keys)

    def change(self, keys: Sequence[ApiKey]) -> None:
        """These are the keys from now on; one that was there before has what it had of its limits."""
        for gone in self._buckets.keys() - {key.id for key in keys} - {OF_SERVER}:
            del self._buckets[gone]
        self._known = {key.id: (key.digest, self._granted(key)) for key in keys}

    def _granted(self, key: ApiKey) -> Grant:
        rates = (
            key.requests_per_second or self._limits.requests_per_second,
            key.bytes_per_second or self._limits.bytes_per_second,
        )
        before, buckets = self._buckets.get(key.id, ((), None))
        if buckets is None or before != rates:
            buckets = Buckets(*rates, self._limits.burst / SECOND)
            self._buckets[key.id] = rates, buckets
        return Grant(key.scopes, buckets, self._telemetry.key_used(key.id), key.trusted_tokens, key.good)

    async def admit(self, door: Door, scope: Scope, credential: str | None, source: str) -> Grant:
        """Who has this credential, and may. Raises Refused, which is counted. source: see sources.network"""
        try:
            grant = await self._admitted(scope, credential)
        except Refused as refused:
            if refused.why == "unauthenticated" and (wait := self._refuse(source)):
                refused = Refused("too_often", scope, wait)
            self._telemetry.access_refused(door, refused.why)
            raise refused from None
        grant.used.inc()
        return grant

    async def knows(self, scope: Scope, credential: str | None, source: str) -> bool:
        """Whether they would be let in; nothing is counted."""
        try:
            grant = await self._who(scope, credential)
        except Refused as refused:
            if credential and refused.why == "unauthenticated":
                self._refuse(source)
            return False
        return grant.may(scope)

    def _refuse(self, source: str) -> float:
        return self._sources.refuse(source, time.monotonic_ns()) if self._sources is not None else 0.0

    async def _admitted(self, scope: Scope, credential: str | None) -> Grant:
        grant = await self._who(scope, credential)
        if not grant.may(scope):
            raise Refused("forbidden", scope)
        if wait := grant.buckets.enter(time.monotonic_ns()):
            raise Refused("limited", scope, wait)
        return grant

    async def _who(self, scope: Scope, credential: str | None) -> Grant:
        if not credential or len(credential) > LONGEST:
            raise Refused("unauthenticated", scope)
        grant = self._by_key(credential)
        if grant is None and self._tokens is not None and credential.count(".") == 2:
            try:
                found = await self._tokens.check(credential)
            except Unavailable as error:
                raise Refused("unavailable", scope, error.seconds) from None
            if found is not None:
                grant = Grant(found[1], self._of_caller(found[0]), self._telemetry.key_used("token"))
        if grant is None:
            raise Refused("unauthenticated", scope)
        return grant

    def _by_key(self, credential: str) -> Grant | None:
        # Always one hash and the same comparisons, whether there is a key of that id or not.
        shown = digest(credential)
        kept, grant = self._known.get(id_of(credential) or "", (_NOTHING, None))
        own, of_server = self._own or (_NOTHING, None)
        known, is_own = compare_digest(shown, kept), compare_digest(shown, own)
        found = grant if known else of_server if is_own else None
        return found if found is not None and found.good(self._now()) else None

    def _of_caller(self, who: str) -> Buckets:
        buckets = self._callers.pop(who, None)
        if buckets is None:
            limits = self._limits
            buckets = Buckets(limits.requests_per_second, limits.bytes_per_second, limits.burst / SECOND)
            if len(self._callers) >= MOST_CALLERS:
                self._callers.popitem(last=False)
        self._callers[who] = buckets
        return buckets


def credential(authorizations: Sequence[str], keys: Sequence[str]) -> str | None:
    """What somebody shows, of the values of `authorization` and `x-api-key`; None: nothing, or not exactly one."""
    if len(authorizations) + len(keys) != 1:
        return None
    if keys:
        return keys[0].strip()
    scheme, _, rest = authorizations[0].strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else None


def of_http(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """See credential. headers: names in small letters."""
    shown: tuple[list[str], list[str]] = [], []
    for name, value in headers:
        if name == b"authorization":
            shown[0].append(value.decode("latin-1"))
        elif name == b"x-api-key":
            shown[1].append(value.decode("latin-1"))
    return credential(*shown)


def came_from(scope: Mapping[str, Any]) -> str:
    """Where a request of HTTP comes from, of its ASGI scope."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def of_grpc(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """See credential."""
    shown: tuple[list[str], list[str]] = [], []
    for name, value in metadata:
        if name == "authorization":
            shown[0].append(str(value))
        elif name == "x-api-key":
            shown[1].append(str(value))
    return credential(*shown)
