"""Joining requests changes nothing for anybody: neither what a sender is told nor what is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import NOW, request
from serving import RULES, real_pipeline

from otel_ttf.clock import ManualClock
from otel_ttf.log.base import Entry
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import extract
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal, decode
from otel_ttf.receivers.limits import MAX_OUTER
from otel_ttf.receivers.prepare import Preparation, Prepared, Receipt, Request

quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

SWALLOW = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x0a", id="a resource's tag alone"),
    pytest.param(b"\x0a\x80", id="half a length"),
    pytest.param(b"\x0a%b", id="a resource as long as what follows"),
    pytest.param(b"\x7a%b", id="an unknown field as long as what follows"),
    pytest.param(b"\x7b", id="a group that begins"),
    pytest.param(b"\x7c", id="a group that ends"),
    pytest.param(b"\x80", id="half a tag"),
    pytest.param(b"\x78", id="a number without its value"),
    pytest.param(b"\x79\x01\x02", id="half a fixed number"),
    pytest.param(b"\x00\x00", id="field zero"),
]


@cache
def preparation() -> Preparation:
    # Statements about consent that cannot be read are warnings, which make each request go alone.
    return Preparation(real_pipeline(consent=False), RULES, ManualClock(NOW))


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def outcomes(signal: Signal, raws: list[bytes], *, trusted: bool = False) -> tuple[list[Any], list[Entry]]:
    """What each sender is told, and what goes into the log."""
    parts = preparation()(signal, [Request(raw) for raw in raws], trusted)
    told: list[Any] = [None] * len(raws)
    entries = []
    for part, numbers in parts:
        if isinstance(part, Prepared):
            for number, receipt in zip(numbers, part.receipts, strict=True):
                told[number] = receipt
            entries += [(numbers[0], part.entry)] if part.entry else []
        else:
            (number,) = numbers
            told[number] = type(part), str(part)
    return told, [entry for _, entry in sorted(entries, key=lambda one: one[0])]


def alone(signal: Signal, raws: list[bytes], *, trusted: bool = False) -> tuple[list[Any], list[Entry]]:
    each = [outcomes(signal, [raw], trusted=trusted) for raw in raws]
    return [one for told, _ in each for one in told], [entry for _, entries in each for entry in entries]


def records(signal: Signal, entries: list[Entry]) -> list[tuple[Any, ...]]:
    """Each record with all that is around it, without fields that nobody knows.

    Metrics without data points count for nothing: alone in a request, they are not even kept.
    """
    shape = SHAPES[signal]
    found = []
    for entry in entries:
        message = decode(signal, entry.payload)
        message.DiscardUnknownFields()
        for resource in getattr(message, shape.resources):
            for scope in getattr(resource, shape.scopes):
                around = resource.resource, resource.schema_url, scope.scope, scope.schema_url
                found += [
                    (*around, record)
                    for record in getattr(scope, shape.records)
                    if signal != "metrics" or counts(record)
                ]
    return found


def counts(metric: Any) -> bool:
    kind = metric.WhichOneof("data")
    return kind is not None and len(getattr(metric, kind).data_points) > 0


def events(entries: list[Entry]) -> list[tuple[object, ...]]:
    found = []
    for entry in entries:
        extracted = extract(entry.signal, entry.payload, entry.ids, entry.arrival, RULES)
        assert [e.facts() for e in extracted.events] == [e.facts() for e in entry.view.events]  # type: ignore[attr-defined]
        for event in extracted.events:
            id_ = event.id if event.id is None or any(event.id[:6]) else "random"
            found.append((id_, *event.facts()[1:-2], dict(event.attributes), dict(event.resource)))
    return found


def assert_alike(signal: Signal, raws: list[bytes], *, trusted: bool = False) -> None:
    told, entries = outcomes(signal, raws, trusted=trusted)
    told_alone, entries_alone = alone(signal, raws, trusted=trusted)
    assert told == told_alone
    # Those that can be joined come before those that cannot: among requests of one moment there is no order.
    assert sorted(map(repr, records(signal, entries))) == sorted(map(repr, records(signal, entries_alone)))
    assert sum(entry.records for entry in entries) == sum(entry.records for entry in entries_alone)
    assert sorted(map(repr, events(entries))) == sorted(map(repr, events(entries_alone)))


@st.composite
def groups(draw: st.DrawFn) -> tuple[Signal, list[bytes]]:
    """A signal and some requests, of which some are damaged, cut, or nothing at all."""
    signal = draw(st.sampled_from(SIGNALS))
    raws = []
    for _ in range(draw(st.integers(2, 5))):
        raw = request(signal, random.Random(draw(st.integers(0, 2**32))), odd=draw(st.booleans()))
        match draw(st.sampled_from(["sound", "sound", "sound", "cut", "flipped", "longer", "noise"])):
            case "cut":
                raw = raw[: draw(st.integers(0, len(raw)))]
            case "flipped" if raw:
                at = draw(st.integers(0, len(raw) - 1))
                raw = raw[:at] + bytes([raw[at] ^ draw(st.integers(1, 255))]) + raw[at + 1 :]
            case "longer":
                raw += draw(st.binary(max_size=8))
            case "noise":
                raw = draw(st.binary(max_size=40))
        raws.append(raw)
    return signal, raws


@quickly
@given(groups(), st.booleans())
def test_together_is_one_by_one(made, trusted):
    signal, raws = made
    assert_alike(signal, raws, trusted=trusted)


@pytest.mark.parametrize("signal", SIGNALS)
def test_halves_of_a_request_never_become_a_whole(signal):
    whole = request(signal, random.Random(7), odd=False)
    other = request(signal, random.Random(8), odd=False)
    for at in range(1, len(whole), max(1, len(whole) // 300)):
        assert_alike(signal, [whole[:at], whole[at:]])
        assert_alike(signal, [whole[:at], other, whole[at:]])


@pytest.mark.parametrize("end", SWALLOW)
@pytest.mark.parametrize("signal", SIGNALS)
def test_an_open_end_swallows_nobody(signal, end):
    sound = request(signal, random.Random(7), odd=False)
    following = request(signal, random.Random(8), odd=False)
    open_end = end % varint(len(following)) if b"%b" in end else end
    assert_alike(signal, [sound + open_end, following])
    assert_alike(signal, [open_end, following, sound])
    assert_alike(signal, [b"\x7b", following, b"\x7c"])


@pytest.mark.parametrize("signal", SIGNALS)
def test_sound_requests_are_one_entry(signal):
    raws = [request(signal, random.Random(seed), odd=False) for seed in range(40)]
    raws = [raw for raw in raws if alone(signal, [raw])[0][0].refused == 0]
    assert len(raws) > 5
    told, entries = outcomes(signal, raws)
    assert len(entries) == 1
    assert entries[0].records == sum(receipt.accepted for receipt in told)
    assert_alike(signal, raws)


def test_ids_of_rest_events_stay_with_their_records():
    raws = [request("logs", random.Random(seed), odd=False) for seed in range(6)]
    asked = [Request(raw, {0: f"event-{place}"}) for place, raw in enumerate(raws)]
    ((joined, numbers),) = preparation()("logs", asked, False)
    assert isinstance(joined, Prepared)
    assert joined.entry is not None
    assert list(numbers) == list(range(len(asked)))
    each = [preparation()("logs", [one], False)[0][0] for one in asked]
    assert events([joined.entry]) == events([one.entry for one in each])  # type: ignore[union-attr,misc]


def test_an_error_of_ours_is_told_to_the_one_who_meets_it():
    process = real_pipeline()

    def poisoned(batch: Batch) -> Batch:
        if b"poison" in batch.raw:
            raise KeyError
        return process(batch)

    message = SHAPES["logs"].request()
    message.resource_logs.add().scope_logs.add().log_records.add(event_name="poison")
    sound = request("logs", random.Random(7), odd=False)
    (first, _), (second, _), (third, _) = Preparation(poisoned, RULES, ManualClock(NOW))(
        "logs", [Request(raw) for raw in (sound, message.SerializeToString(), sound)], False
    )
    assert isinstance(second, KeyError)
    assert isinstance(first, Prepared)
    assert isinstance(third, Prepared)


def test_limits_hold_for_what_is_joined():
    """Of two bytes decoding makes a kilobyte: many small requests are no way around the limit."""
    sizes = []
    process = real_pipeline()

    def noting(batch: Batch) -> Batch:
        sizes.append(len(batch.raw))
        return process(batch)

    most = b"\x0a\x00" * (MAX_OUTER - 1)
    parts = Preparation(noting, RULES, ManualClock(NOW))("logs", [Request(most)] * 3, False)
    assert [part.receipts for part, _ in parts if isinstance(part, Prepared)] == [[Receipt(0)]] * 3
    assert max(sizes) == len(most)


def bad_text(raw: bytes) -> bytes:
    """The request with a record behind it that has a text that is no UTF-8."""
    record = SHAPES["logs"].record(event_name="signup", severity_text="BAD").SerializeToString()
    shallow = SHAPES["logs"].shallow.FromString(raw)
    shallow.resources.add().scopes.add().records.append(record.replace(b"BAD", b"B\xffD"))
    return bytes(shallow.SerializeToString())


def too_long_an_id(raw: bytes) -> bytes:
    message = SHAPES["logs"].request.FromString(raw)
    record = message.resource_logs.add().scope_logs.add().log_records.add(event_name="signup")
    record.attributes.add(key="user.id").value.string_value = "x" * 600
    return bytes(message.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "passes"),
    [
        pytest.param(bad_text, 2, id="a text that is no UTF-8: it goes alone"),
        pytest.param(lambda raw: raw[:-1], 1, id="no request: it goes nowhere"),
        pytest.param(too_long_an_id, 1, id="a record that is rejected: nobody notices"),
    ],
)
def test_one_that_is_spoilt_costs_its_neighbours_no_further_pass(spoil, passes):
    raws = [request("logs", random.Random(seed), odd=False) for seed in range(30)]
    raws = [raw for raw in raws if alone("logs", [raw])[0][0].refused == 0][:8]
    raws[3] = spoil(raws[3])
    process = real_pipeline(consent=False)
    passed: list[int] = []

    def counting(batch: Batch) -> Batch:
        passed.append(len(batch))
        return process(batch)

    parts = Preparation(counting, RULES, ManualClock(NOW))("logs", [Request(raw) for raw in raws], False)
    assert sorted(number for _, numbers in parts for number in numbers) == list(range(8))
    assert len(passed) == passes
    assert_alike("logs", raws)


def test_what_cannot_be_extracted_is_taken_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is masked: the tracker looks for the bad record among the good ones, and senders need not come again."""
    raws = [request("logs", random.Random(n), odd=False) for n in range(3)]
    told, entries = alone("logs", raws)

    def defect(batch: Batch, rules: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(Batch, "extract", defect)
    assert alone("logs", raws)[0] == [replace(receipt, flagged=[]) for receipt in told]
    unread = alone("logs", raws)[1]
    # What has no time has a random id.
    assert [(one.payload, len(one.ids), one.view) for one in unread] == [
        (one.payload, len(one.ids), None) for one in entries
    ]
