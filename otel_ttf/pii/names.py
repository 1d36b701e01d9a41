"""Keys whose values are secret whatever they are: `password`, `apiKey`, `x-api-key`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from otel_ttf.pii.scanner import KEY, Pattern

# Words that stand next to each other in a key, in any spelling: `api key` is api_key, apiKey, X-API-Key, apikey.
PHRASES = (
    "pass word",
    "passwd",
    "pass phrase",
    "pwd",
    "secret",
    "secrets",
    "secret key",
    "authorization",
    "cookie",
    "cookies",
    "set cookie",
    "api key",
    "api secret",
    "api token",
    "access key",
    "access token",
    "auth token",
    "bearer token",
    "csrf token",
    "id token",
    "refresh token",
    "security token",
    "session token",
    "private key",
    "credential",
    "credentials",
    "credit card",
    "card number",
    "card pan",
    "card cvc",
    "cvv",
    "cvv2",
    "cvc",
    "ssn",
    "social security",
    "social security number",
)
# A key that ends like this tells about the thing; its value is not the thing.
_ABOUT = frozenset(
    [
        "algorithm",
        "attempt",
        "attempts",
        "changed",
        "completed",
        "count",
        "created",
        "deleted",
        "disabled",
        "duration",
        "enabled",
        "error",
        "errors",
        "expired",
        "expires",
        "expiry",
        "failed",
        "id",
        "ids",
        "kind",
        "length",
        "method",
        "missing",
        "ms",
        "name",
        "names",
        "policy",
        "present",
        "provider",
        "required",
        "requested",
        "reset",
        "resets",
        "result",
        "rotated",
        "seconds",
        "sent",
        "size",
        "state",
        "status",
        "strength",
        "succeeded",
        "total",
        "ttl",
        "type",
        "types",
        "updated",
        "used",
        "valid",
        "version",
    ]
)
LONGEST_REMEMBERED = 256
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class SecretNames:
    """Tells which keys are secret.

    phrases   words next to each other, in any spelling
    patterns  for the one scan
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        told = list(dict.fromkeys(words for phrase in phrases if (words := _words(phrase))))
        alternatives = "|".join(" ?".join(words) for words in told)
        # Without phrases, a look-ahead that never holds.
        self._found = re.compile(f"(?<![^ ])(?:{alternatives})(?![^ ])" if told else "(?!)")
        self.patterns = [Pattern(KEY, "[^A-Za-z0-9]*".join(words)) for words in told]
        self._remembered = lru_cache(maxsize=4096)(self._match)

    def match(self, key: str) -> bool:
        """Whether the value of a key is secret."""
        # A sender's keys may be long, and 4,096 of them would be remembered.
        return self._match(key) if len(key) > LONGEST_REMEMBERED else self._remembered(key)

    def _match(self, key: str) -> bool:
        words = _words(key)
        found = list(self._found.finditer(" ".join(words)))
        return bool(found) and (words[-1] not in _ABOUT or found[-1].end() == len(" ".join(words)))


def _words(key: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(key))
