"""The exporters of a configuration, ready to start; nothing of them is there where none is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from otel_ttf.clock import Clock
from otel_ttf.config import CannotStart, Config
from otel_ttf.exporters.annotate import Annotator
from otel_ttf.exporters.config import CannotExport
from otel_ttf.exporters.exporting import Exporting
from otel_ttf.exporters.frame import Exporter, Source
from otel_ttf.exporters.journeys import Told, Traces, as_events
from otel_ttf.exporters.metrics import ExportMetrics
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
    """Names of the exporters that a pipeline names: these read the event log."""
    return [name for name in config.exporters if config.exported(name)]


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
        """Raises CannotStart."""
        self._followed = followed
        journeys, reader = config.domain_journeys(), followed.reader(config)
        self._annotator = Annotator(journeys, followed.rules(config), reader)
        self._traces = Traces(journeys, reader)
        metrics = ExportMetrics(telemetry.registry)

        def exporter(
            consumer: str, name: str, signals: Sequence[Signal], source: Source, **more: Any
        ) -> Exporter:
            settings = config.exporters[name]
            try:
                sender = settings.build(name)
            except CannotExport as error:
                raise CannotStart(str(error), 2) from None
            count = partial(_count, telemetry, consumer)
            return Exporter(
                consumer,
                settings,
                signals,
                sender,
                source,
                book,
                metrics.of(consumer),
                clock,
                count=count,
                **more,
            )

        made = []
        for name, settings in config.exporters.items():
            if signals := config.exported(name):
                more: dict[str, Any] = {}
                if settings.only is not None:
                    more["only"] = parse(settings.only).test
                if settings.annotate:
                    more |= {"annotate": self._annotator, "ceiling": followed.position}
                made.append(exporter(name, name, signals, event_log, **more))
            for setting, signal in OF_JOURNEYS.items():
                if getattr(settings, setting) and followed.told is not None:
                    as_ = as_events if setting == "journey_events" else self._traces
                    source = Told(followed.told, followed.store_id, signal, as_, clock)
                    made.append(exporter(f"{name}:{setting}", name, (signal,), source))
        self.exporting = Exporting(made, book, telemetry, clock, retention=config.storage.retention.events)

    def follow(self, config: Config) -> None:
        """Takes the journeys of another configuration over."""
        journeys, reader = config.domain_journeys(), self._followed.reader(config)
        self._annotator.follow(journeys, self._followed.rules(config), reader)
        self._traces.follow(journeys, reader)


def _count(telemetry: Telemetry, consumer: str, action: str, records: int) -> None:
    telemetry.quarantined(action, records, consumer)
