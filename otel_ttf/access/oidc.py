"""Tokens of an OpenID Connect issuer: signed by it, for us, and good now.

Keys are fetched by the issuer's address and kept. While it cannot be reached the last ones count, for a bounded time. A
token that names a key we do not know has them fetched anew, though not more often than every half minute: strangers
can name any.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from otel_ttf.access.config import DISCOVERY, OidcConfig, address
from otel_ttf.access.gate import Unavailable
from otel_ttf.access.hosts import loopback
from otel_ttf.access.keys import Scope
from otel_ttf.access.watch import Unusable
from otel_ttf.units import SECOND

AGAIN_SECONDS = 30.0  # after keys were fetched, or could not be
FETCH_SECONDS = 5.0
LARGEST = 1 << 20  # bytes of what the issuer answers
MOST_KEYS = 100
MOST_TRIED = 5  # keys for a token that names none
_LEAST_RSA_BITS = 2048
_NOT_GOOD = (JoseError, ValueError, TypeError, KeyError, RecursionError, OverflowError)

log = structlog.get_logger()


class _Unfit(ValueError):
    """What the issuer answers is not what it should be; the message says what was found and expected."""


class Issuer:
    """Checks tokens. One event loop.

    now, clock  unix seconds; seconds that only grow
    told        is called with whether the keys could be fetched
    """

    def __init__(
        self,
        config: OidcConfig,
        *,
        told: Callable[[bool], object] = lambda _: None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises Unusable: the certificates cannot be read."""
        self._config = config
        self._told = told
        self._now = now
        self._clock = clock
        self._scopes: Mapping[Scope, frozenset[str]] = {
            "ingest": frozenset(config.scopes.ingest),
            "read": frozenset(config.scopes.read),
            "admin": frozenset(config.scopes.admin),
        }
        self._keys: Sequence[jwk.Key] = ()
        self._fetched = -math.inf  # by the clock
        self._tried = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        self._failing = False
        try:
            self._trust = ssl.create_default_context(cafile=config.issuer_ca_path)
        except OSError:  # ssl.SSLError is one
            raise Unusable(f"auth.oidc.issuer_ca_path: {config.issuer_ca_path} cannot be used") from None

    async def check(self, token: str) -> tuple[str, frozenset[Scope]] | None:
        """(whose it is, what they may); None: it is not good. Raises Unavailable."""
        header = _header(token)
        if header is None or header["alg"] not in self._config.algorithms:
            return None
        for key in (await self._candidates(header))[:MOST_TRIED]:
            with suppress(*_NOT_GOOD):
                return self._read(jwt.decode(token, key, algorithms=[header["alg"]]).claims)
        return None

    async def close(self) -> None:
        """Ends what is fetched."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def prepare(self) -> None:
        """Fetches keys, so that the first token need not wait for them."""
        self._begin()

    def _read(self, claims: dict[str, Any]) -> tuple[str, frozenset[Scope]]:
        """Raises ValueError, JoseError."""
        config = self._config
        now = self._now()
        jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=config.leeway // SECOND,
            iss={"essential": True, "value": config.issuer_url},
            aud={"essential": True, "values": list(config.audience)},
            exp={"essential": True},
        ).validate(claims)
        if not math.isfinite(claims["exp"]):
            raise ValueError
        whose = claims.get("sub") or claims.get("client_id") or claims.get("azp")
        if not isinstance(whose, str):
            raise ValueError
        values = _values(claims, config.scopes_claim)
        return whose, frozenset(
            scope for scope, wanted in self._scopes.items() if not wanted.isdisjoint(values)
        )

    async def _candidates(self, header: Mapping[str, Any]) -> list[jwk.Key]:
        """Keys that may have signed it. Raises Unavailable."""
        age = self._clock() - self._fetched
        if age > self._config.keep / SECOND:
            await self._fetch()
            if self._clock() - self._fetched > self._config.keep / SECOND:
                raise Unavailable(max(1.0, self._tried + AGAIN_SECONDS - self._clock()))
        elif age > self._config.refresh / SECOND:
            self._begin()
        found = self._fitting(header)
        if not found and header.get("kid") is not None:
            await self._fetch()
            found = self._fitting(header)
        return found

    def _fitting(self, header: Mapping[str, Any]) -> list[jwk.Key]:
        kid = header.get("kid")
        return [
            key
            for key in self._keys
            if (kid is None or key.kid == kid) and key.get("alg") in (None, header["alg"])
        ]

    def _begin(self) -> asyncio.Task[None] | None:
        """What fetches keys; None: it was tried just now."""
        if self._fetching is None:
            if self._clock() - self._tried < AGAIN_SECONDS:
                return None
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetched_anew())
        return self._fetching

    async def _fetch(self) -> None:
        if (fetching := self._begin()) is not None:
            await asyncio.shield(fetching)  # others wait for it, too

    async def _fetched_anew(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._keys = await self._from_issuer()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, *_NOT_GOOD) as error:
            self._told(False)
            if not self._failing:
                self._failing = True
                log.error(
                    "keys of the issuer cannot be fetched: the last ones count for auth.oidc.keep",
                    issuer=self._config.issuer_url,
                    reason=str(error) if isinstance(error, _Unfit) else type(error).__name__,
                )
        else:
            self._fetched = self._clock()
            self._told(True)
            self._failing = False
        finally:
            self._fetching = None

    async def _from_issuer(self) -> Sequence[jwk.Key]:
        config = self._config
        local = loopback(urlsplit(config.jwks_url or config.issuer_url).hostname or "")
        async with httpx2.AsyncClient(
            verify=self._trust, timeout=FETCH_SECONDS, follow_redirects=False, trust_env=not local
        ) as client:
            url = config.jwks_url
            if url is None:
                document = await _json(client, config.issuer_url.rstrip("/") + DISCOVERY)
                if document["issuer"] != config.issuer_url:
                    raise _Unfit(
                        "it calls itself otherwise: set auth.oidc.issuer_url to its `issuer`, to the letter"
                    )
                try:
                    url = address(str(document["jwks_uri"]))
                except ValueError as error:
                    raise _Unfit(f"its jwks_uri: {error}") from None
            keys = _public(await _json(client, url))
        if not keys:
            raise _Unfit("expected a public key for signatures, found none")
        return keys


async def _json(client: httpx2.AsyncClient, url: str) -> Any:
    """Raises httpx2.HTTPError, ValueError, RecursionError."""
    content = b""
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise _Unfit(f"expected 200 at {urlsplit(url).path}, found {response.status_code}")
        async for part in response.aiter_bytes():
            content += part
            if len(content) > LARGEST:
                raise _Unfit(f"expected at most {LARGEST} bytes at {urlsplit(url).path}, found more")
    return json.loads(content)


def _public(document: Any) -> list[jwk.Key]:
    """Keys by which signatures can be checked; what we do not understand is left out. Raises KeyError, TypeError."""
    keys = []
    for told in list(document["keys"])[:MOST_KEYS]:
        if told.get("kty") not in ("RSA", "EC", "OKP") or told.get("use", "sig") != "sig":
            continue
        with suppress(*_NOT_GOOD):
            key = jwk.import_key(told)
            if not isinstance(key, jwk.RSAKey) or key.public_key.key_size >= _LEAST_RSA_BITS:
                keys.append(key)
    return keys


def _header(token: str) -> dict[str, Any] | None:
    """The header of a token, before anything is believed; None: it is none that we take."""
    try:
        first = token.partition(".")[0]
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(header.get("alg"), str):
        return None
    if not isinstance(header.get("kid"), str | None) or "crit" in header or "b64" in header:
        return None
    return header


def _values(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Those of a claim: a text with blanks between, or a list; a.b is b in a, unless there is a claim a.b."""
    found: Any = claims.get(name)
    if found is None:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, str):
        return frozenset(found.split())
    return (
        frozenset(value for value in found if isinstance(value, str))
        if isinstance(found, list)
        else frozenset()
    )
