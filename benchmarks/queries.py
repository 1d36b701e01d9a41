"""How fast questions are answered at a million journeys: over HTTP, one connection, an idle server.

    python benchmarks/queries.py
    python benchmarks/queries.py --journeys 50000
    python benchmarks/queries.py --store build/million      # build once, ask again and again

Each question is asked once to begin with, then 100 times; prints median and 99th percentile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import describe
from population import CHANNELS, PLANS, build, user_id

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "end_to_end"))

from server_process import ServerProcess  # noqa: E402

CALLS = 100
BUILT = "built.json"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. bar: milliseconds that the median should stay below."""

    name: str
    bar: float
    path: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds."""

    question: str
    median_ms: float
    p99_ms: float
    bar_ms: float


def main() -> int:
    """Measures and prints; the exit code: 1 when an answer was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--journeys", type=int, default=1_000_000, help="how many the store holds")
    parser.add_argument("--store", type=Path, help="data directory to build there, or to use again")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build", help="for the store otherwise")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="queries-", dir=options.folder))
    try:
        data = options.store or work / "data"
        journeys = _built(data, options.journeys)
        with ServerProcess(data) as server:
            server.wait_caught_up()
            measured = [_measure(server, question) for question in _questions(journeys)]
            wrong = _wrong(server, journeys)
            rss = server.peak_rss()
    finally:
        shutil.rmtree(work)
    if wrong:
        print(f"queries: {wrong}", file=sys.stderr)
        return 1
    _show(measured, journeys, rss, describe(options.folder), as_json=options.json)
    return 0


def _built(data: Path, journeys: int) -> int:
    """Builds the store unless it is there; how many journeys it has."""
    note = data / BUILT
    if not note.exists():
        began = time.perf_counter()
        build(data, journeys)
        note.write_text(json.dumps({"journeys": journeys}))
        print(f"built {journeys:,} journeys in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return int(json.loads(note.read_text())["journeys"])


def _questions(journeys: int) -> list[Question]:
    rng = random.Random(1)
    plans, channels = list(PLANS), [channel for channel in CHANNELS if channel]
    return [
        Question("one user", 5, lambda: f"/api/v1/ttf/{user_id(rng.randrange(journeys))}"),
        Question("the summary", 100, lambda: "/api/v1/ttf"),
        Question("the summary of a plan", 100, lambda: f"/api/v1/ttf?segment.plan={rng.choice(plans)}"),
        Question(
            "the summary of a channel of a plan",
            100,
            lambda: f"/api/v1/ttf?segment.channel={rng.choice(channels)}&segment.plan={rng.choice(plans)}",
        ),
        Question("first page of the stuck", 100, lambda: "/api/v1/stuck"),
        Question("first page of those stuck in a stage", 100, lambda: "/api/v1/stuck?stage=agent&over=30m"),
        Question("Prometheus metrics", 100, lambda: "/metrics"),
    ]


def _measure(server: ServerProcess, question: Question) -> Figures:
    connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=120)
    took = []
    for call in range(CALLS + 1):
        path = question.path()
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if call:
            took.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise SystemExit(f"queries: {path}: the API answered {answer.status}")
    connection.close()
    ordered = sorted(took)
    return Figures(question.name, statistics.median(ordered), ordered[CALLS * 99 // 100 - 1], question.bar)


def _wrong(server: ServerProcess, journeys: int) -> str:
    """What is wrong with the answers; empty when they are right."""
    figures: dict[str, Any] = server.get("/api/v1/ttf").json["journeys"][0]
    if figures["started"] != journeys:
        return f"the summary counts {figures['started']} started journeys, {journeys} were built"
    if figures["completed"] + figures["in_progress"] + figures["expired"] != journeys:
        return "completed, in progress and expired do not add up to all"
    if len(server.get("/api/v1/stuck").json["items"]) < min(100, journeys // 1000):
        return "the first page of the stuck is not full"
    return ""


def _show(measured: list[Figures], journeys: int, rss: int, machine: str, *, as_json: bool) -> None:
    if as_json:
        rows = [{name: getattr(one, name) for name in Figures.__slots__} for one in measured]
        print(json.dumps({"machine": machine, "journeys": journeys, "rss": rss, "questions": rows}, indent=2))
        return
    print(f"{journeys:,} journeys, server's peak RSS {rss / 1e6:.0f} MB\n{machine}\n")
    print("| question | median ms | p99 ms | bar ms |\n|---|---|---|---|")
    for one in measured:
        print(f"| {one.question} | {one.median_ms:.1f} | {one.p99_ms:.1f} | {one.bar_ms:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
