"""What has become known by a rebuild is told after it has taken over, row by row; one that is wanted sooner first."""

from __future__ import annotations

from collections.abc import Sequence

from otel_ttf.journey.state import timeline
from otel_ttf.journey.transitions import advance
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_rows import parts
from otel_ttf.tracker.counts import Counts
from otel_ttf.tracker.followed import Followed
from otel_ttf.tracker.writes import Writes


def tell(store: SqliteStore, counts: Counts, followed: Followed, subjects: Sequence[str], now: int) -> None:
    """Tells it of these subjects, backfilled. Once: their rows of before, which say what was known, go by it."""
    if not subjects or followed.rebuild is None:
        return
    before = store.load(followed.rebuild.beside, followed.segments, subjects)
    batch = Writes(store, counts, followed, now, backfilled=True)
    for whose, row in store.load(followed.definition.id, followed.segments, subjects).items():
        if row.shared:
            continue
        old = before.get(whose)
        line = timeline(followed.journey, row.state)
        transitions, told = advance(
            followed.journey,
            None if old is None else old.state,
            row.state,
            row.told,
            subject=row.subject,
            key=parts(row.key),
            recorded=now,
            backfilled=True,
            line=line,
            retold=row.subject in followed.retold,
        )
        if transitions or told != row.told:
            batch.news(row, transitions, line, told)
    batch.write()
    store.delete([row.id for row in before.values() if row.id is not None])
