"""Rows 6 and 41: who has no good key, by every door. Their server wants keys."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import grpc
from bombs import gzip_bomb, zstd_bomb
from doors import CANARY, Answer, Call, Door, Http, Input, Raw, record
from row import Row
from transport import BODIES, head

from otel_ttf.access.keys import ApiKey, make

SAID = "expected an API key or token that is valid here, see docs/security.md"
GOOD, GOOD_KEY = make(ApiKey("", b"", frozenset({"ingest", "read"})))
READING, READING_KEY = make(ApiKey("", b"", frozenset({"read"})))
EXPIRED, EXPIRED_KEY = make(ApiKey("", b"", frozenset({"ingest"}), expires=1))
_, REVOKED_KEY = make(ApiKey("", b"", frozenset({"ingest"})))
KEYS = (GOOD, READING, EXPIRED)

REFUSED: Mapping[Door, Answer] = {"http": 401, "rest": 401, "grpc": "UNAUTHENTICATED"}
PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "no key": (),
    "an empty key": (("x-api-key", ""),),
    "an empty bearer": (("authorization", "Bearer "),),
    "a wrong key": (("x-api-key", CANARY),),
    "a key with another end": (("x-api-key", f"{GOOD_KEY[:-2]}qq"),),
    "a key with another's id": (("x-api-key", f"ttfk_{READING.id}_{GOOD_KEY.split('_')[2]}"),),
    "the hash of a key": (("x-api-key", GOOD.digest.hex()),),
    "an expired key": (("authorization", f"Bearer {EXPIRED_KEY}"),),
    "a revoked key": (("authorization", f"Bearer {REVOKED_KEY}"),),
    "another scheme": (("authorization", f"Basic {GOOD_KEY}"),),
    "no scheme": (("authorization", GOOD_KEY),),
    "by both headers": (("authorization", f"Bearer {GOOD_KEY}"), ("x-api-key", GOOD_KEY)),
    "in a cookie": (("cookie", f"x-api-key={GOOD_KEY}"),),
    "a token without a signature": (("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."),),
    "a bearer of 12 kB": (("authorization", f"Bearer {'a.b.c' * 2400}"),),
}


def _sent(door: Door, pairs: tuple[tuple[str, str], ...]) -> Input:
    return Call(record, metadata=pairs) if door == "grpc" else Http(BODIES[door], dict(pairs))


def _lines(door: Door, *lines: str) -> Raw:
    body = BODIES[door]
    return Raw(head(door, b"content-length: %d" % len(body), *(line.encode() for line in lines)) + body)


def _scopes(door: Door) -> Answer:
    return "PERMISSION_DENIED" if door == "grpc" else 403


STRANGERS: list[Row] = []
for _door in ("grpc", "http", "rest"):
    STRANGERS += [
        Row(41, name, _door, _sent(_door, pairs), REFUSED[_door], says=SAID)
        for name, pairs in PAIRS.items()
        # gRPC takes 8 kB of metadata.
        if not (_door == "grpc" and "12 kB" in name)
    ]
    STRANGERS.append(
        Row(41, "a key that may ask only", _door, _sent(_door, (("x-api-key", READING_KEY),)), _scopes(_door))
    )
for _door in ("http", "rest"):
    _path = "/v1/logs" if _door == "http" else "/api/v1/events"
    STRANGERS += [
        Row(
            41,
            "in the query",
            _door,
            Http(BODIES[_door], path=f"{_path}?x-api-key={GOOD_KEY}"),
            401,
            says=SAID,
        ),
        Row(
            41,
            "two bearers",
            _door,
            _lines(_door, f"authorization: Bearer {GOOD_KEY}", f"authorization: Bearer {GOOD_KEY}"),
            401,
        ),
        Row(41, "two keys", _door, _lines(_door, f"x-api-key: {CANARY}", f"x-api-key: {GOOD_KEY}"), 401),
        Row(41, "a bearer of 1 MB", _door, _lines(_door, f"authorization: Bearer {'x' * (1 << 20)}"), 431),
        Row(
            6,
            "a gibibyte in a gzip bomb",
            _door,
            Http(lambda: gzip_bomb(1024), {"content-encoding": "gzip"}),
            401,
            mib=8,
            seconds=0.3,
            says=SAID,
        ),
        Row(
            6,
            "a zstd bomb",
            _door,
            Http(lambda: zstd_bomb(512), {"content-encoding": "zstd", "x-api-key": CANARY}),
            401,
            mib=8,
            seconds=0.3,
            says=SAID,
        ),
        Row(
            6,
            "a bomb that goes on",
            _door,
            Raw(
                head(_door, b"transfer-encoding: chunked", b"content-encoding: gzip"),
                b"10\r\n0123456789abcdef\r\n",
            ),
            401,
            mib=8,
        ),
        Row(
            6,
            "what is no gzip",
            _door,
            Http(gzip.compress(b"x")[:-4], {"content-encoding": "gzip"}),
            401,
            says=SAID,
        ),
    ]
STRANGERS += [
    Row(
        6,
        "256 MiB in a gzip bomb",
        "grpc",
        Call(lambda: bytes(256 << 20), grpc.Compression.Gzip),
        "UNAUTHENTICATED",
        mib=16,
        seconds=0.3,
        says=SAID,
    ),
    Row(
        41,
        "metadata of 1 MB",
        "grpc",
        Call(record, metadata=(("authorization", f"Bearer {'x' * (1 << 20)}"),)),
        ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"),
    ),
    Row(41, "another service", "grpc", Call(record, method=f"/{CANARY}/Export"), "UNIMPLEMENTED"),
]
