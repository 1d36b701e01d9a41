"""Where the HTTP application listens."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[^\[\]:/\s]*):([0-9]{1,5})")


def _endpoint(text: str) -> str:
    match = _ENDPOINT.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return text


class ApiConfig(BaseModel):
    """The HTTP API: figures, journeys, metrics, health; REST events and OTLP/HTTP, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        "127.0.0.1:8080", description="host:port to listen on; 127.0.0.1 is reachable from this machine only."
    )
    max_connections: int | None = Field(
        None,
        ge=1,
        description="Connections at a time; beyond, one that waits for a request is closed, first of those that "
        "never sent one. By default 1000, or a quarter of the limit of open files.",
    )
