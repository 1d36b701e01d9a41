"""All exporters, on a thread with an event loop of their own: receivers never wait for them.

It also does what operators ask of what was set aside for them, and forgets what has lain there for too long.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import structlog

from otel_ttf.clock import Clock
from otel_ttf.exporters.frame import Exporter
from otel_ttf.sqlite_disk import trouble
from otel_ttf.store.exports import ExportBook
from otel_ttf.store.tasks import Task
from otel_ttf.telemetry import Telemetry, failure
from otel_ttf.units import DAY

ASKED_EVERY = 0.25  # seconds
COUNT_EVERY = 1.0  # seconds
EXPIRE_EVERY = 3600.0  # seconds
RESEND_SECONDS = 20.0  # for all letters of a task; who asks waits for 30
AGAIN = 1.0  # seconds, after a defect of ours
TASKS_KEPT = DAY

log = structlog.get_logger()


class Exporting:
    """Owns its thread.

    retention  how long letters are kept, ns
    """

    def __init__(
        self,
        exporters: Sequence[Exporter],
        book: ExportBook,
        telemetry: Telemetry,
        clock: Clock,
        *,
        retention: int,
    ) -> None:
        self._exporters = {exporter.name: exporter for exporter in exporters}
        self._book = book
        self._telemetry = telemetry
        self._clock = clock
        self._retention = retention
        self._deadline = 0.0
        self._stopping = threading.Event()
        self._counts: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="exporters", daemon=True)

    def start(self) -> None:
        """Raises sqlite3.Error, OSError."""
        for name, exporter in self._exporters.items():
            exporter.start()
            self._telemetry.watch_consumer(name, exporter.lag)
            self._telemetry.watch_quarantine(partial(self._set_aside, name), name)
        self._count()
        self._thread.start()

    def stop(self, drain: float) -> None:
        """Sends what is in the log, for at most `drain` seconds, then ends the thread. Blocks."""
        self._deadline = monotonic() + drain
        self._stopping.set()
        self._thread.join()

    def notes(self, listing: str = "otel-ttf dead-letters list") -> list[str]:
        """For operators: what is the matter. listing: the command that lists dead letters."""
        notes = [note for exporter in self._exporters.values() if (note := exporter.note()) is not None]
        if self._book.rescued is not None:
            notes.append(self._book.rescued)
        return notes + [
            f"exporter {name}: {count} records in dead letters: see `{listing}`"
            for name, count in sorted(self._counts.items())
        ]

    def _set_aside(self, exporter: str) -> int:
        return self._counts.get(exporter, 0)

    def _run(self) -> None:
        if sys.platform == "win32":
            asyncio.run(self._main())
            return
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        with ThreadPoolExecutor(2 + 2 * len(self._exporters), "exporters") as pool:
            jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                one.name: partial(one.run, pool) for one in self._exporters.values()
            }
            jobs["dead letters"] = self._tend
            running = [asyncio.create_task(self._keep(name, job)) for name, job in jobs.items()]
            await asyncio.get_running_loop().run_in_executor(pool, self._stopping.wait)
            await asyncio.gather(*(one.drained(self._deadline) for one in self._exporters.values()))
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await asyncio.gather(*(one.close() for one in self._exporters.values()))

    async def _keep(self, name: str, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs one, and again after a defect of ours: an exporter from its cursor."""
        while True:
            try:
                await job()
            except Exception as error:  # noqa: BLE001 - it must not end the others
                first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                log.error("an exporter has failed and begins again", exporter=name, **failure(first))
                await asyncio.sleep(AGAIN)

    # What was set aside.

    async def _tend(self) -> None:
        expire_at = count_at = 0.0
        while True:
            try:
                task = await asyncio.to_thread(self._book.task)
                if task is not None:
                    await self._do(task)
                    continue
                if monotonic() >= expire_at and not self._clock.stepped:
                    expire_at = monotonic() + EXPIRE_EVERY
                    now = self._clock.now()
                    gone = await asyncio.to_thread(self._book.expire, now - self._retention, now - TASKS_KEPT)
                    for consumer, count in gone.items():
                        self._telemetry.quarantined("expired", count, consumer)
                if monotonic() >= count_at:
                    count_at = monotonic() + COUNT_EVERY
                    await asyncio.to_thread(self._count)
            except (sqlite3.Error, OSError) as error:
                log.debug("exporters.db cannot be read", reason=trouble(error))
                await asyncio.sleep(AGAIN)
            await asyncio.sleep(ASKED_EVERY)

    def _count(self) -> None:
        counts = self._book.counts()
        self._counts.clear()
        self._counts.update(counts)

    async def _do(self, task: Task) -> None:
        """retry: each letter goes to its exporter's destination once more. drop: they are deleted.

        The answer has the shape of the tracker's, see tracker/tasks.py.
        """
        wanted: list[int] = task.what["ids"]
        letters = await asyncio.to_thread(self._book.letters, wanted)
        known = {letter.id for letter in letters}
        done: list[int] = []
        failed: dict[int, str] = {}
        deadline = monotonic() + RESEND_SECONDS
        for letter in letters:
            assert letter.id is not None, "it was read"
            why = None
            if task.kind == "retry":
                exporter = self._exporters.get(letter.consumer)
                if exporter is None:
                    why = f"no exporter {letter.consumer} is configured"
                elif monotonic() > deadline:
                    why = "there was no time left: ask again"
                else:
                    why = await exporter.resend(letter)
            if why is None:
                done.append(letter.id)
            else:
                failed[letter.id] = why
        answer = {
            "done": done,
            "unknown": [id_ for id_ in wanted if id_ not in known],
            "failed": {str(id_): why for id_, why in failed.items()},
        }
        await asyncio.to_thread(self._book.answer, task, done, failed, answer)
        action = "retried" if task.kind == "retry" else "dropped"
        counts: Counter[str] = Counter()
        for letter in letters:
            if letter.id in done:
                counts[letter.consumer] += letter.records
        for consumer, count in counts.items():
            self._telemetry.quarantined(action, count, consumer)
        with suppress(sqlite3.Error, OSError):
            await asyncio.to_thread(self._count)
