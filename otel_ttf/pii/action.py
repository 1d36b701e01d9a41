"""What can be done with a value."""

from __future__ import annotations

from typing import Literal

Action = Literal["redact", "hash", "truncate", "partial", "encrypt", "drop", "keep"]


def rule_for_vendors(action: Action, *, vendors: bool) -> None:
    """Raises ValueError: only what is encrypted can be dropped for vendors, since it tells so itself."""
    if not vendors and action != "encrypt":
        raise ValueError(
            f"vendors: expected action encrypt beside it, found {action}: other values bear no mark by which they "
            "could be told when they leave"
        )
