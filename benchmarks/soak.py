"""Constant load for long: is memory flat, is latency flat, is the disk bounded, is every count exact at the end?

    python benchmarks/soak.py                    # 30 minutes, 2,000 records a second
    python benchmarks/soak.py --minutes 3 --slice 10

Beside the tracker the log has a consumer as an exporter is one, whose every second try fails. The store is bounded to
96 MiB and the log to 64, so that the oldest events have to go while it runs. Prints a row a slice, then compares the
first third of the slices, without the first one, with the last; ends with exit code 1 when something is not as it
has to be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from drive import Sent, drive
from load import MIXES, Load
from machine import describe

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "end_to_end"))

from server_process import ServerProcess, wait_for  # noqa: E402

MIB = 1 << 20
BOUNDS = {"log": 64 * MIB, "storage": 96 * MIB}
SETTINGS = (*(f"{name}.max_size={bound}" for name, bound in BOUNDS.items()), "log.max_lag=16MiB")
# A third may be so much above another by chance.
MEMORY, LATENCY = 1.1, 2.0


class SoakServer(ServerProcess):
    """A server with the failing consumer in it."""

    def __init__(self, work: Path, settings: tuple[str, ...]) -> None:
        super().__init__(work / "data", settings=settings)
        self._state = work / "consumer.json"
        self.environment = {"SOAK_STATE": str(self._state)}

    def command(self) -> list[str]:
        command = super().command()
        return [command[0], str(HERE / "soak_server.py"), *command[3:]]

    def consumed(self) -> dict[str, int]:
        """What the consumer has got so far."""
        return dict(json.loads(self._state.read_text())) if self._state.exists() else {"position": 0}

    def rss(self) -> int:
        """Bytes of memory that are resident now."""
        lines = Path(f"/proc/{self.running.pid}/status").read_text().splitlines()
        (now,) = [line for line in lines if line.startswith("VmRSS:")]
        return int(now.split()[1]) * 1024

    def disk(self, name: str) -> int:
        """Bytes of a database with what stands beside it."""
        return sum(path.stat().st_size for path in self.data_dir.glob(f"{name}*"))


@dataclass(frozen=True, slots=True)
class Slice:
    """Some seconds of the run. rate: records a second; cpu: of one core, the server's share; bytes, milliseconds."""

    minute: float
    rate: float
    cpu: float
    rss: int
    log: int
    storage: int
    p50_ms: float
    p99_ms: float
    failures: int


def main() -> int:
    """Runs and prints; the exit code."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="soak-", dir=options.folder))
    print(
        f"mix {options.mix}, {options.pace:,.0f} records a second, {options.size} a request, "
        f"{options.minutes:g} minutes\n{describe(options.folder)}\n\n{_HEADER}"
    )
    try:
        with SoakServer(work, (*SETTINGS, *options.settings)) as server:
            slices, sent = _run(server, options)
            wrong = [*_counts(server, sent), *_trends(slices)]
            code = server.terminate(60)
            if code != 0:
                wrong.append(f"the server ended with {code}")
    finally:
        shutil.rmtree(work)
    print("\n".join(f"NOT AS IT HAS TO BE: {each}" for each in wrong) or "all as it has to be")
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=30, help="how long to send")
    add("--slice", type=float, default=60, help="seconds of a row of the table")
    add("--pace", type=float, default=2000, help="records a second")
    add("--size", type=int, default=100, help="records a request")
    add("--mix", choices=MIXES, default="logs", help="what the records are")
    add("--clients", type=int, default=4, help="requests on their way at a time")
    add("--set", dest="settings", action="append", default=[], help="a setting of the server, a.b=c")
    add("--folder", type=Path, default=HERE.parent / "build", help="for the data directory; on a real disk")
    return parser.parse_args()


def _run(server: SoakServer, options: argparse.Namespace) -> tuple[list[Slice], Sent]:
    load = Load(options.size, options.mix)
    slices: list[Slice] = []
    total = Sent()
    for number in range(1, max(1, round(options.minutes * 60 / options.slice)) + 1):
        cpu = server.cpu_seconds()
        sent = drive(server.grpc, load, clients=options.clients, seconds=options.slice, pace=options.pace)
        total.records += sent.records
        total.events += sent.events
        total.milestones += sent.milestones
        total.rejected += sent.rejected
        total.again += sent.again
        took = sorted(sent.took)
        one = Slice(
            number * options.slice / 60,
            sent.records / sent.seconds,
            (server.cpu_seconds() - cpu) / sent.seconds,
            server.rss(),
            server.disk("log.db"),
            server.disk("store.db"),
            took[len(took) // 2] * 1000,
            took[len(took) * 99 // 100] * 1000,
            server.consumed().get("failures", 0),
        )
        slices.append(one)
        print(_row(one), flush=True)
    return slices, total


def _counts(server: SoakServer, sent: Sent) -> list[str]:
    """What is not exactly what was answered OK, in the store and with the consumer."""
    server.wait_caught_up(timeout=600, pause=0.2)
    wait_for(lambda: _taken(server) == sent.records, "the consumer to get all", timeout=600, pause=0.5)
    consumed = server.consumed()
    dropped = server.metrics().total("otel_ttf_events_dropped_total")
    with server.store() as store:
        (events,) = store.execute("SELECT count(*) FROM event").fetchone()
        (journeys,) = store.execute("SELECT count(*) FROM journey").fetchone()
    print(
        f"\n{sent.records:,} records were answered OK, {sent.again:,} requests asked to come again; "
        f"{events:,} events are stored, {dropped:,.0f} went by size; {journeys:,} journeys; the consumer got "
        f"{consumed['records']:,}, went without {consumed['skipped']:,}, and failed {consumed['failures']:,} times"
    )
    expected = {
        "records rejected": (sent.rejected, 0),
        "events stored and gone by size": (events + round(dropped), sent.events),
        "journeys": (journeys, sent.milestones),
    }
    return [
        f"{what}: {found:,}, expected {want:,}" for what, (found, want) in expected.items() if found != want
    ]


def _taken(server: SoakServer) -> int:
    consumed = server.consumed()
    return consumed.get("records", 0) + consumed.get("skipped", 0)


def _trends(slices: list[Slice]) -> list[str]:
    """What has grown that should not."""
    third = max(1, (len(slices) - 1) // 3)
    first, last = slices[1 : 1 + third] or slices, slices[-third:]

    def grown(what: str) -> float:
        early, late = (statistics.median(getattr(one, what) for one in some) for some in (first, last))
        return float(late / early)

    memory, p50, p99 = grown("rss"), grown("p50_ms"), grown("p99_ms")
    largest = {name: max(getattr(one, name) for one in slices) for name in BOUNDS}
    print(
        f"last third to first: memory {memory:.2f}, p50 {p50:.2f}, p99 {p99:.2f}; "
        f"log at most {largest['log'] / MIB:.0f} MiB, store {largest['storage'] / MIB:.0f} MiB"
    )
    wrong = []
    if memory > MEMORY:
        wrong.append(f"memory has grown {memory:.2f} times, expected at most {MEMORY}")
    if p50 > LATENCY or p99 > 2 * LATENCY:
        wrong.append(
            f"p50 has grown {p50:.2f} times, p99 {p99:.2f}, expected at most {LATENCY} and {2 * LATENCY}"
        )
    wrong += [f"{name}.db took {size / MIB:.0f} MiB" for name, size in largest.items() if size > BOUNDS[name]]
    return wrong


_COLUMNS = ("minute", "records/s", "CPU", "RSS MB", "log MiB", "store MiB", "p50 ms", "p99 ms", "failures")
_HEADER = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def _row(one: Slice) -> str:
    cells = (
        f"{one.minute:.1f}",
        f"{one.rate:,.0f}",
        f"{one.cpu:.0%}",
        f"{one.rss / 1e6:.0f}",
        f"{one.log / MIB:.0f}",
        f"{one.storage / MIB:.0f}",
        f"{one.p50_ms:.1f}",
        f"{one.p99_ms:.1f}",
        f"{one.failures:,}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
