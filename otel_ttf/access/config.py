"""How callers are told apart, and how much each may send."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from otel_ttf.access.hosts import loopback
from otel_ttf.units import HOUR, MINUTE, SECOND, Duration, Size


class LimitConfig(BaseModel):
    """What each API key, or user of an issuer, may send; a key may have limits of its own. Without: all it likes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: float | None = Field(default=None, gt=0, description="Calls through any door.")
    bytes_per_second: Size | None = Field(
        default=None, ge=1, description="Bytes of telemetry, after decompression."
    )
    burst: Duration = Field(
        default=5 * SECOND, gt=0, description="What was not used in so long may come at once."
    )


DISCOVERY = "/.well-known/openid-configuration"
# Only those with a public key: with a shared one, whoever can check a token can make one.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]


def address(url: str) -> str:
    """Where an issuer may be. Raises ValueError."""
    parts = urlsplit(url)
    if not parts.hostname or not (
        parts.scheme == "https" or (parts.scheme == "http" and loopback(parts.hostname))
    ):
        raise ValueError("expected a URL that begins with https://")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("expected a URL without user, query and fragment")
    return url


class OidcScopes(BaseModel):
    """What the values of the claim stand for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingest: tuple[str, ...] = Field(default=("otel-ttf.ingest",), description="Those that may send.")
    read: tuple[str, ...] = Field(default=("otel-ttf.read",), description="Those that may ask.")
    admin: tuple[str, ...] = Field(default=("otel-ttf.admin",), description="Those that may do all.")


class OidcConfig(BaseModel):
    """Tokens (JWT) of an OpenID Connect issuer are taken beside API keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer_url: Annotated[str, AfterValidator(address)] = Field(
        description="As it stands in tokens (`iss`); its keys are found by " + DISCOVERY + "."
    )
    jwks_url: Annotated[str, AfterValidator(address)] | None = Field(
        default=None, description="Where its keys are, if they are not to be looked for."
    )
    audience: tuple[str, ...] = Field(
        min_length=1, description="Whom tokens are for (`aud`): one of these, or they are for somebody else."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="By which they may be signed."
    )
    scopes_claim: str = Field(
        default="scope",
        min_length=1,
        description="Where a token says what its owner may: a text with blanks between, or a list; a.b is b in a.",
    )
    scopes: OidcScopes = Field(default=OidcScopes(), description="What its values stand for.")
    leeway: Duration = Field(
        default=MINUTE, le=10 * MINUTE, description="By how much the issuer's clock may be another than ours."
    )
    refresh: Duration = Field(
        default=15 * MINUTE, ge=MINUTE, description="After which keys are fetched anew."
    )
    keep: Duration = Field(
        default=24 * HOUR, description="How long the last keys count while the issuer does not answer."
    )
    issuer_ca_path: str | None = Field(
        default=None,
        description="Who has signed the issuer's certificate; without: whom this machine trusts.",
    )


class AuthConfig(BaseModel):
    """Who may send and ask. As soon as there is an API key, nobody gets in without one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    required: bool | None = Field(
        default=None,
        description="true: no start without keys; false: nobody is asked who they are, even if there are keys.",
    )
    keys_file: str | None = Field(
        default=None, description="From `otel-ttf api-keys new`; by default `api-keys` in the data directory."
    )
    metrics: Literal["read", "open"] = Field(
        default="read",
        description="Whether /metrics needs a key with the scope read, or is open to everybody.",
    )
    oidc: OidcConfig | None = Field(default=None, description="Tokens of an issuer are taken, too.")
    limits: LimitConfig = Field(default=LimitConfig(), description="What each key may send.")
    refusals_per_second: float | None = Field(
        default=1.0,
        gt=0,
        description="Calls without a good key from one address (IPv6: one /64) that hear so, a minute's worth of them "
        "at once; more are asked to come later. null: all hear it. A good key is never held up by this.",
    )
