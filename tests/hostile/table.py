"""Hostile inputs, one row each: what is sent through which door, what is answered, and what it may do.

A row's number is that of its kind; more kinds come behind. Of all of them test_table.py holds that the process lives,
that memory stays bounded, that the next valid request through each door is answered, and that nothing of what was
sent stands in our own log. The further rows stand in transport.py, decoding.py and meaning.py.
"""

from __future__ import annotations

import gzip
import struct

import grpc
from attacks import message
from bombs import gzip_bomb, zstd_bomb
from decoding import DECODING
from doors import CANARY, CLOSED, Attack, Call, Frames, Http, Raw, record
from meaning import MEANING
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from row import Row
from transport import BODIES, TRANSPORT, head

LIMIT = 64  # MiB of a body, inflated or not
BOMB = 2 * LIMIT  # what was inflated may be there twice for a moment


def packed(encoding: str, content: bytes) -> Http:
    return Http(content, {"content-encoding": encoding})


def _deflate_bomb() -> bytes:
    return gzip_bomb(512)[10:]  # without gzip's header


ROWS: list[Row] = []
# What the server waits for. They all come at once, so that it takes no longer than the longest.
WAITING: list[Row] = []
for _door in ("http", "rest"):
    _good = gzip.compress(BODIES[_door])
    _chunk = b"10000\r\n" + CANARY.encode().ljust(0x10000, b" ") + b"\r\n"
    WAITING += [
        Row(7, "headers of a byte a second", _door, Raw(head(_door)[:30], b"x", 1), 408),
        Row(7, "a body in small parts", _door, Raw(head(_door, b"content-length: 1000"), b"x", 0.5), 408),
        Row(7, "half a body", _door, Raw(head(_door, b"content-length: 1000") + b"half"), 408),
    ]
    ROWS += [
        Row(
            1,
            "a gibibyte in a gzip bomb",
            _door,
            Http(lambda: gzip_bomb(1024), {"content-encoding": "gzip"}),
            413,
            mib=BOMB,
        ),
        Row(1, "a deflate bomb", _door, Http(_deflate_bomb, {"content-encoding": "deflate"}), 413, mib=BOMB),
        Row(
            2, "a zstd bomb", _door, Http(lambda: zstd_bomb(512), {"content-encoding": "zstd"}), 413, mib=BOMB
        ),
        Row(
            2,
            "a zstd window of 128 MiB",
            _door,
            packed("zstd", bytes.fromhex("28b52ffd00880100") + CANARY.encode()),
            413,
        ),
        Row(3, "packed twice", _door, packed("gzip, gzip", gzip.compress(_good)), 415),
        Row(4, "an unknown encoding", _door, packed("br", _good), 415),
        Row(5, "gzip cut short", _door, packed("gzip", _good[:-9]), 400),
        Row(5, "gzip with a wrong checksum", _door, packed("gzip", _good[:-8] + bytes(4) + _good[-4:]), 400),
        Row(5, "rubbish behind gzip", _door, packed("gzip", _good + CANARY.encode()), 400),
        Row(5, "no gzip at all", _door, packed("gzip", CANARY.encode()), 400),
        Row(
            8,
            "two lengths",
            _door,
            Raw(head(_door, b"content-length: 4", b"transfer-encoding: chunked") + b"0\r\n\r\n"),
            400,
        ),
        Row(
            8,
            "lines without a carriage return",
            _door,
            Raw(head(_door, b"content-length: 0").replace(b"\r", b"")),
            400,
        ),
        Row(
            8,
            "an endless extension of a chunk",
            _door,
            Raw(head(_door, b"transfer-encoding: chunked") + b"1;x=", b"y" * 5000),
            (400, 431),
        ),
        Row(8, "a blank before the colon", _door, Raw(head(_door, b"content-length : 0")), 400),
        Row(9, "a header of 100 kB", _door, Raw(head(_door, b"x: " + CANARY.encode() * 10_000)), 431),
        Row(9, "ten thousand headers", _door, Raw(head(_door, *(b"x%d: y" % n for n in range(10_000)))), 431),
        Row(
            10,
            "a body without an end",
            _door,
            Raw(head(_door, b"transfer-encoding: chunked"), _chunk),
            (413, CLOSED),
            mib=BOMB,
        ),
        Row(11, "another method", _door, Http(b"", {}, "PUT"), 405),
        Row(11, "another path", _door, Http(b"", {}, "POST", f"/v1/{CANARY}"), 404),
        Row(11, "another type", _door, Http(BODIES[_door], {"content-type": "text/plain"}), 415),
        Row(
            11,
            "another charset",
            _door,
            Http(b"{}", {"content-type": "application/json; charset=utf-16"}),
            415,
        ),
    ]
ROWS += [
    Row(
        1,
        "256 MiB in a gzip bomb",
        "grpc",
        Call(lambda: bytes(256 << 20), grpc.Compression.Gzip),
        "RESOURCE_EXHAUSTED",
        mib=BOMB,
    ),
    Row(
        4,
        "an unknown encoding",
        "grpc",
        Frames(message(record(), compressed=True), ((b"grpc-encoding", b"br"),)),
        ("UNIMPLEMENTED", "INTERNAL"),
    ),
    Row(
        5,
        "no gzip at all",
        "grpc",
        Frames(message(CANARY.encode(), compressed=True), ((b"grpc-encoding", b"gzip"),)),
        "INTERNAL",
    ),
    Row(11, "another method", "grpc", Call(record, method=f"/{CANARY}/Export"), "UNIMPLEMENTED"),
    Row(
        15,
        "metadata of 1 MB",
        "grpc",
        Call(record, metadata=(("x", CANARY * 100_000),)),
        ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"),
    ),
    Row(
        15, "rubbish behind the message", "grpc", Frames(message(record()) + CANARY.encode()), "OK", stored=1
    ),
    Row(15, "a message longer than the call", "grpc", Frames(message(record())[:-4]), "INVALID_ARGUMENT"),
    Row(
        15,
        "packed without an encoding",
        "grpc",
        Frames(message(gzip.compress(record()), compressed=True)),
        "INTERNAL",
    ),
    Row(15, "no protobuf", "grpc", Call(b"\x0a\x7f" + CANARY.encode()), "INVALID_ARGUMENT"),
    Row(
        15,
        "a length of 4 GiB",
        "grpc",
        Frames(b"\x00" + struct.pack(">I", 0xFFFFFFFF) + CANARY.encode()),
        "RESOURCE_EXHAUSTED",
    ),
]
ROWS += [
    Row(12, name, "grpc", Attack(name), CLOSED, mib=384)  # some 20 to 40 kB for each call that is on its way
    for name in ("rapid reset", "endless headers", "SETTINGS", "PING")
]
ROWS += [
    Row(7, "a crowd with slow headers", "http", Attack("slow headers"), CLOSED),
    Row(7, "a crowd with slow bodies", "http", Attack("slow bodies"), CLOSED),
    Row(7, "a crowd with half-closed connections", "http", Attack("half-closed"), CLOSED),
    Row(7, "gone before the answer", "rest", Attack("gone before the answer"), CLOSED),
    Row(13, "10,000 connections", "http", Attack("10,000 connections", 4), CLOSED, mib=64),
    Row(13, "10,000 HTTP/2 connections", "grpc", Attack("10,000 HTTP/2 connections", 8), CLOSED, mib=384),
    # Many: what they may take is twice `max_in_flight`, and what comes until that is seen.
    Row(12, "messages without an end", "grpc", Attack("messages without an end", 6), CLOSED, mib=840),
    # All 19,200 of them.
    Row(12, "calls that never end", "grpc", Attack("calls that never end", 4), CLOSED, mib=640),
]


def _resources() -> bytes:
    return b"\x0a\x00" * (1 << 20)


def _attributes() -> bytes:
    request = ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add()
    for number in range(100_000):
        log.attributes.add(key=f"{CANARY}{number}").value.int_value = number
    return request.SerializeToString()


def _levels() -> bytes:
    value = b"\x0a" + _sized(CANARY.encode())
    for _ in range(1000):
        value = b"\x2a" + _sized(b"\x0a" + _sized(value))  # a list with one item
    log = b"\x2a" + _sized(value)
    return b"\x0a" + _sized(b"\x12" + _sized(b"\x12" + _sized(log)))


def _attribute() -> bytes:
    request = ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add()
    log.attributes.add(key="x").value.string_value = f"{CANARY} " * (1 << 20)
    return request.SerializeToString()


def _sized(content: bytes) -> bytes:
    length, out = len(content), bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes([*out, length]) + content


# Small ones that become large, by what the server makes of them.
for _name, _make, _refused, _mib in (
    ("two megabytes of empty resources", _resources, True, 64),
    ("a record with 100,000 attributes", _attributes, False, 256),
    ("a value of 1,000 levels", _levels, False, 64),
    ("an attribute of 10 MB", _attribute, False, 160),
):
    ROWS += [
        Row(
            23, _name, "grpc", Call(_make), "INVALID_ARGUMENT" if _refused else "OK", int(not _refused), _mib
        ),
        Row(23, _name, "http", Http(_make), 400 if _refused else 200, int(not _refused), _mib),
    ]

ROWS += [*TRANSPORT, *DECODING, *MEANING]

# What is no request -> the tests that hold it.
ELSEWHERE = {
    6: (
        "hostile/test_strangers.py::test_whoever_has_no_good_key_comes_no_further",
        "end_to_end/test_access.py::test_a_body_is_not_read_for_who_may_not_send",
    ),
    14: (
        "end_to_end/test_tls.py::test_without_a_good_certificate_nobody_comes_in_where_one_is_asked_for",
        "end_to_end/test_tls.py::test_old_versions_are_not_spoken",
        "end_to_end/test_tls.py::test_rubbish_in_the_place_of_a_greeting_costs_nobody_anything",
        "end_to_end/test_tls.py::test_silent_connections_take_nobodys_place",
    ),
    41: (
        "hostile/test_strangers.py::test_whoever_has_no_good_key_comes_no_further",
        "hostile/test_strangers.py::test_how_long_a_refusal_takes_tells_nothing_of_the_key",
        "end_to_end/test_access.py::test_every_path_of_the_api_asks_who_it_is_but_for_those_that_tell_nothing",
        "end_to_end/test_access.py::test_every_path_of_otlp_asks_who_it_is_on_both_ports",
        "end_to_end/test_access.py::test_there_is_no_way_round",
        "access/test_gate.py::test_a_key_is_compared_as_often_whatever_it_is",
        "access/test_oidc.py::test_a_token_that_is_not_good",
    ),
    50: (
        "config/test_errors.py::test_every_error_of_a_file_is_said_at_its_line",
        "config/test_errors.py::test_what_is_no_configuration_is_said_so",
        "config/test_errors.py::test_a_small_file_that_would_become_a_large_tree_is_refused",
        "config/test_load.py::test_references_to_the_environment",
        "end_to_end/test_life.py::test_a_wrong_setting_is_exit_code_2",
    ),
    52: (
        "test_clock.py::test_a_step_is_not_believed_at_first",
        "test_clock.py::test_another_step_begins_the_wait_again",
        "tracker/test_clock_steps.py::test_an_hour_either_way_changes_nothing",
        "end_to_end/test_wall_clock.py::test_an_hour_forward_and_back_changes_no_state",
        "receivers/test_rest_events.py::test_timestamps",
    ),
    54: (
        "end_to_end/test_life.py::test_sigterm_under_load_ends_with_0_in_time_and_loses_nothing",
        "hostile/test_stopping.py::test_what_has_half_arrived_at_sigterm_is_not_answered_ok",
    ),
}
