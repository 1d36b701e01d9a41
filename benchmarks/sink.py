"""Takes OTLP/gRPC of all signals and answers OK at once: where the peers of peers.py send to.

    python benchmarks/sink.py PORT [FILE]

Counts the records; with FILE, all requests are appended to it as they came. `COUNT` answers with the number of
records so far.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVICE = "otel_ttf.benchmarks.Sink"
COUNT = f"/{SERVICE}/Count"
_COLLECTOR = "opentelemetry.proto.collector"
_SIGNALS: dict[str, Callable[[bytes], int]] = {
    "logs.v1.LogsService": lambda raw: sum(
        len(scope.log_records)
        for resource in ExportLogsServiceRequest.FromString(raw).resource_logs
        for scope in resource.scope_logs
    ),
    "trace.v1.TraceService": lambda raw: sum(
        len(scope.spans)
        for resource in ExportTraceServiceRequest.FromString(raw).resource_spans
        for scope in resource.scope_spans
    ),
    "metrics.v1.MetricsService": lambda raw: sum(
        len(scope.metrics)
        for resource in ExportMetricsServiceRequest.FromString(raw).resource_metrics
        for scope in resource.scope_metrics
    ),
}


class _Sink:
    def __init__(self, kept: Path | None) -> None:
        self._file = kept.open("ab", buffering=0) if kept is not None else None
        self._records = 0

    async def count(self, _raw: bytes, _context: object) -> bytes:
        return str(self._records).encode()

    def handler(self, records: Callable[[bytes], int]) -> Any:
        async def export(raw: bytes, _context: object) -> bytes:
            if self._file is not None:
                self._file.write(raw)
            self._records += records(raw)
            return b""

        return grpc.unary_unary_rpc_method_handler(export)


async def _serve(port: int, kept: Path | None) -> None:
    sink = _Sink(kept)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    generic = grpc.method_handlers_generic_handler
    counting = {"Count": grpc.unary_unary_rpc_method_handler(sink.count)}
    server.add_generic_rpc_handlers(
        [
            generic(SERVICE, counting),
            *(
                generic(f"{_COLLECTOR}.{name}", {"Export": sink.handler(records)})
                for name, records in _SIGNALS.items()
            ),
        ]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
