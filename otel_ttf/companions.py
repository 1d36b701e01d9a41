"""Files that nobody would miss at once: log and store remember which consent.db and which vault.db were with them.

Each such file has a random id of its own. Whoever opens one for a data directory notes its id in the log and in the
store, so that it is known where one of the two is moved away. A file is made first and noted then, and holds nothing
before: a crash in between leaves one that is noted at the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.remembered import forget, remember, remembered
from otel_ttf.sqlite_disk import read_only, trouble

LOSSES = {
    "consent.db": "without it whoever has denied their consent is followed again",
    "vault.db": "without it nothing that was encrypted can be read again, and destroyed keys are made anew",
}
SHOWN = 8  # characters of an id
_NOTED = "file "
_MISSING = "is missing, and there was one"
_OTHER = "is not the one that was here"
_FROM_BEFORE = "was copied before such files had ids: it does not tell whether it is the one that was here"

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
    given     the server's options, for what an operator is told to type
    """

    def __init__(self, *books: Path, accepted: Collection[str] = (), given: Given = NOTHING_GIVEN) -> None:
        self._books = books
        self._given = given
        self._accepted = tuple(accepted)
        self._used: set[str] = set()

    def opened(self, path: Path, open_: Callable[[], T], *, note: bool = True) -> T:
        """The file as `open_` opens or makes it, unless another one was here before.

        note  False: only a server notes what it opens
        Raises CompanionLost, and what `open_` raises.
        """
        known = self.known(path.name)
        wrong = _wrong(path, known)  # before whoever opens it writes into it
        if wrong:
            self._lost(path, known, wrong)
        made = open_()
        try:
            if known and not wrong and made.file_id not in known:
                self._lost(path, known, _OTHER)
            if note:
                self._note(path.name, made.file_id)
        except BaseException:
            made.close()
            raise
        return made

    def missing(self, path: Path) -> str | None:
        """What is wrong if there was such a file and it is gone."""
        known = self.known(path.name)
        return self._told(path, known, _MISSING) if known and not path.exists() else None

    def wrong(self, path: Path) -> str | None:
        """What is wrong with the file, if there was one: gone, another one, or too old a copy to tell."""
        known = self.known(path.name)
        found = _wrong(path, known)
        return self._told(path, known, found) if found else None

    def not_needed(self, path: Path) -> str | None:
        """As `missing`, for a file that this start does without; where the loss is accepted it is forgotten.

        Raises CompanionLost: it cannot be forgotten.
        """
        known = self.known(path.name)
        if not known or path.exists() or not self._accepts(known):
            return self.missing(path)
        for book in self._books:
            try:
                forget(book, _NOTED + path.name)
            except sqlite3.Error as error:
                raise CompanionLost(
                    f"{book}: {trouble(error)}: it cannot be noted that {path.name} is lost"
                ) from None
        self._say_accepted(path, known, _MISSING)
        return None

    def unused(self) -> list[str]:
        """What was accepted and is no loss of a file that was asked for."""
        return [one for one in self._accepted if one not in self._used]

    def known(self, name: str) -> list[str]:
        """Ids that were noted for files of that name; several where log or store come from elsewhere."""
        found = []
        for book in self._books:
            # What cannot be read is no reason here: whoever opens it says why.
            with suppress(sqlite3.Error):
                found.append(remembered(book, _NOTED + name))
        return list(dict.fromkeys(id_ for id_ in found if id_ is not None))

    def _lost(self, path: Path, known: Sequence[str], what: str) -> None:
        if not self._accepts(known):
            raise CompanionLost(self._told(path, known, what))
        self._say_accepted(path, known, what)

    def _accepts(self, known: Sequence[str]) -> bool:
        fitting = self._fitting(known)
        self._used |= fitting
        return bool(fitting)

    def _fitting(self, known: Sequence[str]) -> set[str]:
        return {
            one for one in self._accepted if len(one) >= SHOWN and any(id_.startswith(one) for id_ in known)
        }

    def _say_accepted(self, path: Path, known: Sequence[str], what: str) -> None:
        told: dict[str, str] = {"file": str(path), "was": known[0][:SHOWN]}
        if what == _FROM_BEFORE:
            log.warning(
                "taken as the one that was here; what was written after it was copied is lost", **told
            )
        else:
            log.error("loss accepted: " + LOSSES[path.name], **told)

    def _told(self, path: Path, known: Sequence[str], what: str) -> str:
        others = "".join(
            f"--accept-loss {one} is not its id, of which at least {SHOWN} characters are needed. "
            for one in self.unused()
            if one not in self._fitting(known)
        )
        accept = self._given.command(f"run --accept-loss {known[0][:SHOWN]}")
        if what == _FROM_BEFORE:
            return (
                f"{path} {what}. If it is, nothing in it is lost, only what was written after it was copied. "
                f"{others}Put a newer copy back, or take this one, once, with `{accept}`"
            )
        return (
            f"{path} {what}: {LOSSES[path.name]}. {others}Put it back from your copy, or accept the loss once with "
            f"`{accept}`"
        )

    def _note(self, name: str, id_: str) -> None:
        for book in self._books:
            try:
                remember(book, _NOTED + name, id_)
            except sqlite3.Error as error:
                raise CompanionLost(
                    f"{book}: {trouble(error)}: it cannot be noted that {name} belongs to it"
                ) from None


def _wrong(path: Path, known: Collection[str]) -> str | None:
    if not known:
        return None
    if not path.exists():
        return _MISSING
    try:
        id_ = _id_in(path)
    except sqlite3.Error:
        return None  # whoever opens it says why
    if id_ is None:
        return _FROM_BEFORE
    return None if id_ in known else _OTHER


def _id_in(path: Path) -> str | None:
    """None: the file is from before there were ids; nothing in it: an empty id. Raises sqlite3.Error."""
    if not path.stat().st_size:
        return ""
    with closing(read_only(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "identity" not in tables:
            return None if tables else ""
        row = db.execute("SELECT id FROM identity").fetchone()
    return "" if row is None else str(row[0])
