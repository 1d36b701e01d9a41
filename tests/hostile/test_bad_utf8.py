"""SubjectKeys._masked takes all that follows the encoded start for the token; a KeyValue may go on behind its value.

`key_strindex` (field 3 of KeyValue) stands behind the value: as -1 the text is
no UTF-8, UnicodeDecodeError, so 503 and the request comes again for ever; as 1 the text is no token, and the event has
no subject.
"""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from test_time_and_memory import RULES
from test_unseen_bytes import process

from otel_ttf.otlp.batch import Batch


@pytest.mark.parametrize("index", [0, 1, 300, -1])
def test_a_user_id_is_one_whatever_stands_behind_it(index):
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(name="x", trace_id=b"t" * 16, span_id=b"s" * 8)
    )
    pair = span.attributes.add(key="user.id", key_strindex=index)
    pair.value.string_value = "ada"
    batch = process()(Batch("traces", request.SerializeToString(), 1))
    batch.finish()
    (event,) = batch.extract(RULES).events
    assert event.subject is not None
