"""What a salvaged store lacks is made again of what is left in it: journeys of their transitions, and their counts."""

from __future__ import annotations

from collections.abc import Sequence, Set

from otel_ttf.journey.definition import Journey
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.keys import Key
from otel_ttf.journey.metrics import score
from otel_ttf.journey.state import UNSET, State, timeline
from otel_ttf.journey.times import pack_times, unpack_times
from otel_ttf.journey.transitions import Transition, advance, milestone_bit, stage_bit, told_bit
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import (
    TRANSITION,
    pack_key,
    subject_hash,
    to_json,
    transition_from,
    unpack_counts,
    unpack_key,
    unpack_segments,
)
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.left_out import LeftOut, left_out
from otel_ttf.tracker.touches import Texts


def forget_unknown(store: SqliteStore) -> int:
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


def remake(store: SqliteStore, journey: Journey, now: int) -> int:
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
    rows = store.db.execute(
        f"SELECT {TRANSITION}, position FROM transition WHERE {where} ORDER BY position", tuple(values)
    )
    return [transition_from(row, position) for *row, position in rows]


def mend_references(store: SqliteStore) -> None:
    """An event whose resource is lost keeps an empty one."""
    store.db.execute(
        "INSERT OR IGNORE INTO resource (id, digest, bytes, used_block)"
        " SELECT resource, CAST('lost ' || resource AS BLOB), x'', max(id) / 4096 FROM event"
        " WHERE resource NOT IN (SELECT id FROM resource) GROUP BY resource"
    )


def count_anew(store: SqliteStore, journeys: Sequence[Journey]) -> None:
    """Has the tracker count the followed versions' figures from their journeys."""
    followed = {(journey.name, journey.version) for journey in journeys}
    for definition in store.definitions():
        if definition.current or (definition.journey, definition.version) in followed:
            store.clear_rollup(definition.id)
            definition.recounting = 0
            store.save_definition(definition)


def count_transitions(store: SqliteStore, journeys: Sequence[Journey]) -> None:
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
