"""Sampling: how much stays, who stays as a whole, and what no sampling touches."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, left, request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.journey.definition import Journey, Milestone, Segment
from otel_ttf.journey.match import parse
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig, extract
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import Pseudonyms, SubjectConfig
from otel_ttf.processors import pipeline, trace_state
from otel_ttf.processors.consent import ConsentConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.sample import SampleConfig, Share
from otel_ttf.units import SECOND

KEYS = Keys(event=b"e" * 32, subjects=(b"s" * 32,))
ROTATED = Keys(event=b"e" * 32, subjects=(b"n" * 32, b"s" * 32))
JOURNEY = Journey(
    "onboarding",
    (
        Milestone("signup", parse({"event": "signup"}), ""),
        Milestone("done", parse({"event": "done"}), "done"),
    ),
    segments=(Segment("plan"),),
)
USERS = [f"user-{number}" for number in range(4000)]


def pairs(given: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in given.items()]


def event(name: str, **more: Any) -> LogRecord:
    attributes = more.pop("attributes", {})
    return LogRecord(event_name=name, time_unix_nano=NOW, attributes=pairs(attributes), **more)


def whole(signal: Signal, *records: Any, resource: dict[str, str] | None = None) -> bytes:
    shape = SHAPES[signal]
    made = shape.request()
    by_resource = getattr(made, shape.resources).add()
    by_resource.resource.attributes.extend(pairs(resource or {}))
    getattr(getattr(by_resource, shape.scopes).add(), shape.records).extend(records)
    return bytes(made.SerializeToString())


def processor(config: Any, keys: Keys = KEYS) -> Any:
    return made(json.dumps(config), keys)


@cache
def made(config: str, keys: Keys) -> Any:
    configs = {
        "pseudonymise": PseudonymiseConfig(),
        "consent": ConsentConfig(),
        "mask": MaskConfig(),
        "sample": SampleConfig.model_validate_json(config),
    }
    return pipeline(configs, keys, SubjectConfig(), journeys=(JOURNEY,))


def run(config: Any, signal: Signal, raw: bytes, keys: Keys = KEYS, **options: Any) -> Batch:
    return processor(config, keys)(Batch(signal, raw, NOW, **options))


def bodies(batch: Batch) -> list[str]:
    return [record.body.string_value for record in left(batch)]


def within_bounds(kept: int, of: int, ratio: float) -> bool:
    """Six standard deviations of a binomial: once in 500 million; what is sampled here is always the same."""
    return abs(kept - of * ratio) <= 6 * math.sqrt(of * ratio * (1 - ratio))


def sent(users: list[str]) -> bytes:
    return whole(
        "logs",
        *(
            LogRecord(body=AnyValue(string_value=user), event_name=name, attributes=pairs({"user.id": user}))
            for user in users
            for name in ("signup", "viewed", "")
        ),
    )


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 0.9])
def test_the_share_of_users(ratio):
    batch = run({"by": "subject", "ratio": ratio}, "logs", sent(USERS))
    kept = Counter(bodies(batch))
    assert within_bounds(len(kept), len(USERS), ratio)
    assert set(kept.values()) == {3}, "in or out as a whole, milestones included"
    assert batch.counts["sampled_out", "subject"] == 3 * (len(USERS) - len(kept))
    assert (batch.kept, batch.rejected) == (3 * len(kept), {})


def users_in(config: Any, signal: Signal = "logs", keys: Keys = KEYS, **options: Any) -> set[str]:
    if signal == "logs":
        return set(bodies(run(config, signal, sent(USERS[:1000]), keys, **options)))
    spans = [Span(name=user, attributes=pairs({"user.id": f" {user} "})) for user in USERS[:1000]]
    return {span.name for span in left(run(config, signal, whole(signal, *spans), keys, **options))}


def test_it_is_the_same_users_everywhere_and_for_ever():
    config = {"by": "subject", "ratio": 0.3}
    some = users_in(config)
    assert users_in(config, "traces") == some
    assert users_in(config, keys=ROTATED) == some, "a rotated key moves nobody"
    assert users_in(config, plain=True) == some
    by_resource = {
        user
        for user in USERS[:100]
        if left(run(config, "logs", whole("logs", LogRecord(), resource={"user.id": user})))
    }
    assert by_resource == some.intersection(USERS[:100])
    assert users_in({"by": "subject", "ratio": 0.2}) < some < users_in({"by": "subject", "ratio": 0.4})
    other = Keys(event=b"o" * 32, subjects=KEYS.subjects)
    assert users_in(config, keys=other) != some, "nobody can tell without the key"


def test_what_names_nobody_stays_and_what_a_user_says_about_consent_counts():
    share = Share(KEYS, b"subject", 0.5)
    out = next(user for user in USERS if not share.holds(user.encode()))
    # Not the shared one: what is said of consent stays.
    process = made.__wrapped__('{"by": "subject", "ratio": 0.5}', KEYS)
    lines = [LogRecord(body=AnyValue(string_value="line")), event("viewed")]
    assert len(left(process(Batch("logs", whole("logs", *lines), NOW)))) == 2
    denied = event("ttf.consent", attributes={"user.id": out, "ttf.consent": "deny"})
    batch = process(Batch("logs", whole("logs", denied), NOW))
    assert batch.counts["consent", "deny"] == 1
    assert left(batch) == []


def test_events_of_a_span_may_be_others_than_its_own():
    share = Share(KEYS, b"subject", 0.5)
    by_side = {
        side: [user for user in USERS[:50] if share.holds(user.encode()) is side] for side in (True, False)
    }
    (inside, also), (outside, *_) = by_side[True][:2], by_side[False]

    def left(own: str, *of_events: str, resource: dict[str, str] | None = None) -> Any:
        span = Span(name="s", attributes=pairs({"user.id": own, "k": "v"}))
        for number, user in enumerate(of_events):
            attributes = pairs({"user.id": user} if user else {})
            span.events.add(name=f"e{number}", time_unix_nano=NOW, attributes=attributes)
        raw = whole("traces", span, resource=resource)
        batch = run({"by": "subject", "ratio": 0.5}, "traces", raw)
        rules = Rules(TimeConfig(), ("user.id",), wants_span=lambda _: True)
        told = batch.extract(rules).events
        row = extract("traces", batch.finish(), batch.ids, NOW, rules).events
        assert [one.facts() for one in told] == [one.facts() for one in row]
        token = Pseudonyms(KEYS).token
        names = {token(user): user for user in USERS[:50]}
        return [(one.name, names.get(one.subject or "")) for one in told]

    assert left(inside, "", also) == [("s", inside), ("e0", inside), ("e1", also)]
    assert left(inside, "", outside, also) == [("s", inside), ("e0", inside), ("e2", also)]
    assert left(outside, "", outside) == []
    assert left(outside, "", inside) == [("s", None), ("e1", inside)], "the span stays as nobody's"
    assert left(outside, "", inside, resource={"user.id": also}) == [], "it must not become the resource's"


MIXED = [
    *(LogRecord(body=AnyValue(string_value=f"line {n}"), trace_id=b"") for n in range(500)),
    *(event("viewed", body=AnyValue(string_value="viewed")) for _ in range(3)),
    event("signup", body=AnyValue(string_value="read")),
    event("viewed", body=AnyValue(string_value="read"), attributes={"plan": "pro"}),
]


@pytest.mark.parametrize(
    "config",
    [
        {"by": "event", "ratio": 1e-9},
        {"by": "event", "ratio": 1e-9, "head": "honour"},
        {"by": "rate", "per_second": 1, "burst": 1},
    ],
)
def test_what_journeys_read_is_never_touched(config):
    batch = run(config, "logs", whole("logs", *MIXED))
    assert bodies(batch)[-2:] == ["read", "read"]
    assert len(bodies(batch)) <= 3
    assert batch.counts["sampled_out", config["by"]] == batch.left_out >= 502
    span = Span(name="x", events=[Span.Event(name="signup")])
    spans = whole("traces", span, *(Span(name="y", trace_id=bytes([n] * 16)) for n in range(3)))
    assert "x" in [one.name for one in left(run(config, "traces", spans))]


@pytest.mark.parametrize("head", ["ignore", "honour"])
@pytest.mark.parametrize("ratio", [0.05, 0.5])
def test_the_share_of_traces_and_lines(ratio, head):
    rng = random.Random(7)
    config = {"by": "event", "ratio": ratio, "head": head}
    ids = [rng.randbytes(16) for _ in range(3000)]
    spans = [Span(name="a", trace_id=one, span_id=bytes([n] * 8)) for one in ids for n in (1, 2)]
    logs = [LogRecord(trace_id=one, flags=1, body=AnyValue(string_value="x")) for one in ids]
    traces = Counter(span.trace_id for span in left(run(config, "traces", whole("traces", *spans))))
    assert within_bounds(len(traces), len(ids), ratio)
    assert set(traces.values()) == {2}, "a trace as a whole"
    assert {one.trace_id for one in left(run(config, "logs", whole("logs", *logs)))} == set(traces)
    lines = [LogRecord(body=AnyValue(string_value=f"line {n}")) for n in range(3000)]
    assert within_bounds(len(left(run(config, "logs", whole("logs", *lines)))), 3000, ratio)


quickly = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@quickly
@given(
    st.lists(st.sampled_from([(user, name) for user in USERS[:20] for name in ("signup", "viewed", "")])),
    st.randoms(use_true_random=False),
    st.sampled_from([{"by": "subject", "ratio": 0.5}, {"by": "event", "ratio": 0.5}]),
)
def test_order_repetition_and_company_change_nothing(sent, rng, config):
    process = processor(config)

    def kept(some: list[tuple[str, str]]) -> set[str]:
        made = [
            event(name, body=AnyValue(string_value=f"{user} {name}"), attributes={"user.id": user})
            for user, name in some
        ]
        return set(bodies(process(Batch("logs", whole("logs", *made), NOW))))

    again = sent + sent
    rng.shuffle(again)
    assert kept(again) == kept(sent) == {text for one in sent for text in kept([one])}


@quickly
@given(st.sampled_from(SIGNALS), st.integers(0, 2**32), st.booleans())
def test_by_subject_fast_is_plain(signal, seed, honour):
    raw = request(signal, random.Random(seed), odd=seed % 2 == 0)
    process = processor({"by": "subject", "ratio": 0.5, "head": "honour" if honour else "ignore"})
    fast, plain = (process(Batch(signal, raw, NOW, plain=plain)) for plain in (False, True))
    told = [decode(signal, one.finish()) for one in (fast, plain)]
    for one in told:
        one.DiscardUnknownFields()
    assert told[0] == told[1]
    assert (fast.kept, fast.left_out, fast.counts) == (plain.kept, plain.left_out, plain.counts)


# Head sampling.


def test_log_records_of_traces_that_are_not_sampled_go():
    made = [
        LogRecord(body=AnyValue(string_value="out"), trace_id=b"t" * 16),
        LogRecord(body=AnyValue(string_value="in"), trace_id=b"t" * 16, flags=1),
        LogRecord(body=AnyValue(string_value="no trace")),
        event("signup", body=AnyValue(string_value="read"), trace_id=b"t" * 16),
    ]
    batch = run({"head": "honour"}, "logs", whole("logs", *made))
    assert bodies(batch) == ["in", "no trace", "read"]
    assert batch.counts["sampled_out", "head"] == 1
    assert len(left(run({"head": "ignore"}, "logs", whole("logs", *made)))) == 4


HALF = 1 << 55


@pytest.mark.parametrize(
    ("state", "told"),
    [
        pytest.param(b"", b"ot=th:8", id="nothing was told"),
        pytest.param(b"a=b", b"ot=th:8,a=b", id="something else was"),
        pytest.param(b"ot=th:4", b"ot=th:8", id="a larger share"),
        pytest.param(b"ot=th:c", b"ot=th:c", id="a smaller one"),
        pytest.param(b"ot=th:8", b"ot=th:8", id="the same"),
        pytest.param(
            b"x=y, ot=rv:ffffffffffffff;th:0,z=1", b"ot=rv:ffffffffffffff;th:8,x=y,z=1", id="amid others"
        ),
        pytest.param(b"ot=th:xyz", b"ot=th:8", id="what cannot be"),
        pytest.param(b"ot=th:" + b"0" * 15, b"ot=th:8", id="too many digits"),
        pytest.param(b"a=" + b"b" * 510, b"a=" + b"b" * 510, id="no room"),
    ],
)
def test_the_threshold_that_goes_on(state, told):
    assert trace_state.told(state, HALF) == told
    assert trace_state.told(told, HALF) == told


@pytest.mark.parametrize(
    ("state", "found"),
    [(b"ot=rv:00000000000007", 7), (b"ot=rv:7", 0x01010101010101), (b"", 0x01010101010101)],
)
def test_the_randomness_of_a_trace(state, found):
    assert trace_state.randomness(state, b"\x01" * 16) == found


def test_of_traces_that_their_sender_has_sampled_already_fewer_are_left_out():
    rng = random.Random(3)
    spans = []
    for _ in range(4000):
        trace = rng.randbytes(16)
        if trace_state.randomness(b"", trace) >= HALF:  # half of them, as the sender says
            spans.append(Span(name="a", trace_id=trace, trace_state="ot=th:8"))
    for ratio, stay in ((0.5, 1.0), (0.25, 0.5)):
        config = {"by": "event", "ratio": ratio, "head": "honour"}
        kept = left(run(config, "traces", whole("traces", *spans)))
        assert within_bounds(len(kept), len(spans), stay)
        assert {one.trace_state for one in kept} == {"ot=th:8" if ratio == 0.5 else "ot=th:c"}


# Rates.


def test_so_many_a_second_and_what_was_saved_before():
    process = made('{"by": "rate", "per_second": 100}', KEYS)
    lines = whole("logs", *(LogRecord(body=AnyValue(string_value=str(n))) for n in range(60)))
    got = [len(left(process(Batch("logs", lines, NOW + n * SECOND // 2)))) for n in range(8)]
    assert got == [60, 60, 60, 60, 60, 50, 50, 50]
