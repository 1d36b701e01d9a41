"""A full stop of the next hop under load: what senders notice of it, and whether all arrives in the end.

    python benchmarks/export.py                       # 10,000 records a second, 60 s without the next hop
    python benchmarks/export.py --rate 5000 --stop 10 --seconds 5

The same load four times: without an exporter, with one whose destination answers, with one whose destination is gone,
and while it catches up. Every event has a user of its own, so it is known whether any is missing or came twice.
Ends with exit code 1 when one is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from drive import EXPORT, Sent, drive
from load import Load
from machine import describe
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "end_to_end"))

from server_process import ServerProcess, free_ports, wait_for  # noqa: E402

SIZE, CLIENTS = 100, 8
TOKEN = re.compile(rb"u1_[a-z2-7]{4}_[a-z2-7]{32}")


async def _sink(port: int, file: Path) -> None:
    """Takes OTLP/gRPC logs and writes down, before it answers, how many records came and whose they are."""
    with file.open("ab", buffering=0) as written:

        async def export(raw: bytes, _context: Any) -> bytes:
            records = sum(
                len(scope.log_records)
                for resource in ExportLogsServiceRequest.FromString(raw).resource_logs
                for scope in resource.scope_logs
            )
            written.write(b" ".join([b"%d" % records, *TOKEN.findall(raw)]) + b"\n")
            return b""

        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        service, _, method = EXPORT[1:].partition("/")
        handler = grpc.unary_unary_rpc_method_handler(export)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


@contextmanager
def _running_sink(port: int, file: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, __file__, "--sink", str(port), str(file)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@dataclass
class Phase:
    """cpu: seconds of the server's processor time."""

    name: str
    sent: Sent
    cpu: float

    def row(self) -> str:
        took = sorted(self.sent.took)
        p50, p99, worst = (
            took[min(len(took) - 1, len(took) * part // 1000)] * 1000 for part in (500, 990, 999)
        )
        return (
            f"| {self.name} | {self.sent.records / self.sent.seconds:,.0f} | {p50:.1f} | {p99:.1f} | {worst:.1f} "
            f"| {self.cpu / self.sent.seconds:.2f} | {self.sent.again} |"
        )


def _phase(name: str, server: ServerProcess, load: Load, rate: float, seconds: float) -> Phase:
    cpu = server.cpu_seconds()
    sent = drive(server.grpc, load, clients=CLIENTS, seconds=seconds, pace=rate)
    return Phase(name, sent, server.cpu_seconds() - cpu)


def _measured(options: argparse.Namespace, work: Path) -> tuple[list[Phase], Sequence[str]]:
    load, (port,) = Load(SIZE, "logs"), free_ports(1)
    with ServerProcess(work / "without") as server:
        drive(server.grpc, load, clients=CLIENTS, seconds=2, pace=options.rate)  # warm
        phases = [_phase("no exporter", server, load, options.rate, options.seconds)]
        server.terminate()
    config = f"{{endpoint: '127.0.0.1:{port}', tls: {{insecure: true}}, start_at: beginning}}"
    settings = [f"exporters.otlp={config}", "service.pipelines.logs.exporters=[otlp]"]
    arrived = work / "arrived"
    with ServerProcess(work / "with", settings=settings) as server:
        with _running_sink(port, arrived):
            phases.append(_phase("next hop answers", server, load, options.rate, options.seconds))
        phases.append(_phase("next hop stopped", server, load, options.rate, options.stop))
        lag = server.metrics().total("otelcol_exporter_queue_size")
        with _running_sink(port, arrived):
            began = time.perf_counter()
            phases.append(_phase("next hop is back", server, load, options.rate, options.seconds))
            wait_for(lambda: server.metrics().total("otelcol_exporter_queue_size") == 0, "the rest", 300, 0.2)
            caught_up = time.perf_counter() - began
        skipped = server.metrics().total("otel_ttf_exporter_skipped_records_total")
        letters = server.metrics().total("otel_ttf_quarantine_records", consumer="otlp:logs")
        server.terminate()
    records, users = 0, []
    for line in arrived.read_bytes().splitlines():
        count, *tokens = line.split()
        records += int(count)
        users += tokens
    sent = sum(phase.sent.records for phase in phases[1:])
    events = sum(phase.sent.events for phase in phases[1:])
    return phases, [
        f"{lag:,.0f} records waited when the next hop came back; after {caught_up:.1f} s none did",
        f"answered OK {sent:,} records; arrived {records:,}; skipped {skipped:,.0f}, dead letters {letters:,.0f}",
        f"of {events:,} users {events - len(set(users)):,} are missing, {len(users) - len(set(users)):,} came twice",
        *(["LOST"] if len(set(users)) != events or records < sent else []),
    ]


def main() -> int:
    """Measures and prints; the exit code."""
    if sys.argv[1:2] == ["--sink"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_sink(int(sys.argv[2]), Path(sys.argv[3])))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=10_000, help="records a second")
    parser.add_argument("--seconds", type=float, default=30, help="of each phase with the next hop")
    parser.add_argument("--stop", type=float, default=60, help="seconds without it")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build", help="for data directories")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(describe(options.folder))
    work = Path(tempfile.mkdtemp(prefix="export-", dir=options.folder))
    try:
        phases, told = _measured(options, work)
    finally:
        shutil.rmtree(work)
    print(
        "\n| phase | records/s | p50 ms | p99 ms | p99.9 ms | CPU | sent again |\n|---|---|---|---|---|---|---|"
    )
    for phase in phases:
        print(phase.row())
    print("", *told, sep="\n")
    return int("LOST" in told)


if __name__ == "__main__":
    sys.exit(main())
