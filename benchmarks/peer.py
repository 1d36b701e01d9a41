"""What peers.py measures, each as processes of their own: otel_ttf, the Collector, Rotel."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import zstandard
from sink import COUNT

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TOOLS = ROOT / ".tools"
sys.path.insert(0, str(ROOT / "tests" / "end_to_end"))

from disk import contents  # noqa: E402
from server_process import ServerProcess, free_ports  # noqa: E402

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 300.0


class Wrong(Exception):
    """The figures mean nothing: something was lost, doubled or refused."""


class Running(Protocol):
    """A peer that takes requests.

    target  host:port of its OTLP/gRPC
    pid     of its process; there may be some below it
    """

    @property
    def target(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def wait_through(self, records: int, events: int | None = None) -> None:
        """Waits until what was answered OK, so many, is at the other end. Raises Wrong.

        events  how many of them have a name and a user, where that is known
        """

    def came_out(self) -> bytes:
        """Ends the peer; every byte that it wrote down or sent on."""


@dataclass(frozen=True, slots=True)
class Peer:
    """promise  what has happened to a record when its request is answered OK
    binary   what has to be there; None: it always is
    start    runs it in an empty folder while the context lasts; the flag: keep what it sends for `came_out`
    """

    name: str
    promise: str
    binary: Path | None
    start: Callable[[Path, bool], AbstractContextManager[Running]]

    @property
    def installed(self) -> bool:
        return self.binary is None or self.binary.exists()


@dataclass(frozen=True, slots=True)
class _Ours:
    """otel_ttf: its other end are its own log and store."""

    server: ServerProcess

    @property
    def target(self) -> str:
        return self.server.grpc

    @property
    def pid(self) -> int:
        return self.server.running.pid

    def wait_through(self, _records: int, events: int | None = None) -> None:
        self.server.wait_caught_up(timeout=_PATIENCE, pause=0.1)
        with self.server.store() as store:
            (stored,) = store.execute("SELECT count(*) FROM event").fetchone()
        if events not in (None, stored):
            raise Wrong(f"otel_ttf: {stored} events are stored, {events} were answered OK")

    def came_out(self) -> bytes:
        self.server.terminate()
        files = (data for _, data in contents(self.server.data_dir))
        return b"\n".join((*files, *_payloads(self.server.data_dir / "log.db")))


@dataclass(frozen=True, slots=True)
class _Forwarding:
    """A peer that sends on to the sink."""

    name: str
    target: str
    process: subprocess.Popen[bytes]
    sink: str
    kept: Path | None

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_through(self, records: int, events: int | None = None) -> None:
        with closing(grpc.insecure_channel(self.sink)) as channel:
            count = channel.unary_unary(COUNT)
            self._wait(lambda: int(count(b"")), records)

    def _wait(self, arrived: Callable[[], int], wanted: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (records := arrived()) < wanted and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.1)
        if records != wanted:
            raise Wrong(f"{self.name}: {records} records came out, {wanted} were answered OK")

    def came_out(self) -> bytes:
        assert self.kept is not None, "started without keep"
        self.process.terminate()
        self.process.wait(20)
        return self.kept.read_bytes()


@contextmanager
def _otel_ttf(work: Path, keep: bool) -> Iterator[Running]:
    with ServerProcess(work / "data") as server:
        if keep:
            server.terminate()
            _copy_entries(server.data_dir / "log.db")
            server.start()
        yield _Ours(server)


def _copy_entries(log: Path) -> None:
    """Has every request in the log copied: the log itself forgets what the tracker has dealt with."""
    with closing(sqlite3.connect(log)) as db:
        db.executescript(
            """
            CREATE TABLE copied (packed INTEGER, payload BLOB);
            CREATE TRIGGER copies AFTER INSERT ON entry
                BEGIN INSERT INTO copied VALUES (new.packed, new.payload); END;
            """
        )


def _payloads(log: Path) -> list[bytes]:
    """The requests as they stood in the log, unpacked."""
    unpack = zstandard.ZstdDecompressor().decompress
    with closing(sqlite3.connect(log)) as db:
        rows = db.execute("SELECT packed, payload FROM copied").fetchall()
    return [unpack(payload) if packed else payload for packed, payload in rows]


@contextmanager
def _collector(work: Path, keep: bool) -> Iterator[Running]:
    (port,) = free_ports(1)
    queue = work / "queue"
    queue.mkdir()
    command = [str(COLLECTOR), "--config", str(HERE / "collector.yaml")]
    variables = {"PEER_DIR": str(queue), "PEER_PORT": str(port)}
    with _sinking(work, keep) as (sink, kept):
        variables["SINK_PORT"] = sink.rpartition(":")[2]
        with _process(command, work / "collector.out", variables) as process:
            yield _forwarding("OpenTelemetry Collector", f"127.0.0.1:{port}", process, sink, kept)


@contextmanager
def _rotel(work: Path, keep: bool) -> Iterator[Running]:
    grpc_port, http_port = free_ports(2)
    mask = str(HERE / "rotel_mask.py")
    with _sinking(work, keep) as (sink, kept):
        options = {
            "otlp-grpc-endpoint": f"127.0.0.1:{grpc_port}",
            "otlp-http-endpoint": f"127.0.0.1:{http_port}",
            "otlp-grpc-max-recv-msg-size-mib": "64",
            "otlp-with-logs-processor": mask,
            "otlp-with-trace-processor": mask,
            "otlp-with-metrics-processor": mask,
            "exporter": "otlp",
            "otlp-exporter-endpoint": f"http://{sink}",
            "otlp-exporter-protocol": "grpc",
            "otlp-exporter-compression": "none",
        }
        told = [part for name, value in options.items() for part in (f"--{name}", value)]
        with _process([str(ROTEL), "start", *told], work / "rotel.out", {}) as process:
            yield _forwarding("Rotel", f"127.0.0.1:{grpc_port}", process, sink, kept)


def _forwarding(
    name: str, target: str, process: subprocess.Popen[bytes], sink: str, kept: Path | None
) -> _Forwarding:
    _wait_ready(target, name)
    return _Forwarding(name, target, process, sink, kept)


@contextmanager
def _sinking(work: Path, keep: bool) -> Iterator[tuple[str, Path | None]]:
    """(host:port, file with what arrived) of a sink."""
    (port,) = free_ports(1)
    kept = work / "kept" if keep else None
    command = [sys.executable, str(HERE / "sink.py"), str(port), *([str(kept)] if kept else [])]
    with _process(command, work / "sink.out", {}):
        _wait_ready(target := f"127.0.0.1:{port}", "the sink")
        yield target, kept


@contextmanager
def _process(
    command: Sequence[str], output: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, env={**os.environ, **variables}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_ready(target: str, name: str) -> None:
    with closing(grpc.insecure_channel(target)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=30)
        except grpc.FutureTimeoutError as late:
            raise Wrong(f"{name} does not answer at {target}") from late


COLLECTOR = TOOLS / "otelcol"
ROTEL = TOOLS / "rotel" / "rotel-agent"
PEERS = (
    Peer("otel_ttf", "masked, in the event log, synced", None, _otel_ttf),
    Peer("OpenTelemetry Collector", "masked, in the queue on disk, synced", COLLECTOR, _collector),
    Peer("Rotel, Python processor", "in memory", ROTEL, _rotel),
)


def cpu_seconds(pid: int) -> float:
    """User and system time so far of the process and of all below it."""
    return sum(_ticks(one) for one in _family(pid)) / _TICKS


def peak_rss(pid: int) -> int:
    """Most bytes of memory that were resident, summed over the process and those below it."""
    peaks = [
        int(line.split()[1]) * 1024
        for one in _family(pid)
        for line in Path(f"/proc/{one}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return sum(peaks)


def _family(pid: int) -> list[int]:
    below = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for tasks in below for child in tasks.read_text().split()]
    return [pid, *(one for child in children for one in _family(child))]


def _ticks(pid: int) -> int:
    # The command's name stands in parentheses and may hold anything. Fields: utime, stime, and the same of
    # children that have ended.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))
