"""A log with exporters on it, without receivers and tracker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from prometheus_client import CollectorRegistry

from otel_ttf.clock import SystemClock
from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.exporters.exporting import Exporting
from otel_ttf.exporters.frame import Exporter
from otel_ttf.exporters.metrics import ExportMetrics
from otel_ttf.log.base import Entry
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.otlp.events import pack_ids
from otel_ttf.otlp.wire import Signal
from otel_ttf.store.exports import ExportBook
from otel_ttf.store.quarantine import DeadLetter
from otel_ttf.telemetry import Telemetry

NAME = "otlp/test"
DAY = 86400 * 10**9


def logs(*names: str, body: str = "") -> bytes:
    """A request with a log record of each name."""
    made = ExportLogsServiceRequest()
    by_resource = made.resource_logs.add()
    by_resource.resource.attributes.add(key="service.name").value.string_value = "web"
    records = by_resource.scope_logs.add().log_records
    for name in names:
        records.add(event_name=name).body.string_value = body
    return made.SerializeToString()


class World:
    """Opens all of it again and again, over the same files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall_ahead = 0  # ns
        self.clock = SystemClock(lambda: time.time_ns() + self.wall_ahead)
        self.log: SqliteLog
        self.exporting: Exporting | None = None
        self.exporters: dict[str, Exporter] = {}

    async def open(self, **log: Any) -> None:
        self.log = SqliteLog.open(self.folder / "log.db", LogConfig(**log), self.clock)
        self.log.register("tracker", 0, required=True)

    def start(
        self,
        configs: Mapping[str, ExporterConfig],
        signals: Mapping[str, Signal] = MappingProxyType({}),
        **more: Any,
    ) -> None:
        """Exporters by name, of logs unless another signal is told; those that are not named are forgotten."""
        for gone in set(self.log.consumers()) - {"tracker", *configs}:
            self.log.forget(gone)
        self.book = ExportBook(self.folder / "exporters.db")
        self.telemetry = Telemetry()
        self.registry: CollectorRegistry = self.telemetry.registry
        metrics = ExportMetrics(self.registry)
        self.exporters = {
            name: Exporter(
                name,
                config,
                signals.get(name, "logs"),
                config.build(name),
                self.log,
                self.book,
                metrics.of(name),
                self.clock,
                count=partial(self._count, name),
                **more,
            )
            for name, config in configs.items()
        }
        self.exporting = Exporting(
            list(self.exporters.values()), self.book, self.telemetry, self.clock, retention=30 * DAY
        )
        self.exporting.start()

    def _count(self, name: str, action: str, letters: int) -> None:
        self.telemetry.quarantined(action, letters, name)

    async def stop(self, drain: float = 3) -> None:
        if self.exporting is not None:
            await asyncio.to_thread(self.exporting.stop, drain)
            self.book.close()
            self.exporting = None

    async def close(self) -> None:
        await self.stop(0.5)
        await self.log.close()

    async def reopen(self, **log: Any) -> None:
        await self.close()
        await self.open(**log)

    async def append(
        self,
        payload: bytes,
        *,
        records: int = 1,
        signal: Signal = "logs",
        ids: Mapping[int, bytes] | None = None,
    ) -> int:
        """One request; while exporters run, the tracker has dealt with it at once, and rows may go."""
        entry = Entry(signal, self.clock.now(), payload, pack_ids(ids or {}), records)
        position = await self.log.append(entry)
        if self.exporting is not None:
            self.log.release("tracker", position)
        return position

    async def send(self, *names: str, body: str = "") -> None:
        """A request of one record for each name."""
        for name in names:
            await self.append(logs(name, body=body))

    def total(self, metric: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == metric and all(sample.labels.get(k) == v for k, v in labels.items())
        )

    def letters(self) -> list[DeadLetter]:
        ids = [row[0] for row in self.book._db.execute("SELECT id FROM quarantine ORDER BY id")]
        return self.book.letters(ids)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for something that happens by itself. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
