"""How fast OTLP comes in: durable, everything on, every event and every user new.

    python benchmarks/ingest.py                      # 1, 100, 1000 records a request, median of three runs
    python benchmarks/ingest.py --sizes 1000 --runs 1 --seconds 5
    python benchmarks/ingest.py --mix events --json
    python benchmarks/ingest.py --mix lines --sizes 1000
    python benchmarks/ingest.py --set storage.events=all
    python benchmarks/ingest.py --sizes 1 --with-key --probes 0

Starts the server as a process on an empty data directory for each run and drives it over loopback. A run
lasts until the tracker has caught up, and all its processor time until then counts. Ends with exit code 1
when what is in the store is not exactly what was answered OK.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import grpc
from drive import Sent, drive
from load import MIXES, Load
from machine import describe

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "end_to_end"))

from server_process import ServerProcess, free_ports  # noqa: E402

# Requests on their way at a time.
CLIENTS = {1: 64, 100: 8, 1000: 4}
PROBES = 5.0
KEY = "a key of the server's environment"
MILLION = 1_000_000
BARE = "1, gRPC with nothing behind it"


class Wrong(Exception):
    """The figures mean nothing: something was lost, doubled or refused."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the median of several.

    answered     records a second while they were sent
    taken        records a second, the time until the tracker has caught up included
    per_cpu      records per second of the server's processor time, the same way
    rss          bytes at most
    visible_*    milliseconds from OK to visible in the API; None without probes
    again        requests that were refused for the moment and sent again
    """

    answered: float
    taken: float
    per_cpu: float
    p50_ms: float
    p99_ms: float
    rss: float
    visible_p50_ms: float | None
    visible_p99_ms: float | None
    again: float


def main() -> int:
    """Measures and prints; the exit code."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = describe(options.folder)
    if not options.json:
        print(f"mix {options.mix}, {options.seconds:g} s a run, median of {options.runs}\n{machine}\n")
        print(_HEADER)
    runs: dict[str, list[Figures]] = {}
    for size in options.sizes:
        load = Load(size, options.mix)
        measured: dict[str, list[Figures]] = {}
        for _ in range(options.runs):
            try:
                measured.setdefault(str(size), []).append(_measure(load, options))
            except (Wrong, grpc.aio.AioRpcError) as wrong:
                print(f"ingest: {size} a request: {wrong}", file=sys.stderr)
                return 1
            if size == 1:
                # In turns with the server's runs: machines change their speed from minute to minute.
                measured.setdefault(BARE, []).append(_measure_bare(load, options))
        if not options.json:
            for name, several in measured.items():
                print(_row(name, _median(several)), flush=True)
        runs |= measured
    if BARE in runs and not options.json:
        print(f"\none record a request: {_ratio(runs):.2f} of what gRPC makes with nothing behind it")
    if options.json:
        document = {
            "machine": machine,
            "mix": options.mix,
            "seconds": options.seconds,
            "medians": {name: asdict(_median(several)) for name, several in runs.items()},
            "ratio_to_bare": _ratio(runs) if BARE in runs else None,
            "runs": {name: [asdict(figures) for figures in several] for name, several in runs.items()},
        }
        print(json.dumps(document, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=10, help="how long to send in each run")
    add("--sizes", type=_sizes, default=(1, 100, 1000), help="records a request, e.g. 1,100,1000")
    add("--mix", choices=MIXES, default="logs", help="what the records are")
    add("--runs", type=int, default=3, help="runs of which the median is printed")
    add("--clients", type=int, help="requests on their way at a time, instead of the default's")
    add("--pace", type=float, default=0, help="records a second; 0: as fast as answers come")
    add("--probes", type=float, default=PROBES, help="users a second to look for in the API; 0: none")
    add("--with-key", action="store_true", help="the server wants an API key; not with probes")
    add("--set", dest="settings", action="append", default=[], help="a setting of the server, a.b=c")
    add("--folder", type=Path, default=HERE.parent / "build", help="for data directories; on a real disk")
    add("--json", action="store_true", help="print all runs as JSON instead of a table")
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if not all(1 <= size <= 1000 for size in sizes):
        raise argparse.ArgumentTypeError("sizes from 1 to 1000")
    return sizes


def _clients(size: int, options: argparse.Namespace) -> int:
    return options.clients or CLIENTS.get(size, 8)


def _measure(load: Load, options: argparse.Namespace) -> Figures:
    """One run on a server of its own. Raises Wrong."""
    work = Path(tempfile.mkdtemp(prefix="ingest-", dir=options.folder))
    try:
        server = ServerProcess(work / "data", settings=options.settings)
        key = KEY if options.with_key else None
        if key is not None:
            server.environment, server.headers = {"TELEMETRY_API_KEY": key}, {"x-api-key": key}
        with server:
            cpu, began = server.cpu_seconds(), time.perf_counter()
            with _probing(server, options.probes) as visible:
                sent = drive(
                    server.grpc,
                    load,
                    clients=_clients(load.size, options),
                    seconds=options.seconds,
                    pace=options.pace,
                    key=key,
                )
            server.wait_caught_up(timeout=600, pause=0.1)
            seconds, cpu = time.perf_counter() - began, server.cpu_seconds() - cpu
            rss = server.peak_rss()
            _count(server, _expected(load, options.settings, sent, len(visible)), sent)
            return Figures(
                answered=sent.records / sent.seconds,
                taken=(sent.records + len(visible)) / seconds,
                per_cpu=(sent.records + len(visible)) / cpu,
                p50_ms=_percentile(sent.took, 50) * 1000,
                p99_ms=_percentile(sent.took, 99) * 1000,
                rss=rss,
                visible_p50_ms=_percentile(visible, 50) * 1000 if visible else None,
                visible_p99_ms=_percentile(visible, 99) * 1000 if visible else None,
                again=sent.again,
            )
    finally:
        shutil.rmtree(work)


@contextmanager
def _probing(server: ServerProcess, rate: float) -> Iterator[list[float]]:
    """Probes beside what is done inside; the seconds are in the list afterwards."""
    visible: list[float] = []
    if not rate:
        yield visible
        return
    command = [sys.executable, str(HERE / "probe.py"), server.grpc, str(server.api_port), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield visible
        printed, _ = process.communicate()
        if process.returncode:
            raise Wrong("a probe failed, see above")
        visible += json.loads(printed)


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be in the store."""

    events: int
    journeys: int


def _expected(load: Load, settings: Sequence[str], sent: Sent, probes: int) -> Expected:
    """From what was answered OK; each probe is a milestone of a user of its own. Raises Wrong."""
    if load.mix != "logs" and sent.events != (sent.records if load.mix == "events" else 0):
        raise Wrong(f"{sent.events} of {sent.records} records were events")
    told = [setting.partition("=")[2] for setting in settings if setting.startswith("storage.events=")]
    kept = {
        "named": sent.events + probes,
        "milestones": sent.milestones + probes,
        "all": sent.records + probes,
        "none": 0,
    }
    # Every milestone is one of a new user, so each made a journey.
    return Expected(kept[told[-1] if told else "named"], sent.milestones + probes)


def _count(server: ServerProcess, expected: Expected, sent: Sent) -> None:
    """Raises Wrong unless the store holds exactly what was answered OK."""
    with server.store() as store:
        (events,) = store.execute("SELECT count(*) FROM event").fetchone()
        (journeys,) = store.execute("SELECT count(*) FROM journey").fetchone()
    if sent.rejected:
        raise Wrong(f"{sent.rejected} records were rejected")
    if events != expected.events:
        raise Wrong(f"{events} events are stored, {expected.events} were answered OK")
    if journeys != expected.journeys:
        raise Wrong(f"{journeys} journeys are stored, {expected.journeys} users reached a milestone")


def _measure_bare(load: Load, options: argparse.Namespace) -> Figures:
    """The same requests to gRPC with nothing behind it."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(port)])
    server = ServerProcess(options.folder / "none")
    server.process = process
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
        cpu = server.cpu_seconds()
        sent = drive(
            f"127.0.0.1:{port}",
            load,
            clients=_clients(load.size, options),
            seconds=options.seconds,
            pace=options.pace,
        )
        rate = sent.records / sent.seconds
        return Figures(
            answered=rate,
            taken=rate,
            per_cpu=sent.records / (server.cpu_seconds() - cpu),
            p50_ms=_percentile(sent.took, 50) * 1000,
            p99_ms=_percentile(sent.took, 99) * 1000,
            rss=server.peak_rss(),
            visible_p50_ms=None,
            visible_p99_ms=None,
            again=sent.again,
        )
    finally:
        process.kill()
        process.wait()


def _ratio(runs: Mapping[str, Sequence[Figures]]) -> float:
    """Records per CPU-second with one record a request, to what gRPC alone makes; the median of the turns'."""
    turns = zip(runs["1"], runs[BARE], strict=True)
    return statistics.median(server.per_cpu / bare.per_cpu for server, bare in turns)


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _median(runs: Sequence[Figures]) -> Figures:
    """Each figure's median."""
    columns = {field.name: [getattr(run, field.name) for run in runs] for field in fields(Figures)}
    return Figures(
        **{name: None if None in values else statistics.median(values) for name, values in columns.items()}
    )


_COLUMNS = (
    "records a request",
    "answered/s",
    "records/s until caught up",
    "**records per CPU-second**",
    "p50 ms",
    "p99 ms",
    "RSS MB",
    "visible p50 ms",
    "visible p99 ms",
    "sent again",
)
_HEADER = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def _row(name: str, figures: Figures) -> str:
    visible = [
        "-" if value is None else f"{value:.0f}" for value in (figures.visible_p50_ms, figures.visible_p99_ms)
    ]
    cells = (
        name,
        f"{figures.answered:,.0f}",
        f"{figures.taken:,.0f}",
        f"**{figures.per_cpu:,.0f}**",
        f"{figures.p50_ms:.1f}",
        f"{figures.p99_ms:.1f}",
        f"{figures.rss / MILLION:.0f}",
        *visible,
        f"{figures.again:.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
