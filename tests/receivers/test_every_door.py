"""What is accepted with a flag, what is cut, and what is rejected is the same through every door."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from serving import RULES, SECOND, Serving, attributes, records

from otel_ttf.clock import SystemClock
from otel_ttf.log.base import Row
from otel_ttf.otlp.events import FLAG_NAMES, extract
from otel_ttf.otlp.json import as_json
from otel_ttf.otlp.mend import REPAIRED
from otel_ttf.otlp.values import plain
from otel_ttf.otlp.wire import delimited
from otel_ttf.receivers.otlp_grpc import SERVICES

BAD, WRONG, MENDED = b"BAD TEXT", b"BAD\xffTEXT", "BAD\ufffdTEXT"
CARD = "4111 1111 1111 1111"
DOORS = ("grpc", "protobuf", "json", "rest")
PROTOBUF, JSON = {"content-type": "application/x-protobuf"}, {"content-type": "application/json"}


@dataclass(frozen=True)
class Told:
    """accepted, rejected: how many; text: reasons and warnings."""

    accepted: int
    rejected: int
    text: str


def send(server: Serving, door: str, made: Sequence[LogRecord], deep: int = 0) -> Told:
    """deep: every record has an attribute of lists so deep in each other, too."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.extend(made)
    if door == "rest":
        body = json.dumps({"events": [event(record, deep) for record in made]}, ensure_ascii=False).encode()
        answer = requests.post(
            server.url("/api/v1/events"), body.replace(BAD, WRONG), headers=JSON, timeout=20
        ).json()
        told = [one["reason"] for one in answer["rejected"]] + answer.get("warnings", [])
        return Told(answer.get("accepted", 0), len(answer["rejected"]), " ".join(told))
    if door == "json":
        document = json.loads(as_json(request))
        if deep:
            for one in document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
                value: object = {"stringValue": "x"}
                for _ in range(deep):
                    value = {"arrayValue": {"values": [value]}}
                one["attributes"].append({"key": "deep", "value": value})
        body = json.dumps(document, ensure_ascii=False).encode()
    else:
        body = b"".join(
            delimited(1, delimited(2, delimited(2, record.SerializeToString() + deep_attribute(deep))))
            for record in made
        )
    body = body.replace(BAD, WRONG)
    response: Any
    if door == "grpc":
        with grpc.insecure_channel(server.grpc_target) as channel:
            raw = channel.unary_unary(f"/{SERVICES['logs']}/Export")(body, timeout=20)
        response = ExportLogsServiceResponse.FromString(raw)
    else:
        answer = requests.post(
            server.url("/v1/logs"), body, headers=JSON if door == "json" else PROTOBUF, timeout=20
        )
        assert answer.status_code == 200
        if door == "json":
            told = answer.json().get("partialSuccess", {})
            rejected = int(told.get("rejectedLogRecords", 0))
            return Told(len(made) - rejected, rejected, told.get("errorMessage", ""))
        response = ExportLogsServiceResponse.FromString(answer.content)
    partial = response.partial_success
    return Told(len(made) - partial.rejected_log_records, partial.rejected_log_records, partial.error_message)


def deep_attribute(levels: int) -> bytes:
    if not levels:
        return b""
    value = AnyValue(string_value="x").SerializeToString()
    for _ in range(levels):
        value = delimited(5, delimited(1, value))
    return delimited(6, delimited(1, b"deep") + delimited(2, value))


def event(record: LogRecord, deep: int) -> dict[str, Any]:
    """The record as a REST event."""
    properties = {pair.key: plain(pair.value) for pair in record.attributes if pair.key != "user.id"}
    if deep:
        value: Any = "x"
        for _ in range(deep):
            value = [value]
        properties["deep"] = value
    made: dict[str, Any] = {"event_name": record.event_name, "event_type": "x", "properties": properties}
    users = [pair.value.string_value for pair in record.attributes if pair.key == "user.id"]
    if users:
        made["user_id"] = users[0]
    if record.time_unix_nano:
        # What is below 1e17 would be another unit.
        made["timestamp"] = (
            record.time_unix_nano if record.time_unix_nano >= 10**17 else record.time_unix_nano / SECOND
        )
    return made


def signup(user: str | None = "ada", at: int | None = None) -> LogRecord:
    """A record; at: its time, by default now."""
    record = LogRecord(event_name="signup", time_unix_nano=SystemClock().now() if at is None else at)
    if user is not None:
        record.attributes.add(key="user.id").value.string_value = user
    return record


def spoilt(spoil: Callable[[LogRecord], None]) -> LogRecord:
    record = signup()
    spoil(record)
    return record


def many(record: LogRecord) -> None:
    for number in range(1100):
        record.attributes.add(key=f"k{number}").value.int_value = number


def crowded(record: LogRecord) -> None:
    values = record.attributes.add(key="list").value.array_value.values
    values.extend([AnyValue(int_value=1)] * 1100)


def long(record: LogRecord) -> None:
    text = "x" * ((256 << 10) - 3) + " " + CARD + " " + "y" * 1000
    record.attributes.add(key="text").value.string_value = text


def no_text(record: LogRecord) -> None:
    record.attributes.add(key="text").value.string_value = BAD.decode()


def events(rows: list[Row]) -> list[Any]:
    return [one for row in rows for one in extract("logs", row.payload, row.ids, row.arrival, RULES).events]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("spoil", "what", "warning"),
    [
        pytest.param(many, "attributes", "attributes beyond 1024 in a list: ", id="1,100 attributes"),
        pytest.param(crowded, "elements", "elements beyond 1024 of a list or map: 76", id="1,100 elements"),
        pytest.param(long, "values", "values of more than 256KiB: 1, cut", id="a long text"),
        pytest.param(no_text, "utf8", "texts that are no UTF-8: 1, mended", id="no UTF-8"),
    ],
)
def test_what_is_too_much_or_no_text(
    server: Serving, door: str, spoil: Callable[[LogRecord], None], what: str, warning: str
) -> None:
    before = server.count("otel_ttf_mended_total", what=what)
    with server.stored() as rows:
        told = send(server, door, [signup(), spoilt(spoil), signup()])
    assert (told.accepted, told.rejected) == (3, 0)
    assert warning in told.text
    assert server.count("otel_ttf_mended_total", what=what) > before
    assert [one.subject is not None for one in events(rows)] == [True] * 3
    first, second, third = records(rows)
    assert len(first.attributes) == len(third.attributes) < 3
    kept = attributes(second)
    match what:
        case "attributes":
            assert len(second.attributes) == 1024
            assert second.dropped_attributes_count == 1100 + len(first.attributes) - 1024
        case "elements":
            assert len(second.attributes[-1].value.array_value.values) == 1024
        case "values":
            assert set(kept["text"]) == {"x", " "}
            assert len(kept["text"]) < 256 << 10
        case "utf8":
            assert kept["text"] == MENDED
            assert kept[REPAIRED] is True


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("levels", [31, 32, 45, 60, 150])
def test_values_nested_too_deeply(server: Serving, door: str, levels: int) -> None:
    before = server.count("otel_ttf_mended_total", what="nesting")
    with server.stored() as rows:
        told = send(server, door, [signup()], deep=levels)
    assert (told.accepted, told.rejected) == (1, 0)
    (row,) = rows
    if levels < 32:
        assert told.text == ""
        assert b"<too deep>" not in row.payload
    else:
        assert "values nested more than 32 deep: 1, cut" in told.text
        assert row.payload.count(b"<too deep>") == 1
        assert server.count("otel_ttf_mended_total", what="nesting") == before + 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("user", "at", "flags"),
    [
        pytest.param("ada", None, [], id="nothing wrong"),
        pytest.param(None, None, ["no_subject"], id="no user"),
        pytest.param("", None, ["no_subject"], id="an empty user"),
        pytest.param("  ", None, ["no_subject"], id="a user of blanks"),
        pytest.param("ada", 0, ["time_missing"], id="no time"),
        pytest.param("ada", 86_400 * SECOND, ["time_implausible"], id="1970"),
        pytest.param("ada", 2**64 - 1, ["time_implausible"], id="beyond 2262"),
        pytest.param("ada", 4_000_000_000 * SECOND, ["time_ahead"], id="ahead"),
        pytest.param("ada", 1_500_000_000 * SECOND, ["too_old"], id="too old"),
    ],
)
def test_what_is_accepted_with_a_flag(
    server: Serving, door: str, user: str | None, at: int | None, flags: list[str]
) -> None:
    before = {name: server.count("otel_ttf_events_flagged_total", flag=name) for name in FLAG_NAMES.values()}
    with server.stored() as rows:
        told = send(server, door, [signup(user, at)])
    assert (told.accepted, told.rejected) == (1, 0)
    # OTLP senders are told of what was changed; flags are counted.
    assert (told.text != "") == (door == "rest" and flags not in ([], ["time_missing"]))
    for name, had in before.items():
        assert server.count("otel_ttf_events_flagged_total", flag=name) == had + (name in flags)
    (one,) = events(rows)
    assert [name for bit, name in FLAG_NAMES.items() if one.flags & bit] == flags
    if flags in (["time_missing"], ["time_implausible"], ["time_ahead"]):
        assert one.at == rows[0].arrival


@pytest.mark.parametrize("door", DOORS)
def test_a_user_id_that_is_too_long_is_rejected_alone(server: Serving, door: str) -> None:
    with server.stored() as rows:
        told = send(server, door, [signup(), signup("x" * 513), signup()])
    assert (told.accepted, told.rejected) == (2, 1)
    assert "user.id: expected at most 512 bytes, found 513" in told.text
    assert door == "rest" or "log_records[1]" in told.text
    assert len(records(rows)) == 2
