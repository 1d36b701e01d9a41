"""What is read of files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from written import AT, FORMATS, PACKINGS, file_of, json_lines, logs, messages, metrics, prefixed, spans

from otel_ttf.otlp.wire import SHAPES
from otel_ttf.replay.files import Columns, Piece, Unreadable, columns, pieces

NO_REQUEST = (
    "expected an OTLP request in JSON, an object with one of resourceLogs, resourceSpans, resourceMetrics; for CSV "
    "give --csv"
)
REQUESTS = [logs("ada", "ben"), spans("GET /", "POST /"), metrics(), logs("cleo"), logs("ünïcode")]


def read(path: Path, start: int = 0, wanted: Columns | None = None) -> tuple[list[Piece], str | None]:
    """The pieces, and why these were not all."""
    found: list[Piece] = []
    try:
        for piece in pieces(path, start, wanted):
            found.append(piece)
    except Unreadable as error:
        return found, str(error)
    return found, None


def requests_of(found: list[Piece]) -> list[Any]:
    return [SHAPES[piece.signal].request.FromString(piece.raw) for piece in found]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMATS)
def test_whatever_the_file_exporter_writes_is_read(tmp_path, form, packing):
    path = file_of(tmp_path, PACKINGS[packing](FORMATS[form](REQUESTS)))
    found, rest = read(path)
    assert rest is None
    assert requests_of(found) == REQUESTS
    assert [piece.signal for piece in found] == ["logs", "traces", "metrics", "logs", "logs"]
    assert [piece.records for piece in found] == [2, 2, 1, 1, 1]
    assert all(piece.error is None for piece in found)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMATS)
def test_it_goes_on_behind_any_piece(tmp_path, form, packing):
    path = file_of(tmp_path, PACKINGS[packing](FORMATS[form](REQUESTS)))
    found, _ = read(path)
    for number, piece in enumerate(found, 1):
        rest, why = read(path, piece.end)
        assert (rest, why) == (found[number:], None)


def test_a_broken_line_is_named_and_does_not_end_it(tmp_path):
    data = (
        json_lines([logs("ada")])
        + b'{"resourceLogs": [7]}\n\nsecret text\n{"a": 1}\n'
        + json_lines([logs("ben")])
    )
    found, rest = read(file_of(tmp_path, data))
    assert rest is None
    assert [(piece.where, piece.error) for piece in found if piece.error] == [
        ("line 2", "resourceLogs[0]: expected an object, found a number"),
        ("line 4", NO_REQUEST),
        ("line 5", NO_REQUEST),
    ]
    assert sum(piece.records for piece in found) == 2


def test_a_broken_message_is_named_and_does_not_end_it(tmp_path):
    broken = prefixed(b"\xff\xff\xff") + prefixed(zstandard.compress(b"x" * 50)[:10]) + prefixed(b"\x0a\x00")
    found, rest = read(file_of(tmp_path, messages([logs("ada")]) + broken + messages([logs("ben")])))
    assert rest is None
    assert [piece.error is None for piece in found] == [True, False, False, False, True]
    first = found[0].end
    assert [piece.where for piece in found[:3]] == ["offset 0", f"offset {first}", f"offset {first + 7}"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(json_lines([logs("ada")])[:-20], "line 1 has no end", id="a line"),
        pytest.param(messages([logs("ada")])[:-3], "the message at offset 0 has no end", id="a message"),
        pytest.param(messages([logs("ada")])[:2], "the message at offset 0 has no end", id="a length"),
        pytest.param(b"\x04\xff\xff\xffabc", "offset 0: expected a message of 1 to", id="a length of 80 MiB"),
        pytest.param(b"\0\0\0\0", "found a length of 0", id="a length of 0"),
        pytest.param(
            PACKINGS["gz"](json_lines(REQUESTS))[:-30], "cut short, in its compressed data", id="gzip"
        ),
        pytest.param(
            PACKINGS["zst"](json_lines(REQUESTS))[:-30], "cut short, in its compressed data", id="zstd"
        ),
        pytest.param(
            PACKINGS["zst"](json_lines(REQUESTS)) + b"\x28\xb5\x2f", "cut short", id="another frame of zstd"
        ),
    ],
)
def test_an_end_in_the_middle_is_said_and_no_piece(tmp_path, data, why):
    found, rest = read(file_of(tmp_path, data))
    assert rest is not None
    assert why in rest
    assert all(piece.error is None for piece in found)


def test_a_last_line_without_its_end_counts_when_it_is_whole(tmp_path):
    found, rest = read(file_of(tmp_path, json_lines([logs("ada")])[:-1]))
    assert (len(found), rest) == (1, None)


def test_a_file_that_became_shorter_is_said(tmp_path):
    _, rest = read(file_of(tmp_path, json_lines([logs("ada")])), 10_000)
    assert rest == "it is shorter than it was"


def test_an_empty_file_holds_nothing(tmp_path):
    assert read(file_of(tmp_path, b"")) == ([], None)


def test_a_line_beyond_all_measure_is_passed_over_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("otel_ttf.replay.files.MOST", 1 << 20)
    path = file_of(tmp_path, b"x" * (40 << 20) + b"\n" + json_lines([logs("ada")]))
    tracemalloc.start()
    found, rest = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [piece.error is None for piece in found] == [False, True]
    assert rest is None
    assert found[1].end == path.stat().st_size
    assert peak < 16 << 20


def test_a_bomb_in_zstd_is_refused(tmp_path):
    path = file_of(tmp_path, prefixed(zstandard.compress(bytes(80 << 20))) + messages([logs("ada")]))
    found, _ = read(path)
    assert [piece.error is None for piece in found] == [False, True]


CSV = 'id,when,what,plan\nada,1790000000,signup,pro\n"be\nn",2026-09-21T14:13:20Z,signup,\n'


def records(found: list[Piece]) -> list[Any]:
    return [
        record
        for piece in found
        for resource in ExportLogsServiceRequest.FromString(piece.raw).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_rows_become_events(tmp_path):
    wanted = columns("time=when,event=what,user=id,plan=plan")
    path = file_of(tmp_path, CSV.encode())
    found, rest = read(path, 0, wanted)
    assert rest is None
    assert [(record.event_name, record.time_unix_nano) for record in records(found)] == [("signup", AT)] * 2
    attributes = [
        {attribute.key: attribute.value.string_value for attribute in record.attributes}
        for record in records(found)
    ]
    assert attributes == [{"user.id": "ada", "plan": "pro"}, {"user.id": "be\nn"}]
    assert read(path, found[0].end, wanted)[0] == found[1:]


def test_rows_that_are_no_events_are_named(tmp_path):
    text = CSV + "cleo,yesterday,signup,\ndan,1790000000,,\nshort\n\neve,1790000000,signup,\n"
    found, rest = read(file_of(tmp_path, text.encode()), 0, columns("time=when,event=what,user=id"))
    assert rest is None
    assert [(piece.where, piece.error) for piece in found if piece.error] == [
        ("line 5", "timestamp: expected an RFC 3339 time with zone, such as 2024-05-01T12:00:00.5Z"),
        ("line 6", "expected an event's name, found an empty one"),
        ("line 7", "expected 4 columns, found 1"),
    ]
    assert len(records(found)) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("id,when\n", "columns what", id="a column is missing"),
        pytest.param('id,when,what\n"ada', "line 2: expected CSV, found a quote", id="an open quote"),
        pytest.param("", "line 1: expected a header", id="empty"),
    ],
)
def test_what_is_no_such_csv(tmp_path, text, why):
    _, rest = read(file_of(tmp_path, text.encode()), 0, columns("time=when,event=what"))
    assert rest is not None
    assert why in rest


@pytest.mark.parametrize(
    ("mapping", "name", "why"),
    [
        ("user=id", "x", "time=COLUMN"),
        ("time=t", "", "either event=COLUMN or --event"),
        ("time=t,event=e", "x", "either event=COLUMN or --event"),
        ("time", "x", "WHAT=COLUMN"),
        ("time=a,time=b", "x", "each WHAT once"),
    ],
)
def test_mappings_that_make_no_sense(mapping, name, why):
    with pytest.raises(ValueError, match=why):
        columns(mapping, name=name)


def test_all_events_may_have_one_name(tmp_path):
    text = "t;u\n1790000000000;ada\n1790000000.5;ben\n"
    wanted = columns("time=t,user=u", name="signup", delimiter=";")
    found, _ = read(file_of(tmp_path, text.encode()), 0, wanted)
    assert [record.time_unix_nano - AT for record in records(found)] == [0, 500_000_000]
    assert {record.event_name for record in records(found)} == {"signup"}


def test_events_without_a_time_have_the_same_one_each_time_they_are_read(tmp_path):
    def untimed(*users: str) -> ExportLogsServiceRequest:
        request = logs(*users)
        for record in request.resource_logs[0].scope_logs[0].log_records:
            record.ClearField("time_unix_nano")
            record.ClearField("observed_time_unix_nano")
        return request

    requests = [untimed("ada", "ada"), logs("ben"), untimed("ada")]
    traces = spans("GET /")
    traces.resource_spans[0].scope_spans[0].spans[0].events.add(name="signup")
    path = file_of(tmp_path, json_lines([*requests, traces]))
    found = list(pieces(path, 0, written=AT))
    first, second, third = (
        [record.observed_time_unix_nano for record in request.resource_logs[0].scope_logs[0].log_records]
        for request in requests_of(found)[:3]
    )
    # As many of them as there were, each with its own.
    assert (first, third) == ([AT, AT + 1], [AT + found[1].end])
    assert requests_of(found)[1] == requests[1]
    assert second == [requests[1].resource_logs[0].scope_logs[0].log_records[0].observed_time_unix_nano]
    (span,) = requests_of(found)[3].resource_spans[0].scope_spans[0].spans
    assert [event.time_unix_nano for event in span.events] == [span.end_time_unix_nano]
    # From the middle on, too.
    assert list(pieces(path, found[1].end, written=AT)) == found[2:]
