"""A running server takes over another configuration: all of it, or nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_ttf.config import Config, ConfigError, Loaded, Problem
from otel_ttf.config.change import changed, why_restart
from otel_ttf.config.problems import dotted
from otel_ttf.config.translate import place
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.sampling import ALL
from otel_ttf.otlp.events import Rules
from otel_ttf.processors.base import ProcessorRefused
from otel_ttf.receivers.intake import Intake
from otel_ttf.receivers.prepare import Pipeline
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.telemetry import Telemetry, configure_logs, failure
from otel_ttf.tracker import Tracker
from otel_ttf.tracker.follow import Follower
from otel_ttf.tracker.loop import NotSwitched

SWITCH_SECONDS = 10.0  # until the tracker has come to the end of its batch

log = structlog.get_logger()


class CannotSwitch(Exception):
    """The running server cannot take it over now, though it is valid; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of it.

    refused   all that is wrong, as `otel-ttf validate` says it, or what needs a restart; empty: it was taken over
    changed   settings that differ from what ran before
    warnings  as `validate` says them
    """

    refused: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Reload:
    """Reads the configuration again. One at a time; the others wait.

    load      as at the start; raises ConfigError
    switch    takes a configuration over, or raises CannotSwitch and has changed nothing
    """

    def __init__(
        self,
        current: Config,
        load: Callable[[], Loaded],
        switch: Callable[[Config], Awaitable[None]],
        telemetry: Telemetry,
    ) -> None:
        self.current = current
        self._load = load
        self._switch = switch
        self._telemetry = telemetry
        self._lock = asyncio.Lock()
        telemetry.reloaded(successful=True, at=time.time())

    async def __call__(self) -> Reloaded:
        """What became of it; raises nothing."""
        async with self._lock:
            try:
                done = await self._reload()
            except Exception as error:  # noqa: BLE001 - a defect must not take a running server down
                what = failure(error)
                done = Reloaded(
                    (f"a defect of the server: {what['error']} at {what['place']}; please report it",)
                )
            self._telemetry.reloaded(successful=not done.refused, at=time.time())
            if done.refused:
                log.error(
                    "the configuration was not taken over: the one before stays", problems=list(done.refused)
                )
            else:
                log.info(
                    "the configuration was taken over",
                    changed=list(done.changed),
                    warnings=list(done.warnings),
                )
            return done

    async def _reload(self) -> Reloaded:
        try:
            loaded = await asyncio.to_thread(self._load)
        except ConfigError as error:
            return Reloaded(tuple(map(str, error.problems)))
        paths = changed(self.current, loaded.config)
        names = tuple(map(dotted, paths))
        restart = [
            str(Problem(*place(loaded.tree, path), path, f"a change needs a restart of the server: {why}"))
            for path in paths
            if (why := why_restart(path)) is not None
        ]
        if restart:
            return Reloaded(tuple(restart), names)
        if paths:
            try:
                await self._switch(loaded.config)
            except CannotSwitch as error:
                return Reloaded((str(error),), names)
        self.current = loaded.config
        self._telemetry.follow(loaded.config.followed_share)
        return Reloaded((), names, tuple(map(str, loaded.warnings)))


def rules_of(*configs: Config) -> Rules:
    """How events are read; with several, so that each of them finds what it looks for."""
    config = configs[-1]
    journeys = [journey for one in configs for journey in one.domain_journeys()]
    return Rules(
        time=config.time,
        subject_from=config.masked_subject,
        wants_span=Dispatch(journeys).wants_span,
        lines=any(one.storage.events == "all" for one in configs),
    )


def follower_of(config: Config, store: SqliteStore) -> Follower:
    """What follows the journeys of a configuration."""
    return Follower(
        store,
        config.domain_journeys(),
        events=config.storage.events,
        retention=config.storage.retention.events,
        share=config.followed_share or ALL,
    )


class Switched:
    """An ASGI application of which requests that come from now on may get another; those on their way keep theirs."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Running:
    """The parts of a running server that take another configuration over, see config.change.SETTINGS.

    pipeline   of config
    sealed     whether values can be encrypted
    way        the processors of a configuration
    answering  the API of a configuration
    also       told of the configuration that was taken over; None: nobody
    """

    def __init__(
        self,
        config: Config,
        tracker: Tracker | None,
        intake: Intake,
        pipeline: Pipeline,
        *,
        sealed: bool,
        way: Callable[[Config], Pipeline],
        answering: Callable[[Config], ASGIApp],
        also: Callable[[Config], None] | None = None,
    ) -> None:
        self.api = Switched()
        self._config = config
        self._tracker = tracker
        self._intake = intake
        self._pipeline = pipeline
        self._sealed = sealed
        self._way = way
        self._answering = answering
        self._also = also

    async def switch(self, config: Config) -> None:
        """All at once for requests that come from now on. Raises CannotSwitch: all is as it was."""
        if config.processors.mask.encrypts and not self._sealed:
            raise CannotSwitch(
                "processors.mask: values are to be encrypted, and no vault.db is open: a change needs a restart of "
                "the server"
            )
        before = self._config
        # Building patterns takes a while, in which requests go on.
        try:
            old, new = self._pipeline, await asyncio.to_thread(self._way, config)
        except ProcessorRefused as error:
            raise CannotSwitch(str(error)) from None
        api = await asyncio.to_thread(self._answering, config)
        if self._tracker is not None:
            # What is read on its way in from here on serves the journeys of before and those that come.
            self._intake.switch(old, rules_of(before, config), before.receivers.otlp.max_in_flight)
            try:
                await asyncio.to_thread(
                    self._tracker.switch,
                    partial(follower_of, config),
                    rules_of(config),
                    config.storage.retention.events,
                    config.storage.max_size,
                    SWITCH_SECONDS,
                )
            except NotSwitched as error:
                self._intake.switch(old, rules_of(before), before.receivers.otlp.max_in_flight)
                raise CannotSwitch(
                    f"the tracker cannot follow the new journeys now, see /ready, and try again: {error}"
                ) from None
        self._intake.switch(new, rules_of(config), config.receivers.otlp.max_in_flight)
        self._pipeline = new
        self.api.app = api
        logs = config.service.telemetry.logs
        configure_logs(logs.level, json=logs.format == "json")
        if self._also is not None:
            self._also(config)
        self._config = config
        # What is gone now is full of cycles, which are looked for so seldom that each reload would leave its share.
        await asyncio.to_thread(gc.collect)
