"""The load generator of the Collector's makers sends for a minute in all."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from senders import TOOLS
from server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

TELEMETRYGEN = TOOLS / "telemetrygen"
SECONDS, RATE, WORKERS = 20, 250, 4  # for each signal


@pytest.mark.parametrize(("signal", "records"), [("logs", 1), ("traces", 2), ("metrics", 1)])
def test_all_that_it_says_it_has_sent_is_taken(server: ServerProcess, signal: str, records: int) -> None:
    """records: of each that it counts; a trace has two spans."""
    if not TELEMETRYGEN.exists():
        pytest.skip(".tools/interop/telemetrygen is not built: ./scripts/get-senders, which needs Go")
    before = server.metrics().total("telemetry_events_total", signal=signal)
    command = [TELEMETRYGEN, signal, "--otlp-insecure", "--duration", f"{SECONDS}s", "--rate", str(RATE)]
    if signal == "metrics":  # over HTTP
        command += ["--otlp-http", "--otlp-endpoint", f"127.0.0.1:{server.http_port}"]
    else:
        command += ["--otlp-endpoint", server.grpc]
    done = subprocess.run(
        [*command, "--workers", str(WORKERS)],
        # Its SDK drops spans, and says nothing, when its queue is full: on a busy machine that comes soon.
        env=os.environ | {"OTEL_BSP_MAX_QUEUE_SIZE": "1000000"},
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stderr
    taken = server.metrics().total("telemetry_events_total", signal=signal) - before
    said = sum(map(int, re.findall(rf'"{signal}": *([0-9]+)', done.stdout + done.stderr)))
    assert taken == said * records
    assert said > SECONDS * RATE  # and not only one of its workers
