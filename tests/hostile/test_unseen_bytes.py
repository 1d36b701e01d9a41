"""What protobuf does not show must not be written down: overridden fields, unknown fields, odd bytes.

The raw slice of a piece goes on unless the piece was `changed`, so whatever the decoded message
does not show stays in it, unmasked.
"""

from __future__ import annotations

from functools import cache

import pytest

from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.base import Processor
from otel_ttf.processors.enrich import EnrichConfig
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig
from otel_ttf.processors.validate import ValidateConfig

EMAIL = b"alice.canary@example.com"


@cache
def process() -> Processor:
    return pipeline(
        {
            "validate": ValidateConfig(),
            "enrich": EnrichConfig(),
            "pseudonymise": PseudonymiseConfig(),
            "mask": MaskConfig(),
        },
        Keys(event=b"e" * 32, subjects=(b"s" * 32,)),
        SubjectConfig(),
    )


def field(number: int, content: bytes) -> bytes:
    tag, length, out = number << 3 | 2, len(content), bytearray()
    for value in (tag, length):
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out) + content


def record(content: bytes) -> bytes:
    return field(1, field(2, field(2, content)))


PLAIN = field(2, field(2, field(12, b"x")))  # a scope with a record


@pytest.mark.parametrize(
    "raw",
    [
        # Fields that come twice: the last one counts, the first one stays in the slice.
        pytest.param(record(field(5, field(1, EMAIL) + b"\x10\x01")), id="a oneof twice"),
        pytest.param(record(field(3, EMAIL) + field(3, b"INFO")), id="a field twice"),
        pytest.param(field(1, PLAIN + field(3, EMAIL) + field(3, b"x")), id="a schema URL twice"),
        # Fields of other versions of OTLP; old SDKs send 4 (name) and 1000 (instrumentation libraries).
        pytest.param(record(field(4, EMAIL)), id="an old record's name"),
        pytest.param(field(1, PLAIN + field(1000, EMAIL)), id="an old resource's libraries"),
        pytest.param(
            field(1, field(2, field(2, field(12, b"x")) + field(15, EMAIL))), id="unknown in a scope"
        ),
        pytest.param(field(1, field(1, field(15, EMAIL)) + PLAIN), id="unknown in a resource"),
        pytest.param(field(1, PLAIN) + field(15, EMAIL), id="unknown in the request"),
        pytest.param(record(field(6, field(15, EMAIL))), id="unknown in an attribute"),
        # Bytes.
        pytest.param(record(field(5, field(7, b"\xff " + EMAIL))), id="bytes that are no UTF-8"),
        pytest.param(record(field(9, EMAIL)), id="a trace id that is none"),
        pytest.param(record(field(10, EMAIL)), id="a span id that is none"),
    ],
)
def test_what_the_message_does_not_show_does_not_go_on(raw):
    batch = process()(Batch("logs", raw, 1))
    assert batch.kept == 1
    written = batch.finish()
    assert b"alice" not in written
