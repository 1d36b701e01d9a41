"""TelemetryClient: what an application holds."""

from __future__ import annotations

import atexit

# Its own handler of forks takes a lock that the SDK's import takes, too: ours has to be first, so registered later.
import concurrent.futures.thread  # noqa: F401
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from otel_ttf.client import answers, query
from otel_ttf.client.answers import TtfAlert, TtfMetrics
from otel_ttf.client.event import Wrong, taken
from otel_ttf.client.native import RLock, start_new_thread
from otel_ttf.client.options import options
from otel_ttf.client.sender import IMPORTING, Sender
from otel_ttf.client.tell import Counts, Tell
from otel_ttf.client.user import UserId, current_user
from otel_ttf.client.waiting import Waiting

# Of these, in a forked child: what multiprocessing (and Celery's of it) forks ends without atexit.
_FINALIZERS = ("multiprocessing.util", "billiard.util")


class TelemetryClient:
    """Tracks events, and asks how far users are. One for a process is enough; all threads may use it.

    track_event and track_ttf_milestone never wait for the server and never raise: what cannot be sent is counted
    (`counts`) and said once in the log (logger `otel_ttf.client`). A thread sends, started with the first event, in
    each forked child anew. At the end of the process it has `exit_timeout` seconds for what still waits.

    debug            print to stderr what is sent and answered, without user data
    debug_user_data  with it
    api_url          of the server's API; default: TELEMETRY_API_URL, else http://127.0.0.1:8080
    api_key          default: TELEMETRY_API_KEY
    service_name     default: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
    max_queue        events that may wait; max_queue_bytes: roughly their memory. Beyond them new ones are dropped
    flush_interval   seconds for which events are collected before they are sent
    timeout          seconds for one request, and for one question
    exit_timeout     seconds for what still waits when the process ends
    ca_file          certificates to believe; client_cert, client_key: our own (mTLS)
    """

    def __init__(
        self,
        debug: bool = False,
        *,
        debug_user_data: bool = False,
        api_url: str | None = None,
        api_key: str | None = None,
        service_name: str | None = None,
        max_queue: int = 10_000,
        max_queue_bytes: int = 16 * 1024 * 1024,
        flush_interval: float = 0.5,
        timeout: float = 10.0,
        exit_timeout: float = 2.0,
        ca_file: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self._debug_user_data = bool(debug_user_data)
        self._tell = Tell(debug=bool(debug or debug_user_data))
        self._options = options(
            self._tell,
            api_url=api_url,
            api_key=api_key,
            service_name=service_name,
            max_queue=max_queue,
            max_queue_bytes=max_queue_bytes,
            flush_interval=flush_interval,
            timeout=timeout,
            exit_timeout=exit_timeout,
            ca_file=ca_file,
            client_cert=client_cert,
            client_key=client_key,
        )
        self._begin()
        _CLIENTS.add(self)
        atexit.register(self.close)

    def _begin(self) -> None:
        """Nothing waits, and no thread runs."""
        self._waiting = Waiting(self._options.max_queue, self._options.max_queue_bytes)
        self._sender = Sender(self._options, self._waiting, self._tell)
        self._started = False
        self._starting = RLock()
        self._closed = False

    def _forked(self) -> None:
        """In a child: what waited is sent by the parent, whose threads are not here."""
        self._tell = Tell(debug=self._tell.debug)
        closed = self._closed
        self._begin()
        self._closed = closed

    # Tracking.

    def track_event(
        self,
        event_name: str,
        event_type: str = "event",
        user_id: UserId | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        timestamp: datetime | None = None,
    ) -> None:
        """Something has happened, now or at `timestamp` (with a time zone).

        event_name  in snake_case, without personal data, as project_created
        event_type  kept as attribute event.type
        user_id     who; default: the current user (docs/python-client.md, "The current user")
        properties  text, numbers, booleans, lists and mappings of them
        """
        try:
            if self._waiting.full:  # before anything is made of it: it may be so for hours
                self._drop()
                return
            if user_id is None:
                user_id = self._current_user()
            event = taken(event_name, event_type, user_id, properties, timestamp)
            if event.left_out:
                self._tell.count("left_out", len(event.left_out))
                self._tell.once("left out", event.left_out[0])
            if self._tell.debug:
                self._show(event.name, event.attributes)
            if not self._options.enabled:
                return
            if self._closed or self._options.url is None:
                self._tell.count("dropped")
                if self._closed:
                    self._tell.once("closed")
            elif self._waiting.put(event):
                if not self._started:
                    self._start()
            else:
                self._drop()
        except Wrong as error:
            self._tell.count("wrong")
            self._tell.once("wrong", error)
        except Exception as error:  # noqa: BLE001  whatever it is, the application has done nothing to hear of it
            self._tell.count("dropped")
            self._defect(error)

    def track_ttf_milestone(
        self,
        name: str,
        user_id: UserId | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        timestamp: datetime | None = None,
    ) -> None:
        """A milestone was reached, for the first time or again: the server finds the first one."""
        self.track_event(name, "milestone", user_id, properties, timestamp=timestamp)

    def flush_events(self, timeout: float | None = None) -> bool:
        """Waits until everything that was tracked before is with the server; whether it is.

        timeout  seconds; default: the client's
        """
        try:
            seconds = self._options.timeout if timeout is None else max(0.0, float(timeout))
            if self._closed or (not self._started and not len(self._waiting)):
                return not len(self._waiting)
            lost = self._sender.lost
            self._start()
            return self._waiting.mark().wait(seconds) and self._sender.lost == lost
        except Exception as error:  # noqa: BLE001  as above
            self._defect(error)
            return False

    def close(self, timeout: float | None = None) -> None:
        """Sends what waits, for so many seconds at most (default: exit_timeout), and ends. Called at exit, too."""
        try:
            if self._closed:
                return
            self._closed = True
            atexit.unregister(self.close)
            seconds = self._options.exit_timeout if timeout is None else max(0.0, float(timeout))
            if not self._started and not len(self._waiting):
                return
            sender, lost = self._sender, self._sender.lost
            sender.close(seconds)
            self._start()
            sender.done.wait(seconds + 0.1)
            # What is on its way may still arrive.
            waiting = len(self._waiting)
            if left := waiting + sender.on_its_way + sender.lost - lost:
                self._tell.count("dropped", waiting)
                self._tell.once("left behind", left, f"{seconds:g}")
        except Exception as error:  # noqa: BLE001  as above
            self._defect(error)

    @property
    def counts(self) -> Counts:
        """What became of the events so far."""
        waiting = len(self._waiting) + self._sender.on_its_way
        return replace(self._tell.counts, waiting=waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    # Asking.

    def get_ttf_metrics(
        self,
        user_id: UserId,
        *,
        journey: str | None = None,
        version: str | None = None,
        key: Mapping[str, str] | None = None,
    ) -> TtfMetrics:
        """How far a user is, and how long it took. Raises UserUnknown, TelemetryError.

        journey  default: the server's first one; version: default: its current one
        key      of a user's journeys the one with these parts of its key, as {"project.id": "7"}; default: the first
        """
        parts = {f"key.{name}": str(part) for name, part in (key or {}).items()}
        asked = {"journey": journey, "version": version, **parts}
        return query.get(self._options, self._tell, answers.metrics, user_id, query=asked)

    def check_ttf_alerts(self, user_id: UserId, *, journey: str | None = None) -> list[TtfAlert]:
        """Thresholds that a user's journeys have passed; none: an empty list. Raises TelemetryError.

        journey  default: all of them
        """
        asked = {"journey": journey}
        return query.get(self._options, self._tell, answers.alerts, user_id, "alerts", query=asked)

    async def aget_ttf_metrics(
        self,
        user_id: UserId,
        *,
        journey: str | None = None,
        version: str | None = None,
        key: Mapping[str, str] | None = None,
    ) -> TtfMetrics:
        """get_ttf_metrics, in a thread of the running loop's."""
        import asyncio

        return await asyncio.to_thread(
            self.get_ttf_metrics, user_id, journey=journey, version=version, key=key
        )

    async def acheck_ttf_alerts(self, user_id: UserId, *, journey: str | None = None) -> list[TtfAlert]:
        """check_ttf_alerts, in a thread of the running loop's."""
        import asyncio

        return await asyncio.to_thread(self.check_ttf_alerts, user_id, journey=journey)

    async def aflush_events(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  to_thread has none
        """flush_events, in a thread of the running loop's."""
        import asyncio

        return await asyncio.to_thread(self.flush_events, timeout)

    # Inside.

    def _drop(self) -> None:
        self._tell.count("dropped")
        if not self._tell.has_said("full"):  # there may be thousands a second, and hours of them
            self._tell.once("full", len(self._waiting), self._options.place)

    def _current_user(self) -> UserId | None:
        try:
            return current_user()
        except Exception as error:  # noqa: BLE001  the application's own function; the event counts without a user
            self._tell.once("user", type(error).__name__)
            return None

    def _start(self) -> None:
        """A thread that sends, unless there is one. At the end of the process none can be started: this one sends."""
        with self._starting:
            if self._started:
                return
            self._started = True
            for module in _FINALIZERS:
                if (found := sys.modules.get(module)) is not None:
                    found.Finalize(None, self.close, exitpriority=0)
            try:
                start_new_thread(self._sender.run, ())
            except RuntimeError:
                self._started = False
                if self._closed:
                    self._sender.run()

    def _show(self, name: str, attributes: Mapping[str, Any]) -> None:
        if self._debug_user_data:
            self._tell.print(f"{name} {dict(attributes)}")
        else:
            who = "of a user" if "user.id" in attributes else "of nobody"
            self._tell.print(f"{name} {who}, attributes: {', '.join(attributes)}")

    def _defect(self, error: Exception) -> None:
        with suppress(Exception):
            self._tell.once("defect", type(error).__name__)
            self._tell.print(traceback.format_exc())


# Handlers of forks cannot be taken back, so there is one for all clients, which are here as long as somebody has them.
_CLIENTS: weakref.WeakSet[TelemetryClient] = weakref.WeakSet()
_LONGEST_IMPORT = 10.0  # seconds that a fork waits for at most
_FORK = threading.local()


def _before_fork() -> None:
    _FORK.holds = IMPORTING.acquire(timeout=_LONGEST_IMPORT)


def _after_fork_in_parent() -> None:
    if _FORK.holds:
        IMPORTING.release()


def _after_fork_in_child() -> None:
    # Whoever else has held it is not here.
    IMPORTING.release()
    for client in list(_CLIENTS):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
