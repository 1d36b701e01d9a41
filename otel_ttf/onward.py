"""The exporters of a configuration, ready to start; nothing of them is there where none is configured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from otel_ttf.clock import Clock
from otel_ttf.config import CannotStart, Config
from otel_ttf.exporters.annotate import Annotator
from otel_ttf.exporters.config import CannotExport
from otel_ttf.exporters.exporting import Exporting
from otel_ttf.exporters.frame import Exporter
from otel_ttf.exporters.metrics import ExportMetrics
from otel_ttf.log.base import EventLog
from otel_ttf.otlp.events import Rules
from otel_ttf.store.base import Reader
from otel_ttf.store.exports import FILE, ExportBook
from otel_ttf.telemetry import Telemetry


def configured(config: Config) -> list[str]:
    """Names of the exporters that a pipeline names."""
    return [name for name in config.exporters if config.exported(name)]


def open_book(config: Config, data_dir: Path) -> ExportBook | None:
    """exporters.db; None: nobody needs it. Raises StoreRefused."""
    path = data_dir / FILE
    # Without any exporter an operator may still ask for what was set aside for one.
    return ExportBook(path) if configured(config) or path.exists() else None


def exporting(
    config: Config,
    book: ExportBook,
    event_log: EventLog,
    telemetry: Telemetry,
    clock: Clock,
    *,
    rules: Rules,
    reader: Reader,
    followed: Callable[[], int],
) -> Exporting:
    """All of them, not started. Raises CannotStart.

    rules     how the tracker reads events; reader: of its store
    followed  how far it is in the log
    """
    metrics = ExportMetrics(telemetry.registry)
    journeys = config.domain_journeys()
    exporters = []
    for name in configured(config):
        settings = config.exporters[name]
        try:
            sender = settings.build(name)
        except CannotExport as error:
            raise CannotStart(str(error), 2) from None
        exporters.append(
            Exporter(
                name,
                settings,
                config.exported(name),
                sender,
                event_log,
                book,
                metrics.of(name),
                clock,
                annotate=Annotator(journeys, rules, reader) if settings.annotate else None,
                ceiling=followed if settings.annotate else None,
                count=partial(_count, telemetry, name),
            )
        )
    return Exporting(exporters, book, telemetry, clock, retention=config.storage.retention.events)


def _count(telemetry: Telemetry, consumer: str, action: str, records: int) -> None:
    telemetry.quarantined(action, records, consumer)
