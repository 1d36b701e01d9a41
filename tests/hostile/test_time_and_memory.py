"""Time grows with the length and no faster; memory is a small multiple of the request."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest
from test_unseen_bytes import field, process, record

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.events import Rules, TimeConfig
from otel_ttf.pii.masking import Where, for_messages

RULES = Rules(TimeConfig(), ("user.id", "enduser.id", "user_id"), lambda _name: True)
USER = field(1, b"user.id") + field(2, field(1, b"u" * 600))
KIB = 1 << 10


def through(raw: bytes, signal: str = "logs") -> Batch:
    batch = process()(Batch(signal, raw, 1))
    batch.finish()
    batch.extract(RULES)
    return batch


def growth(work: Callable[[int], None], size: int) -> float:
    """How many times as long eight times the size takes; the best of three tries."""
    return min(seconds(work, 8 * size) / seconds(work, size) for _ in range(3))


def seconds(work: Callable[[int], None], size: int) -> float:
    began = time.process_time()
    work(size)
    return max(time.process_time() - began, 1e-3)


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("1 ", id="single digits"),
        pytest.param("45 ", id="pairs of digits"),
        pytest.param("a" * 64 + "@" + ("a" * 61 + ".") * 8 + "1 ", id="long labels"),
        pytest.param("a" * 64 + "@a.a.a.a.a.a.a.a.a.a", id="addresses in each other"),
        pytest.param("Bearer aaaaaaaa1 \u00e9", id="bearer"),
    ],
)
def test_masking_takes_time_as_the_length(unit):
    # Squares would take 64 times as long.
    assert (
        growth(lambda size: for_messages().text(unit * (size // len(unit)), Where()) and None, 32 * KIB) < 24
    )


@pytest.mark.parametrize(
    ("signal", "request_of"),
    [
        pytest.param(
            "logs",
            lambda n: record(field(6, field(1, b"secret_" * 10 * n + b"id") + field(2, field(1, b"v")))),
            id="a key of many words",
        ),
        pytest.param(
            "logs",
            lambda n: field(
                1,
                field(1, field(1, b"") * n) + field(2, field(2, field(12, b"a") + b"\x09" + b"\x01" * 8) * n),
            ),
            id="records by attributes of their resource",
        ),
        pytest.param(
            "traces",
            lambda n: field(1, field(2, field(2, field(9, b"") * n + field(11, b"\x09" + b"\x01" * 8) * n))),
            id="events by attributes of their span",
        ),
        pytest.param(
            "logs",
            lambda n: (
                field(1, field(1, field(1, USER))) * (n // 4) + field(1, field(2, field(2, b"") * 10 * n))
            ),
            id="records by refused resources",
        ),
    ],
)
def test_no_request_takes_the_square_of_its_size(signal, request_of):
    assert growth(lambda size: through(request_of(size), signal) and None, 500) < 24


@pytest.mark.parametrize(
    "text",
    [
        # One match, and one tuple kept, for each digit: 107 MB a MiB; 64 MiB of digits end the process.
        pytest.param(b"1" * 256 * KIB, id="digits"),
        pytest.param(b"eyJ" * 85 * KIB, id="beginnings of tokens"),  # 36 MB a MiB
        pytest.param(b"a@b." * 64 * KIB, id="halves of addresses"),
    ],
)
def test_a_scan_keeps_little_in_memory(text):
    raw = record(field(5, field(1, text)))
    through(record(field(5, field(1, text[: 16 * KIB]))))  # what is made once is no part of it
    tracemalloc.start()
    try:
        through(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(raw)


@pytest.mark.parametrize(
    "content",
    [
        # lru_cache on keys (mask._words and mask.value: 8192 each; subject.canonical: 4096), whatever their length:
        # keys of 1 MB each are 8 GB and more, and stay there.
        pytest.param(
            lambda n: field(
                2, field(6, field(1, b"%d password enduser" % n + b"k" * 256 * KIB) + field(2, b""))
            ),
            id="long keys",
        ),
        # Pseudonyms._known: 50,000 subjects; `validate` looks at the first subject attribute of a record only, so
        # those of scopes, links, bodies, and the second one of a record may have any length.
        pytest.param(
            lambda n: (
                field(1, field(3, field(1, b"user.id") + field(2, field(1, b"%d" % n + b"u" * 256 * KIB))))
                + field(2, field(12, b"x"))
            ),
            id="long user ids of scopes",
        ),
    ],
)
def test_caches_do_not_keep_what_a_sender_sent(content):
    through(field(1, field(2, content(0))))
    tracemalloc.start()
    try:
        for number in range(1, 41):
            through(field(1, field(2, content(number))))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 << 20
