"""A store with many journeys, built by the tracker's own code, only without a log and without events."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypeVar

import numpy as np

from otel_ttf.config import Config
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.state import UNSET
from otel_ttf.pii import keys
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.touches import Touch
from otel_ttf.units import DAY, MINUTE

T = TypeVar("T")

CHUNK = 20_000
DAYS = 60
# How many go on after each milestone. Those who don't are expired, overdue or on their way, by their age.
GO_ON = 0.85
PLANS = {"free": 0.6, "pro": 0.25, "team": 0.1, "enterprise": 0.05}
CHANNELS = {
    "search": 0.3,
    "direct": 0.25,
    "referral": 0.15,
    "newsletter": 0.1,
    "partner": 0.08,
    "ads": 0.07,
    None: 0.05,
}


def user_id(number: int) -> str:
    """The user of that number, from 0."""
    return f"user-{number}"


def build(data_dir: Path, journeys: int, *, seed: int = 1) -> None:
    """Fills an empty data directory: journeys begun over the last 60 days, most of them done or given up."""
    data_dir.mkdir(parents=True, mode=0o700)
    text = keys.new()
    with os.fdopen(os.open(data_dir / "keys", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    pseudonyms = Pseudonyms(keys.parse(text))
    store = SqliteStore(data_dir / "store.db")
    # Whoever loses power here builds again.
    store.db.execute("PRAGMA synchronous=OFF")
    (journey,) = Config().domain_journeys()
    follower = Follower(store, [journey], events="none", retention=DAY)
    rng = np.random.default_rng(seed)
    now = time.time_ns()
    # Recorded long enough ago for overdue and expired to be written below.
    recorded = now - journey.settle - MINUTE
    store.begin()
    follower.prepare(recorded)
    store.commit()
    (followed,) = follower.followed
    for first in range(0, journeys, CHUNK):
        numbers = range(first, min(first + CHUNK, journeys))
        touches = _touches(journey, len(numbers), rng, now)
        store.begin()
        follower.join(
            followed,
            {pseudonyms.token(user_id(n)): touch for n, touch in zip(numbers, touches, strict=True)},
            recorded,
        )
        follower.counts.flush()
        store.commit()
    more = True
    while more:
        store.begin()
        more = follower.sweep(now, CHUNK)
        store.commit()
    store.db.execute("PRAGMA optimize")
    store.close()


def _touches(journey: Journey, count: int, rng: np.random.Generator, now: int) -> list[Touch]:
    targets = np.array([milestone.target or MINUTE for milestone in journey.milestones[1:]])
    # Most are within the target, some take ten times as long.
    took = targets * rng.lognormal(-0.4, 0.9, (count, len(targets)))
    starts = now - rng.integers(0, DAYS * DAY, count)
    times = np.column_stack([starts, starts[:, None] + took.cumsum(axis=1).astype(np.int64)])
    goes_on = np.column_stack([np.ones(count, bool), rng.random((count, len(targets))) < GO_ON])
    reached = np.where(np.logical_and.accumulate(goes_on, axis=1) & (times <= now), times, UNSET)
    plans = _drawn(PLANS, count, rng)
    channels = _drawn(CHANNELS, count, rng)
    return [
        Touch(list(row), [(row[0], plan), None if channel is None else (row[0], channel)])
        for row, plan, channel in zip(reached.tolist(), plans, channels, strict=True)
    ]


def _drawn(shares: dict[T, float], count: int, rng: np.random.Generator) -> list[T]:
    """Values by their shares."""
    values = list(shares)
    return [values[place] for place in rng.choice(len(values), count, p=list(shares.values()))]
