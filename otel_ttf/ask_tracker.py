"""Questions of the command line to a data directory's store, and tasks for its tracker."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from otel_ttf.api.times import rfc3339, rfc3339_or_none
from otel_ttf.log.lock import in_use
from otel_ttf.otlp.wire import Malformed, decode
from otel_ttf.pages import is_damage, unseen_damage
from otel_ttf.sqlite_disk import trouble
from otel_ttf.store.exports import FILE as EXPORTS
from otel_ttf.store.exports import FIRST_LETTER, Letters
from otel_ttf.store.opening import PAGE_SIZE
from otel_ttf.store.quarantine import DeadLetter, Quarantine
from otel_ttf.store.tasks import Kind, Tasks

# So long a task may take before the command says that it is still to be done.
WAIT_SECONDS = 30.0
# What is asked in one task is done in one transaction.
TOGETHER = 200
# A file that a server writes just now may look damaged for a moment.
LOOKS, LOOK_SECONDS = 10, 0.1


class StoreUnanswered(Exception):
    """The store cannot be asked; the message says why and what to do."""


class Damaged(StoreUnanswered):
    """As its file is damaged: `otel-ttf restore` or `salvage` leads on."""


@contextmanager
def opened(store: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The store's file. Raises StoreUnanswered, also for what SQLite says within."""
    if not store.exists():
        raise StoreUnanswered(f"{store} is not there: is it the right --data-dir, and --config?")
    try:
        _check(store)
        uri = f"{store.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_SECONDS)) as db:
            if write:
                db.execute("PRAGMA synchronous=FULL")
            db.execute("SELECT 1 FROM quarantine, task LIMIT 1")
            yield db
    except sqlite3.Error as error:
        if "no such" in str(error):  # table or column
            raise StoreUnanswered(
                f"{store} was written by an older otel_ttf: start this version's server on it once."
            ) from None
        if is_damage(error) and store.name == EXPORTS:
            raise _damaged_exports(store, trouble(error)) from None
        if is_damage(error):
            raise Damaged(f"{store} is damaged ({trouble(error)})") from None
        raise StoreUnanswered(f"{store} cannot be read or written: {trouble(error)}") from None
    except OSError as error:
        raise StoreUnanswered(f"{store} cannot be read: {error.strerror}") from None


def _check(store: Path) -> None:
    """Raises Damaged, OSError: SQLite would lose what `otel-ttf salvage` can still read."""
    for left in reversed(range(LOOKS)):
        harm = unseen_damage(store, page_size=PAGE_SIZE)
        if harm is None:
            return
        if left:
            time.sleep(LOOK_SECONDS)
    if store.name == EXPORTS:
        raise _damaged_exports(store, harm)
    raise Damaged(f"{store} is damaged ({harm})")


def _damaged_exports(file: Path, why: str | None) -> StoreUnanswered:
    return StoreUnanswered(
        f"{file} is damaged ({why}): the server, or its next start, keeps it aside and copies what is readable into a "
        "new one"
    )


def asked(data_dir: Path, store: Path, kind: Kind, whats: Sequence[dict[str, Any]]) -> list[Any] | None:
    """The answers to tasks; None: the server has not done them yet, but will.

    Raises StoreUnanswered, also for a defect.
    """
    with opened(store, write=True) as db:
        tasks = Tasks(db)
        numbers = [tasks.ask(kind, what, time.time_ns()) for what in whats]
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            # Looked at before the answers: a server that has ended meanwhile may have given them.
            running = in_use(data_dir)
            answers = [tasks.answered(number) for number in numbers]
            if all(answer is not None for answer in answers):
                break
            if not running or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
    for answer in answers:
        if "failure" in answer:
            raise StoreUnanswered(
                f"the server cannot do it and has changed nothing ({answer['failure']}): a defect, please report it."
            )
    return answers


def recomputed(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a task `recompute` with times as the API tells them."""
    for journey in answer["journeys"]:
        for milestone in journey["milestones"]:
            for name in ("before", "after"):
                milestone[name] = rfc3339_or_none(milestone[name])
    return answer


def rebuilding(store: Path) -> dict[str, float]:
    """Journeys that are computed anew -> how much of it is done, 0 to 1. Raises StoreUnanswered."""
    with opened(store) as db:
        (last,) = db.execute("SELECT max(1, coalesce(max(id), 1)) FROM journey").fetchone()
        rows = db.execute(
            "SELECT journey, phase, place FROM rebuild JOIN definition ON definition.id = rebuild.definition"
        ).fetchall()
    # To tell what is new takes about as long as to find it.
    return {
        name: (_share_of_hashes(place) if phase == "walking" else 1 + place / last) / 2
        for name, phase, place in rows
    }


def _share_of_hashes(hash_: int) -> float:
    """How many of all hashes of tokens lie before one: of the 36 digits they have 32."""
    share, weight = 0.0, 1.0
    for place in (11, 10):
        digit = max(0, hash_) // 36**place % 36
        weight /= 32
        share += weight * (max(0, digit - 2) if digit < 10 else digit - 4)
    return min(share, 1.0)


def beside(store: Path, data_dir: Path) -> list[Path]:
    """The files that hold what was set aside: the store, and the one of exporters if there is one."""
    exports = data_dir / EXPORTS
    return [store, exports] if exports.exists() else [store]


def of(id_: int, store: Path, data_dir: Path) -> Path:
    """The file in which a record of that id is set aside, if anywhere."""
    return data_dir / EXPORTS if id_ >= FIRST_LETTER else store


def listed(files: Sequence[Path], limit: int) -> dict[str, Any]:
    """What is set aside, the oldest first, file by file; count: of items, records: in them. Raises StoreUnanswered."""
    count = records = 0
    items: list[dict[str, Any]] = []
    for file in files:
        with opened(file) as db:
            kept = _kept(file, db)
            count += len(kept.ids())
            records += kept.count()
            items += [_row(letter) for letter in kept.all(limit - len(items))]
    return {"count": count, "records": records, "items": items}


def ids(files: Sequence[Path]) -> list[int]:
    """Of all records that are set aside. Raises StoreUnanswered."""
    found = []
    for file in files:
        with opened(file) as db:
            found += _kept(file, db).ids()
    return found


def _kept(file: Path, db: sqlite3.Connection) -> Quarantine:
    return Letters(db) if file.name == EXPORTS else Quarantine(db)


def shown(file: Path, id_: int) -> dict[str, Any] | None:
    """A record that is set aside, with what it holds; None: there is none of that id. Raises StoreUnanswered."""
    if file.name == EXPORTS and not file.exists():
        return None
    with opened(file) as db:
        letter = _kept(file, db).get(id_)
    if letter is None:
        return None
    try:
        record = json_format.MessageToDict(decode(letter.signal, letter.payload))
    except (Malformed, ValueError, RecursionError):
        record = None  # it may be this that was wrong with it
    return {
        **_row(letter),
        "event_ids": [letter.ids[at + 4 : at + 20].hex() for at in range(0, len(letter.ids), 20)],
        "record": record,
        "bytes": letter.payload.hex() if record is None else None,
    }


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "consumer": letter.consumer,
        "error": letter.error,
        "place": letter.source,
        "tries": letter.tries,
        "signal": letter.signal,
        "arrived_at": rfc3339(letter.arrival),
        "set_aside_at": rfc3339(letter.since),
        "log_position": letter.position,
        "log_place": letter.place,
        "records": letter.records,
    }


def printable(told: object) -> str:
    """JSON that no terminal obeys."""
    return json.dumps(told, indent=2)
