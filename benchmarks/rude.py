"""What a well-behaved sender notices of rude ones: its time to OK, alone and under each attack, in turns.

    python benchmarks/rude.py                        # every attack, about twelve minutes
    python benchmarks/rude.py --only "rapid reset" --turns 9

One server for each attack. The sender has four connections over gRPC, with 20 records a request at a steady pace;
beside it one request goes over HTTP on a new connection every 20 ms. The attacks are those of tests/hostile/attacks.py,
each in a process with less of the processor, since attackers bring their own machines. Those have other processors,
too: what it costs the sender that somebody computes on this one is seen in turns beside a process that has nothing to
do with the server and takes as much as the attack did.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from drive import drive
from load import Load
from machine import describe

HERE = Path(__file__).resolve().parent
for folder in ("end_to_end", "hostile"):
    sys.path.insert(0, str(HERE.parent / "tests" / folder))

from attacks import ATTACKS  # noqa: E402
from doors import attacking, humble, record  # noqa: E402
from server_process import ServerProcess, cpu_seconds  # noqa: E402

SIZE = 20
CLIENTS = 4
PAUSE = 0.02
HEADERS = {"content-type": "application/x-protobuf"}
NOTHING = "nothing"
NEIGHBOUR = """
import sys, time
share = float(sys.argv[1])
while True:
    end = time.thread_time() + share / 100
    while time.thread_time() < end:
        pass
    time.sleep((1 - share) / 100)
"""


@dataclass(slots=True)
class Seen:
    """By turn: seconds to OK; processor seconds a second of the server and of who is beside it. rss: bytes, at most."""

    grpc: list[list[float]] = field(default_factory=list)
    http: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    rss: int = 0


def main() -> int:
    """Measures and prints; the exit code."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{options.turns} turns of {options.seconds:g} s, {options.pace:,.0f} records a second")
    print(f"{describe(options.folder)}\n\n{_HEADER}", flush=True)
    load = Load(SIZE, "logs")
    for name in options.only or (NOTHING, *ATTACKS):
        with (
            tempfile.TemporaryDirectory(prefix="rude-", dir=options.folder) as work,
            ServerProcess(Path(work) / "data") as server,
        ):
            alone, beside, attacked = Seen(), Seen(), Seen()
            _turn(server, load, options, nullcontext(), Seen())  # the first requests of a server are slower
            for _ in range(options.turns):
                _turn(server, load, options, nullcontext(), alone)
                other = nullcontext() if name == NOTHING else attacking(server, name)
                _turn(server, load, options, other, attacked)
                _turn(server, load, options, _neighbour(attacked.beside[-1]), beside)
            print(_row(name, alone, beside, attacked), flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=2, help="how long a turn is")
    add("--turns", type=int, default=8, help="turns with and without each attack")
    add("--pace", type=float, default=4000, help="records a second of the well-behaved sender")
    add("--only", action="append", choices=(NOTHING, *ATTACKS), help="this attack; may be repeated")
    add("--folder", type=Path, default=HERE.parent / "build", help="for data directories; on a real disk")
    return parser.parse_args()


def _turn(
    server: ServerProcess,
    load: Load,
    options: argparse.Namespace,
    other: AbstractContextManager[int | None],
    seen: Seen,
) -> None:
    """other: who is there meanwhile; gives the id of a process"""
    with other as pid, _asking(server) as over_http:
        cpu, theirs, began = server.cpu_seconds(), cpu_seconds(pid) if pid else 0.0, time.perf_counter()
        sent = drive(server.grpc, load, clients=CLIENTS, seconds=options.seconds, pace=options.pace / CLIENTS)
        took = time.perf_counter() - began
        seen.cpu.append((server.cpu_seconds() - cpu) / took)
        seen.beside.append((cpu_seconds(pid) - theirs) / took if pid else 0.0)
    seen.grpc.append(sent.took)
    seen.http.append(over_http)
    seen.rss = server.peak_rss()
    _calm(server)


@contextmanager
def _neighbour(share: float) -> Iterator[int]:
    """A process that takes so much of a processor, as far as it gets it; its id."""
    command = [sys.executable, "-c", NEIGHBOUR, str(min(share, 0.99))]
    with subprocess.Popen(command, preexec_fn=humble) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def _calm(server: ServerProcess) -> None:
    """Waits until nothing is left of an attack, ten seconds at the most."""
    for _ in range(20):
        cpu = server.cpu_seconds()
        time.sleep(0.5)
        if server.cpu_seconds() - cpu < 0.05:
            return


@contextmanager
def _asking(server: ServerProcess) -> Iterator[list[float]]:
    """Requests over HTTP beside what is done inside; the seconds of each are in the list afterwards."""
    seconds: list[float] = []
    body = record()
    over = threading.Event()
    failed: list[Exception] = []

    def ask() -> None:
        while not over.wait(PAUSE):
            began = time.perf_counter()
            try:
                status = server.request(
                    "POST", "/v1/logs", body, headers=HEADERS, port=server.http_port
                ).status
                if status != 200:
                    raise ConnectionError(f"the server answered {status}")
            except OSError as error:
                failed.append(error)
                return
            seconds.append(time.perf_counter() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seconds
    finally:
        over.set()
        asking.join()
    if failed:
        raise failed[0]


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


_COLUMNS = (
    "attack",
    *(
        f"{door}{column}"
        for door in ("gRPC", "HTTP")
        for column in (" p99 ms alone", ": beside a neighbour", ": attacked", ": ratio", ": of turns")
    ),
    "CPU alone",
    "attacked",
    "attacker's",
    "RSS MB",
)
_HEADER = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def _row(name: str, alone: Seen, beside: Seen, attacked: Seen) -> str:
    cells = [name]
    for door in ("grpc", "http"):
        turns = [getattr(seen, door) for seen in (alone, beside, attacked)]
        first, neighbour, second = (_p99([took for turn in seen for took in turn]) for seen in turns)
        ratios = [_p99(after) / _p99(before) for before, after in zip(turns[0], turns[2], strict=True)]
        cells += [f"{p99 * 1000:.1f}" for p99 in (first, neighbour, second)]
        cells += [f"**{second / first:.2f}**", f"{statistics.median(ratios):.2f}"]
    cells += [f"{statistics.median(part):.2f}" for part in (alone.cpu, attacked.cpu, attacked.beside)]
    return f"| {' | '.join([*cells, f'{attacked.rss / 1e6:.0f}'])} |"


if __name__ == "__main__":
    sys.exit(main())
