"""The made-up users: the same for the same seed, and sent as an application would."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from otel_ttf import demo
from otel_ttf.demo import DemoOptions
from otel_ttf.journey.definition import default_onboarding
from otel_ttf.units import HOUR

NOW = 1_790_000_000 * 10**9


class Collector(logs_service_pb2_grpc.LogsServiceServicer, trace_service_pb2_grpc.TraceServiceServicer):
    """Takes OTLP/gRPC: `records` of logs, `spans` of traces."""

    def __init__(self) -> None:
        self.records, self.spans = [], []

    def Export(self, request, context):  # noqa: N802  the protocol's name
        if isinstance(request, logs_service_pb2.ExportLogsServiceRequest):
            scopes = [scope for resource in request.resource_logs for scope in resource.scope_logs]
            self.records += [record for scope in scopes for record in scope.log_records]
            return logs_service_pb2.ExportLogsServiceResponse()
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self.spans += [span for scope in scopes for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    """A collector that runs; `endpoint` is where."""
    server = grpc.server(ThreadPoolExecutor(4))
    taking = Collector()
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(taking, server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taking, server)
    taking.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield taking
    server.stop(None).wait()


def text(attributes, name):
    return next((each.value.string_value for each in attributes if each.key == name), None)


def test_the_same_seed_makes_the_same_users():
    def users(seed):
        return list(demo.population(DemoOptions(users=50, seed=seed), NOW))

    assert users(1) == users(1)
    assert users(1) != users(2)
    assert [steps[0].user for steps in users(1)][:2] == ["demo-0001", "demo-0002"]


def test_journeys_began_within_the_last_hours_and_every_kind_is_there():
    users = list(demo.population(DemoOptions(users=300), NOW))
    began = [min(step.at for step in steps) for steps in users]
    assert min(began) >= NOW - 9 * HOUR
    assert sum(at > NOW - HOUR for at in began) > 50
    reached = [len({step.name for step in steps if step.at <= NOW}) for steps in users]
    assert {1, 2, 3, 4, 5} <= set(reached)
    late = [steps for steps in users if steps[0].name != demo.SIGNUP[0]]
    assert late, "some signups come after what follows them"


def test_what_the_known_users_are_said_to_be_is_so():
    quick, stuck, slow, late, started = demo.population(DemoOptions(users=5), NOW)
    targets = [milestone.target for milestone in default_onboarding().milestones[1:]]
    first = {step.name: step.at for step in reversed(quick)}
    times = [first[name] for name in (demo.SIGNUP[0], *(name for name, _ in demo.STAGES))]
    assert all(
        after - before <= target for (before, after), target in zip(pairwise(times), targets, strict=True)
    )
    assert max(times) <= NOW
    assert {step.name for step in stuck} == {demo.SIGNUP[0], demo.STAGES[0][0]}
    assert max(step.at for step in slow) - slow[0].at > HOUR
    assert late[0].name == demo.STAGES[0][0]
    assert [step.name for step in started if step.at <= NOW] == [demo.SIGNUP[0]]


def test_every_milestone_of_the_default_journey_is_among_the_events():
    class Event:
        kind, span_kind, status, attributes, resource = "log", "", "", {}, {}

        def __init__(self, name):
            self.name = name

    sent = [demo.SIGNUP[0], *(name for name, _ in demo.STAGES)]
    milestones = default_onboarding().milestones
    assert [milestone.match(Event(name)) for milestone, name in zip(milestones, sent, strict=True)] == [
        True
    ] * 5


def test_users_arrive_as_log_events_and_as_span_events(collector):
    demo.run(DemoOptions(users=20, rate=0, endpoint=collector.endpoint), threading.Event())
    signups = [record for record in collector.records if record.event_name == "user_signed_up"]
    assert sorted({text(record.attributes, "user.id") for record in signups})[:2] == [
        "demo-0001",
        "demo-0002",
    ]
    assert all(text(record.attributes, "plan") in demo.PLANS for record in signups)
    span = next(span for span in collector.spans if span.name == "POST /projects")
    assert text(span.attributes, "user.id").startswith("demo-")
    assert [event.name for event in span.events] == ["project_created"]
    assert span.start_time_unix_nano <= span.events[0].time_unix_nano <= span.end_time_unix_nano


def test_live_traffic_follows_until_it_is_stopped(collector):
    stop = threading.Event()
    options = DemoOptions(users=3, rate=200, endpoint=collector.endpoint)
    thread = threading.Thread(target=demo.run, args=(options, stop))
    thread.start()
    stop.wait(1.5)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    lively = [
        record for record in collector.records if record.event_name in demo.ACTIVITY or not record.event_name
    ]
    assert len(lively) > 10


def test_a_server_that_is_not_there_is_not_reachable():
    assert not demo.reachable("127.0.0.1:1", 0.3)


def test_the_background_process_ends_when_its_parent_does(collector):
    command = [sys.executable, "-m", "otel_ttf", "demo", "--with-parent", "--endpoint", collector.endpoint]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pause = threading.Event()
    for _ in range(100):
        if collector.records:
            break
        pause.wait(0.1)
    output, _ = child.communicate(timeout=15)  # closes its standard input
    assert collector.records
    assert (child.returncode, output) == (0, b"")
