"""`otel-ttf restore` and `otel-ttf salvage`: another store.db in the place of one that is damaged or gone.

No server runs meanwhile. The old file is kept beside the new one, and a kill leaves one or the other.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.keys import Key
from otel_ttf.journey.metrics import score
from otel_ttf.journey.state import UNSET, State, timeline
from otel_ttf.journey.times import pack_times, unpack_times
from otel_ttf.journey.transitions import Transition, advance, milestone_bit, stage_bit, told_bit
from otel_ttf.log.sqlite_file import PAGE_SIZE as LOG_PAGE_SIZE
from otel_ttf.migrate import SchemaRefused, migrate
from otel_ttf.pages import is_damage, unseen_damage
from otel_ttf.pii.keys import Keys, fingerprint
from otel_ttf.remembered import remember
from otel_ttf.sqlite_disk import read_only, trouble
from otel_ttf.store.base import StoreRefused
from otel_ttf.store.losses import Loss, counted_beyond, counts, gaps, note, unknown
from otel_ttf.store.opening import NOTE, PAGE_SIZE, Identity, identity
from otel_ttf.store.salvage import Progress, Salvaged, salvage
from otel_ttf.store.sqlite import SCHEMA, SqliteStore, wrong_keys
from otel_ttf.store.sqlite_rows import (
    pack_key,
    subject_hash,
    to_json,
    unpack_counts,
    unpack_key,
    unpack_segments,
)
from otel_ttf.swap import drafted, finish, put
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.left_out import LeftOut, left_out
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.tracker.touches import Texts


class CannotMend(Exception):
    """The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What log.db holds: positions after `gone`, up to `end`."""

    log_id: str
    gone: int
    end: int


@dataclass(frozen=True, slots=True)
class Mended:
    """kept: where the old file is. cursor: how far the new store has followed this log; None: it knows another."""

    kept: Path | None
    cursor: int | None
    log: LogState | None


def restore(
    source: Path, path: Path, book: Path, keys: Keys, now: int, given: Given = NOTHING_GIVEN
) -> Mended:
    """Puts a copy of a store in its place. source: its file, or a data directory. Raises CannotMend.

    keys   with which the server will write into it
    given  the command's options, for what an operator is told to type
    """
    if source.is_dir():
        source = source / path.name
    if not source.is_file():
        raise CannotMend(f"{source}: there is no such file: name a copy of store.db or of a data directory")
    if path.exists() and source.samefile(path):
        raise CannotMend(f"{source} is the store itself: name a copy of it")
    try:
        _check_log(book)
        with drafted(path) as made:
            shutil.copyfile(source, made)
            with suppress(FileNotFoundError):
                shutil.copyfile(_wal(source), _wal(made))
            told = _ready(source, made, keys, given)
            return _put(made, path, book, told, "replaced", now)
    except OSError as error:
        raise CannotMend(f"{error.filename or source}: {(error.strerror or str(error)).lower()}") from None


def _check_log(book: Path) -> None:
    """Raises CannotMend, OSError: SQLite would lose what is readable of a damaged one."""
    if harm := unseen_damage(book, page_size=LOG_PAGE_SIZE):
        raise CannotMend(
            f"{book} is damaged ({harm}): start the server once, it mends log.db, and stop it again"
        )


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _ready(source: Path, made: Path, keys: Keys, given: Given) -> Identity:
    """Makes a closed store of today's version of the copy, once it is known to be whole. Raises CannotMend."""
    other = f"take an older copy, or use `{given.command('salvage')}`"
    if not made.stat().st_size or unseen_damage(made, page_size=PAGE_SIZE):
        raise CannotMend(f"{source} is damaged, too: {other}")
    try:
        found = identity(made)
        with closing(sqlite3.connect(made, isolation_level=None)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise CannotMend(f"{source} is damaged, too ({said}): {other}")
            migrate(db, source, SCHEMA)
            wrong = wrong_keys(db, fingerprint(keys.event), [fingerprint(key) for key in keys.subjects])
            if wrong:
                raise CannotMend(f"{source}: {wrong}; nothing was replaced")
            # Another id than its original has, whose loss may have been accepted, by an option that still stands there.
            db.execute("DELETE FROM meta WHERE name = 'id'")
            db.execute("PRAGMA journal_mode=DELETE")
        _closed(made)
    except sqlite3.Error as error:
        if is_damage(error):
            raise CannotMend(f"{source} is damaged, too ({trouble(error)}): {other}") from None
        raise CannotMend(f"{source} cannot be read as a store.db of otel_ttf: {trouble(error)}") from None
    except (SchemaRefused, StoreRefused) as error:
        raise CannotMend(str(error)) from None
    return found


def _closed(made: Path) -> None:
    """With an id, and without a write-ahead log."""
    SqliteStore(made).close()
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=DELETE")


def _put(made: Path, path: Path, book: Path, told: Identity, why: str, now: int) -> Mended:
    """made: the draft. Raises OSError, CannotMend."""
    log = log_state(book)
    if book.exists():
        new = identity(made)
        try:
            remember(
                book, NOTE, str(new.id)
            )  # first: with it the old file is refused, not taken for this one
        except sqlite3.Error as error:
            raise CannotMend(
                f"{book}: {trouble(error)}: start the server once, which mends it, and stop it again"
            ) from None
    cursor = told.position(log.log_id, CONSUMER) if log is not None else None
    return Mended(put(path, why, now), cursor, log)


def log_state(book: Path) -> LogState | None:
    """None: there is no log, or it cannot be read."""
    with (
        suppress(sqlite3.Error),
        closing(read_only(book)) as db,
    ):
        (log_id,) = db.execute("SELECT id FROM log").fetchone()
        (first,) = db.execute("SELECT min(position) FROM entry").fetchone()
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").fetchone()
        end = row[0] if row else 0
        return LogState(log_id, end if first is None else first - 1, end)
    return None


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """rebuilt: journeys made again from transitions. without: rows that were left out, since nobody knows
    of which journey they are. missing: transitions between others that are not there."""

    found: Salvaged
    rebuilt: int
    without: int
    missing: int
    mended: Mended


def salvage_store(
    path: Path,
    book: Path,
    journeys: Sequence[Journey],
    now: int,
    progress: Progress,
    given: Given = NOTHING_GIVEN,
) -> SalvageReport:
    """Puts a new store with all that is readable in the old one's place. given: see restore. Raises CannotMend."""
    try:
        finish(path)
        if not path.exists() and not _wal(path).exists():
            raise CannotMend(f"{path}: there is no such file: use `{given.command('restore FILE')}`")
        _check_log(book)
        with drafted(path) as made:
            harmed = unseen_damage(path, page_size=PAGE_SIZE) is not None
            found = salvage(path, made, progress)
            with closing(SqliteStore(made)) as store:
                store.begin()
                without = _forget_unknown(store)
                rebuilt = sum(_rebuild(store, journey, now) for journey in journeys)
                _mend_references(store)
                if found.harmed & {"counter", "histogram", "?"}:
                    _count_transitions(store, journeys)
                _count_anew(store, journeys)
                _mend_cursor(store, book)
                loss = _loss(store, found, now, harmed=harmed)
                if loss is not None:
                    note(store.db, loss)
                store.commit()
            _closed(made)
            mended = _put(made, path, book, identity(made), "damaged", now)
            missing = loss.transitions if loss is not None else 0
            return SalvageReport(found, rebuilt, without, missing, mended)
    except StoreRefused as error:
        raise CannotMend(str(error)) from None
    except (OSError, sqlite3.Error) as error:
        raise CannotMend(f"{path}: {trouble(error)}: make room on that disk, or restore a copy") from None


def _loss(store: SqliteStore, found: Salvaged, now: int, *, harmed: bool) -> Loss | None:
    """What cannot be read any more, and what that leaves between counters and transitions; None: nothing is lost.

    harmed  something was wrong with the files: transitions that came last may be missing where no page says so
    """
    beyond = {key: counted - told for key, (told, counted) in counts(store.db).items() if counted != told}
    loss = Loss(now, "salvaged", found.damaged, tuple(sorted(found.harmed)), tuple(gaps(store.db)), beyond)
    known = [gap for one in store.losses for gap in one.gaps]
    fewer = harmed and beyond != counted_beyond(store.losses)
    return loss if found.damaged or unknown(loss.gaps, known) or fewer else None


def _mend_cursor(store: SqliteStore, book: Path) -> None:
    """Where it is lost how far the log was followed, the log knows: at least so far."""
    if store.db.execute("SELECT 1 FROM cursor WHERE consumer = ?", (CONSUMER,)).fetchone():
        return
    log = log_state(book)
    with suppress(sqlite3.Error), closing(read_only(book)) as db:
        row = db.execute("SELECT position FROM consumer WHERE name = ?", (CONSUMER,)).fetchone()
        if log is not None and row is not None:
            store.save_cursor(CONSUMER, log.log_id, row[0])


def _forget_unknown(store: SqliteStore) -> int:
    """Deletes journeys whose definition is lost, or that have not as many times as it has milestones.

    A rebuild begins anew, where somebody asks for it: its rows go by that, too.
    """
    store.db.execute("DELETE FROM rebuild")
    for table in ("rollup", "combo"):
        store.db.execute(f"DELETE FROM {table} WHERE definition NOT IN (SELECT id FROM definition)")
    gone = store.db.execute(
        "DELETE FROM journey WHERE definition NOT IN (SELECT id FROM definition)"
    ).rowcount
    for definition in store.definitions():
        size = 8 * len(definition.canonical["milestones"])  # type: ignore[arg-type]
        gone += store.db.execute(
            "DELETE FROM journey WHERE definition = ? AND length(reached) <> ?", (definition.id, size)
        ).rowcount
    return gone


def _rebuild(store: SqliteStore, journey: Journey, now: int) -> int:
    """Makes journeys again of which only the transitions are left. How many."""
    mine = next((d for d in store.definitions(journey.name) if d.version == journey.version), None)
    if mine is None:
        (any_,) = store.db.execute(
            "SELECT count(*) FROM transition WHERE journey = ? AND version = ?",
            (journey.name, journey.version),
        ).fetchone()
        if not any_:
            return 0
        store.add_definition(journey, now, None)
        mine = next(d for d in store.definitions(journey.name) if d.version == journey.version)
    store.db.create_function("subject_hash", 1, subject_hash, deterministic=True)
    facts: dict[tuple[str, Key], list[Transition]] = {}
    for fact in _transitions(
        store,
        "journey = ? AND version = ? AND NOT EXISTS (SELECT 1 FROM journey AS j WHERE j.definition = ?"
        " AND j.subject_hash = subject_hash(transition.subject) AND j.subject = transition.subject"
        " AND j.key = transition.key)",
        (journey.name, journey.version, mine.id),
    ):
        facts.setdefault((fact.subject, fact.key), []).append(fact)
    for told in facts.values():
        _insert(store, journey, mine.id, mine.epoch, told)
    return len(facts)


def _insert(
    store: SqliteStore, journey: Journey, definition: int, epoch: int, facts: list[Transition]
) -> None:
    """facts: of one journey"""
    subject, key = facts[0].subject, facts[0].key
    places = {milestone.name: place for place, milestone in enumerate(journey.milestones)}
    stages = {milestone.stage: place for place, milestone in enumerate(journey.milestones)}
    events, since = _left_out(store, subject)
    out = left_out(store, Dispatch([journey]), Texts([]), subject, events) if events else LeftOut()
    reached = [UNSET] * len(places)
    told, recorded = 0, None
    for fact in facts:
        for stage, _ in fact.closed:
            told |= stage_bit(stages[stage]) if stage in stages else 0
        if fact.milestone in places:
            place = places[fact.milestone]
            told |= milestone_bit(place)
            # The last word counts. What took back a time that was left out may be lost.
            times: tuple[int | None, ...] = (fact.new, fact.old) if fact.kind == "corrected" else (fact.at,)
            if fact.recorded <= since and times[0] is not None and out.reaches(0, place, times[0]):
                times = times[1:]
            for time in times[:1]:
                reached[place] = UNSET if time is None else time
        else:
            told |= told_bit(fact.kind, fact.level)
        if fact.kind == "started":
            recorded = fact.recorded
    # Their first times are not told: that of the first milestone is early enough to count.
    first = min(*reached, max(fact.at for fact in facts))
    segments = {name: [first, value] for fact in facts for name, value in fact.segments.items()}
    names = [segment.attribute for segment in journey.segments]
    state = State(tuple(reached), unpack_segments(names, to_json(segments)))
    _, bits = advance(journey, None, state, told, subject=subject, key=key, recorded=0)
    # Columns that follow from these are worked out when it is counted.
    store.db.execute(
        "INSERT INTO journey (definition, subject_hash, subject, key, reached, segments, told, recorded, weight,"
        " epoch, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1.0, ?, 0)",
        (
            definition,
            subject_hash(subject),
            subject,
            pack_key(key),
            pack_times(reached),
            to_json(segments),
            bits,
            recorded,
            epoch,
        ),
    )


def _left_out(store: SqliteStore, subject: str) -> tuple[dict[bytes, int], int]:
    """(id -> time of events of a subject that move no journey, when the last one was left out)."""
    rows = store.db.execute(
        "SELECT event_id, at, since FROM excluded WHERE subject = ?", (subject,)
    ).fetchall()
    return {event: at for event, at, _ in rows}, max((since for *_, since in rows), default=0)


def _transitions(store: SqliteStore, where: str, values: Sequence[object]) -> list[Transition]:
    return [
        Transition(
            digest,
            journey,
            version,
            tuple(json.loads(key)) if key else (),
            subject,
            kind,
            milestone,
            level,
            at,
            recorded,
            json.loads(segments),
            bool(backfilled),
            old=old,
            new=new,
            closed=tuple((stage, took) for stage, took in json.loads(closed)),
            changed=tuple((what, before, after) for what, before, after in json.loads(changed)),
        )
        for (
            digest,
            journey,
            version,
            key,
            subject,
            kind,
            milestone,
            level,
            at,
            recorded,
            segments,
            backfilled,
            old,
            new,
            closed,
            changed,
        ) in store.db.execute(
            "SELECT id, journey, version, key, subject, kind, milestone, level, at, recorded, segments, backfilled,"
            f" old, new, closed, changed FROM transition WHERE {where} ORDER BY position",
            tuple(values),
        )
    ]


def _mend_references(store: SqliteStore) -> None:
    """An event whose resource is lost keeps an empty one."""
    store.db.execute(
        "INSERT OR IGNORE INTO resource (id, digest, bytes, used_block)"
        " SELECT resource, CAST('lost ' || resource AS BLOB), x'', max(id) / 4096 FROM event"
        " WHERE resource NOT IN (SELECT id FROM resource) GROUP BY resource"
    )


def _count_anew(store: SqliteStore, journeys: Sequence[Journey]) -> None:
    """Has the tracker count the followed versions' figures from their journeys."""
    followed = {(journey.name, journey.version) for journey in journeys}
    for definition in store.definitions():
        if definition.current or (definition.journey, definition.version) in followed:
            store.clear_rollup(definition.id)
            definition.recounting = 0
            store.save_definition(definition)


def _count_transitions(store: SqliteStore, journeys: Sequence[Journey]) -> None:
    """Counters and histograms become what transitions say that are left, and what journeys were told besides.

    None becomes less than what is readable of it: a counter that falls has begun anew for Prometheus, and all it
    says would count as news.
    """
    readable = _readable_counts(store)
    counts = Counts(store)
    for journey in journeys:
        starts: dict[tuple[str, Key], int] = {}
        facts = _transitions(store, "journey = ?", (journey.name,))
        facts += _told_besides(store, journey, {fact.digest for fact in facts})
        for fact in facts:
            whose = fact.subject, fact.key
            if fact.milestone == journey.milestones[0].name:
                starts[whose] = min(fact.at, starts.get(whose, fact.at))
            total = points = None
            if fact.kind == "completed":
                total = max(0, fact.at - starts.get(whose, fact.at))
                points = _score(store, journey, fact)
            counts.told(journey, fact, points, total)
        for table in ("counter", "histogram"):
            store.db.execute(
                f"DELETE FROM {table} WHERE json_extract(labels, '$.journey') = ?", (journey.name,)
            )
    counts.flush()
    _keep_larger(store, readable)


def _told_besides(store: SqliteStore, journey: Journey, known: Set[bytes]) -> list[Transition]:
    """What journeys were told, as their bits say, and no transition is left to say: with the values of today."""
    names = [segment.attribute for segment in journey.segments]
    found: list[Transition] = []
    for subject, packed, reached, segments, told in store.db.execute(
        "SELECT subject, key, reached, segments, told FROM journey WHERE told <> 0 AND definition IN"
        " (SELECT id FROM definition WHERE journey = ? AND version = ?)",
        (journey.name, journey.version),
    ):
        state = State(unpack_times(reached), unpack_segments(names, segments))
        key = unpack_key(packed)
        whole, _ = advance(journey, None, state, 0, subject=subject, key=key, recorded=0)
        if all(fact.digest in known for fact in whole):
            continue
        news, _ = advance(journey, None, state, told, subject=subject, key=key, recorded=0)
        untold = known | {fact.digest for fact in news}
        found += [fact for fact in whole if fact.digest not in untold]
    return found


Readable = tuple[list[tuple[str, str, int]], list[tuple[str, str, str, int]]]


def _readable_counts(store: SqliteStore) -> Readable:
    """Rows of counters and of histograms."""
    return (
        store.db.execute(
            "SELECT metric, labels, value FROM counter WHERE writer = ?", (store.writer,)
        ).fetchall(),
        store.db.execute(
            "SELECT metric, labels, counts, total FROM histogram WHERE writer = ?", (store.writer,)
        ).fetchall(),
    )


def _keep_larger(store: SqliteStore, readable: Readable) -> None:
    """Counts that are less than they were become what they were."""
    counters, histograms = readable
    store.db.executemany(
        "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        [(store.writer, *row) for row in counters],
    )
    now = {row[:2]: unpack_counts(row[2]) for row in _readable_counts(store)[1]}
    store.db.executemany(
        "REPLACE INTO histogram VALUES (?, ?, ?, ?, ?)",
        [
            (store.writer, *row)
            for row in histograms
            if sum(unpack_counts(row[2])) > sum(now.get(row[:2], []))
        ],
    )


def _score(store: SqliteStore, journey: Journey, fact: Transition) -> float | None:
    row = store.db.execute(
        "SELECT reached, segments FROM journey WHERE subject_hash = ? AND subject = ? AND key = ? AND definition IN"
        " (SELECT id FROM definition WHERE journey = ? AND version = ?)",
        (subject_hash(fact.subject), fact.subject, pack_key(fact.key), fact.journey, fact.version),
    ).fetchone()
    if row is None or fact.version != journey.version:
        return None
    names = [segment.attribute for segment in journey.segments]
    line = timeline(journey, State(unpack_times(row[0]), unpack_segments(names, row[1])))
    return score(journey, line, fact.at)
