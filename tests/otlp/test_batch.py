"""Requests that cannot be read, and how much memory one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.wire import SIGNALS, Malformed


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xff\xff", id="garbage"),
        pytest.param(b"\x0a\x7f", id="a length beyond the end"),
        pytest.param(b"\x0a\x05hello", id="text in place of a message"),
    ],
)
def test_malformed(signal, raw):
    with pytest.raises(Malformed) as error:
        _ = Batch(signal, raw, 0).records
    assert str(error.value) == f"expected an OTLP {signal} request in protobuf"


@pytest.mark.parametrize("signal", SIGNALS)
def test_an_empty_request_has_no_records(signal):
    batch = Batch(signal, b"", 0)
    assert (batch.records, batch.kept, batch.finish()) == (0, 0, b"")


PROGRAM = """
import resource, sys
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from otel_ttf.otlp.batch import Batch
from otel_ttf.pii.keys import Keys
from otel_ttf.pii.pseudonym import SubjectConfig
from otel_ttf.processors import pipeline
from otel_ttf.processors.mask import MaskConfig
from otel_ttf.processors.pseudonymise import PseudonymiseConfig

configs = {"pseudonymise": PseudonymiseConfig(), "mask": MaskConfig()}
process = pipeline(configs, Keys(bytes(32), (bytes(32),)), SubjectConfig())
made = ExportLogsServiceRequest()
records = made.resource_logs.add().scope_logs.add().log_records
text = "plain text of a line " * 1600
for number in range(1000):
    records.add().body.string_value = text
records.add().body.string_value = "jane@example.com"
raw = made.SerializeToString()
del made, records
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
out = process(Batch("logs", raw, 0)).finish()
assert b"[EMAIL]" in out
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / len(raw))
"""


def test_a_large_request_takes_a_few_times_its_size():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 6
