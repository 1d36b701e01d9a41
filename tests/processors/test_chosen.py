"""Which records of a masked request a condition chooses: what goes on is the request without the others."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_ttf.journey.match import parse
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.conditions import chosen, seen
from otel_ttf.otlp.events import Rules, TimeConfig, extract
from otel_ttf.otlp.wire import SHAPES, SIGNALS, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
CONFIGS = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
PROCESS = pipeline(CONFIGS, KEYS, SubjectConfig(), plain=True)
RULES = Rules(TimeConfig(), SubjectConfig().from_, wants_span=lambda _: True, lines=True)
CONDITIONS = st.sampled_from(
    [
        {"event": {"glob": "*"}},
        {"event": "signup"},
        {"span": {"kind": ["server", "client", "internal"]}},
        {"attributes": {"plan": {"exists": True}}},
        {"resource": {"plan": {"exists": False}}},
        {"any": [{"event": {"exists": True}}, {"not": {"event": {"exists": True}}}]},
    ]
)
quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@quickly
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32), CONDITIONS)
def test_what_a_condition_chooses_goes_as_it_is(signal, seed, condition):
    row = PROCESS(Batch(signal, request(signal, random.Random(seed), odd=False), NOW, plain=True))
    payload, ids = row.finish(), row.ids
    test = parse(condition).test
    whole = list(seen(Batch(signal, payload, NOW)))
    wanted = [test(record) or any(map(test, events)) for _, record, events in whole]
    got = chosen(signal, payload, ids, test)
    slices = Batch(signal, payload, NOW).slices
    assert Batch(signal, got[0], NOW).slices == [
        one for one, is_in in zip(slices, wanted, strict=True) if is_in
    ]
    if all(wanted):
        assert got[0] is payload
        assert got[2] == row.kept
    assert all(head.first < head.end for head in Batch(signal, got[0], NOW).heads) or all(wanted)

    # Each event keeps its id.
    def events(payload: bytes, ids: bytes) -> list[tuple[object, ...]]:
        return [one.facts() for one in extract(signal, payload, ids, NOW, RULES).events]

    everything = iter(events(payload, ids))
    assert all(one in everything for one in events(got[0], got[1])), "the same, in their order"


@pytest.mark.parametrize(("team", "left"), [("a", ["a"]), ("b", ["b"]), ("c", [])])
def test_the_resources_of_others_stay_here(team, left):
    made = SHAPES["logs"].request()
    for name in "ab":
        by_resource = made.resource_logs.add()
        pair = KeyValue(key="team", value=AnyValue(string_value=name))
        by_resource.resource.attributes.append(pair)
        by_resource.scope_logs.add().log_records.append(LogRecord(event_name=name))
    payload, _, records = chosen(
        "logs", made.SerializeToString(), b"", parse({"resource": {"team": team}}).test
    )
    assert [
        one.resource.attributes[0].value.string_value for one in decode("logs", payload).resource_logs
    ] == left
    assert records == len(left)
