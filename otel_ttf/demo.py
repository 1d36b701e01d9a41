"""Made-up users who sign up, travel, get stuck: sent through the OpenTelemetry SDK as an application would.

The same seed makes the same users, demo-0001 onwards. Their journeys began within the last hours; then
signups and clicks go on live.
"""

from __future__ import annotations

import heapq
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from otel_ttf.access.keys import VARIABLE
from otel_ttf.units import MINUTE, SECOND

STORIES = (
    ("ordinary", "quick", "slow", "stuck", "late signup event"),
    (50, 15, 10, 20, 5),
)  # and their weights
PLANS = ("free", "free", "free", "pro", "pro", "enterprise")
CHANNELS = ("organic", "organic", "ads", "referral", "partner")
ACTIVITY = ("page_viewed", "docs_opened", "search_performed", "invite_sent", "settings_changed")
LINES = ("request finished", "cache refreshed", "job finished", "config reloaded")
MEDIANS = (4.0, 8.0, 12.0, 20.0)  # minutes per stage of an ordinary user
# Users whose story is the same for every seed: number -> (story, signed up so many minutes ago).
KNOWN = {
    1: ("quick", 90.0),
    2: ("stuck on the way to the first agent", 90.0),
    3: ("slow", 240.0),
    4: ("late signup event", 120.0),
    5: ("just started", 2.0),
}


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How much made-up traffic. `rate` is live events a second; 0: stop after the users.

    endpoint  host:port of an OTLP/gRPC receiver without TLS
    """

    users: int = 200
    rate: float = 5.0
    seed: int = 1
    endpoint: str = "127.0.0.1:4317"


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """Something a user does. `span`: name of the server span that tells it; "": a log event does.

    at  unix nanoseconds
    """

    at: int
    user: str
    name: str
    span: str
    attributes: tuple[tuple[str, str], ...]


# What the applications of the demo emit: (event name, name of the span on which it is an event).
SIGNUP = ("user_signed_up", "")
STAGES = (
    ("project_created", "POST /projects"),
    ("agent_created", ""),
    ("workflow_executed", "POST /workflows/run"),
    ("first_success_event", ""),
)


def travel(user: str, story: str, rng: random.Random, start: int, *, known: bool = False) -> list[Step]:
    """All that a user will ever do, in the order of time.

    start  time of the signup, unix nanoseconds
    known  the story is promised to whoever reads it: little is left to chance
    """
    plan, channel = rng.choice(PLANS), rng.choice(CHANNELS)
    pace = {"free": 1.2, "pro": 0.9, "enterprise": 0.7}[plan] * {"quick": 0.5, "slow": 3.0}.get(story, 1.0)
    first = (("plan", plan), ("channel", channel), ("user.email", f"{user}@example.com"))
    steps = [Step(start, user, *SIGNUP, first)]
    at = start
    stuck_at = {"stuck on the way to the first agent": 1, "stuck": rng.randrange(4)}.get(story, 4)
    for place, (median, (name, span)) in enumerate(zip(MEDIANS, STAGES, strict=True)):
        if place == stuck_at:
            break
        at += round(median * pace * rng.lognormvariate(0, 0.1 if known else 0.6) * MINUTE)
        steps.append(Step(at, user, name, span, ()))
        if rng.random() < 0.3:  # a second project is no first one
            steps.append(Step(at + 2 * MINUTE, user, name, span, ()))
    if story == "late signup event":  # by a client's clock: the project comes "before" it
        steps[0], steps[1] = (
            Step(steps[1].at, user, *SIGNUP, first),
            Step(start, user, steps[1].name, steps[1].span, ()),
        )
    return sorted(steps)


def population(options: DemoOptions, now: int) -> Iterator[list[Step]]:
    """The steps of demo-0001, demo-0002, ...: signed up within the 8 hours before `now`."""
    for number in range(1, options.users + 1):
        rng = random.Random(f"{options.seed}/{number}")  # noqa: S311  made-up users need no secrets
        if number in KNOWN:
            story, minutes = KNOWN[number]
        else:
            story = rng.choices(
                ("ordinary", "quick", "slow", "stuck", "late signup event"), (50, 15, 10, 20, 5)
            )[0]
            minutes = min(480.0, 3 + rng.expovariate(1 / 120))
        yield travel(f"demo-{number:04}", story, rng, now - round(minutes * MINUTE), known=number in KNOWN)


class Sender:
    """The application's side: OpenTelemetry's Python SDK with its OTLP/gRPC exporters."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource({"service.name": "demo-app", "deployment.environment.name": "demo"})
        target = f"http://{endpoint}"
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(target, insecure=True), schedule_delay_millis=200)
        )
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(target, insecure=True), schedule_delay_millis=200)
        )
        self._logger = self._logs.get_logger("demo")
        self._tracer = self._traces.get_tracer("demo")

    def step(self, step: Step) -> None:
        """One thing that a user did: an event, alone or on the server span that caused it."""
        from opentelemetry.trace import SpanKind

        attributes = {"user.id": step.user, **dict(step.attributes)}
        if not step.span:
            self._logger.emit(
                timestamp=step.at, event_name=step.name, attributes=attributes, body=f"{step.name} by a user"
            )
            return
        span = self._tracer.start_span(
            step.span,
            kind=SpanKind.SERVER,
            start_time=step.at - SECOND // 20,
            attributes={**attributes, "http.request.method": "POST", "http.response.status_code": 201},
        )
        span.add_event(step.name, timestamp=step.at)
        span.end(step.at + SECOND // 100)

    def line(self, text: str) -> None:
        """A log line that has nothing to do with anybody."""
        self._logger.emit(timestamp=time.time_ns(), severity_text="INFO", body=text)

    def flush(self) -> None:
        """Sends what is queued: the SDK drops what its queue cannot hold."""
        self._logs.force_flush()
        self._traces.force_flush()

    def close(self) -> None:
        """Sends what is queued and ends."""
        self._logs.shutdown()
        self._traces.shutdown()


def reachable(endpoint: str, seconds: float) -> bool:
    """Whether a gRPC server answers there within so many seconds."""
    import grpc

    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            return False
    return True


def run(options: DemoOptions, stop: threading.Event, *, on_user: Callable[[], None] = lambda: None) -> None:
    """Sends the users, then live traffic until `stop` is set. `on_user` is called after each user."""
    sender = Sender(options.endpoint)
    try:
        now = time.time_ns()
        waiting: list[Step] = []
        for number, steps in enumerate(population(options, now)):
            for step in steps:
                if step.at <= now:
                    sender.step(step)
                else:
                    heapq.heappush(waiting, step)
            on_user()
            if number % 50 == 4:  # the first ones at once: somebody may be waiting to ask about them
                sender.flush()
            if stop.is_set():
                return
        sender.flush()
        if options.rate > 0:
            _live(options, sender, waiting, stop)
    finally:
        sender.close()


def _live(options: DemoOptions, sender: Sender, waiting: list[Step], stop: threading.Event) -> None:
    """Steps as their time comes, between them clicks, log lines and new signups."""
    began = time.time_ns()
    rng = random.Random(f"{options.seed}/live/{began}")  # noqa: S311
    active = [f"demo-{number:04}" for number in range(1, max(options.users, 1) + 1)]
    arrived = 0
    while not stop.wait(1 / options.rate):
        now = time.time_ns()
        dice = rng.random()
        if waiting and waiting[0].at <= now:
            sender.step(heapq.heappop(waiting))
        elif dice < 0.1:
            arrived += 1
            # Not demo-0201: a journey begins once, and a later run of the demo is another day.
            user = f"demo-{began // MINUTE % 100_000:05}-{arrived:04}"
            active.append(user)
            story = rng.choices(("ordinary", "quick", "stuck"), (50, 20, 30))[0]
            for step in travel(user, story, rng, now):
                heapq.heappush(waiting, step)
        elif dice < 0.7:
            sender.step(Step(now, rng.choice(active), rng.choice(ACTIVITY), "", ()))
        else:
            sender.line(rng.choice(LINES))


def what_to_try(users: int, api: str) -> list[str]:
    """Lines that tell which users to ask about. `api`: the URL of the API without a slash at its end."""
    known = [(f"ttf/demo-{number:04}", story) for number, (story, _) in KNOWN.items() if number <= users]
    questions = [*known, ("ttf", "everybody"), ("stuck", "who is stuck right now")]
    return [f"curl {api}/api/v1/{path:<14} # {answer}" for path, answer in questions]


def _shown(key: str | None) -> dict[str, str]:
    """How the SDK is told of an API key."""
    return {"OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={quote(key.strip())}"} if key else {}


class Background:
    """The demo in a process of its own, so that its work isn't the server's. It ends with the server."""

    def __init__(self, options: DemoOptions) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter, numbers, and an endpoint of ours
            [
                *(sys.executable, "-m", "otel_ttf", "demo", "--with-parent"),
                *("--users", str(options.users), "--rate", str(options.rate)),
                *("--seed", str(options.seed), "--endpoint", options.endpoint),
            ],
            env=os.environ | _shown(os.environ.get(VARIABLE)),
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=subprocess.DEVNULL,
        )

    def stop(self, seconds: float = 2.0) -> None:
        """Asks it to end, and ends it after so many seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def drive(options: DemoOptions, wait: float, *, with_parent: bool) -> bool:
    """The demo as a command: False if no server answers. Ends on Ctrl-C, SIGTERM, or when `run` ends.

    wait         seconds until no server is there
    with_parent  standard input is a pipe from the server: when it closes, the server has ended
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    if not reachable(options.endpoint, wait):
        return False
    if with_parent:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
        run(options, stop)
        return True
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("users", total=options.users)

        def on_user() -> None:
            progress.advance(task)
            if progress.finished and options.rate > 0:
                progress.stop()
                console.print(f"Now live, {options.rate:g} events a second; Ctrl-C stops. Try:")
                tries = "\n".join(what_to_try(options.users, "http://127.0.0.1:8080"))
                console.print(tries, highlight=False, soft_wrap=True)

        run(options, stop, on_user=on_user)
    return True


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()
