"""What a match sees of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A masked record, as a match sees it; a log record named `signup` unless it says otherwise."""

    kind: str = "log"
    name: str = "signup"
    span_kind: str = ""
    status: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)
