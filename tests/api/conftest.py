"""An API over a reader that holds states in memory, or over the embedded store; tests can't tell which."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from otel_ttf.api.app import build
from otel_ttf.api.health import Readiness
from otel_ttf.commands import Given
from otel_ttf.journey.definition import Journey, Milestone, canonical, default_onboarding
from otel_ttf.journey.match import parse
from otel_ttf.journey.metrics import status
from otel_ttf.journey.rollup import pack, share
from otel_ttf.journey.state import UNSET, State, Timeline, timeline
from otel_ttf.journey.thresholds import level
from otel_ttf.journey.times import pack_times
from otel_ttf.otlp.events import Event
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.base import (
    UNKNOWN,
    Cohort,
    CounterRow,
    HistogramRow,
    JourneyRow,
    NotReady,
    Reader,
    SeenName,
    StuckRow,
    Version,
)
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_read import SqliteReader
from otel_ttf.telemetry import Telemetry
from otel_ttf.tracker.follow import Follower, Touch
from otel_ttf.units import MINUTE, SECOND

START = 1_767_268_800 * SECOND  # 2026-01-01T12:00:00Z
KEYS = Keys(event=b"e" * 32, subjects=(b"n" * 32, b"o" * 32))
OLD_KEYS = Keys(event=b"e" * 32, subjects=(b"o" * 32,))

States = Mapping[str, State]


@dataclass
class MemoryReader:
    """The reading side of a store, worked out from states. swept: until when expired ones are marked."""

    journeys: Mapping[str, Journey]
    states: Mapping[str, States]
    swept: int = 0
    old: Mapping[tuple[str, str], tuple[Version, States]] = field(default_factory=dict)
    recounting: float | None = None
    seen: Sequence[SeenName] = ()
    counted: Sequence[CounterRow] = ()
    observed: Sequence[HistogramRow] = ()

    def versions(self, journey: str) -> list[Version]:
        defined = self.journeys[journey]
        current = Version(journey, defined.version, canonical(defined), START, None, True)
        return [current, *(version for (name, _), (version, _) in self.old.items() if name == journey)]

    def find(self, journey: str, subjects: Sequence[str], version: str | None = None) -> list[JourneyRow]:
        own = self.journeys[journey].version
        states = self.states[journey] if version in (None, own) else self.old[journey, str(version)][1]
        return [
            JourneyRow(i, journey, version or own, subject, (), state, 0, START)
            for i, (subject, state) in enumerate(states.items(), 1)
            if subject in subjects and any(time != UNSET for time in state.reached)
        ]

    def events_at(self, subjects: Sequence[str], times: Collection[int]) -> list[Event]:
        return []

    def _lines(self, journey: str, cohort: Cohort) -> Iterator[tuple[State, Timeline, bool, dict[int, int]]]:
        if self.recounting is not None:
            raise NotReady(self.recounting)
        defined = self.journeys[journey]
        names = [segment.attribute for segment in defined.segments]
        for state in self.states[journey].values():
            line = timeline(defined, state)
            gone = status(defined, line, self.swept) == "expired"
            part = share(defined, line, expired=gone)
            if part is None:
                continue
            values = dict(zip(names, (value or UNKNOWN for value in part.segments), strict=True))
            wanted = cohort.segments or {}
            if (
                (cohort.first_day is None or part.day >= cohort.first_day)
                and (cohort.last_day is None or part.day < cohort.last_day)
                and all(values[name] == value for name, value in wanted.items())
            ):
                yield state, line, gone, part.cells

    def shares(self, journey: str, cohort: Cohort, version: str | None = None) -> list[bytes]:
        return [pack(cells) for _, _, _, cells in self._lines(journey, cohort)]

    def unpacking(self, table: str) -> AbstractContextManager[None]:
        return nullcontext()

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def unswept(
        self,
        journey: str,
        cohort: Cohort,
        *,
        started_until: int,
        recorded_until: int,
        version: str | None = None,
    ) -> int:
        return sum(
            line.started_at is not None
            and line.started_at <= started_until
            and line.completed_at is None
            and not gone
            for _, line, gone, _ in self._lines(journey, cohort)
        )

    def young(
        self, journey: str, cohort: Cohort, *, touched_after: int, version: str | None = None
    ) -> list[bytes]:
        return [
            pack_times(state.reached)
            for state, line, _, _ in self._lines(journey, cohort)
            if line.started_at is not None and line.touched is not None and line.touched > touched_after
        ]

    def stuck(
        self,
        journey: str,
        milestone: int,
        *,
        opened_until: int,
        started_after: int,
        after: tuple[int, int] | None,
        limit: int,
    ) -> list[StuckRow]:
        if self.recounting is not None:
            raise NotReady(self.recounting)
        defined = self.journeys[journey]
        rows = []
        for i, (subject, state) in enumerate(self.states[journey].items(), 1):
            line = timeline(defined, state)
            if line.current != milestone or line.completed_at is not None or line.started_at is None:
                continue
            if status(defined, line, self.swept) == "expired" or line.opened is None:
                continue
            if line.opened <= opened_until and line.started_at > started_after:
                rows.append(StuckRow(i, subject, (), milestone, line.started_at, line.opened, START))
        rows.sort(key=lambda row: (row.opened, row.id))
        return [row for row in rows if after is None or (row.opened, row.id) > after][:limit]

    def names(self, limit: int = 1000) -> list[SeenName]:
        return sorted(self.seen, key=lambda name: -name.count)[:limit]

    def counters(self) -> list[CounterRow]:
        return list(self.counted)

    def histograms(self) -> list[HistogramRow]:
        return list(self.observed)

    def gauges(self, now: int) -> list[CounterRow]:
        if self.recounting is not None:
            raise NotReady(self.recounting)
        rows = []
        for name, defined in self.journeys.items():
            lines = [timeline(defined, state) for state in self.states[name].values()]
            flying = [line for line in lines if status(defined, line, now) == "in_progress"]
            rows.append(CounterRow("ttf_in_flight", {"journey": name}, len(flying)))
            late = sum(line.start_unknown for line in lines)
            rows.append(CounterRow("ttf_entered_late", {"journey": name}, late))
            for wanted in defined.overdue:
                count = sum(level(defined, line, now) == wanted for line in flying)
                rows.append(CounterRow("ttf_overdue", {"journey": name, "level": wanted}, count))
        return rows


def sqlite_reader(
    folder: Path, journeys: Mapping[str, Journey], states: Mapping[str, States], swept: int
) -> Any:
    """The embedded store with these states in it, as the tracker writes them."""
    store = SqliteStore(folder / "store.db")
    follower = Follower(store, list(journeys.values()), events="named", retention=MINUTE)
    store.begin()
    follower.prepare(START)
    for followed in follower.followed:
        touches = {
            subject: Touch(list(state.reached), list(state.segments))
            for subject, state in states[followed.journey.name].items()
        }
        follower.join(followed, touches, START)
    follower.counts.flush()
    if swept:
        follower.sweep(swept)
    store.commit()
    store.close()
    return SqliteReader(folder / "store.db", journeys)


class Served:
    """An API under test, with a clock that stands still unless it is moved."""

    def __init__(self, reader: Reader, journeys: Mapping[str, Journey], **options: Any) -> None:
        self.now = START + 60 * MINUTE
        self.lag = 0.25
        self.when_asked: Callable[[], object] = lambda: None
        self.readiness = Readiness()
        self.telemetry = Telemetry()
        self.app = build(
            journeys,
            reader,
            Pseudonyms(KEYS),
            self._as_of,
            lambda: self.readiness,
            self.telemetry,
            **options,
        )
        self.client = TestClient(self.app, raise_server_exceptions=False, follow_redirects=False)

    def _as_of(self) -> tuple[int, float]:
        self.when_asked()
        return self.now, self.lag

    def at(self, minute: float) -> Served:
        """Moves the clock to so many minutes after START."""
        self.now = START + round(minute * MINUTE)
        return self

    def get(self, url: str, status: int = 200, **options: Any) -> Any:
        """The JSON of a GET, whose status is checked."""
        response = self.client.get(url, **options)
        assert response.status_code == status, response.text
        return response.json()


def in_minutes(journey: Journey, *minutes: float | None, **segments: tuple[float, str]) -> State:
    """A state from minutes after START; segments: name -> (minute, value)."""
    times = [UNSET if m is None else START + round(m * MINUTE) for m in minutes]
    times += [UNSET] * (len(journey.milestones) - len(times))
    known = {name: (START + round(m * MINUTE), value) for name, (m, value) in segments.items()}
    return State(tuple(times), tuple(known.get(s.attribute) for s in journey.segments))


@pytest.fixture
def onboarding() -> Journey:
    return default_onboarding()


@pytest.fixture
def checkout() -> Journey:
    """A second journey: open -> pay, no segments, no targets, given up on after a day."""
    milestones = (
        Milestone("open", parse({"event": "open"}), ""),
        Milestone("pay", parse({"event": "pay"}), "payment"),
    )
    return Journey("checkout", milestones, give_up_after=24 * 60 * MINUTE)


@pytest.fixture
def start() -> int:
    """The instant that minutes count from: 2026-01-01T12:00:00Z."""
    return START


@pytest.fixture
def state() -> Callable[..., State]:
    return in_minutes


@pytest.fixture
def token() -> Callable[[str], str]:
    """A user id's token under the newest key."""
    return Pseudonyms(KEYS).token


@pytest.fixture
def old_token() -> Callable[[str], str]:
    """The token that a user id had before the key was rotated."""
    return Pseudonyms(OLD_KEYS).token


@pytest.fixture(params=["memory", "sqlite"])
def reader_with(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    """(journey, {token: state}, further pairs..., swept=ns) -> a Reader that holds them."""
    with ExitStack() as opened:

        def make(*pairs: Any, swept: int = 0) -> Reader:
            journeys = {journey.name: journey for journey in pairs[::2]}
            states = {journey.name: held for journey, held in zip(pairs[::2], pairs[1::2], strict=True)}
            if request.param == "memory":
                return MemoryReader(journeys, states, swept)
            reader = sqlite_reader(tmp_path, journeys, states, swept)
            opened.callback(reader.close)
            return reader  # type: ignore[no-any-return]

        yield make


@pytest.fixture
def serve(reader_with: Callable[..., Reader]) -> Callable[..., Served]:
    """(journey, {token: state}, further pairs...) -> the API over them, at START + 60 minutes."""

    def make(*pairs: Any, swept: int = 0, **options: Any) -> Served:
        return Served(reader_with(*pairs, swept=swept), {j.name: j for j in pairs[::2]}, **options)

    return make


@pytest.fixture
def serve_memory() -> Callable[..., Served]:
    """(journey, {token: state}, further fields of MemoryReader) -> the API over a reader in memory."""

    def make(
        journey: Journey, states: States, *, options: Mapping[str, Any] | None = None, **more: Any
    ) -> Served:
        journeys = {journey.name: journey}
        return Served(MemoryReader(journeys, {journey.name: states}, **more), journeys, **(options or {}))

    return make


@pytest.fixture
def serve_over() -> Callable[..., Served]:
    """(reader, journeys) -> the API over that reader."""
    return Served


@pytest.fixture
def damaged(tmp_path: Path, onboarding: Journey) -> Iterator[Callable[[str], tuple[Served, SqliteReader]]]:
    """UPDATE ... -> the API over a store with one journey, ada's, on which that was done, and its reader."""
    journeys = {"onboarding": onboarding}
    with ExitStack() as opened:

        def make(change: str) -> tuple[Served, SqliteReader]:
            ada = {Pseudonyms(KEYS).token("ada"): in_minutes(onboarding, 0, 3, plan=(0, "pro"))}
            sqlite_reader(tmp_path, journeys, {"onboarding": ada}, 0).close()
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
                db.execute("INSERT INTO seen VALUES ('event', 'signup', 1, 1, '[]')")
                assert db.execute(f"UPDATE {change}").rowcount
            reader = SqliteReader(tmp_path / "store.db", journeys, Given(Path("/data")))
            opened.callback(reader.close)
            return Served(reader, journeys), reader

        yield make
