"""Which share of the users was followed when, and for how many users a journey stands therefore.

Whether a user is followed is decided when an event comes, so a journey stands for as many as followed from the share at
the moment at which its start was recorded: of those who started then that share is there. Horvitz and Thompson, JASA 47
(1952).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALL = 1.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """steps: (since, unix ns; share of users that is followed from then on), the oldest first; before it all were."""

    steps: Sequence[tuple[int, float]] = ()

    @property
    def share(self) -> float:
        """That of today."""
        return self.steps[-1][1] if self.steps else ALL

    @property
    def since(self) -> int | None:
        """Since when that share holds, unix ns; None: from the beginning."""
        return (self.steps[-1][0] or None) if self.steps else None

    def weight(self, recorded: int | None) -> float | None:
        """For how many users a journey stands. recorded: when its start was; None, or not known: None unless the share
        has always been the same."""
        if self.since is None:
            return 1 / self.share
        if recorded is None:
            return None
        return 1 / next((share for since, share in reversed(self.steps) if since <= recorded), ALL)

    def changed(self, share: float, now: int) -> Sampling:
        """With this share from now on; itself where that is the one of today. now: 0 for the beginning"""
        return self if share == self.share else Sampling((*self.steps, (now, share)))
