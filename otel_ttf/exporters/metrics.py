"""What exporters count, under the Collector's names where it has one."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from otel_ttf.otlp.wire import SIGNALS, Signal
from otel_ttf.telemetry import RECORDS

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ExportMetrics:
    """Metrics of all exporters, in the registry of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, told: str) -> Counter:
            return Counter(name, told, ["exporter"], registry=registry)

        def gauge(name: str, told: str) -> Gauge:
            return Gauge(name, told, ["exporter"], registry=registry)

        self._by_signal = {
            (verb, signal): counter(
                f"otelcol_exporter_{verb}_{records}", told.format(records.replace("_", " "))
            )
            for verb, told in (
                ("sent", "Number of {} that the destination has taken."),
                ("send_failed", "Number of {} that it will never take: they are set aside."),
            )
            for signal, records in RECORDS.items()
        }
        self._queue = gauge(
            "otelcol_exporter_queue_size", "Records in the log behind the signal that is furthest behind."
        )
        self._retries = counter("otel_ttf_exporter_retries", "Requests that failed and are sent again.")
        self._skipped = counter(
            "otel_ttf_exporter_skipped_records", "Records that went before they were sent: see log.max_lag."
        )
        self._elsewhere = counter(
            "otel_ttf_exporter_elsewhere_records", "Records that its `only` does not mean."
        )
        self._withheld = counter(
            "otel_ttf_exporter_withheld_records", "Records that must not go to this destination."
        )
        self._up = gauge(
            "otel_ttf_exporter_up",
            "0 while the destination is taken for dead, for any of the signals, else 1.",
        )
        self._refusing = gauge(
            "otel_ttf_exporter_refusing",
            "1 while the destination answers and refuses all of a signal, else 0.",
        )
        self._seconds = Histogram(
            "otel_ttf_exporter_request_duration_seconds",
            "From a request's first byte until the destination's answer.",
            ["exporter"],
            buckets=SECONDS,
            registry=registry,
        )

    def of(self, exporter: str) -> WayOut:
        """One exporter's. All of them exist from the start."""
        return WayOut(self, exporter)


class WayOut:
    """Metrics of one exporter, of all of its signals, bound once. For one event loop."""

    def __init__(self, all_: ExportMetrics, exporter: str) -> None:
        by_signal = all_._by_signal
        self._sent = {signal: by_signal["sent", signal].labels(exporter) for signal in SIGNALS}
        self._failed = {signal: by_signal["send_failed", signal].labels(exporter) for signal in SIGNALS}
        self._queue = all_._queue.labels(exporter)
        self._up = all_._up.labels(exporter)
        self._refusing = all_._refusing.labels(exporter)
        self.retries = all_._retries.labels(exporter)
        self._skipped = all_._skipped.labels(exporter)
        self.elsewhere = all_._elsewhere.labels(exporter)
        self.withheld = all_._withheld.labels(exporter)
        self.seconds = all_._seconds.labels(exporter)
        self._skipped_through = 0
        self._queues: list[Callable[[], float]] = []
        self._ups: list[Callable[[], float]] = []
        self._refusals: list[Callable[[], float]] = []

    def sent(self, signal: Signal, records: int) -> None:
        self._sent[signal].inc(records)

    def failed(self, signal: Signal, records: int) -> None:
        self._failed[signal].inc(records)

    def skipped(self, last: int, records: int) -> None:
        """Records in rows up to a position went. Where several signals miss the same rows they count once."""
        if last > self._skipped_through:
            self._skipped_through = last
            self._skipped.inc(records)

    def watch(
        self, queue: Callable[[], float], up: Callable[[], float], refusing: Callable[[], float]
    ) -> None:
        """One signal's, asked for at every scrape: the exporter is as far as the last of them."""
        self._queues.append(queue)
        self._ups.append(up)
        self._refusals.append(refusing)
        self._queue.set_function(lambda: max(one() for one in self._queues))
        self._up.set_function(lambda: min(one() for one in self._ups))
        self._refusing.set_function(lambda: max(one() for one in self._refusals))
