"""otel_ttf beside other collectors: the same records, driver and minutes; how fast, and what each leaves in clear.

    python benchmarks/peers.py                      # 1, 100, 1000 records a request, median of three runs
    python benchmarks/peers.py --sizes 1000 --runs 1 --seconds 5
    python benchmarks/peers.py --only recall --json

Needs what scripts/get-peers puts into .tools; without it, the row of a peer says so. The peers take turns within
each run, so that a machine that changes its speed changes it for all of them. A run lasts until everything has come
out at the other end, and all processor time until then counts. Ends with exit code 1 when something got lost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import grpc
from drive import drive
from ingest import CLIENTS
from load import Load
from machine import describe
from peer import PEERS, Peer, Wrong, cpu_seconds, peak_rss
from planted import Found, Signal, corpus, found

HERE = Path(__file__).resolve().parent
MILLION = 1_000_000
HINT = "not installed: scripts/get-peers"
EXPORT: dict[Signal, str] = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the median of several.

    answered  records a second while they were sent
    through   records a second, the time until all had come out included
    per_cpu   records per second of processor time of the peer and all below it, the same way
    rss       bytes at most
    again     requests that were refused for the moment and sent again
    """

    answered: float
    through: float
    per_cpu: float
    p50_ms: float
    p99_ms: float
    rss: float
    again: float


def main() -> int:
    """Measures and prints; the exit code."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = describe(options.folder)
    document: dict[str, object] = {"machine": machine, "seconds": options.seconds}
    if not options.json:
        print(machine)
    try:
        if options.only != "recall":
            document["speed"] = _speed(options)
        if options.only != "speed":
            document["recall"] = _recall(options)
    except (Wrong, grpc.RpcError) as wrong:
        print(f"peers: {wrong}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(document, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=8, help="how long to send in each run")
    add("--sizes", type=_sizes, default=(1, 100, 1000), help="records a request, e.g. 1,100,1000")
    add("--runs", type=int, default=3, help="runs of which the median is printed")
    add("--only", choices=("speed", "recall"), help="one of the two tables")
    add("--folder", type=Path, default=HERE.parent / "build", help="for data directories; on a real disk")
    add("--json", action="store_true", help="print all runs as JSON instead of tables")
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if not all(size in CLIENTS for size in sizes):
        raise argparse.ArgumentTypeError(f"sizes of {', '.join(map(str, CLIENTS))}")
    return sizes


# How fast.


def _speed(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Prints the table row by row; size -> peer -> its runs and their medians."""
    if not options.json:
        print(f"\nmix logs, {options.seconds:g} s a run, median of {options.runs}, in turns\n")
        print(f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|", flush=True)
    told: dict[str, dict[str, object]] = {}
    for size in options.sizes:
        load = Load(size, "logs")
        runs: dict[str, list[Figures]] = {peer.name: [] for peer in PEERS if peer.installed}
        for turn in range(options.runs):
            for peer in _rotated(PEERS, turn):
                if peer.installed:
                    runs[peer.name].append(_measure(peer, load, options))
        medians = {name: _median(several) for name, several in runs.items()}
        told[str(size)] = {
            name: {"median": asdict(medians[name]), "runs": [asdict(one) for one in several]}
            for name, several in runs.items()
        }
        if not options.json:
            for peer in PEERS:
                print(_row(size, peer, medians), flush=True)
    return told


def _rotated(peers: Sequence[Peer], turn: int) -> list[Peer]:
    at = turn % len(peers)
    return [*peers[at:], *peers[:at]]


def _measure(peer: Peer, load: Load, options: argparse.Namespace) -> Figures:
    """One run of one peer, newly started. Raises Wrong."""
    with _folder(options.folder) as work, peer.start(work, False) as running:
        cpu, began = cpu_seconds(running.pid), time.perf_counter()
        sent = drive(running.target, load, clients=CLIENTS[load.size], seconds=options.seconds)
        if sent.rejected:
            raise Wrong(f"{peer.name}: {sent.rejected} records were rejected")
        running.wait_through(sent.records, sent.events)
        seconds, cpu = time.perf_counter() - began, cpu_seconds(running.pid) - cpu
        return Figures(
            answered=sent.records / sent.seconds,
            through=sent.records / seconds,
            per_cpu=sent.records / cpu,
            p50_ms=_percentile(sent.took, 50) * 1000,
            p99_ms=_percentile(sent.took, 99) * 1000,
            rss=peak_rss(running.pid),
            again=sent.again,
        )


@contextmanager
def _folder(inside: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="peers-", dir=inside))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _median(runs: Sequence[Figures]) -> Figures:
    return Figures(
        *(statistics.median(getattr(run, field.name) for run in runs) for field in fields(Figures))
    )


_COLUMNS = (
    "records a request",
    "peer",
    "**records per CPU-second**",
    "otel_ttf's is",
    "answered/s",
    "records/s until through",
    "p50 ms",
    "p99 ms",
    "RSS MB",
    "sent again",
    "OK means",
)


def _row(size: int, peer: Peer, medians: Mapping[str, Figures]) -> str:
    if peer.name not in medians:
        return f"| {size} | {peer.name} | {HINT} {'| - ' * (len(_COLUMNS) - 3)}|"
    figures, ours = medians[peer.name], medians[PEERS[0].name]
    cells = (
        f"{size}",
        peer.name,
        f"**{figures.per_cpu:,.0f}**",
        "" if figures is ours else f"{ours.per_cpu / figures.per_cpu:.1f} times that",
        f"{figures.answered:,.0f}",
        f"{figures.through:,.0f}",
        f"{figures.p50_ms:.1f}",
        f"{figures.p99_ms:.1f}",
        f"{figures.rss / MILLION:.0f}",
        f"{figures.again:.0f}",
        peer.promise,
    )
    return f"| {' | '.join(cells)} |"


# What is left in clear.


def _recall(options: argparse.Namespace) -> dict[str, dict[str, dict[str, int]]]:
    """Prints the table; peer -> place -> counts."""
    plants = corpus()
    left: dict[str, Mapping[str, Found]] = {}
    for peer in PEERS:
        if not peer.installed:
            continue
        with _folder(options.folder) as work, peer.start(work, True) as running:
            with grpc.insecure_channel(running.target) as channel:
                for plant in plants:
                    channel.unary_unary(EXPORT[plant.signal])(plant.request, timeout=20)
            running.wait_through(len(plants))
            left[peer.name] = found(plants, running.came_out())
    if not options.json:
        _print_recall(left)
    return {
        name: {place: asdict(counts) for place, counts in places.items()} for name, places in left.items()
    }


def _print_recall(left: Mapping[str, Mapping[str, Found]]) -> None:
    """A row for each place where anything is left by anyone; the sum of all."""
    names = [peer.name for peer in PEERS]
    print("\nSecrets in clear in what came out; in brackets: gone with the whole value they were in\n")
    print(f"| place | planted | {' | '.join(names)} |\n{'|---' * (len(names) + 2)}|")
    ours = left[PEERS[0].name]
    clean = 0
    for place in ours:
        if any(places[place].clear for places in left.values()):
            print(
                f"| {place} | {ours[place].planted} | {' | '.join(_cell(left, n, [place]) for n in names)} |"
            )
        else:
            clean += 1
    total = sum(counts.planted for counts in ours.values())
    print(f"| {clean} other places | | {' | '.join('0' if n in left else HINT for n in names)} |")
    print(f"| **all {len(ours)} places** | {total} | {' | '.join(_cell(left, n, ours) for n in names)} |")


def _cell(left: Mapping[str, Mapping[str, Found]], name: str, places: Iterable[str]) -> str:
    if name not in left:
        return HINT
    counts = [left[name][place] for place in places]
    clear, gone = sum(one.clear for one in counts), sum(one.gone for one in counts)
    return (f"**{clear}**" if clear else "0") + (f" ({gone})" if gone else "")


if __name__ == "__main__":
    sys.exit(main())
