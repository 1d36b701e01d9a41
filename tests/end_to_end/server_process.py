"""The server as a process of its own, as users start it: tests and benchmarks see it from outside only."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; all held until the last is found, so that they differ.

    Workers of one test run never find the same: a port is free again until its server starts, and between restarts.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            opened = held.enter_context(socket.socket())
            opened.bind(("127.0.0.1", 0))
            port = opened.getsockname()[1]
            if port // 2 % workers == worker:  # kernels may hand out odd ones only
                ports.append(port)
    return ports


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads."""
    text = Path(f"/proc/{pid}/stat").read_text()
    # The command's name stands in parentheses and may hold anything.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class DidNotStart(AssertionError):
    """The server ended, or was not ready in time; the message holds what it printed."""


class ServerProcess:
    """`otel-ttf run` on a data directory. Restarts keep ports, data and settings.

    config    a configuration file
    settings  `a.b=c` each, for --set
    program   arguments of Python that make it otel-ttf
    headers   go with each request of ours
    tls       how we speak it to the server's ports
    output    a file beside the data directory with all that the process printed, over restarts
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        config: Path | None = None,
        settings: Sequence[str] = (),
        program: Sequence[str] = ("-m", "otel_ttf"),
    ) -> None:
        self.data_dir = data_dir
        self.config = config
        self.settings = tuple(settings)
        self.program = tuple(program)
        self.options: Sequence[str] = ()
        self.environment: Mapping[str, str] = {}
        self.headers: Mapping[str, str] = {}
        self.tls: ssl.SSLContext | None = None
        self.output = data_dir.with_name(data_dir.name + ".out")
        self.grpc_port, self.http_port, self.api_port = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None

    # Life.

    def __enter__(self) -> Self:
        if self.process is None or self.process.poll() is not None:
            self.launch()
        with ExitStack() as end:
            end.push(self)  # one that does not start is not left running
            self.wait_ready()
            end.pop_all()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def command(self) -> list[str]:
        """What is executed."""
        settings = (
            f"receivers.otlp.protocols.grpc.endpoint={self.grpc}",
            f"receivers.otlp.protocols.http.endpoint=127.0.0.1:{self.http_port}",
            f"api.endpoint=127.0.0.1:{self.api_port}",
            *self.settings,
        )
        config = ["--config", str(self.config)] if self.config is not None else []
        sets = [part for setting in settings for part in ("--set", setting)]
        directory = ["--data-dir", str(self.data_dir)]
        return [sys.executable, *self.program, "run", *directory, *config, *sets, *self.options]

    def launch(self) -> Self:
        """Starts the process and doesn't wait for anything."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self

    def start(self, timeout: float = 30) -> Self:
        """Starts the process and waits until it is ready. Raises DidNotStart."""
        self.launch()
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 30) -> None:
        """Waits for 200 from /ready. Raises DidNotStart."""
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self.running.poll() is not None:
                raise DidNotStart(f"exit code {self.running.returncode}:\n{self.printed()}")
            if time.monotonic() > deadline:
                raise DidNotStart(f"not ready after {timeout} s:\n{self.printed()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            return self.get("/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def refusal(self, timeout: float = 20) -> tuple[int, str]:
        """Runs the command that is expected to end by itself: its exit code and what it said on stderr."""
        done = subprocess.run(
            self.command(),
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return done.returncode, done.stderr

    def kill(self) -> None:
        """kill -9."""
        self.running.kill()
        self.running.wait()

    def terminate(self, timeout: float = 20) -> int:
        """SIGTERM; the exit code. Raises subprocess.TimeoutExpired."""
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(timeout)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "not started"
        return self.process

    def printed(self) -> str:
        """Everything that was printed on both streams so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    # Addresses and questions.

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        port: int | None = None,
        timeout: float = 10,
    ) -> Answer:
        """One HTTP request, to the API port unless said."""
        at = ("127.0.0.1", port or self.api_port)
        with closing(
            http.client.HTTPConnection(*at, timeout=timeout)
            if self.tls is None
            else http.client.HTTPSConnection(*at, timeout=timeout, context=self.tls)
        ) as connection:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def get(self, path: str) -> Answer:
        """GET from the API port."""
        return self.request("GET", path)

    def post_json(self, path: str, document: object, *, port: int | None = None) -> Answer:
        """POST of a JSON document."""
        body = json.dumps(document).encode()
        return self.request("POST", path, body, headers={"content-type": "application/json"}, port=port)

    def metrics(self) -> Metrics:
        """What /metrics says now."""
        return Metrics(self.get("/metrics").body.decode())

    def wait_caught_up(self, timeout: float = 30, pause: float = 0.02) -> None:
        """Waits until the tracker has taken all that is in the log. Raises AssertionError.

        pause  seconds between questions, each of which costs the server some milliseconds
        """
        wait_for(lambda: self.metrics().lag() == 0, "the tracker to catch up", timeout, pause)

    # What it costs.

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, all threads."""
        return cpu_seconds(self.running.pid)

    def peak_rss(self) -> int:
        """Bytes of memory that were resident at most."""
        lines = Path(f"/proc/{self.running.pid}/status").read_text().splitlines()
        (peak,) = [line for line in lines if line.startswith("VmHWM:")]
        return int(peak.split()[1]) * 1024

    def store(self) -> closing[sqlite3.Connection]:
        """The store's file, for reading beside the running server."""
        return closing(sqlite3.connect(f"file:{self.data_dir / 'store.db'}?mode=ro", uri=True, timeout=30))


class Metrics:
    """Samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the samples of that name with these labels; 0 when there is none."""
        return sum(
            value
            for sample, given, value in self._samples
            if sample == name and all(given.get(label) == wanted for label, wanted in labels.items())
        )

    def lag(self) -> float:
        """Records in the log that the tracker hasn't taken. Raises LookupError when nobody says."""
        if not any(name == "otel_ttf_consumer_lag_records" for name, _, _ in self._samples):
            raise LookupError("otel_ttf_consumer_lag_records")
        return self.total("otel_ttf_consumer_lag_records", consumer="tracker")


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 10, pause: float = 0.02) -> None:
    """Waits until the condition holds. Raises AssertionError that names it."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(pause)


def keys(folder: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """What `otel-ttf keys` says of a data directory. check: it must succeed."""
    done = command_on(folder, "keys", *arguments)
    if check:
        done.check_returncode()
    return done


def command_on(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command of `otel-ttf` says of a data directory."""
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", *arguments, "--data-dir", str(folder)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
