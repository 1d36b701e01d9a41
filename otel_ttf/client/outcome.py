"""What came of sending a batch, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Next(Enum):
    """What becomes of a batch."""

    DONE = "it is with the server"
    AGAIN = "it is sent again"
    SMALLER = "it is sent again in two halves"
    NEVER = "it is lost"


# What OTLP says of the statuses (otlp: "Retryable Response Codes"); a key may be put right while events wait.
NEXT = dict.fromkeys((401, 403, 408, 429, 502, 503, 504), Next.AGAIN) | {413: Next.SMALLER}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending a batch.

    said      the answer or its absence, for people
    status    0 without an answer
    after     seconds to wait at least
    rejected  how many of the events the server did not take, and why: `reason`
    """

    next: Next
    said: str
    status: int = 0
    after: float = 0.0
    rejected: int = 0
    reason: str = ""
