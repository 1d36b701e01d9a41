"""What this process says about itself: metrics, and log lines on stderr. Neither ever holds a user's data."""

from __future__ import annotations

import logging
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from structlog.typing import EventDict, Processor, WrappedLogger

from otel_ttf import __version__

# By the Collector's names: what came in by which receiver and transport.
WAYS_IN = {"grpc": ("otlp", "grpc"), "http": ("otlp", "http"), "rest": ("rest", "http")}
TRACKER = "tracker"  # as a consumer
RECORDS = {"logs": "log_records", "traces": "spans", "metrics": "metric_points"}
# Around the 0.5 s of the latency alert, and down to where one-record requests are.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_PACKAGE = Path(__file__).parent
_REFUSALS = ("unauthenticated", "too_often", "forbidden", "limited", "unavailable", "host", "cross_site")


@dataclass(frozen=True, slots=True)
class WayIn:
    """Metrics of one signal over one protocol, bound once: looking labels up costs more than counting.

    events    telemetry_events_total{signal}, records
    accepted  otelcol_receiver_accepted_*_total{receiver,transport}, records
    refused   otelcol_receiver_refused_*_total{receiver,transport}, records (unknown number: none)
    seconds   otel_ttf_request_duration_seconds{protocol,signal}
    """

    events: Counter
    accepted: Counter
    refused: Counter
    seconds: Histogram


class Telemetry:
    """Metrics of this process, in a registry of their own; they begin at 0 with it."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge(
            "otel_ttf_build_info",
            "Always 1; labels tell the version.",
            ["version", "python"],
            registry=registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._events = Counter("telemetry_events", "Accepted records.", ["signal"], registry=registry)
        self._errors = Counter(
            "telemetry_errors",
            "What was not accepted: requests; for reason `rejected` single records.",
            ["reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "otel_ttf_request_duration_seconds",
            "From a request's last byte until its answer was known.",
            ["protocol", "signal"],
            buckets=SECONDS,
            registry=registry,
        )
        self._received = {
            (verb, signal): Counter(
                f"otelcol_receiver_{verb}_{records}",
                f"Number of {records.replace('_', ' ')} {verb}.",
                ["receiver", "transport"],
                registry=registry,
            )
            for verb in ("accepted", "refused")
            for signal, records in RECORDS.items()
        }
        self._without_subject = Counter(
            "otel_ttf_milestones_without_subject",
            "Events that matched a milestone and named no user.",
            ["milestone"],
            registry=registry,
        )
        self._without_key = Counter(
            "otel_ttf_milestones_without_key",
            "Events that matched a milestone and moved no journey for want of its key.",
            ["milestone", "reason"],
            registry=registry,
        )
        self._reload_successful = Gauge(
            "otel_ttf_config_last_reload_successful",
            "1 when the configuration that was read last is the one that runs; 0 when it was refused.",
            registry=registry,
        )
        self._reload_time = Gauge(
            "otel_ttf_config_last_reload_success_timestamp_seconds",
            "When a configuration was taken over last.",
            registry=registry,
        )
        self._consent = Counter(
            "otel_ttf_consent", "Statements about consent that came.", ["statement"], registry=registry
        )
        self._consent_dropped = Counter(
            "otel_ttf_consent_dropped",
            "Records, span events and data points of subjects who have denied, by what became of them.",
            ["action"],
            registry=registry,
        )
        self._mended = Counter(
            "otel_ttf_mended",
            "Parts of accepted records that were not kept as they came, by what was wrong with them.",
            ["what"],
            registry=registry,
        )
        self._flagged = Counter(
            "otel_ttf_events_flagged",
            "Events that were taken although something is the matter with their time, or they name no user.",
            ["flag"],
            registry=registry,
        )
        self._of_processors = {
            "masked": Counter(
                "otel_ttf_pii_masked",
                "What was masked, by what found it (`key`: the attribute's key) and where it stood.",
                ["detector", "place"],
                registry=registry,
            ),
            "consent": self._consent,
            "consent_dropped": self._consent_dropped,
            "mended": self._mended,
            "flagged": self._flagged,
            "filtered": Counter(
                "otel_ttf_filtered",
                "Records and span events for which a rule of the filter held, by what became of them.",
                ["rule", "action"],
                registry=registry,
            ),
            "underived": Counter(
                "otel_ttf_enrich_skipped",
                "Values from which nothing was derived since too many that were not known came at once.",
                ["what"],
                registry=registry,
            ),
            "sampled_out": Counter(
                "otel_ttf_sampled_out",
                "Records and span events that the sampling has left out, by what decided.",
                ["by"],
                registry=registry,
            ),
        }
        self._followed = Gauge(
            "otel_ttf_followed_subjects_ratio",
            "The share of users that is followed; 1 where none is sampled out.",
            registry=registry,
        )
        self._followed.set(1)
        self._dropped = Counter(
            "otel_ttf_events_dropped",
            "Stored events that went before their time because of storage.max_size.",
            registry=registry,
        )
        self._store_size = Gauge(
            "otel_ttf_store_size_bytes", "What store.db takes, its write-ahead log too.", registry=registry
        )
        self._store_full = Gauge(
            "otel_ttf_store_full",
            "1 when journeys, transitions and figures leave no room for events in storage.max_size, else 0.",
            registry=registry,
        )
        self._quarantine = Counter(
            "otel_ttf_quarantine",
            "Records that a consumer could not take, by what was done to them.",
            ["action", "consumer"],
            registry=registry,
        )
        for action in ("set_aside", "retried", "dropped", "displaced", "expired"):
            self._quarantine.labels(action, TRACKER)
        self._set_aside = Gauge(
            "otel_ttf_quarantine_records", "Records that are set aside now.", ["consumer"], registry=registry
        )
        self._set_aside.labels(TRACKER)
        self._clock_step = Gauge(
            "otel_ttf_clock_step_seconds",
            "How far the wall clock stands from the anchored one that is used; 0 when they agree.",
            registry=registry,
        )
        self._lost = Gauge(
            "otel_ttf_log_lost_requests",
            "Requests that were answered OK and are gone; at least so many.",
            ["why"],
            registry=registry,
        )
        for why in ("damaged", "missed"):
            self._lost.labels(why)
        self._losses = Gauge(
            "otel_ttf_store_losses",
            "How often something of store.db was lost, and somebody has gone on without it.",
            ["why"],
            registry=registry,
        )
        for why in ("salvaged", "begun_anew"):
            self._losses.labels(why)
        self._access_refused = Counter(
            "otel_ttf_access_refused",
            "Calls that were not let in, by door and by what was said.",
            ["door", "reason"],
            registry=registry,
        )
        for door in ("grpc", "http", "api"):
            for reason in _REFUSALS:
                self._access_refused.labels(door, reason)
        self._key_used = Counter(
            "otel_ttf_api_key_requests",
            "Calls that were let in, by the key's id; `token`: tokens of the issuer.",
            ["key"],
            registry=registry,
        )
        self._files_read = Gauge(
            "otel_ttf_files_last_reload_successful",
            "1 when the files that are there now could be used, 0 while what was read before them is.",
            ["what"],
            registry=registry,
        )
        self._handshakes_failed = Counter(
            "otel_ttf_tls_handshakes_failed",
            "Connections that did not get as far as speaking TLS, or showed no certificate that is good.",
            ["listener"],
            registry=registry,
        )
        self._certificate_ends = Gauge(
            "otel_ttf_tls_certificate_end_seconds",
            "Until when the certificate of a listener is good, unix time.",
            ["listener"],
            registry=registry,
        )
        self._lag = _ConsumerLag()
        registry.register(self._lag)
        self._ways: dict[tuple[str, str], WayIn] = {}
        # All exist from the start: the rate of a counter that appears with its first error misses it.
        self._reasons = {
            reason: self._errors.labels(reason) for reason in ("malformed", "rejected", "refused", "internal")
        }
        for statement in ("grant", "deny", "sell", "do_not_sell", "unreadable"):
            self._consent.labels(statement)
        for action in ("drop", "anonymise"):
            self._consent_dropped.labels(action)
        for flag in ("time_implausible", "time_ahead", "time_missing", "too_old", "no_subject"):
            self._flagged.labels(flag)
        for what in ("utf8", "nesting", "attributes", "elements", "values"):
            self._mended.labels(what)
        for protocol in WAYS_IN:
            for signal in RECORDS:
                self.way_in(signal, protocol)

    def way_in(self, signal: str, protocol: str) -> WayIn:
        """Counters of a signal (logs, traces, metrics) over a protocol (grpc, http, rest)."""
        way = self._ways.get((signal, protocol))
        if way is None:
            receiver, transport = WAYS_IN.get(protocol, (protocol, protocol))
            way = self._ways[signal, protocol] = WayIn(
                events=self._events.labels(signal),
                accepted=self._received["accepted", signal].labels(receiver, transport),
                refused=self._received["refused", signal].labels(receiver, transport),
                seconds=self._seconds.labels(protocol, signal),
            )
        return way

    def error(self, reason: str, count: int = 1) -> None:
        """Counts in telemetry_errors_total: malformed, rejected, refused or internal."""
        self._reasons[reason].inc(count)

    def milestone_without_subject(self, milestone: str, count: int = 1) -> None:
        """Counts events that matched a milestone without naming a user."""
        self._without_subject.labels(milestone).inc(count)

    def milestone_without_key(self, milestone: str, reason: str, count: int = 1) -> None:
        """Counts events that matched a milestone; `key`: without the whole key, `room`: with one key too many."""
        self._without_key.labels(milestone, reason).inc(count)

    def reloaded(self, *, successful: bool, at: float) -> None:
        """The configuration was read. at: unix seconds"""
        self._reload_successful.set(successful)
        if successful:
            self._reload_time.set(at)

    def counted(self, counts: Mapping[tuple[str, ...], int]) -> None:
        """Counts what processors have counted in a request that is in the log: (what, its labels) -> how often.

        masked: detector (or `key`) and place; consent: statement; consent_dropped: action; mended: what; flagged: flag;
        filtered: rule and action; sampled_out: by; underived: what
        """
        for (what, *labels), count in counts.items():
            self._of_processors[what].labels(*labels).inc(count)

    def access_refused(self, door: str, reason: str) -> None:
        """Counts a call that was not let in. door: grpc, http, api; reason: what was said, not what was wrong."""
        self._access_refused.labels(door, reason).inc()

    def key_used(self, key: str) -> Counter:
        """Counts calls by a key: by its id, which is no secret."""
        return self._key_used.labels(key)

    def files_read(self, what: str, good: bool) -> None:
        """Tells whether the files that are there now could be used: certificates, API keys."""
        self._files_read.labels(what).set(good)

    def handshakes_failed(self, listener: str) -> Counter:
        """Counts connections that got no TLS. listener: http, api."""
        return self._handshakes_failed.labels(listener)

    def certificate_ends(self, listener: str, ends: float) -> None:
        """Tells until when a listener's certificate is good: unix seconds."""
        self._certificate_ends.labels(listener).set(ends)

    def follow(self, share: float | None) -> None:
        """Shows the share of users that is followed; None: all."""
        self._followed.set(1 if share is None else share)

    def watch_consumer(self, consumer: str, lag: Callable[[], tuple[int, float]]) -> None:
        """Shows a consumer's lag, asked for at every scrape: (records, seconds) behind the log's end."""
        self._lag.consumers[consumer] = lag

    def events_dropped(self, count: int) -> None:
        """Counts stored events that went because of storage.max_size."""
        self._dropped.inc(count)

    def watch_store(self, size: Callable[[], float], full: Callable[[], bool]) -> None:
        """Shows the store's size in bytes, and whether events have no room in it; asked for at every scrape."""
        self._store_size.set_function(size)
        self._store_full.set_function(full)

    def quarantined(self, action: str, records: int, consumer: str = TRACKER) -> None:
        """Counts records that were set_aside, or have left from there: retried, dropped, displaced, expired."""
        self._quarantine.labels(action, consumer).inc(records)

    def watch_quarantine(self, records: Callable[[], float], consumer: str = TRACKER) -> None:
        """Shows how many records are set aside, asked for at every scrape."""
        self._set_aside.labels(consumer).set_function(records)

    def watch_lost(self, lost: Callable[[str], int]) -> None:
        """Shows how many requests are lost, asked for at every scrape: why (damaged, missed) -> number."""
        for why in ("damaged", "missed"):
            self._lost.labels(why).set_function(partial(lost, why))

    def store_losses(self, losses: Iterable[str]) -> None:
        """Shows what the store has lost: why (salvaged, begun_anew), once for each."""
        for why in losses:
            self._losses.labels(why).inc()

    def watch_clock(self, step: Callable[[], float]) -> None:
        """Shows the clock's step in seconds, asked for at every scrape."""
        self._clock_step.set_function(step)


class _ConsumerLag(Collector):
    """otel_ttf_consumer_lag_records and _seconds, one question per consumer for both."""

    def __init__(self) -> None:
        self.consumers: dict[str, Callable[[], tuple[int, float]]] = {}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return self._families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        records, seconds = families = self._families()
        # A copy: consumers may be added while another thread scrapes.
        for consumer, lag in list(self.consumers.items()):
            behind, age = lag()
            records.add_metric([consumer], behind)
            seconds.add_metric([consumer], age)
        return families

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "otel_ttf_consumer_lag_records",
                "Records in the log a consumer has not dealt with.",
                labels=["consumer"],
            ),
            GaugeMetricFamily(
                "otel_ttf_consumer_lag_seconds",
                "Age of the oldest record not dealt with.",
                labels=["consumer"],
            ),
        )


def failure(error: BaseException) -> dict[str, str]:
    """What may be logged of an unexpected error: its type and its place in our code.

    Never its message, which may hold what a sender sent.
    """
    return {"error": type(error).__name__, "place": _place(error.__traceback__)}


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    if ours:
        return f"{Path(ours[-1].filename).relative_to(_PACKAGE).as_posix()}:{ours[-1].lineno}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"


def configure_logs(level: str = "info", *, json: bool = False) -> None:
    """Our log lines go to stderr, as text or one JSON object a line.

    level  debug, info, warning or error. Lines of libraries come through the same door from `warning` on,
           without their arguments and without the text of exceptions.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_exception_text,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(number, logging.WARNING))
    # Python's own way prints the message, which may hold what was sent.
    sys.excepthook = lambda _kind, error, _trace: _unhandled(error)
    threading.excepthook = lambda told: _unhandled(told.exc_value)
    sys.unraisablehook = lambda told: _unhandled(told.exc_value)
    # One warning for each piece of garbage that somebody sends would fill a disk; they are counted.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _unhandled(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        structlog.get_logger().critical("an error that nobody handles", **failure(error))


def _without_exception_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event.update(failure(error))
    return event


class _Bridge(logging.Handler):
    """Lines of libraries, by the template of their message alone: arguments may hold data."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            str(record.msg).partition("\n")[0],
            logger=record.name,
            **(failure(error) if error is not None else {}),
        )
