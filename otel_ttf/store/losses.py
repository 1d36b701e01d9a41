"""What a store has lost: noted in the new one by whoever puts it in the old one's place, told in /ready for a week, in
a metric, and by `otel-ttf check-data` for ever."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from otel_ttf.store.sqlite_rows import reading, to_json, unpack_loss
from otel_ttf.units import SECOND

Why = Literal["salvaged", "begun_anew"]
WHYS: tuple[Why, ...] = ("salvaged", "begun_anew")
Gap = tuple[int, int]  # first and last position that are missing
Count = tuple[str, str, str]  # metric, journey, and stage or ""

# What transitions say that counters must be, by journey (and stage): metric -> how to count.
_COUNTERS = {
    "ttf_started_total": "kind = 'started'",
    "ttf_completion_total": "kind = 'completed'",
    "ttf_expired_total": "kind = 'expired'",
    "ttf_corrections_total": "kind = 'corrected' OR changed <> '[]'",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """One of them. found: unix ns.

    pages    that were damaged, of these `tables` (?: nobody knows of which)
    gaps     positions before others at which no transition is, those of earlier losses too
    counted  by how much more (or less) was counted than the transitions that are left say
    """

    found: int
    why: Why
    pages: int = 0
    tables: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    counted: Mapping[Count, int] = field(default_factory=dict)

    @property
    def transitions(self) -> int:
        """How many are known to be missing."""
        return sum(last - first + 1 for first, last in self.gaps)


def note(db: sqlite3.Connection, loss: Loss) -> None:
    """Into the open transaction, if there is one."""
    what = {
        "pages": loss.pages,
        "tables": loss.tables,
        "gaps": loss.gaps,
        "counted": [[*key, more] for key, more in loss.counted.items()],
    }
    db.execute("INSERT INTO loss (found, why, what) VALUES (?, ?, ?)", (loss.found, loss.why, to_json(what)))


def losses(db: sqlite3.Connection) -> list[Loss]:
    """The oldest first. Raises RowDamaged."""
    found = []
    for id_, at, why, text in db.execute("SELECT id, found, why, what FROM loss ORDER BY id"):
        with reading("loss", id_):
            what = unpack_loss(text)
            found.append(
                Loss(
                    at,
                    WHYS[WHYS.index(why)],
                    what["pages"],
                    tuple(what["tables"]),
                    tuple((first, last) for first, last in what["gaps"]),
                    {(metric, journey, stage): more for metric, journey, stage, more in what["counted"]},
                )
            )
    return found


def told(loss: Loss) -> str:
    """For operators: what is gone, since when, and what can be done about it."""
    when = datetime.fromtimestamp(loss.found // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    again = "what senders still have they may send again, figures count nothing twice"
    if loss.why == "begun_anew":
        gone = "all that was counted before is gone"
        return f"store.db was begun anew, as --accept-empty-store said ({when}): {gone}: {again}"
    whose = ", ".join("unknown tables" if name == "?" else name for name in loss.tables)
    parts = [f"what stood on {loss.pages} damaged pages is gone (of {whose})"] if loss.pages else []
    parts += [f"{loss.transitions} transitions are missing"] if loss.transitions else []
    gone = ", ".join(parts) or "what was written last is gone in part"
    return f"store.db was salvaged ({when}): {gone}: {again}"


def gaps(db: sqlite3.Connection) -> list[Gap]:
    """Where transitions are missing before others: positions have no gaps."""
    last, count = db.execute("SELECT max(position), count(*) FROM transition").fetchone()
    if last is None or last == count:
        return []
    rows = db.execute(
        "SELECT before + 1, position - 1 FROM (SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before"
        " FROM transition) WHERE position > before + 1"
    )
    return rows.fetchall()


def unknown(found: Iterable[Gap], known: Iterable[Gap]) -> list[Gap]:
    """Those of the gaps that are in none of the known ones."""
    ranges = list(known)
    return [(first, last) for first, last in found if not any(a <= first and last <= b for a, b in ranges)]


def counts(db: sqlite3.Connection) -> dict[Count, tuple[int, int]]:
    """What transitions say that was to be counted, and what was."""
    expected: Counter[Count] = Counter()
    for metric, condition in _COUNTERS.items():
        for journey, count in db.execute(
            f"SELECT journey, count(*) FROM transition WHERE NOT backfilled AND ({condition}) GROUP BY journey"
        ):
            expected[metric, journey, ""] = count
            if metric == "ttf_completion_total":
                expected["ttf_complete_minutes", journey, ""] = count
    for journey, stage, count in db.execute(
        "SELECT journey, json_extract(one.value, '$[0]'), count(*) FROM transition, json_each(closed) AS one"
        " WHERE NOT backfilled GROUP BY 1, 2"
    ):
        expected["ttf_stage_minutes", journey, stage] = count
    counted: Counter[Count] = Counter()
    for metric, text, value in db.execute("SELECT metric, labels, value FROM counter"):
        counted[metric, json.loads(text)["journey"], ""] += value
    for metric, text, counts in db.execute("SELECT metric, labels, counts FROM histogram"):
        labels = json.loads(text)
        if metric != "ttf_efficiency_score":  # not every journey has one
            counted[metric, labels["journey"], labels.get("stage", "")] += sum(json.loads(counts))
    return {key: (expected[key], counted[key]) for key in sorted(expected.keys() | counted.keys())}


def counted_beyond(known: Iterable[Loss]) -> Mapping[Count, int]:
    """By how much counters differ from transitions since the last of these losses; where nothing stands, by none."""
    return next((loss.counted for loss in reversed(list(known)) if loss.why == "salvaged"), {})
