"""The exporters of a configuration, ready to start; nothing of them is there where none is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from otel_ttf.clock import Clock
from otel_ttf.config import CannotStart, Config
from otel_ttf.exporters.annotate import Annotator
from otel_ttf.exporters.base import Sender
from otel_ttf.exporters.config import CannotExport
from otel_ttf.exporters.exporting import Exporting
from otel_ttf.exporters.frame import Exporter, Source
from otel_ttf.exporters.journeys import Told, Traces, as_events
from otel_ttf.exporters.metrics import ExportMetrics, WayOut
from otel_ttf.exporters.told import ToldTransitions
from otel_ttf.journey.match import parse
from otel_ttf.log.base import EventLog
from otel_ttf.otlp.events import Rules
from otel_ttf.otlp.wire import Signal
from otel_ttf.store.base import Reader
from otel_ttf.store.exports import FILE, ExportBook
from otel_ttf.telemetry import Telemetry

# What an exporter gets beside the log's rows: setting -> signal. Each is a consumer of its own, NAME:SETTING.
OF_JOURNEYS: Mapping[str, Signal] = {"journey_events": "logs", "journey_traces": "traces"}


def configured(config: Config) -> list[str]:
    """Those that read the event log: NAME:SIGNAL of each exporter that a pipeline names."""
    return [f"{name}:{signal}" for name in config.exporters for signal in config.exported(name)]


def open_book(config: Config, data_dir: Path) -> ExportBook | None:
    """exporters.db; None: nobody needs it. Raises StoreRefused."""
    path = data_dir / FILE
    # Without any exporter an operator may still ask for what was set aside for one.
    return ExportBook(path) if config.exporters or path.exists() else None


@dataclass(frozen=True, slots=True)
class Followed:
    """What exporters may know of journeys.

    rules     how events are read with a configuration
    reader    of the store, for the journeys of a configuration
    position  how far the tracker is in the log
    told      the transitions; None: there is no store. store_id: its id
    """

    rules: Callable[[Config], Rules]
    reader: Callable[[Config], Reader]
    position: Callable[[], int]
    told: ToldTransitions | None
    store_id: str


class Onward:
    """All exporters of a configuration, not started."""

    def __init__(
        self,
        config: Config,
        book: ExportBook,
        event_log: EventLog,
        telemetry: Telemetry,
        clock: Clock,
        followed: Followed,
    ) -> None:
        """Raises CannotStart, sqlite3.Error, OSError."""
        self._followed = followed
        journeys, reader = config.domain_journeys(), followed.reader(config)
        self._annotator = Annotator(journeys, followed.rules(config), reader)
        self._traces = Traces(journeys, reader)
        all_metrics, told = ExportMetrics(telemetry.registry), followed.told
        made: list[Exporter] = []

        def exporter(
            name: str, what: str, sender: Sender, signal: Signal, source: Source, metrics: WayOut, **more: Any
        ) -> None:
            consumer, settings = f"{name}:{what}", config.exporters[name]
            more["count"] = partial(_count, telemetry, consumer)
            made.append(Exporter(consumer, settings, signal, sender, source, book, metrics, clock, **more))

        for name, settings in config.exporters.items():
            signals = config.exported(name)
            of_journeys = [
                setting for setting in OF_JOURNEYS if told is not None and getattr(settings, setting)
            ]
            if not signals and not of_journeys:
                continue
            try:
                sender = settings.build(name)  # all of it goes over the same connections
            except CannotExport as error:
                raise CannotStart(str(error), 2) from None
            more: dict[str, Any] = {}
            if settings.only is not None:
                more["only"] = parse(settings.only).test
            if settings.annotate:
                more |= {"annotate": self._annotator, "ceiling": followed.position}
            metrics = all_metrics.of(name)
            if signals:
                book.part(name, [f"{name}:{signal}" for signal in signals])
            for signal in signals:
                exporter(name, signal, sender, signal, event_log, metrics, **more)
            for setting in of_journeys:
                as_ = as_events if setting == "journey_events" else self._traces
                assert told is not None, "looked at above"
                source = Told(told, followed.store_id, OF_JOURNEYS[setting], as_, clock, book.last)
                of_setting = all_metrics.of(f"{name}:{setting}")
                exporter(name, setting, sender, OF_JOURNEYS[setting], source, of_setting)
        self.exporting = Exporting(made, book, telemetry, clock, retention=config.storage.retention.events)

    def follow(self, config: Config) -> None:
        """Takes the journeys of another configuration over."""
        journeys, reader = config.domain_journeys(), self._followed.reader(config)
        self._annotator.follow(journeys, self._followed.rules(config), reader)
        self._traces.follow(journeys, reader)


def _count(telemetry: Telemetry, consumer: str, action: str, records: int) -> None:
    telemetry.quarantined(action, records, consumer)
