"""Personal data is replaced: by attribute key, and by what texts hold."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.tree import Rewriter
from otel_ttf.pii.detectors import DETECTORS, masked
from otel_ttf.pii.scanner import CONTENT, KEY, Patterns, Scanner
from otel_ttf.processors.base import Processor, Setting

REDACTED = "[REDACTED]"
# Words of a key, next to each other, whose value is masked whatever it is.
KEYS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secret key",
    "client secret",
    "authorization",
    "proxy authorization",
    "cookie",
    "set cookie",
    "api key",
    "apikey",
    "access key",
    "access token",
    "refresh token",
    "auth token",
    "id token",
    "bearer token",
    "session token",
    "private key",
    "credential",
    "credentials",
    "credit card",
    "card number",
    "cvv",
    "cvc",
    "ssn",
    "social security number",
    "iban",
)
# A key that goes on like this tells about the thing; its value is not the thing.
_ABOUT = frozenset(
    (
        *(
            "count",
            "counts",
            "length",
            "size",
            "type",
            "kind",
            "name",
            "names",
            "id",
            "ids",
            "version",
            "age",
        ),
        *("reset", "resets", "changed", "completed", "created", "deleted", "updated", "rotated", "used"),
        *("enabled", "disabled", "required", "expired", "expires", "expiry", "status", "state", "present"),
        *("result", "error", "errors", "hash", "policy", "provider", "attempts", "failed", "succeeded"),
        *("strength", "valid"),
    )
)


class Detectors(BaseModel):
    """What is looked for in texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: bool = Field(True, description="E-mail addresses become [EMAIL].")
    card: bool = Field(True, description="Payment card numbers become [CARD].")
    jwt: bool = Field(True, description="JSON web tokens become [TOKEN].")
    bearer: bool = Field(True, description="What follows Bearer or Basic becomes [TOKEN].")


class MaskConfig(BaseModel):
    """What is masked before anything is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[str, ...] = Field(
        (),
        description="Further keys whose values become [REDACTED]: words next to each other in a key, in any "
        "spelling; `tax id` is tax_id, taxId and customer.tax-id, too.",
    )
    detectors: Detectors = Field(Detectors(), description="What is looked for in texts.")


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@lru_cache(maxsize=8192)
def _words(key: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(key))


def _is_secret(key: str, phrases: tuple[tuple[str, ...], ...]) -> bool:
    words = _words(key)
    for phrase in phrases:
        size = len(phrase)
        for start in range(len(words) - size + 1):
            if words[start : start + size] == phrase and not _ABOUT.intersection(words[start + size :]):
                return True
    return False


def _phrases(config: MaskConfig) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(_words(key) for key in (*KEYS, *config.keys) if _words(key)))


def changes(config: MaskConfig, attribute: str) -> bool:
    """Whether the value of an attribute of that name is masked by its key."""
    return _is_secret(attribute, _phrases(config))


def patterns(config: MaskConfig, setting: Setting) -> Patterns:
    """Words of the keys with anything short between them, and the detectors' supersets."""
    return {
        KEY: ["[^A-Za-z0-9]?".join(map(re.escape, phrase)) for phrase in _phrases(config)],
        CONTENT: [detector.superset for detector in DETECTORS if getattr(config.detectors, detector.name)],
    }


def build(config: MaskConfig, setting: Setting, scanner: Scanner) -> Processor:
    """A processor that masks whatever the scan has found."""
    phrases = _phrases(config)
    detectors = tuple(detector for detector in DETECTORS if getattr(config.detectors, detector.name))

    @lru_cache(maxsize=8192)
    def value(key: str) -> str | None:
        return REDACTED if _is_secret(key, phrases) else None

    rewriter = Rewriter(lambda text: masked(text, detectors), value)

    def mask(batch: Batch) -> Batch:
        batch.scan(scanner)
        for piece in batch.hit(KEY | CONTENT):
            message = piece.message
            if piece.place >= 0:
                piece.changed |= rewriter.message(message)
                continue
            # Of what holds records only its own part: they are pieces themselves.
            piece.changed |= rewriter.message(message.resource if piece.place == -1 else message.scope)
            url = masked(message.schema_url, detectors)
            if url != message.schema_url:
                message.schema_url = url
                piece.changed = True
        return batch

    return mask
