"""A store, a follower and a reader over real files; events go in as OTLP bytes, as from the log."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.journey.definition import Journey, Milestone, Segment
from otel_ttf.journey.match import parse
from otel_ttf.journey.rollup import add, share, unpack
from otel_ttf.journey.state import timeline
from otel_ttf.otlp.events import Rules, TimeConfig, extract
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.base import Cohort
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_read import SqliteReader
from otel_ttf.tracker.follow import Follower, Missing
from otel_ttf.units import DAY, HOUR, MINUTE

START = 1_790_000_000 * 1_000_000_000 // DAY * DAY + 8 * HOUR
PSEUDONYMS = Pseudonyms(Keys(event=b"e" * 32, subjects=(b"s" * 32,)))
RULES = Rules(time=TimeConfig(), subject_from=("user.id",), wants_span=lambda name: False)

Spec = tuple[str, str | None, float, Mapping[str, str]]


def token(user: str) -> str:
    return PSEUDONYMS.token(user)


def journey(**changes: object) -> Journey:
    """a -> b (5 min) -> c (10 min)."""
    values: dict[str, object] = {
        "name": "trip",
        "milestones": (
            milestone("a", None),
            milestone("b", 5 * MINUTE),
            milestone("c", 10 * MINUTE),
        ),
        "segments": (Segment("plan"),),
        "target": 15 * MINUTE,
        "overdue": {"warning": 20 * MINUTE, "critical": 40 * MINUTE, "escalation": 60 * MINUTE},
        "give_up_after": DAY,
        "settle": MINUTE,
    }
    return Journey(**(values | changes))  # type: ignore[arg-type]


def keyed(
    *, shared: Sequence[int] = (0,), key: Sequence[str] = ("subject", "project"), **more: Any
) -> Journey:
    """a -> b -> c, one per user and project; a is shared."""
    plain = journey(key=tuple(key), **more)
    return replace(
        plain,
        milestones=tuple(replace(m, shared=place in shared) for place, m in enumerate(plain.milestones)),
    )


def milestone(name: str, target: int | None, *events: str) -> Milestone:
    return Milestone(name, parse({"event": list(events or (name,))}), "" if target is None else name, target)


def request(specs: Iterable[Spec]) -> tuple[bytes, bytes]:
    """(payload, ids) of events (name, user, minutes after START, attributes); equal ones get equal ids."""
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    ids = b""
    for place, (name, user, minute, attributes) in enumerate(specs):
        at = START + round(minute * MINUTE)
        record = records.add(event_name=name, time_unix_nano=at)
        values = ({"user.id": token(user)} if user else {}) | dict(attributes)
        record.attributes.extend(KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in values.items())
        digest = hashlib.sha256(repr((name, user, minute, sorted(attributes.items()))).encode()).digest()
        ids += place.to_bytes(4, "big") + (at // 1_000_000).to_bytes(6, "big") + digest[:10]
    return message.SerializeToString(), ids


class World:
    """One data directory; `restart` opens it again, with other journeys if given."""

    def __init__(self, folder: Path, *journeys: Journey, **options: object) -> None:
        self.path = folder / "store.db"
        self.now = START
        self.missing: Missing = Counter()
        self.options = {"events": "named", "retention": 30 * DAY} | options
        self.open(journeys)
        self.now = START + HOUR

    def open(self, journeys: Sequence[Journey]) -> None:
        self.journeys = journeys
        self.store = SqliteStore(self.path)
        self.follower = Follower(
            self.store,
            journeys,
            **self.options,  # type: ignore[arg-type]
        )
        self.store.begin()
        self.follower.prepare(self.now)
        self.store.commit()
        self.reader = SqliteReader(self.path, {journey.name: journey for journey in journeys})

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def restart(self, *journeys: Journey) -> None:
        self.close()
        self.open(journeys or self.journeys)

    def send(self, *specs: Spec, minute: float | None = None) -> None:
        """Takes one request that arrives `minute` minutes after START (default: where the clock stands)."""
        if minute is not None:
            self.now = START + round(minute * MINUTE)
        payload, ids = request(specs)
        found = extract("logs", payload, ids, self.now, RULES)
        self.store.begin()
        self.missing += self.follower.take([(self.now, found)], self.now)
        self.store.commit()

    def sweep(self, minute: float) -> None:
        self.now = START + round(minute * MINUTE)
        self.store.begin()
        self.follower.sweep(self.now)
        self.store.commit()

    def jobs(self, limit: int = 2) -> int:
        """Runs carrying over and counting anew to their end; how many steps it took."""
        steps = 0
        for followed in self.follower.followed:
            for pending, step in (("recounting", "recount"), ("carrying", "carry")):
                while getattr(followed.definition, pending) is not None:
                    self.store.begin()
                    getattr(self.follower, step)(followed, limit, self.now)
                    self.store.commit()
                    steps += 1
        return steps

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.store.db.execute(sql).fetchall()

    def told(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT kind, coalesce(milestone, level), backfilled FROM transition ORDER BY position"
        )

    def minutes(self, user: str, name: str = "trip", version: str | None = None) -> list[float | None]:
        """Minutes after START of each milestone; None where not reached."""
        rows = self.reader.find(name, [token(user)], version)
        if not rows:
            return []
        return [None if t == 2**63 - 1 else (t - START) / MINUTE for t in rows[0].state.reached]

    def counter(self, metric: str) -> int:
        return sum(row.value for row in self.reader.counters() if row.metric == metric)


def same_as_a_scan(world: World) -> None:
    """The rollup equals what all stored states say."""
    trip = world.journeys[0]
    scanned: dict[int, int] = {}
    for (subject,) in world.rows("SELECT DISTINCT subject FROM journey"):
        for row in world.reader.find("trip", [str(subject)]):
            part = share(trip, timeline(trip, row.state), expired=False)
            if part is not None:
                add(scanned, part.cells, 1)
    counted: dict[int, int] = {}
    for cells in world.reader.shares("trip", Cohort()):
        add(counted, unpack(cells), 1)
    assert {k: v for k, v in counted.items() if v} == {k: v for k, v in scanned.items() if v}
