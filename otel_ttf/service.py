"""The composition root: builds all parts, starts them, drains them in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from starlette.types import ASGIApp

from otel_ttf import __version__, guards
from otel_ttf.access.watch import Watched
from otel_ttf.api import reload
from otel_ttf.api.app import build
from otel_ttf.api.health import Readiness
from otel_ttf.clock import Clock
from otel_ttf.commands import NOTHING_GIVEN, Given
from otel_ttf.companions import CompanionLost
from otel_ttf.config import CannotStart, Config, Loaded
from otel_ttf.config.model import ApiListener, HttpListener
from otel_ttf.demo import Background, DemoOptions, what_to_try
from otel_ttf.doors import Doors
from otel_ttf.exporters.told import ToldTransitions
from otel_ttf.files import LOG_FILE
from otel_ttf.journey.definition import Journey
from otel_ttf.journey.sampling import Sampling
from otel_ttf.log.lock import DirectoryLocked
from otel_ttf.log.rescue import note
from otel_ttf.log.sqlite import LogError, SqliteLog
from otel_ttf.memory import collect, limit_arenas
from otel_ttf.onward import Followed, Onward, configured
from otel_ttf.opened import open_all
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import ProcessorRefused
from otel_ttf.receivers.endpoint import CannotListen
from otel_ttf.receivers.intake import Intake
from otel_ttf.receivers.otlp_http import otlp_app
from otel_ttf.receivers.prepare import Pipeline
from otel_ttf.receivers.rest import rest_router
from otel_ttf.reloading import Reload, Running, follower_of, rules_of
from otel_ttf.sqlite_disk import remedy, trouble
from otel_ttf.starting import (
    NONE_ACCEPTED,
    Accepted,
    miss,
    warn_of_small_disk,
)
from otel_ttf.store.base import NoStore, Reader, StoreRefused
from otel_ttf.store.losses import Loss
from otel_ttf.store.losses import told as told_loss
from otel_ttf.store.sqlite_read import SqliteReader
from otel_ttf.telemetry import Telemetry, configure_logs
from otel_ttf.tracker import Tracker
from otel_ttf.tracker.loop import CONSUMER
from otel_ttf.units import DAY, SECOND
from otel_ttf.vault import VaultRefused

# SIGTERM to exit 0 within 10 s: what is in flight, then what tracker and exporters have not read, then the files.
ANSWER_SECONDS = 4.0
DRAIN_SECONDS = 3.0
CONSENT_FILE = "consent.db"
NOTED = 7 * DAY  # how long /ready tells of requests that were lost

log = structlog.get_logger()


def main(
    config: Config,
    data_dir: Path,
    demo: DemoOptions | None = None,
    *,
    accepted: Accepted = NONE_ACCEPTED,
    given: Given = NOTHING_GIVEN,
    source: Callable[[], Loaded] | None = None,
) -> int:
    """Runs the server until SIGTERM or SIGINT; the exit code. Raises CannotStart.

    given   its options, for what an operator is told to type
    source  reads the configuration again, for SIGHUP and POST /-/reload; raises ConfigError
    """
    configure_logs(config.service.telemetry.logs.level, json=config.service.telemetry.logs.format == "json")
    limit_arenas()
    collect(in_steps=False)
    if sys.platform == "win32":
        return asyncio.run(_serve(config, data_dir, demo, accepted, given, source))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, data_dir, demo, accepted, given, source))


async def _serve(
    config: Config,
    data_dir: Path,
    demo: DemoOptions | None,
    accepted: Accepted,
    given: Given,
    source: Callable[[], Loaded] | None,
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    hung_up = asyncio.Event()
    if source is not None and sys.platform != "win32":
        # From here to the end: where nobody listens for it, it ends the process.
        loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    async with AsyncExitStack() as stack:
        try:
            service = await Service.start(config, data_dir, stack, accepted, given, source)
        except (StoreRefused, VaultRefused, CompanionLost, ProcessorRefused) as error:
            raise CannotStart(str(error), 2) from None
        except (CannotListen, LogError, DirectoryLocked) as error:
            raise CannotStart(str(error), 1) from None
        except (sqlite3.Error, OSError) as error:
            where = Path(getattr(error, "filename", None) or data_dir)
            said = f"{where}: {trouble(error)}: {remedy(error, 'mend it', where)}, and start again"
            raise CannotStart(said, 1) from None
        gc.freeze()
        service.announce(demo)
        if service.reload is not None:
            stack.callback(loop.create_task(_reload_at(hung_up, service.reload)).cancel)
        if demo is not None:
            endpoint = service.grpc_endpoint
            if endpoint is None:
                raise CannotStart("--demo sends over OTLP/gRPC, which receivers.otlp.protocols leaves out", 2)
            if service.demo_refused is not None:
                raise CannotStart(service.demo_refused, 2)
            background = Background(replace(demo, endpoint=endpoint))
            stack.push_async_callback(asyncio.to_thread, background.stop)
        await stopping.wait()
        log.info("stopping: answering what is in flight")
    log.info("stopped")
    return 0


async def _reload_at(asked: asyncio.Event, reload: Reload) -> None:
    """Reads the configuration again each time; what is asked for meanwhile is one more time."""
    while True:
        await asked.wait()
        asked.clear()
        await reload()


class Service:
    """A running server. What it owns is on the exit stack it was started with, last started first stopped."""

    def __init__(self, config: Config, data_dir: Path, given: Given = NOTHING_GIVEN) -> None:
        self.config = config
        self.given = given
        self.data_dir = data_dir
        self._state: str | None = "starting"
        self._store_lost: str | None = None
        self._losses: Sequence[Loss] = ()
        self._damaged: Callable[[], str | None] = lambda: None  # what questions have found in the store
        self._exporters: Callable[[], list[str]] = list  # what is the matter with them
        self._watched: list[Watched[Any]] = []  # files of keys and certificates
        self.demo_refused: str | None = None  # why no demo can be sent
        self.reload: Reload | None = None
        self._doors = Doors()

    @classmethod
    async def start(
        cls,
        config: Config,
        data_dir: Path,
        stack: AsyncExitStack,
        accepted: Accepted = NONE_ACCEPTED,
        given: Given = NOTHING_GIVEN,
        source: Callable[[], Loaded] | None = None,
    ) -> Service:
        """source: see main.

        Raises CannotStart, StoreRefused, CompanionLost, ProcessorRefused, CannotListen, LogError, DirectoryLocked.
        """
        service = cls(config, data_dir, given)
        await service._start(stack, accepted, source)
        return service

    async def _start(
        self, stack: AsyncExitStack, accepted: Accepted, source: Callable[[], Loaded] | None
    ) -> None:
        config, data_dir = self.config, self.data_dir
        files = await open_all(config, data_dir, stack, accepted, self.given)
        clock, event_log, telemetry, store = files.clock, files.log, files.telemetry, files.store
        vault, consents, exported = files.vault, files.consents, files.exported
        self._store_lost = files.store_lost
        self._losses = store.losses if store is not None else ()
        path = config.storage.file(data_dir)
        rules = rules_of(config)
        pseudonyms = Pseudonyms(files.keys)
        reader: Reader = NoStore(self._store_lost or "")
        readers: list[SqliteReader | ToldTransitions] = []
        if store is not None:
            reader = opened = SqliteReader(path, _journeys(config), self.given)
            stack.callback(opened.close)
            readers.append(opened)
            self._damaged = lambda: opened.damaged
        transitions = None
        if store is not None and exported is not None:
            transitions = ToldTransitions(path)
            stack.callback(transitions.close)
            readers.append(transitions)
        # At the end all at once: together they have so much time.
        drained: list[Callable[[float], None]] = []
        stack.push_async_callback(_drain, drained)
        tracker = None
        if store is not None:
            tracker = Tracker(
                event_log,
                store,
                follower_of(config, store),
                rules,
                clock,
                retention=config.storage.retention.events,
                max_size=config.storage.max_size,
                dropped=telemetry.events_dropped,
                on_quarantine=telemetry.quarantined,
                given=self.given,
                on_missing=_name_once(telemetry),
                on_written_again=partial(_renew, readers),
            )
            # Noted before the store says that it is past them. Where it was begun anew, that was said.
            first = event_log.register(CONSUMER, files.followed, required=True)
            if files.followed < first and not files.begun_anew:
                miss(data_dir / LOG_FILE, event_log, files.followed, first, clock.now())
            tracker.start()
            running = tracker
            telemetry.watch_store(lambda: running.upkeep.use.total, lambda: running.upkeep.full)
            telemetry.watch_quarantine(lambda: running.set_aside)
            drained.append(tracker.stop)
        else:
            event_log.register(CONSUMER, 0, required=True)  # nothing goes until it is followed
        telemetry.watch_consumer(CONSUMER, lambda: event_log.lag(tracker.position if tracker else 0))

        def way(config: Config) -> Pipeline:
            derivations = config.processors.enrich.derivations()
            ways = {
                name: pipeline(
                    config.processor_configs(name),
                    files.keys,
                    config.subject,
                    sealer=vault,
                    ids=vault if config.privacy.subject == "encrypted" else None,
                    book=consents,
                    time=config.time,
                    keep_ids=config.privacy.subject == "keep",
                    derivations=derivations,
                    journeys=config.domain_journeys(),
                    lines=config.storage.events == "all",
                )
                for name in ("logs", "traces", "metrics")
            }
            return lambda batch: ways[batch.signal](batch)

        taking = way(config)
        intake = Intake(
            taking,
            event_log,
            rules,
            clock,
            telemetry,
            max_in_flight=config.receivers.otlp.max_in_flight,
            book=consents,
        )
        stack.callback(intake.close)

        def reading(config: Config) -> Reader:
            return reader.of(_journeys(config)) if isinstance(reader, SqliteReader) else reader

        onward = None
        if exported is not None:
            followed_by = Followed(
                rules_of,
                reading,
                lambda: tracker.position if tracker is not None else 0,
                transitions,
                store.store_id if store is not None else "",
            )
            onward = Onward(config, exported, event_log, telemetry, clock, followed_by)
            onward.exporting.start()
            drained.append(onward.exporting.stop)
            self._exporters = partial(onward.exporting.notes, self.given.command("dead-letters list"))
        for gone in set(event_log.consumers()) - {CONSUMER, *configured(config)}:
            # A consumer that is configured no more would hold its rows for ever; in its place there may be others now.
            event_log.forget(gone)

        otlp = config.receivers.otlp.protocols
        trusted = config.receivers.otlp.trusted_tokens
        http = otlp.http or HttpListener()
        certificates = await guards.certificates(config, telemetry, stack, self._watched)
        gate = await guards.gate(config, data_dir, telemetry, stack, self.given, self._watched)
        hosts = guards.hosts(config.api)
        otlp_on_api = otlp_app(http, intake, door="api", trusted=trusted, gate=gate, hosts=hosts)

        def answering(config: Config) -> ASGIApp:
            return build(
                _journeys(config),
                reading(config),
                pseudonyms,
                tracker.as_of if tracker is not None else partial(_as_of, event_log, clock),
                partial(self._readiness, event_log, tracker, clock),
                telemetry,
                routers=[
                    rest_router(
                        intake,
                        max_body=http.max_request_body_size,
                        body_seconds=http.body_timeout / SECOND,
                    ),
                    *([reload.routes(self.reload)] if self.reload is not None else []),
                ],
                otlp=otlp_on_api,
                normalise=config.subject.normalise,
                sampling=(lambda: tracker.sampling) if tracker is not None else Sampling,
                gate=gate,
                open_metrics=config.auth.metrics == "open",
                hosts=hosts,
            )

        if source is not None:
            parts = Running(
                config,
                tracker,
                intake,
                taking,
                sealed=vault is not None,
                way=way,
                answering=answering,
                also=onward.follow if onward is not None else None,
            )
            self.reload = Reload(config, source, parts.switch, telemetry)
            parts.api.app = answering(config)
            api: ASGIApp = parts.api
        else:
            api = answering(config)
        telemetry.follow(config.followed_share)
        stack.push_async_callback(self._stop_listening)
        await self._doors.open(config, api, intake, gate, certificates, telemetry)
        self.demo_refused = guards.demo_refused(config, gate)
        self._state = None
        if store is not None:
            warn_of_small_disk(config, data_dir)

    @property
    def grpc_endpoint(self) -> str | None:
        """Where OTLP/gRPC is from here; None: it is off."""
        return self._doors.grpc_endpoint

    async def _stop_listening(self) -> None:
        """Not ready from now on; what is in flight is answered, on all ports at once."""
        self._state = "draining: the server is stopping"
        await self._doors.close(ANSWER_SECONDS)

    def _readiness(self, event_log: SqliteLog, tracker: Tracker | None, clock: Clock) -> Readiness:
        reasons = (
            self._state,
            event_log.refusing(),
            tracker.failing if tracker is not None else self._store_lost,
        )
        since = clock.now() - NOTED
        notes = [note(one) for one in event_log.lost() if one.found > since]
        notes += [told_loss(one) for one in self._losses if one.found > since]
        if damaged := self._damaged():
            notes.append(damaged)
        if tracker is not None and tracker.set_aside:
            notes.append(
                f"quarantine: {tracker.set_aside} records that could not be followed are set aside: see "
                f"`{self.given.command('dead-letters list')}`"
            )
        notes += guards.notes(self._watched)
        notes += self._exporters()
        return Readiness(tuple(reason for reason in reasons if reason), tuple(notes))

    def announce(self, demo: DemoOptions | None) -> None:
        """Says on the screen where everything is and what to try."""
        otlp = self.config.receivers.otlp.protocols
        api = f"{_scheme(self.config.api)}://{self.config.api.endpoint}"
        lines = [f"otel_ttf {__version__} is running, data in {self.data_dir.absolute()}"]
        if otlp.grpc is not None:
            lines.append(f"  OTLP/gRPC  {otlp.grpc.endpoint}")
        if otlp.http is not None:
            lines.append(f"  OTLP/HTTP  {_scheme(otlp.http)}://{otlp.http.endpoint}")
        lines += [f"  REST       {api}/api/v1", f"  metrics    {api}/metrics", f"  docs       {api}/docs"]
        if demo is not None:
            lines += [
                "Demo users are on their way. Try:",
                *(f"  {line}" for line in what_to_try(demo.users, api)),
            ]
        lines.append("Ctrl-C stops it; nothing that was answered OK is lost.")
        print("\n".join(lines), flush=True)


def _renew(readers: Sequence[SqliteReader | ToldTransitions]) -> None:
    for reader in readers:
        reader.renew()


def _journeys(config: Config) -> Mapping[str, Journey]:
    return {journey.name: journey for journey in config.domain_journeys()}


def _scheme(listener: HttpListener | ApiListener) -> str:
    return "http" if listener.tls is None else "https"


async def _drain(stops: Sequence[Callable[[float], None]]) -> None:
    await asyncio.gather(*(asyncio.to_thread(stop, DRAIN_SECONDS) for stop in stops))


def _as_of(event_log: SqliteLog, clock: Clock) -> tuple[int, float]:
    """Tracker.as_of where nobody follows the log."""
    now = clock.now()
    oldest = event_log.oldest(0)
    at = now if oldest is None else min(oldest, now)
    return at, (now - at) / SECOND


_MISSING = {
    "subject": "events match a milestone but name no user; see subject.from",
    "key": "events match a milestone but have not all attributes of the journey's key; `shared: true` lets the "
    "milestone take them for all journeys of the user",
    "room": "a user has more keys than are followed in a journey, 1000: later ones are left out",
}


def _name_once(telemetry: Telemetry) -> Callable[[str, str, int], None]:
    """Counts milestone matches that lack something, and names each milestone once in our log."""
    named: set[tuple[str, str]] = set()

    def missing(what: str, milestone: str, events: int) -> None:
        if what == "subject":
            telemetry.milestone_without_subject(milestone, events)
        else:
            telemetry.milestone_without_key(milestone, what, events)
        if (what, milestone) not in named:
            named.add((what, milestone))
            log.warning(_MISSING[what], milestone=milestone)

    return missing
