"""Rows 1 to 15 that are made by hand: what no client library sends, and what two readers would read as two things."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping

import zstandard
from attacks import PREFACE, SETTINGS, frame, message
from doors import CANARY, Answer, Door, Frames, Http, Raw, record
from row import Row

EVENTS = json.dumps({"events": [{"event_name": "a", "event_type": CANARY}]}).encode()
BODIES: Mapping[Door, bytes] = {"http": record(), "rest": EVENTS}
PATHS: Mapping[Door, bytes] = {"http": b"/v1/logs", "rest": b"/api/v1/events"}
MEDIA: Mapping[Door, bytes] = {"http": b"application/x-protobuf", "rest": b"application/json"}


def head(door: Door, *lines: bytes, first: bytes = b"POST %b HTTP/1.1") -> bytes:
    """The header block of a request. first: its first line, `%b` is the door's path."""
    if b"%b" in first:
        first %= PATHS[door]
    fields = (b"host: localhost", b"x-xk7: " + CANARY.encode(), b"content-type: " + MEDIA[door])
    return b"\r\n".join((first, *fields, *lines)) + b"\r\n\r\n"


def _framing(door: Door) -> Iterator[Row]:
    """Where a body ends: 8."""
    body = BODIES[door]
    chunked = b"transfer-encoding: chunked"
    length = b"content-length: %d" % len(body)
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    hidden = head(door, length) + body
    for name, sent, answer, stored in (
        ("a length twice", head(door, length, length) + body, 400, 0),
        ("a list of lengths", head(door, length + b", %d" % len(body)) + body, 400, 0),
        ("a length below 0", head(door, b"content-length: -1"), 400, 0),
        ("a length with a sign", head(door, b"content-length: +4") + body, 400, 0),
        ("a length of 26 digits", head(door, b"content-length: " + b"9" * 26), 400, 0),
        ("a request in a body", head(door, b"content-length: %d" % len(hidden)) + hidden, 400, 0),
        ("chunks, and an unknown coding", head(door, b"transfer-encoding: xchunked") + chunk, 501, 0),
        ("chunks that are packed", head(door, b"transfer-encoding: gzip, chunked") + chunk, 501, 0),
        ("chunks that are packed, in two lines", head(door, b"transfer-encoding: gzip", chunked), 501, 0),
        ("chunks twice", head(door, chunked, chunked) + chunk, 400, 0),
        ("a chunk of 2^72", head(door, chunked) + b"ffffffffffffffffff\r\nx", 400, 0),
        ("a chunk below 0", head(door, chunked) + b"-1\r\nx", 400, 0),
        ("a chunk longer than it says", head(door, chunked) + b"1\r\nAB0\r\n\r\n", 400, 0),
        ("chunks without carriage returns", head(door, chunked) + chunk.replace(b"\r", b""), 400, 0),
        ("trailers", head(door, chunked) + chunk + b"0\r\ncontent-type: text/plain\r\n\r\n", 200, 1),
        ("a length as a trailer", head(door, chunked) + chunk + b"0\r\ncontent-length: 1\r\n\r\n", 400, None),
        ("a folded line", head(door, length, b"x: y", b" z") + body, 400, 0),
        ("NUL in a header", head(door, length, b"x: y\0z") + body, 400, 0),
        ("a carriage return in a header", head(door, length, b"x: y\rz") + body, 400, 0),
        ("may I send", head(door, length, b"expect: 100-continue"), 100, 0),
        ("may I send a gigabyte", head(door, b"content-length: 1073741824", b"expect: 100-continue"), 413, 0),
    ):
        if stored is not None:
            yield Row(8, name, door, Raw(sent), answer, stored=stored)


def _lines(door: Door) -> Iterator[Row]:
    """First lines, encodings, types: 2 to 5, 11, 12."""
    body = BODIES[door]
    packed = gzip.compress(body)
    length = b"content-length: %d" % len(body)
    frame_of_zstd = zstandard.compress(body)
    for number, name, sent, answer, stored in (
        (3, "an encoding and none", Raw(_packed(door, packed, b"gzip, identity")), 415, 0),
        (3, "none and an encoding", Raw(_packed(door, packed, b"identity, gzip")), 415, 0),
        (3, "two encodings in two lines", Raw(_packed(door, body, b"gzip", b"identity")), 415, 0),
        (5, "packed to nothing", Raw(_packed(door, b"", b"gzip")), 400, 0),
        (
            5,
            "a thousand gzip streams and one",
            Raw(_packed(door, gzip.compress(b"") * 1001, b"gzip")),
            400,
            0,
        ),
        (
            5,
            "zstd with a frame to skip",
            Raw(_packed(door, SKIPPED + frame_of_zstd, b"zstd")),
            (200, 400),
            None,
        ),
        (11, "two types in two lines", Raw(head(door, length, b"content-type: text/plain") + body), 415, 0),
        (11, "the type of gRPC", Http(body, {"content-type": "application/grpc"}), 415, 0),
        (
            11,
            "a whole URL",
            Raw(head(door, length, first=b"POST http://a.example%b HTTP/1.1") + body),
            200,
            1,
        ),
        (11, "a tunnel", Raw(head(door, first=b"CONNECT a.example:443 HTTP/1.1")), 400, 0),
        (11, "a method in small letters", Raw(head(door, length, first=b"post %b HTTP/1.1") + body), 400, 0),
        (11, "HTTP/0.9", Raw(b"POST /\r\n\r\n"), 404, 0),
        (11, "HTTP/3 in text", Raw(head(door, length, first=b"POST %b HTTP/3.0") + body), 400, 0),
        (11, "a path that goes up", Raw(head(door, length, first=b"POST /x/..%b HTTP/1.1") + body), 404, 0),
        (11, "a path with NUL", Raw(head(door, length, first=b"POST %b%%00 HTTP/1.1") + body), 404, 0),
        (9, "a path of 70 kB behind other requests", Raw(b"GET /x HTTP/1.1\r\n\r\n" * 3 + LONG), 431, 0),
        (9, "a path of 70 kB", Raw(LONG), 431, 0),
        (12, "HTTP/2 without asking", Raw(PREFACE + frame(SETTINGS)), 400, 0),
        (12, "an upgrade to HTTP/2", Raw(head(door, length, *H2C) + body), 200, 1),
        (12, "TLS", Raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, 0),
    ):
        if stored is not None:
            yield Row(number, name, door, sent, answer, stored=stored)


LONG = b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
H2C = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")
SKIPPED = bytes.fromhex("502a4d18") + (4).to_bytes(4, "little") + b"skip"


def _packed(door: Door, content: bytes, *encodings: bytes) -> bytes:
    lines = (b"content-encoding: " + encoding for encoding in encodings)
    return head(door, b"content-length: %d" % len(content), *lines) + content


def _calls() -> Iterator[Row]:
    """gRPC: 15."""
    one = message(record())
    answer: Answer | tuple[Answer, ...]
    for name, data, headers, answer, stored in (
        ("two messages in a call", one + one, (), "OK", 1),
        ("a flag that there is not", b"\x02" + one[1:], (), ("OK", "INTERNAL"), None),
        (
            "JSON as a message",
            message(EVENTS),
            ((b"content-type", b"application/json"),),
            "INVALID_ARGUMENT",
            0,
        ),
        ("a deadline below 0", one, ((b"grpc-timeout", b"-1S"),), "INTERNAL", 0),
        ("a deadline in 11,000 years", one, ((b"grpc-timeout", b"99999999H"),), "OK", 1),
        ("no base64", one, ((b"x-bin", b"!!!!"),), "INTERNAL", 0),
        ("a header in capitals", one, ((b"X-Y", b"z"),), "INTERNAL", 0),
        ("lines in a header", one, ((b"x", b"y\r\nz: " + CANARY.encode()),), ("OK", "INTERNAL"), 1),
        ("a path behind the headers", one, ((b":path", b"/x"),), ("UNIMPLEMENTED", "INTERNAL"), 0),
        (
            "two encodings",
            message(gzip.compress(record()), compressed=True),
            ((b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"identity")),
            "INTERNAL",
            0,
        ),
    ):
        if stored is not None:
            yield Row(15, name, "grpc", Frames(data, headers), answer, stored=stored)


TRANSPORT: list[Row] = [
    row for door in ("http", "rest") for rows in (_framing(door), _lines(door)) for row in rows
] + [*_calls()]
