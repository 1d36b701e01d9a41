"""What the filter drops, spares and counts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.journey.definition import Journey, Milestone, Segment
from otel_ttf.journey.dispatch import Dispatch
from otel_ttf.journey.match import parse
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.conditions import Reads, seen
from otel_ttf.otlp.events import Rules, TimeConfig, extract
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.filter import FilterConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
JOURNEY = Journey(
    "onboarding",
    (
        Milestone("signup", parse({"event": "signup"}), ""),
        Milestone("done", parse({"span": {"name": "POST /done", "kind": "server"}}), "done"),
    ),
    only=parse({"not": {"attributes": {"env": "test"}}}),
    segments=(Segment("plan"),),
)


def pairs(**given: str) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in given.items()]


def whole(signal: Signal, *records: Any, service: str = "web") -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.extend(pairs(service=service))
    getattr(getattr(by_resource, shape.scopes).add(), shape.records).extend(records)
    return bytes(made.SerializeToString())


def run(config: Any, signal: Signal, raw: bytes, **options: Any) -> Batch:
    configs = {
        "pseudonymise": PseudonymiseConfig(),
        "mask": MaskConfig(),
        "filter": FilterConfig.model_validate(config),
    }
    told = {"journeys": (JOURNEY,), "lines": False}
    return pipeline(configs, KEYS, SubjectConfig(), **told)(Batch(signal, raw, NOW, **options))


def left(batch: Batch) -> list[str]:
    """Names of records and span events, of plain lines the body."""
    shape = SHAPES[batch.signal]
    found = []
    for by_resource in getattr(decode(batch.signal, batch.finish()), shape.resources):
        for by_scope in getattr(by_resource, shape.scopes):
            for record in getattr(by_scope, shape.records):
                found.append(getattr(record, "name", "") or record.event_name or record.body.string_value)
                found += [event.name for event in getattr(record, "events", ())]
    return found


def line(body: str, **attributes: str) -> LogRecord:
    return LogRecord(body=AnyValue(string_value=body), attributes=pairs(**attributes))


def event(name: str, **attributes: str) -> LogRecord:
    return LogRecord(event_name=name, attributes=pairs(**attributes))


def drop(condition: Any, **more: Any) -> dict[str, Any]:
    return {"name": "d", "drop": condition, **more}


RECORDS = [
    line("a", level="debug"),
    line("b"),
    event("signup", level="debug"),
    event("viewed", level="debug"),
    event("viewed", level="debug", plan="pro"),
    event("viewed", level="debug", plan="pro", env="test"),
]


@pytest.mark.parametrize(
    ("config", "names", "counts"),
    [
        pytest.param({}, ["a", "b", "signup", "viewed", "viewed", "viewed"], {}, id="no rule"),
        pytest.param(
            {"rules": [drop({"attributes": {"level": "debug"}})]},
            ["b", "signup", "viewed"],
            {("d", "dropped"): 3, ("d", "spared"): 2},
            id="what journeys read is spared: a milestone, and a segment of an event that `only` admits",
        ),
        pytest.param(
            {"rules": [drop({"attributes": {"level": "debug"}}, journeys_too=True)]},
            ["b"],
            {("d", "dropped"): 5},
            id="unless a rule says so",
        ),
        pytest.param(
            {"rules": [{"name": "k", "keep": {"event": "viewed"}}, drop({"attributes": {"level": "debug"}})]},
            ["b", "signup", "viewed", "viewed", "viewed"],
            {("d", "dropped"): 1, ("d", "spared"): 1},
            id="the first rule decides",
        ),
        pytest.param(
            {"rules": [{"name": "k", "keep": {"event": "viewed"}}], "otherwise": "drop"},
            ["signup", "viewed", "viewed", "viewed"],
            {("otherwise", "dropped"): 2, ("otherwise", "spared"): 1},
            id="everything else goes",
        ),
        pytest.param(
            {"rules": [drop({"resource": {"service": "web"}})]},
            ["signup", "viewed"],
            {("d", "dropped"): 4, ("d", "spared"): 2},
            id="by the resource",
        ),
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_log_records(config, names, counts, plain):
    batch = run(config, "logs", whole("logs", *RECORDS), plain=plain)
    assert left(batch) == names
    told = {key[1:]: count for key, count in batch.counts.items() if key[0] == "filtered"}
    assert told == counts
    assert (batch.kept, batch.left_out, batch.rejected) == (len(names), len(RECORDS) - len(names), {})


def test_spans_go_with_their_events_and_events_alone():
    def span(name: str, *events: str, **more: Any) -> Span:
        return Span(name=name, events=[Span.Event(name=one, time_unix_nano=NOW) for one in events], **more)

    spans = [
        span("GET /health", "a"),
        span("GET /health", "signup", "noise"),
        span("GET /", "noise", "viewed"),
        span("POST /done", kind=Span.SPAN_KIND_SERVER),
    ]
    rules = [
        {"name": "h", "drop": {"span": {"name": ["GET /health", "POST /done"]}}},
        drop({"event": "noise"}),
    ]
    batch = run({"rules": rules}, "traces", whole("traces", *spans))
    assert left(batch) == ["GET /health", "signup", "GET /", "viewed", "POST /done"]
    counts = {key[1:]: count for key, count in batch.counts.items() if key[0] == "filtered"}
    assert counts == {("h", "dropped"): 1, ("h", "spared"): 2, ("d", "dropped"): 2}
    rules_of_tracker = Rules(TimeConfig(), ("user.id",), wants_span=lambda name: True)
    told = batch.extract(rules_of_tracker).events
    row = extract("traces", batch.finish(), batch.ids, NOW, rules_of_tracker).events
    assert [one.facts() for one in told] == [one.facts() for one in row]
    kept = run({}, "traces", whole("traces", *spans)).extract(rules_of_tracker).events
    ids = {one.name: one.id for one in kept if one.kind == "span_event" and one.name != "noise"}
    assert {one.name: one.id for one in told if one.kind == "span_event"} == {
        name: ids[name] for name in ("signup", "viewed")
    }


def test_metrics_go_by_their_resource():
    metric = SHAPES["metrics"].record(name="m")
    metric.gauge.data_points.add()
    metric.gauge.data_points.add()
    raw = whole("metrics", metric)
    batch = run({"rules": [drop({"resource": {"service": "web"}})]}, "metrics", raw)
    assert (batch.kept, batch.left_out, left(batch)) == (0, 2, [])
    assert left(run({"rules": [drop({"attributes": {"x": {"exists": False}}})]}, "metrics", raw)) == []
    assert left(run({"rules": [drop({"not": {"resource": {"service": "web"}}})]}, "metrics", raw)) == ["m"]


# Against what the tracker makes of the same request.

quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
CONDITIONS = st.sampled_from(
    [
        {"event": {"glob": "*"}},
        {"span": {"kind": ["server", "client"]}},
        {"attributes": {"plan": {"exists": True}}},
        {"not": {"attributes": {"id": {"exists": True}}}},
        {"resource": {"plan": {"exists": False}}},
    ]
)
ODD = Journey(
    "odd",
    (
        Milestone("a", parse({"event": ["signup", "plain text", "user.id"]}), ""),
        Milestone("b", parse({"span": {"name": ["signup", "plain text"]}}), "b"),
    ),
    segments=(Segment("plan"), Segment("id")),
)


@quickly
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32), CONDITIONS, st.booleans())
def test_the_tracker_gets_all_that_it_would_read(signal, seed, condition, lines):
    raw = request(signal, random.Random(seed), odd=seed % 2 == 0)
    configs = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
    rules = Rules(TimeConfig(), SubjectConfig().from_, wants_span=Dispatch((ODD,)).wants_span, lines=lines)
    told = {"journeys": (ODD,), "lines": lines}

    def facts(batch: Batch) -> list[Any]:
        read = [
            one
            for one in batch.extract(rules).events
            if one.kind != "line" and (Dispatch((ODD,)).hits(one) or one.attributes.keys() & {"plan", "id"})
        ]
        return [one.facts()[1:] for one in read]

    everything = pipeline(configs, KEYS, SubjectConfig(), **told)(Batch(signal, raw, NOW))
    wanted = facts(everything)
    rule = FilterConfig.model_validate({"rules": [drop(condition)], "otherwise": "drop"})
    batch = pipeline({**configs, "filter": rule}, KEYS, SubjectConfig(), **told)(Batch(signal, raw, NOW))
    assert facts(batch) == wanted
    # And nothing but that, with the spans that it stands in.
    reads = Reads((ODD,), lines=lines)
    rest = Batch(signal, batch.finish(), NOW)
    assert all(reads(record) or any(map(reads, events)) for _, record, events in seen(rest))
