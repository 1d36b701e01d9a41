"""What subjects have said about the use of their data, and what follows from it.

Two dimensions, each on its own: analytics (grant, deny) and sale to others (sell, do_not_sell). Of each the latest
statement counts, of two at one time the stricter. A statement is one number, its time and its strictness, and the
greater one is kept: a maximum is commutative, associative and idempotent, so neither order nor repetition matters.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# What follows for a subject, as bits.
DENIED = 1
NOT_FOR_SALE = 2

_AT_ONCE = 500
LATEST = 2**62 - 1  # ns; twice that fits into 64 bits with a sign


class ConsentRefused(Exception):
    """A statement cannot be kept now; the sender should come again. The message is for operators."""


class Marks(NamedTuple):
    """The statements that count, 0 for none: twice the time in unix ns, plus 1 for the stricter of the two."""

    analytics: int = 0
    sale: int = 0

    def join(self, other: Marks) -> Marks:
        """The later of each; at the same time the stricter."""
        return Marks(max(self.analytics, other.analytics), max(self.sale, other.sale))

    def flags(self, usual: int) -> int:
        """DENIED, NOT_FOR_SALE. usual: of a subject that has said nothing of analytics."""
        denied = self.analytics & 1 if self.analytics else usual & DENIED
        return denied * DENIED | (self.sale & 1) * NOT_FOR_SALE


def mark(at: int, *, strict: bool) -> int:
    """A statement of that time, unix ns."""
    return max(1, min(at, LATEST)) << 1 | strict


class Book:
    """Who has said what, by token. Here it is kept in memory alone; `store.consent` keeps it on a disk.

    exceptions  token -> flags, of those whose flags are not the usual ones: one look-up a record
    usual       flags of everybody else: 0, or DENIED where silence is no consent
    limit       how many exceptions there may be; beyond it a new one is refused
    Threads may share one.
    """

    def __init__(self, *, usual: int = 0, limit: int = 1_000_000) -> None:
        self.usual = usual
        self.limit = limit
        self.exceptions: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._unsaved: dict[bytes, Marks] = {}
        self._number = 0

    @property
    def silent(self) -> bool:
        """Whether nothing follows for anybody."""
        return not self.usual and not self.exceptions

    def flags(self, tokens: Iterable[bytes]) -> int:
        """What follows from all of these subjects together."""
        found = 0
        for token in tokens:
            found |= self.exceptions.get(token, self.usual)
        return found

    def join(self, said: Mapping[bytes, Marks]) -> int:
        """Takes statements; they count at once. Returns what `save` is to be called with before the sender's OK.

        Raises ConsentRefused; some of them may have been taken then.
        """
        tokens = sorted(said)
        number = 0
        # Small portions: somebody with one statement need not wait for a request with a hundred thousand.
        for start in range(0, len(tokens), _AT_ONCE):
            number = self._take({token: said[token] for token in tokens[start : start + _AT_ONCE]})
        return number

    def _take(self, said: Mapping[bytes, Marks]) -> int:
        with self._lock:
            before = self._read(said)
            after = {token: before.get(token, _NOTHING).join(marks) for token, marks in said.items()}
            flags = {token: marks.flags(self.usual) for token, marks in after.items()}
            new = sum(flags[token] != self.usual and token not in self.exceptions for token in flags)
            if new and len(self.exceptions) + new > self.limit:
                raise ConsentRefused(
                    f"the consent of {self.limit} subjects is kept, and no more: raise "
                    "processors.consent.max_subjects"
                )
            for token, marks in after.items():
                if marks != before.get(token):
                    self._unsaved[token] = marks
                self._put(token, flags[token])
            self._number += 1
            return self._number

    def save(self, number: int) -> None:
        """Blocks until what `join` returned this number for is on the disk. Raises ConsentRefused."""

    def state(self, token: bytes) -> Marks:
        """What counts for a subject. Raises ConsentRefused: it cannot be read."""
        with self._lock:
            return self._read([token]).get(token, _NOTHING)

    def close(self) -> None:
        """Nothing is taken after it."""

    def _put(self, token: bytes, flags: int) -> None:
        if flags != self.usual:
            self.exceptions[token] = flags
        else:
            self.exceptions.pop(token, None)

    def _read(self, tokens: Iterable[bytes]) -> dict[bytes, Marks]:
        """What counts for those of the subjects who have said something."""
        return {token: self._unsaved[token] for token in tokens if token in self._unsaved}


_NOTHING = Marks()
