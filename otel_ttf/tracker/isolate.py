"""One bad record: what makes tracker or store fail is halved down to the record, which is set aside.

A defect that hits nearly everything is none of a record's: then nothing is set aside, nothing is taken, and the tracker
says so. Errors of the machine (a full disk, a locked or corrupt store) say nothing about a record either.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from otel_ttf.log.base import Row
from otel_ttf.otlp.events import Extract, Rules, extract
from otel_ttf.otlp.halving import halves as halved
from otel_ttf.pages import is_damage
from otel_ttf.store.quarantine import MAX_BYTES, DeadLetter
from otel_ttf.telemetry import failure
from otel_ttf.tracker.follow import Follower, Missing

# So many rows with events are tried before anything is set aside.
PROBES = 32
# At most so many pieces of each.
PROBE_PIECES = 16
# So many rows may fail, one after the other, without any event being taken in between.
CREDIT = 10
# Parts of a request hold its resource, each for itself. All at once may hold so many bytes more than what they are of.
COPIES = MAX_BYTES // 8


class EverythingFails(Exception):
    """A defect of ours that hits most records, not a bad one; the message says so and where."""


class Stopped(Exception):
    """The server is stopping; the rows are taken after the next start."""


def of_the_machine(error: Exception) -> bool:
    """Whether an error comes from disk, file or memory, whatever was to be written.

    Of sqlite3 these are the classes for I/O, locks, space, damage; a value that it will not take has another.
    """
    return (
        isinstance(error, OSError | MemoryError | sqlite3.OperationalError | sqlite3.InternalError)
        or type(error) is sqlite3.DatabaseError
        or is_damage(error)
    )


def read(row: Row, rules: Rules) -> Extract:
    """The events of a row, as they were read on their way in, or from its bytes."""
    if isinstance(row.view, Extract):
        return row.view
    return extract(row.signal, row.payload, row.ids, row.arrival, rules)


@dataclass(frozen=True, slots=True)
class _Part:
    """A row, or a part of one that begins with its record `place`."""

    row: Row
    place: int = 0

    @property
    def size(self) -> int:
        return len(self.row.payload) + len(self.row.ids)


@dataclass(frozen=True, slots=True)
class _Tried:
    """A request that was tried.

    sender   service names in it; none: it cannot be read
    users    subjects in it; without any, its position
    failed   why nothing of it can be taken
    """

    position: int
    sender: frozenset[str]
    users: frozenset[str | int]
    failed: Exception | None


@dataclass(frozen=True, slots=True)
class _Done:
    """A piece that was taken.

    events   in it; without any, nothing was put to the test
    missing  see Follower.take
    """

    events: int
    missing: Missing


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows that were taken.

    rows     the first of those that there were, or all
    letters  what of them could not be taken
    missing  see Follower.take
    """

    rows: Sequence[Row]
    letters: list[DeadLetter]
    missing: Missing


class Isolation:
    """Takes rows piece by piece, each piece behind a savepoint. The caller opens and ends the transaction."""

    def __init__(self, follower: Follower, rules: Rules, log_id: str, stopped: Callable[[], bool]) -> None:
        """stopped: whether there is no time left; then it raises Stopped."""
        self._follower = follower
        self._rules = rules
        self._log_id = log_id
        self._stopped = stopped
        self._credit = CREDIT

    def passed(self) -> None:
        """Events were taken: whatever fails now fails while others pass."""
        self._credit = CREDIT

    def probe(self, rows: Sequence[Row], newest: Sequence[Row], now: int) -> None:
        """Tries some rows; the caller rolls back. Raises EverythingFails, Stopped, or an error of the machine.

        rows    those that cannot be taken together; newest: some of the last in the log
        """
        # However many one sender has sent in a row, it is those behind it that tell whether others pass.
        tried = self._probed(newest, now)
        if len(tried) <= CREDIT or (len({one.sender for one in tried}) == 1 and _most_fail(tried)):
            tried += self._probed(rows, now)
        failed = [one.failed for one in tried if one.failed is not None]
        if len(failed) > self._credit and _most_fail(tried):
            told = failure(failed[0])
            raise EverythingFails(
                f"of {len(tried)} requests that were tried, {len(failed)} cannot be followed "
                f"({told['error']} at {told['place']}): a defect of otel_ttf, not a bad record, so nothing is set "
                "aside, and nothing is lost: go back to the version before, or report it"
            )

    def _probed(self, rows: Sequence[Row], now: int) -> list[_Tried]:
        """What became of some rows; those without events are left out."""
        tried: list[_Tried] = []
        stride = max(1, len(rows) // PROBES)
        for first in range(stride):
            for row in rows[first::stride]:
                found = self._probe(row, now)
                if found:
                    tried.append(self._tried(row, found if isinstance(found, Exception) else None))
                if len(tried) == PROBES:
                    return tried
        return tried

    def _tried(self, row: Row, failed: Exception | None) -> _Tried:
        try:
            events = read(row, self._rules).events
            names = {
                str(event.resource["service.name"]) if "service.name" in event.resource else ""
                for event in events
            }
        except Exception as error:
            if of_the_machine(error):
                raise
            return _Tried(row.position, frozenset(), frozenset({row.position}), failed)
        users: set[str | int] = {event.subject for event in events if event.subject is not None}
        return _Tried(row.position, frozenset(names), frozenset(users or {row.position}), failed)

    def _probe(self, row: Row, now: int) -> Exception | bool:
        """Whether some event of a row can be taken; an error: none of those that were tried."""
        failed = None
        pieces = deque([[_Part(row)]])
        room = _Room(pieces[0], COPIES)
        for _ in range(PROBE_PIECES):
            if not pieces:
                break
            piece = pieces.popleft()
            done = self._attempt(piece, now)
            if isinstance(done, Exception):
                failed = done
                pieces += room.halves(piece)
            elif done.events:
                return True
        return failed or False

    def take(
        self, rows: Sequence[Row], now: int, *, copies: int | None = None, cuts: float = float("inf")
    ) -> Taken:
        """Takes all that can be taken. Raises Stopped, or an error of the machine.

        copies  bytes that parts may hold beyond what they are of; None: COPIES
        cuts    so often something is parted at most

        What cannot be parted without too many copies of its resource is set aside as it is, with what is sound in it.
        Behind much that was set aside, rows are left for another transaction.
        """
        letters: list[DeadLetter] = []
        missing: Missing = Counter()
        events = streak = aside = 0
        whole = [_Part(row) for row in rows]
        room = _Room(whole, COPIES if copies is None else copies, cuts)
        stack = [(whole, False)]  # the first last; whether they are parted before they are tried
        while stack:
            piece, untried = stack.pop()
            if aside > COPIES and not piece[0].place:
                rows = [row for row in rows if row.position < piece[0].row.position]
                break
            if untried and (halves := room.halves(piece)):
                stack += [(half, True) for half in reversed(halves)]
                continue
            done = self._attempt(piece, now)
            if not isinstance(done, Exception):
                events += done.events
                missing += done.missing
                streak = 0
                room.passed(piece)
            elif not untried and (halves := room.halves(piece)):
                # Behind many bad ones in a row, halves of about as many would only fail, too.
                bad = sum(part.row.records for part in piece) <= 2 * streak
                stack += [(half, bad) for half in reversed(halves)]
            else:
                streak += 1
                aside += piece[0].size
                letters.append(self._letter(piece[0], done, now))
        spent = len({letter.position for letter in letters})
        self._credit = CREDIT if events else max(0, self._credit - spent)
        return Taken(rows, letters, missing)

    def _attempt(self, piece: Sequence[_Part], now: int) -> Exception | _Done:
        """Takes a piece, or leaves no trace of it and says why. Raises Stopped, or an error of the machine."""
        if self._stopped():
            raise Stopped
        self._follower.store.mark()
        try:
            extracts = [(part.row.arrival, read(part.row, self._rules)) for part in piece]
            missing = self._follower.take(extracts, now)
        except Exception as error:
            if of_the_machine(error):
                raise
            self._follower.untake()
            return error
        self._follower.store.unmark()
        return _Done(sum(len(found.events) for _, found in extracts), missing)

    def _letter(self, part: _Part, error: Exception, now: int) -> DeadLetter:
        row, told = part.row, failure(error)
        return DeadLetter(
            None,
            self._log_id,
            row.position,
            part.place,
            row.signal,
            row.arrival,
            row.payload,
            row.ids,
            told["error"],
            told["place"],
            0,
            now,
            max(1, row.records),
        )


def _most_fail(tried: Sequence[_Tried]) -> bool:
    """Whether most of them fail, where each sender counts alike; where there is but one, each user.

    So it is a matter of how many are hit, not of how much they send.
    """
    senders = {one.sender for one in tried}
    shares: dict[object, list[bool]] = {}
    for one in tried:
        voters: Iterable[object] = [one.sender] if len(senders) > 1 else one.users
        if frozenset() in senders:
            voters = [one.position]
        for voter in voters:
            shares.setdefault(voter, []).append(one.failed is not None)
    failing = sum(Fraction(sum(share), len(share)) for share in shares.values())
    return 2 * failing > len(shares)


class _Room:
    """Counts the bytes of what came of some rows: pieces that wait, and those that are set aside."""

    def __init__(self, whole: Sequence[_Part], copies: int, cuts: float = float("inf")) -> None:
        self._held = _size(whole)
        self._most = self._held + copies
        self._cuts = cuts

    def passed(self, piece: Sequence[_Part]) -> None:
        self._held -= _size(piece)

    def halves(self, piece: Sequence[_Part]) -> list[list[_Part]]:
        """Both; empty: there are none, or their copies of the resource have no room, or it has been often enough."""
        halves = _halves(piece) if self._cuts > 0 else []
        held = self._held + sum(map(_size, halves)) - _size(piece)
        if not halves or held > self._most:
            return []
        self._cuts -= 1
        self._held = held
        return halves


def _size(piece: Sequence[_Part]) -> int:
    return sum(part.size for part in piece)


def _halves(piece: Sequence[_Part]) -> list[list[_Part]]:
    """Rows are parted from one another first, then records of a row; empty: it is one record."""
    if len(piece) > 1:
        middle = len(piece) // 2
        return [list(piece[:middle]), list(piece[middle:])]
    return [[part] for part in _cut(piece[0])]


def _cut(part: _Part) -> list[_Part]:
    row = part.row
    return [
        _Part(
            replace(row, payload=half.payload, ids=half.ids, records=half.records, view=None),
            part.place + half.first,
        )
        for half in halved(row.signal, row.payload, row.ids) or ()
    ]
