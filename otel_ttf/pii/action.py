"""What can be done with a value."""

from __future__ import annotations

from typing import Literal

Action = Literal["redact", "hash", "truncate", "partial", "encrypt", "drop", "keep"]
