from __future__ import annotations

import enum
import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_ttf.client.ending import EndingExporter
from otel_ttf.client.event import MAX_TEXT, MAX_VALUES, Event, Trace, Wrong, now, taken
from otel_ttf.client.export import SdkExporter
from otel_ttf.client.options import Options

ID = uuid.UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


class Plan(enum.StrEnum):
    PRO = "pro"


class Place(enum.Enum):
    FIRST = 1


def left_out(properties: Any) -> tuple[str, ...]:
    return taken("signup", "milestone", "ada", properties).left_out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("", "t", "u", None), "event_name: expected a string that is not empty, found an empty one"),
        ((None, "t", "u", None), "event_name: expected a string that is not empty, found NoneType"),
        ((7, "t", "u", None), "event_name: expected a string that is not empty, found int"),
        (("x" * 1025, "t", "u", None), "event_name: expected at most 1024 characters"),
        (("n", b"t", "u", None), "event_type: expected a string that is not empty, found bytes"),
        (("n", "t", True, None), "user_id: expected a string, an integer or a UUID, found bool"),
        (("n", "t", 1.5, None), "user_id: expected a string, an integer or a UUID, found float"),
        (("n", "t", "u" * 513, None), "user_id: expected at most 512 bytes"),
        (("n", "t", "ü" * 257, None), "user_id: expected at most 512 bytes"),
        (("n", "t", "u", ["a"]), "properties: expected a mapping, found list"),
        (("n", "t", "u", None, 5), "timestamp: expected a datetime with a time zone, found int"),
        (
            ("n", "t", "u", None, datetime(2026, 1, 1)),
            "timestamp: expected a datetime with a time zone, found datetime",
        ),
    ],
)
def test_a_wrong_argument_is_named_and_never_shown(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(Wrong) as raised:
        taken(*arguments)
    assert str(raised.value) == reason


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (0.5, 0.5),
        ("text", "text"),
        (b"bytes", b"bytes"),
        ([1, ("a", None)], [1, ["a", None]]),
        pytest.param({"b", "a"}, ["a", "b"], id="a set"),
        (MappingProxyType({1: {"x": []}}), {"1": {"x": []}}),
        (Plan.PRO, "pro"),
        (Place.FIRST, 1),
        (ID, str(ID)),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (numpy.int64(7), 7),
        (numpy.float32(0.5), 0.5),
    ],
    ids=lambda one: type(one).__name__,  # the same in each worker
)
def test_values_become_plain_ones(value: object, copy: object) -> None:
    event = taken("n", "t", "u", {"p": value})
    assert (event.attributes["p"], type(event.attributes["p"])) == (copy, type(copy))
    assert event.left_out == ()


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"p": 2**63}, "expected an integer of at most 64 bits"),
        ({"p": math.nan}, "expected a finite number"),
        ({"p": object()}, "expected text, a number, a boolean, a list or a mapping, found object"),
        ({"user.id": "other"}, "the name user.id is reserved; send it as user_id"),
        ({"event.type": "other"}, "the name event.type is reserved; send it as event_type"),
        ({"ttf.x": 1}, "names that begin with ttf. are reserved"),
        ({"": 1}, "expected names that are strings and not empty"),
        ({3: 1}, "expected names that are strings and not empty"),
        ({"p": "x" * (MAX_TEXT + 1)}, f"expected at most {MAX_TEXT} characters in the texts of an event"),
        ({"p": [0] * MAX_VALUES}, f"expected at most {MAX_VALUES} values in an event"),
    ],
)
def test_a_property_that_cannot_be_sent_is_left_out_alone(properties: dict[Any, Any], reason: str) -> None:
    event = taken("n", "t", "u", {"before": 1, **properties})
    assert event.left_out == (reason,)
    assert event.attributes == {"event.type": "t", "user.id": "u", "before": 1}


def test_lists_in_each_other_are_followed_so_deep_and_no_deeper() -> None:
    value: list[Any] = []
    for _ in range(31):
        value = [value]
    assert left_out({"p": value}) == ()
    assert left_out({"p": [value]}) == ("expected at most 32 levels",)
    value.append(value)
    assert len(left_out({"p": value})) == 1


def test_what_the_caller_changes_later_changes_nothing() -> None:
    properties: dict[str, Any] = {"list": [1], "map": {"a": [2]}}
    event = taken("n", "t", "u", properties)
    properties["list"].append(3)
    properties["map"]["a"].append(4)
    assert event.attributes["list"] == [1]
    assert event.attributes["map"] == {"a": [2]}


def test_no_two_events_have_the_same_time() -> None:
    times = [now() for _ in range(900)]
    assert len(set(times)) == len(times)


def test_a_time_that_is_given_is_taken_to_the_microsecond() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert taken("n", "t", "u", None, at).at == 1_767_323_045_678_901_000


texts = st.text(st.characters(codec=None), max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
events = st.builds(
    Event,
    at=st.integers(0, 2**63),
    name=texts.filter(bool),
    attributes=st.dictionaries(texts.filter(bool), values, max_size=4),
    trace=st.none()
    | st.builds(Trace, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.sampled_from([0, 1])),
    size=st.just(0),
    left_out=st.just(()),
)
OPTIONS = Options(
    url="http://127.0.0.1:9",
    key=None,
    service_name="shop",
    max_queue=1,
    max_queue_bytes=1,
    flush_interval=0,
    timeout=1,
    exit_timeout=0,
    ca_file=None,
    certificate=None,
    enabled=True,
)
WITH_SDK, WITHOUT = SdkExporter(OPTIONS), EndingExporter(OPTIONS)


@given(st.lists(events, min_size=1, max_size=3))
def test_records_without_the_sdk_are_those_with_it(batch: list[Event]) -> None:
    request = encode_logs([WITH_SDK._record(event) for event in batch])
    for record in request.resource_logs[0].scope_logs[0].log_records:
        record.ClearField("body")  # it writes an empty one
    ours = ExportLogsServiceRequest.FromString(WITHOUT.encoded(batch))
    assert ours.resource_logs[0].scope_logs == request.resource_logs[0].scope_logs
    told = {pair.key: pair.value.string_value for pair in request.resource_logs[0].resource.attributes}
    assert {pair.key: pair.value.string_value for pair in ours.resource_logs[0].resource.attributes} == {
        key: value for key, value in told.items() if key == "service.name"
    }
