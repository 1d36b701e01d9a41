"""Inflating bodies."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
import zstandard
from bombs import gzip_bomb, zstd_bomb
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.receivers.body import Inflation, Unusable, media_type
from otel_ttf.receivers.intake import InFlight, LogRefused

LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": ("gzip", gzip.compress),
    "deflate by RFC 9110": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.compress),
}
packers = pytest.mark.parametrize(("encoding", "pack"), PACKERS.values(), ids=PACKERS)


def inflate(encoding: str, body: bytes, limit: int = LIMIT, step: int | None = None) -> bytes:
    with InFlight().hold() as hold:
        work = Inflation(encoding, body, limit, hold)
        size = step or limit
        while not work.until(size):
            size += step or limit
        return b"".join(work.chunks)


@packers
@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.binary(max_size=64), st.integers(1, 3000)), max_size=6),
    step=st.integers(1, 1 << 16),
)
def test_what_was_packed_comes_out_however_it_is_stepped(encoding, pack, parts, step):
    data = b"".join(part * times for part, times in parts)
    assert inflate(encoding, pack(data), step=step) == data


@packers
def test_incompressible_data_comes_out(encoding, pack):
    data = random.Random(1).randbytes(LIMIT)
    assert inflate(encoding, pack(data)) == data


@pytest.mark.parametrize(("encoding", "pack"), [PACKERS["gzip"], PACKERS["zstd"]], ids=["gzip", "zstd"])
def test_streams_one_after_the_other_are_one_body(encoding, pack):
    assert inflate(encoding, pack(b"one ") + pack(b"") + pack(b"two")) == b"one two"


@packers
def test_exactly_the_limit_is_taken_and_one_byte_more_is_not(encoding, pack):
    assert len(inflate(encoding, pack(bytes(LIMIT)))) == LIMIT
    with pytest.raises(Unusable) as caught:
        inflate(encoding, pack(bytes(LIMIT + 1)))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        pytest.param("gzip", b"no gzip at all", 400, id="no gzip"),
        pytest.param("gzip", gzip.compress(b"x" * 99)[:-9], 400, id="gzip cut off"),
        pytest.param("gzip", gzip.compress(b"x" * 99)[:-8] + bytes(8), 400, id="wrong checksum"),
        pytest.param("gzip", gzip.compress(b"x" * 99) + b"rest", 400, id="text behind gzip"),
        pytest.param("gzip", gzip.compress(b"") * 1001, 400, id="a thousand empty members"),
        pytest.param("deflate", b"\x78\x9cnonsense", 400, id="no zlib stream"),
        pytest.param("deflate", b"\xff\xff\xff", 400, id="no raw deflate stream"),
        pytest.param("zstd", b"no zstd at all", 400, id="no zstd"),
        pytest.param("zstd", zstandard.compress(b"x" * 99)[:-2], 400, id="zstd cut off"),
        pytest.param("zstd", zstandard.compress(b"x" * 99) + b"rest", 400, id="text behind zstd"),
        pytest.param("zstd", b"\x28\xb5\x2f\xfd\x00\x98", 413, id="zstd that wants a window of half a GiB"),
        pytest.param("gzip", gzip_bomb(64), 413, id="gzip bomb"),
        pytest.param("zstd", zstd_bomb(64), 413, id="zstd bomb"),
    ],
)
def test_what_cannot_be_inflated(encoding, body, status):
    with pytest.raises(Unusable) as caught:
        inflate(encoding, body)
    assert caught.value.status == status


def test_inflated_bytes_count_as_in_flight():
    budget = InFlight(LIMIT)
    with pytest.raises(LogRefused), budget.hold(1000) as hold:
        Inflation("gzip", gzip.compress(bytes(LIMIT)), LIMIT, hold).until(LIMIT)
    assert budget.used == 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"application/json", "application/json"),
        (b"Application/JSON; charset=UTF-8", "application/json"),
        (b'application/json;charset="utf-8"; x=y', "application/json"),
        (b"application/json; charset=utf-16", ""),
        (b"", ""),
    ],
)
def test_media_type(header, expected):
    assert media_type({b"content-type": header}) == expected
