"""Sends files as fast as the receiver takes them, and keeps how far it has come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from otel_ttf.otlp.wire import Signal
from otel_ttf.replay.files import Columns, Piece, Unreadable, pieces
from otel_ttf.replay.places import Place, begun, beside, found, save
from otel_ttf.replay.senders import Again, Refused, Sender, pause

TOGETHER_BYTES = 1 << 20
TOGETHER_RECORDS = 2000
IN_FLIGHT = 4
SAVE_SECONDS = 1.0


class GivenUp(Exception):
    """It cannot go on; the message says why. What was sent is kept; another run goes on there."""


@dataclass(slots=True)
class _Group:
    """Pieces of one signal that go as one request: protobuf messages one after the other are one message."""

    signal: Signal
    pieces: list[Piece] = field(default_factory=list)
    size: int = 0
    records: int = 0

    def takes(self, piece: Piece) -> bool:
        """Whether it fits in."""
        if not self.pieces:
            return True
        small = (
            self.size + len(piece.raw) <= TOGETHER_BYTES and self.records + piece.records <= TOGETHER_RECORDS
        )
        return small and (piece.signal == self.signal or not piece.records)

    def add(self, piece: Piece) -> None:
        """One more. What is wrong with it was told."""
        if piece.records:
            self.signal = piece.signal
        self.pieces.append(piece)
        self.size += len(piece.raw)
        self.records += piece.records


@dataclass(slots=True)
class _Outcome:
    records: int = 0
    rejected: int = 0
    broken: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)


class Replay:
    """One run over one file.

    on_progress  (offset in what was packed, records taken); on_left_out: where, why
    patience     seconds without any answer that is worth something, after which it gives up
    """

    def __init__(
        self,
        path: Path,
        sender: Sender,
        to: str,
        *,
        folder: Path | None = None,
        again: bool = False,
        columns: Columns | None = None,
        patience: float = 300.0,
        on_progress: Callable[[Place], None] = lambda place: None,
        on_left_out: Callable[[str, str], None] = lambda where, why: None,
        on_waiting: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Raises OSError."""
        self.path = path
        self._small = beside(path, folder)
        known, self.place = found(self._small, path, to), begun(path, to)
        if known is not None:
            # What has no time has the same at each run: else it would be another event.
            self.place = replace(self.place, written=known.written) if again else known
        self.resumed = self.place.offset > 0
        self.ended: str | None = None  # why the end of the file was not reached
        self._sender = sender
        self._columns = columns
        self._patience = patience
        self._on_progress = on_progress
        self._on_left_out = on_left_out
        self._on_waiting = on_waiting
        self._answered = time.monotonic()

    async def run(self) -> None:
        """Sends what is left of the file. Raises GivenUp, OSError."""
        self._answered = time.monotonic()
        groups = self._groups()
        reader = ThreadPoolExecutor(1, thread_name_prefix="reading")
        loop = asyncio.get_running_loop()
        saved = time.monotonic()
        save(self._small, self.place)  # says at once where it cannot be written
        waiting: deque[tuple[_Group, asyncio.Task[_Outcome]]] = deque()
        try:
            while True:
                group = await loop.run_in_executor(reader, next, groups, None)
                if group is not None:
                    waiting.append((group, asyncio.create_task(self._sent(group))))
                while waiting and (group is None or len(waiting) >= IN_FLIGHT or waiting[0][1].done()):
                    self._note(waiting[0][0], await waiting[0][1])
                    waiting.popleft()
                    if time.monotonic() - saved >= SAVE_SECONDS:
                        saved = time.monotonic()
                        save(self._small, self.place)
                if group is None:
                    return
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
            # Behind what is being read: the file is closed where it was opened.
            reader.submit(groups.close)
            reader.shutdown()
            save(self._small, self.place)

    def _note(self, group: _Group, outcome: _Outcome) -> None:
        """All before it was answered, too."""
        place = self.place
        place.offset = group.pieces[-1].end
        place.records += outcome.records
        place.rejected += outcome.rejected
        place.broken += outcome.broken
        for where, why in outcome.told:
            place.left_out(where, why)
            self._on_left_out(where, why)
        self._on_progress(place)

    def _groups(self) -> Generator[_Group]:
        """In another thread."""
        group = _Group("logs")
        try:
            for piece in pieces(self.path, self.place.offset, self._columns, written=self.place.written):
                if not group.takes(piece):
                    yield group
                    group = _Group("logs")
                group.add(piece)
                if len(group.pieces) >= 10 * TOGETHER_RECORDS:  # empty lines
                    yield group
                    group = _Group("logs")
        except Unreadable as error:
            self.ended = str(error)
        if group.pieces:
            yield group

    async def _sent(self, group: _Group) -> _Outcome:
        outcome = _Outcome()
        good = []
        for piece in group.pieces:
            if piece.error is not None:
                outcome.broken += 1
                outcome.told.append((piece.where, piece.error))
            elif piece.records:
                good.append(piece)
        if good:
            await self._deliver(group.signal, good, outcome)
        return outcome

    async def _deliver(self, signal: Signal, good: list[Piece], outcome: _Outcome) -> None:
        """All at once; where that is refused, by halves, down to the piece that is to blame."""
        records = sum(piece.records for piece in good)
        where = good[0].where if len(good) == 1 else f"{good[0].where} to {good[-1].where}"
        tries = 0
        while True:
            try:
                taken = await self._sender.send(signal, b"".join([piece.raw for piece in good]))
            except Again as error:
                if time.monotonic() - self._answered > self._patience:
                    raise GivenUp(f"the server takes nothing: {error}") from None
                self._on_waiting(str(error))
                await asyncio.sleep(pause(tries, error.seconds))
                tries += 1
            except Refused as error:
                self._answered = time.monotonic()
                if error.fatal:
                    raise GivenUp(f"the server refuses everything: {error}") from None
                if len(good) == 1:
                    outcome.broken += 1
                    outcome.told.append((where, str(error)))
                else:
                    half = len(good) // 2
                    await self._deliver(signal, good[:half], outcome)
                    await self._deliver(signal, good[half:], outcome)
                return
            else:
                self._answered = time.monotonic()
                outcome.records += records - taken.rejected
                if taken.rejected:
                    outcome.rejected += taken.rejected
                    outcome.told.append((where, f"{taken.rejected} records were not taken: {taken.reason}"))
                return
