"""What an event costs behind the log: microseconds of CPU an event, one thread, by step.

    python benchmarks/tracker.py
    python benchmarks/tracker.py --mix logs --lines --transaction 1000 8000

Extracts as the receivers hand them over, into a store in a file; every event and user is new. The row is that
of the median run. `python` is what is left of the whole when the store's calls are taken off, `checkpoint` the
one at the end of a run. --lines: as with storage.events=all.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from load import Load
from pipeline import KEYS, RULES, SUBJECT

from otel_ttf.config import Config
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Extract
from otel_ttf.processors import pipeline
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.tracker.follow import Follower
from otel_ttf.units import DAY

HERE = Path(__file__).resolve().parent
REQUEST = 1000
STEPS = {
    "commit": ("begin", "commit", "save_cursor"),
    "events": ("events.add", "events.add_lines", "events.resource", "events.use"),
    "load": ("load",),
    "insert": ("insert", "insert_firsts", "update"),
    "told": ("add_transitions", "add_firsts"),
    "counts": ("save_cells", "add_counts", "add_observations", "combo", "cells", "add_label"),
    "seen": ("events.add_seen",),
}
COLUMNS = (*STEPS, "python", "checkpoint", "whole")


class Clock:
    """Adds up the time that the store's methods take."""

    def __init__(self, store: SqliteStore) -> None:
        self.spent = dict.fromkeys(COLUMNS, 0.0)
        for step, names in STEPS.items():
            for name in names:
                part, _, method = name.rpartition(".")
                owner = getattr(store, part) if part else store
                setattr(owner, method, self._timed(step, getattr(owner, method)))

    def _timed(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*args, **named)
            finally:
                self.spent[step] += time.thread_time() - began

        return timed


def extracts(requests: Iterator[bytes], lines: bool) -> Iterator[tuple[int, Extract]]:
    """(arrival, what the receivers read of the request)."""
    process = pipeline(Config().processor_configs("logs"), KEYS, SUBJECT)
    rules = replace(RULES, lines=lines)
    for raw in requests:
        arrival = time.time_ns()
        yield arrival, process(Batch("logs", raw, arrival)).extract(rules)


def measure(
    arriving: Iterator[tuple[int, Extract]], transaction: int, events: int, lines: bool
) -> dict[str, float]:
    """Microseconds an event, by column."""
    with tempfile.TemporaryDirectory(dir=HERE.parent / "build") as folder:
        store = SqliteStore(Path(folder) / "store.db")
        follower = Follower(
            store,
            Config().domain_journeys(),
            events="all" if lines else "named",
            retention=30 * DAY,
        )
        store.begin()
        follower.prepare(time.time_ns())
        store.commit()
        clock = Clock(store)
        done = 0
        while done < events:
            taken = [next(arriving) for _ in range(max(1, transaction // REQUEST))]
            began = time.thread_time()
            store.begin()
            follower.take(taken, time.time_ns())
            store.save_cursor("tracker", "a log", done + 1)
            store.commit()
            clock.spent["whole"] += time.thread_time() - began
            done += sum(len(extract.events) for _, extract in taken)
        (stored,) = store.db.execute("SELECT count(*) FROM event").fetchone()
        assert stored == done, (stored, done)
        began = time.thread_time()
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        clock.spent["checkpoint"] = time.thread_time() - began
        store.close()
    spent = clock.spent
    spent["python"] = spent["whole"] - sum(spent[step] for step in STEPS)
    spent["whole"] += spent["checkpoint"]
    return {column: seconds / done * 1e6 for column, seconds in spent.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mix", choices=("logs", "events"), default="events")
    parser.add_argument("--lines", action="store_true", help="plain lines are events, too")
    parser.add_argument(
        "--transaction", type=int, nargs="+", default=[1000, 8000], help="records a transaction"
    )
    parser.add_argument("--events", type=int, default=100_000, help="events a run, at least")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args(argv)
    (HERE.parent / "build").mkdir(exist_ok=True)
    arriving = extracts((raw for _, raw in Load(REQUEST, chosen.mix).requests()), chosen.lines)
    gc.set_threshold(50_000, 20, 100)
    gc.freeze()
    print("".join(f"{name:>12}" for name in ("transaction", *COLUMNS)) + "  us an event")
    for transaction in chosen.transaction:
        runs = [measure(arriving, transaction, chosen.events, chosen.lines) for _ in range(chosen.runs)]
        median = sorted(runs, key=lambda run: run["whole"])[len(runs) // 2]
        print(f"{transaction:>12}" + "".join(f"{median[column]:>12.2f}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
