"""How callers are told apart, and how much each may send."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otel_ttf.units import SECOND, Duration, Size


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
    limits: LimitConfig = Field(default=LimitConfig(), description="What each key may send.")
