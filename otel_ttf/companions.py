"""Files that nobody would miss at once: log and store remember which consent.db and which vault.db were with them.

Each such file has a random id of its own. Whoever opens one for a data directory notes its id in the log and in the
store, so that it is known where one of the two is moved away. A file is made first and noted then, and holds nothing
before: a crash in between leaves one that is noted at the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from otel_ttf.remembered import remember, remembered

LOSSES = {
    "consent.db": "without it whoever has denied their consent is followed again",
    "vault.db": "without it nothing that was encrypted can be read again, and destroyed keys are made anew",
}
SHOWN = 8  # characters of an id
_NOTED = "file "

log = structlog.get_logger()


class CompanionLost(Exception):
    """A file that was with this log and store is not there, or is another one; the message says what follows."""


class Companion(Protocol):
    """An opened file. file_id: its random id, which stays."""

    @property
    def file_id(self) -> str: ...

    def close(self) -> None:
        """Lets go of it."""


T = TypeVar("T", bound=Companion)


class Companions:
    """What log and store know of the files beside them.

    books     the databases that remember, by path
    accepted  ids, or how they begin, of files whose loss is accepted
    """

    def __init__(self, *books: Path, accepted: Collection[str] = ()) -> None:
        self._books = books
        self._accepted = tuple(accepted)

    def opened(self, path: Path, open_: Callable[[], T], *, note: bool = True) -> T:
        """The file as `open_` opens or makes it, unless another one was here before.

        note  False: only a server notes what it opens
        Raises CompanionLost, and what `open_` raises.
        """
        known = self.known(path.name)
        if known and not path.exists():
            self._lost(path, known, "is missing, and there was one")
        made = open_()
        try:
            if known and made.file_id not in known:
                self._lost(path, known, "is not the one that was here")
            if note:
                self._note(path.name, made.file_id)
        except BaseException:
            made.close()
            raise
        return made

    def missing(self, path: Path) -> str | None:
        """What is wrong if there was such a file and it is gone."""
        known = self.known(path.name)
        return (
            self._told(path, known, "is missing, and there was one") if known and not path.exists() else None
        )

    def known(self, name: str) -> list[str]:
        """Ids that were noted for files of that name; several where log or store come from elsewhere."""
        found = []
        for book in self._books:
            # What cannot be read is no reason here: whoever opens it says why.
            with suppress(sqlite3.Error):
                found.append(remembered(book, _NOTED + name))
        return list(dict.fromkeys(id_ for id_ in found if id_ is not None))

    def _lost(self, path: Path, known: Sequence[str], what: str) -> None:
        told = self._told(path, known, what)
        if not any(id_.startswith(one) for id_ in known for one in self._accepted if len(one) >= SHOWN):
            raise CompanionLost(told)
        log.error("loss accepted: " + LOSSES[path.name], file=str(path), was=known[0][:SHOWN])

    def _told(self, path: Path, known: Sequence[str], what: str) -> str:
        return (
            f"{path} {what}: {LOSSES[path.name]}. Put it back from your copy, or accept the loss once with "
            f"otel-ttf run --accept-loss {known[0][:SHOWN]}"
        )

    def _note(self, name: str, id_: str) -> None:
        for book in self._books:
            try:
                remember(book, _NOTED + name, id_)
            except sqlite3.Error as error:
                raise CompanionLost(
                    f"{book}: {error}: it cannot be noted that {name} belongs to it"
                ) from None
