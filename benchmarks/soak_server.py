"""`otel-ttf` with a consumer of the event log beside the tracker, as an exporter is one, whose every second try fails.

    SOAK_STATE=FILE python benchmarks/soak_server.py run ...

FILE holds in JSON what it has got so far: rows, records, failures, and its position; gaps are those that the log
tells, of a consumer that lies too far behind.
"""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path

from otel_ttf.__main__ import main as command
from otel_ttf.demo import DemoOptions
from otel_ttf.log.base import EventLog
from otel_ttf.service import Service
from otel_ttf.tracker import Tracker

CONSUMER = "soak"
_STATE = Path(os.environ["SOAK_STATE"])
_PAUSE = 0.05  # seconds after a failure
_RANDOM = random.Random(1)


def consume(log: EventLog) -> None:
    """Takes all rows in order, each group again until it is taken."""
    got = {"rows": 0, "records": 0, "failures": 0, "skipped": 0}
    position = log.register(CONSUMER, 0, required=False)
    while True:
        rows = log.read(position)
        if not rows:
            log.wait(position, 1.0)
            continue
        if _RANDOM.random() < 0.5:
            got["failures"] += 1
            threading.Event().wait(_PAUSE)
            continue
        got["rows"] += len(rows)
        got["records"] += sum(row.records for row in rows)
        position = rows[-1].position
        log.release(CONSUMER, position)
        got["skipped"] = sum(gap.records for gap in log.gaps(CONSUMER))
        part = _STATE.with_suffix(".part")
        part.write_text(json.dumps(got | {"position": position}))
        part.replace(_STATE)


def main() -> None:
    """Runs the command; the consumer begins when the server has started."""
    start, announce = Tracker.start, Service.announce
    logs: list[EventLog] = []

    def starting(tracker: Tracker) -> None:
        start(tracker)
        logs.append(tracker._log)

    def announcing(service: Service, demo: DemoOptions | None) -> None:
        announce(service, demo)
        threading.Thread(target=consume, args=tuple(logs), daemon=True).start()

    Tracker.start, Service.announce = starting, announcing  # type: ignore[method-assign]
    command()


if __name__ == "__main__":
    main()
