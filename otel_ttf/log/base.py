"""What stands between receivers and consumers: masked requests, synced before the sender gets its OK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from otel_ttf.otlp.wire import Signal

OnLag = Literal["drop", "block"]


class LogError(OSError):
    """The log cannot be opened or read; the message says why and, at the start, what to do."""


class LogDamaged(LogError):
    """Bytes of the log are not what was written; what is readable can be rescued."""


class LogRefused(Exception):
    """The log takes nothing now; the sender should come again.

    reason       for operators: what is full or broken; holds no data of senders
    retry_after  seconds
    """

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Entry:
    """One request on its way into the log.

    signal   logs, traces or metrics
    arrival  unix nanoseconds by our clock
    payload  the masked request, OTLP protobuf
    ids      event ids: (place, 4 bytes big-endian, and id, 16 bytes) one after the other
    records  log records, spans or data points in the payload
    view     what was read from the payload already, handed to the tracker beside the bytes; never stored
    """

    signal: Signal
    arrival: int
    payload: bytes
    ids: bytes
    records: int
    view: object = None


@dataclass(frozen=True, slots=True)
class Row:
    """One request in the log. `position` grows by arrival; `view` is None unless it came a moment ago.

    before  records in all rows before it, ever: what lies between two rows is known though they are gone
    """

    position: int
    arrival: int
    signal: Signal
    payload: bytes
    ids: bytes
    records: int
    view: object = None
    before: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows first..last went before a consumer had dealt with them; `records` is what they held."""

    first: int
    last: int
    records: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Requests that are gone though they were answered OK.

    first, last  their positions; last None: nobody knows how many came after
    records      what they held; None: not known
    found        when that was noticed, unix nanoseconds
    why          damaged: the log was; missed: gone before a restored store could read them
    """

    first: int
    last: int | None
    records: int | None
    found: int
    why: Literal["damaged", "missed"]


class EventLog(Protocol):
    """The durable log. `append` and `close` are for one event loop; the rest may be called from any thread.

    What reads raises LogError when the disk cannot be read or the log is closed.
    """

    @property
    def log_id(self) -> str:
        """Random, made with the log: a cursor of another log is worthless here."""

    async def append(self, entry: Entry) -> int:
        """Position of the entry, once it is synced. Raises LogRefused.

        Positions are consecutive. An append that is cancelled or refused while it is written may have taken
        place all the same: senders send again, so consumers see some entries twice.
        """

    def read(self, after: int, *, rows: int = 64, size: int = 8 << 20, payloads: bool = True) -> list[Row]:
        """Rows after a position in order: at most `rows` and `size` bytes, at least one if there is any.

        payloads  False: whoever reads takes the view where there is one, so a payload beside it may be missing
                  and does not count as size
        """

    def end(self) -> int:
        """Position of the last synced row ever written; 0 if none."""

    def wait(self, after: int, timeout: float) -> bool:
        """Blocks up to `timeout` seconds until something stands after the position; whether it does."""

    def oldest(self, after: int) -> int | None:
        """Arrival of the first row after the position, unix nanoseconds."""

    def lag(self, after: int) -> tuple[int, float]:
        """Records after the position, and the age of the oldest of them in seconds."""

    def register(self, consumer: str, position: int, *, required: bool, on_lag: OnLag = "drop") -> int:
        """Announces a consumer and its saved position; rows it still needs are kept, also over a restart.

        required  rows stay until it has dealt with them; others hold them back only up to `log.max_lag`
        on_lag    block: one that is not required holds them back all the same
        Returns the position to go on from: the given one, a later one if rows are gone already, or the end
        if the log ends before it (it was restored from a copy).
        """

    def release(self, consumer: str, position: int) -> None:
        """The consumer has durably dealt with everything up to the position: rows may go.

        Raises KeyError: it is not registered.
        """

    def position(self, consumer: str) -> int | None:
        """How far a consumer is, as far as the log knows; None: it knows of none of that name."""

    def consumers(self) -> list[str]:
        """Names of all that are registered, or were before the last restart and still hold rows back."""

    def forget(self, consumer: str) -> None:
        """A consumer that will not come back holds nothing back any more."""

    def gaps(self, consumer: str) -> list[Gap]:
        """What the consumer will never see because it lay too far behind, the oldest first."""

    def refusing(self) -> str | None:
        """Why appends are refused right now; None while they are taken."""

    async def close(self) -> None:
        """Writes what was handed over, syncs, closes, within seconds. Appends after it raise LogRefused."""
