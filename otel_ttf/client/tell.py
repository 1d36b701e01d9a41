"""What the client says in the application's log, each kind once, and what it counts."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from dataclasses import dataclass, fields

from otel_ttf.client.native import RLock

LOGGER = logging.getLogger("otel_ttf.client")

# kind -> (level, text). None holds an argument's value or an answer's body: they may be personal.
MESSAGES = {
    "wrong": (
        logging.WARNING,
        "an event is not sent: %s (said once; TelemetryClient.counts.wrong counts them)",
    ),
    "left out": (logging.WARNING, "a property is left out: %s (said once; its event is sent)"),
    "full": (
        logging.WARNING,
        "events are dropped: %s wait for %s already (max_queue, max_queue_bytes); said once until they are sent",
    ),
    "closed": (logging.WARNING, "an event is dropped: it came after close() (said once)"),
    "waiting": (logging.WARNING, "events wait and are sent again later: %s at %s; said once until it works"),
    "refused key": (
        logging.WARNING,
        "events wait: %s answers %s: set TELEMETRY_API_KEY (api_key=) to a key that may send; said once until it works",
    ),
    "works again": (logging.INFO, "events are sent again to %s; %s were dropped so far"),
    "refused": (logging.ERROR, "%s events are lost: %s answers %s (said once)"),
    "rejected": (logging.WARNING, "the server did not take %s of %s events: %s (said once)"),
    "left behind": (logging.WARNING, "%s events are lost: they could not be sent within %s s at the end"),
    "option": (logging.ERROR, "%s: expected %s; %s"),
    "clear text": (
        logging.WARNING,
        "the API key goes to %s in clear: use an https:// address",
    ),
    "user": (logging.WARNING, "the current user cannot be told: %s in user_of (said once)"),
    "no SDK": (
        logging.ERROR,
        "no event can be sent: %s is missing: pip install 'otel-ttf-client', or 'otel-ttf[client]' beside a server",
    ),
    "defect": (logging.ERROR, "a defect of the client: %s (said once; with debug=True with its place)"),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Events since the start of the process (since the fork, in a forked one).

    sent      the server has them, synced
    rejected  the server answered, and did not take them
    dropped   the queue was full, the client closed, the server refused for good, or it ended first
    wrong     not sent, since an argument cannot be
    left_out  properties that were left out, of events that were sent
    waiting   in the queue or on their way
    """

    sent: int = 0
    rejected: int = 0
    dropped: int = 0
    wrong: int = 0
    left_out: int = 0
    waiting: int = 0


class Tell:
    """Says and counts, from any thread. debug: what is sent and answered goes to stderr."""

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug
        self._said: set[str] = set()
        self._counts = dict.fromkeys((field.name for field in fields(Counts)), 0)
        # Reentrant: a signal handler, or the end of an object, may track where this thread counts.
        self._lock = RLock()

    def count(self, name: str, number: int = 1) -> None:
        """Adds to one of Counts."""
        with self._lock:
            self._counts[name] += number

    @property
    def counts(self) -> Counts:
        """What was counted; `waiting` is the queue's."""
        with self._lock:
            return Counts(**self._counts)

    def has_said(self, kind: str) -> bool:
        """Whether `once` would say nothing."""
        return kind in self._said

    def once(self, kind: str, *arguments: object) -> None:
        """One of MESSAGES, unless it has been said since `again`."""
        if not self.has_said(kind):
            self._said.add(kind)
            level, text = MESSAGES[kind]
            LOGGER.log(level, text, *arguments)

    def again(self, *kinds: str) -> bool:
        """These may be said once more; whether one was said."""
        said = self._said & set(kinds)
        self._said -= said
        return bool(said)

    def print(self, text: str) -> None:
        """A line of debug=True."""
        if self.debug:
            with suppress(OSError, ValueError, AttributeError):  # no stderr, or none any more
                print(f"otel_ttf client: {text}", file=sys.stderr, flush=True)
