"""All receivers with the real pipeline and log, in a loop of their own, for blocking clients.

Run as a program it serves until stdin ends, and prints its ports: a process whose memory can be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from fastapi import FastAPI
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ttf.clock import SystemClock
from otel_ttf.log.base import LogRefused, Row
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig
from otel_ttf.pii.consent import Book
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.validate import ValidateConfig
from otel_ttf.receivers.connections import HTTP_CONNECTIONS
from otel_ttf.receivers.http_server import HttpServer
from otel_ttf.receivers.intake import Intake
from otel_ttf.receivers.otlp_grpc import GrpcConfig, GrpcServer, serve
from otel_ttf.receivers.otlp_http import HttpConfig, otlp_app
from otel_ttf.receivers.prepare import Pipeline
from otel_ttf.receivers.rest import rest_router
from otel_ttf.telemetry import Telemetry

T = TypeVar("T")
KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
RULES = Rules(
    time=TimeConfig(),
    subject_from=("user.id", "enduser.id", "user_id"),
    wants_span=lambda _name: True,
)
SECOND = 1_000_000_000


def real_pipeline(book: Book | None = None, *, consent: bool = True) -> Pipeline:
    configs: dict[str, Any] = {
        "validate": ValidateConfig(),
        "enrich": EnrichConfig(),
        "pseudonymise": PseudonymiseConfig(),
        **({"consent": ConsentConfig()} if consent else {}),
        "mask": MaskConfig(),
    }
    return pipeline(configs, KEYS, SubjectConfig(), book=book)


@dataclass
class Serving:
    """Ports of running receivers and what stands behind them."""

    grpc: GrpcServer
    otlp_port: int
    api_port: int
    intake: Intake
    log: SqliteLog
    loop: asyncio.AbstractEventLoop
    faults: list[Exception]
    _pipeline: Pipeline

    @property
    def grpc_target(self) -> str:
        return f"127.0.0.1:{self.grpc.port}"

    def url(self, path: str) -> str:
        port = self.api_port if path.startswith("/api") else self.otlp_port
        return f"http://127.0.0.1:{port}{path}"

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Awaits something in the receivers' loop."""

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def process(self, batch: Batch) -> Batch:
        if self.faults:
            raise self.faults.pop()
        return self._pipeline(batch)

    def count(self, metric: str, **labels: str) -> float:
        return self.intake.telemetry.registry.get_sample_value(metric, labels) or 0.0

    @contextlib.contextmanager
    def stored(self) -> Iterator[list[Row]]:
        """Rows that came into the log within the block; filled at its end."""
        rows: list[Row] = []
        before = self.log.end()
        yield rows
        rows += self.log.read(before)

    @contextlib.contextmanager
    def failing(self, error: Exception) -> Iterator[None]:
        """One request within the block meets this error in the pipeline."""
        self.faults.append(error)
        yield
        self.faults.clear()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Within the block the budget for requests in flight is used up."""
        limit, self.intake.in_flight.limit = self.intake.in_flight.limit, 0
        with self.intake.in_flight.hold(1):
            yield
        self.intake.in_flight.limit = limit


def records(rows: list[Row]) -> list[LogRecord]:
    """Log records of rows."""
    return [
        record
        for row in rows
        for resource in ExportLogsServiceRequest.FromString(row.payload).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def attributes(record: LogRecord) -> dict[str, Any]:
    """Attributes by key; only strings, numbers and booleans are read."""
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value")
        for item in record.attributes
    }


@contextlib.contextmanager
def serving(
    folder: Path, http: HttpConfig | None = None, *, max_connections: int = HTTP_CONNECTIONS
) -> Iterator[Serving]:
    """Receivers on free ports, stopped in the end."""
    ready = threading.Event()
    box: list[Serving | BaseException] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        clock = SystemClock()
        log = SqliteLog.open(folder / "log.db", LogConfig(), clock)
        running: Serving | None = None

        def process(batch: Batch) -> Batch:
            assert running is not None
            return running.process(batch)

        intake = Intake(process, log, RULES, clock, Telemetry())
        config = http or HttpConfig()
        api = FastAPI()
        api.include_router(rest_router(intake, max_body=config.max_request_body_size))
        api.mount("/v1", otlp_app(config, intake))
        servers = [
            HttpServer(app, "127.0.0.1:0", setting=setting, max_connections=max_connections)
            for app, setting in ((otlp_app(config, intake), "otlp"), (api, "api"))
        ]
        for server in servers:
            await server.start()
        grpc = await serve(GrpcConfig(endpoint="127.0.0.1:0"), intake)
        running = Serving(grpc, servers[0].port, servers[1].port, intake, log, loop, [], real_pipeline())
        box.append(running)
        ready.set()
        await end.wait()
        await asyncio.gather(grpc.stop(1), *(server.stop(1) for server in servers))
        intake.close()
        await log.close()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            box.append(error)
            ready.set()
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(20)
    assert isinstance(box[0], Serving), box
    yield box[0]
    stop[0]()
    thread.join(20)


def refusing() -> LogRefused:
    """What the log says when it takes nothing."""
    return LogRefused("log.max_size is reached", 1.5)


if __name__ == "__main__":
    with serving(Path(sys.argv[1])) as program:
        print(program.grpc.port, program.otlp_port, program.api_port, flush=True)
        sys.stdin.read()
