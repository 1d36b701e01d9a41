"""Which lines of an exporter are due in our log: what lasts is said again, and not with each request."""

from __future__ import annotations

from time import monotonic

EVERY = 60.0  # seconds


class Telling:
    """Of one exporter, for one event loop."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def due(self, what: str) -> bool:
        """Once a minute of each kind."""
        now = monotonic()
        if now - self._told.get(what, -EVERY) < EVERY:
            return False
        self._told[what] = now
        return True
