"""What an exporter is to the frame: it sends one batch and says what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from otel_ttf.log.base import Row
from otel_ttf.otlp.halving import halves
from otel_ttf.otlp.wire import records_in

Fault = Literal["data", "size", "all"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A masked request on its way, or a part of one.

    row    as the log has it; of a part its payload, ids and records are the part's
    place  of its first record in the log's row
    """

    row: Row
    place: int = 0

    @property
    def size(self) -> int:
        return len(self.row.payload)

    def halves(self) -> list[Piece]:
        """Both halves; empty: it is one record, or its records cannot be told apart."""
        row = self.row
        parts = []
        for half in halves(row.signal, row.payload, row.ids) or ():
            # Of metrics, a half counts metrics, and a row data points.
            records = records_in("metrics", half.payload) if row.signal == "metrics" else half.records
            part = replace(row, payload=half.payload, ids=half.ids, records=records, view=None)
            parts.append(Piece(part, self.place + half.first))
        return parts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. An empty one: all of it is in.

    rejected  index of a piece -> why it will never be taken, for operators: a status, never the destination's words
    fault     of those: `data` (some record in it), `size` (smaller pieces may be taken), `all` (each record for itself)
    retry     indices of pieces that may be taken later
    after     seconds that the destination asks to wait
    why       what it answered, for operators
    barred    it refuses us, whatever we send: wrong address, credentials, signal
    unnamed   records of this batch that it has not taken, without saying which: never to be sent again
    """

    rejected: Mapping[int, str] = field(default_factory=dict)
    fault: Fault = "data"
    retry: Sequence[int] = ()
    after: float | None = None
    why: str = ""
    barred: bool = False
    unnamed: int = 0


DONE = Outcome()


def later(batch: Sequence[Piece], why: str, after: float | None = None, *, barred: bool = False) -> Outcome:
    """None of it is in; it may be later."""
    return Outcome(retry=range(len(batch)), after=after, why=why, barred=barred)


def never(batch: Sequence[Piece], why: str, fault: Fault = "data") -> Outcome:
    """None of it will be taken as it is."""
    return Outcome(rejected=dict.fromkeys(range(len(batch)), why), fault=fault, why=why)


def merged(pieces: Iterable[Piece]) -> bytes:
    """Several requests of one signal as one: in protobuf, lists of messages that stand one after the other are one."""
    return b"".join([piece.row.payload for piece in pieces])


class Unreachable(Exception):
    """The destination cannot be reached, or does not answer. The message is for operators; it names no data."""


class Sender(Protocol):
    """What an exporter's file has to bring. `send` is for one event loop, several at a time."""

    async def send(self, batch: Sequence[Piece]) -> Outcome:
        """Sends requests of one signal. Raises Unreachable; whatever else it raises is a defect of ours."""

    async def close(self) -> None:
        """Lets go of connections. All signals of an exporter share them, so it is called for each."""
