"""Who reads the log, how far they are, and through where rows may go."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

from otel_ttf.log.base import OnLag


@dataclass(frozen=True, slots=True)
class Consumer:
    """position: everything up to it is durably dealt with."""

    name: str
    position: int
    required: bool
    on_lag: OnLag = "drop"

    @property
    def drops(self) -> bool:
        """Whether rows may go before it has dealt with them."""
        return not self.required and self.on_lag == "drop"


class Consumers:
    """The consumers by name. Any thread may call."""

    def __init__(self, known: Iterable[Consumer] = ()) -> None:
        self._lock = threading.Lock()
        self._by_name = {consumer.name: consumer for consumer in known}
        self._saved = self.all()

    def all(self) -> list[Consumer]:
        """All of them as they are now."""
        with self._lock:
            return list(self._by_name.values())

    def unsaved(self) -> list[Consumer] | None:
        """All of them, if any has changed since `saved`."""
        now = self.all()
        return now if now != self._saved else None

    def saved(self, as_of: list[Consumer]) -> None:
        """What is on the disk now."""
        self._saved = as_of

    def register(self, consumer: Consumer) -> None:
        with self._lock:
            self._by_name[consumer.name] = consumer

    def forget(self, name: str) -> None:
        with self._lock:
            self._by_name.pop(name, None)

    def release(self, name: str, position: int) -> None:
        """Moves a consumer on, never back. Raises KeyError: it was never registered."""
        with self._lock:
            known = self._by_name[name]
            if position > known.position:
                self._by_name[name] = replace(known, position=position)

    def through(self, skip_to: int) -> int:
        """The position up to which rows may go; 0 if nobody is known yet.

        skip_to  those who drop hold nothing back up to here
        """
        return min(
            (
                max(consumer.position, skip_to) if consumer.drops else consumer.position
                for consumer in self.all()
            ),
            default=0,
        )

    def behind(self) -> str | None:
        """Name of the one that has most to read."""
        last = min(self.all(), key=lambda consumer: consumer.position, default=None)
        return last.name if last else None

    def required(self) -> bool:
        """Whether anybody has to read everything."""
        return any(consumer.required for consumer in self.all())

    def held_in_memory(self) -> int:
        """The position after which a required consumer still wants rows."""
        with self._lock:
            return min((known.position for known in self._by_name.values() if known.required), default=0)

    def skip(self, through: int) -> list[Consumer]:
        """Moves those who drop past a position; the ones that were moved, as they stood before."""
        with self._lock:
            moved = [c for c in self._by_name.values() if c.drops and c.position < through]
            for consumer in moved:
                self._by_name[consumer.name] = replace(consumer, position=through)
        return moved

    def unskip(self, moved: Iterable[Consumer], through: int) -> None:
        """Takes a skip back that could not be written down."""
        with self._lock:
            for consumer in moved:
                now = self._by_name.get(consumer.name)
                if now is not None and now.position == through:
                    self._by_name[consumer.name] = consumer
