"""What must not be sold does not leave for a vendor."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_ttf.otlp.leaving import MARK, for_vendor

MARKED = KeyValue(key=MARK, value=AnyValue(bool_value=True))
OTHER = KeyValue(key="plan", value=AnyValue(string_value=MARK))  # the word alone is no mark


def log(name: str, *attributes: KeyValue) -> LogRecord:
    return LogRecord(event_name=name, attributes=attributes)


def logs(*records: LogRecord, resource: Any = (), scope: Any = ()) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    by_resource = request.resource_logs.add()
    by_resource.resource.attributes.extend(resource)
    by_scope = by_resource.scope_logs.add()
    by_scope.scope.attributes.extend(scope)
    by_scope.log_records.extend(records)
    return request


def left(request: ExportLogsServiceRequest) -> list[str]:
    found = ExportLogsServiceRequest.FromString(for_vendor("logs", request.SerializeToString()))
    return [
        record.event_name
        for by_resource in found.resource_logs
        for by_scope in by_resource.scope_logs
        for record in by_scope.log_records
    ]


def test_a_request_without_the_mark_leaves_as_the_bytes_that_it_is():
    raw = logs(log("signup", KeyValue(key="plan"))).SerializeToString()
    assert for_vendor("logs", raw) is raw


def test_marked_records_stay_here():
    assert left(logs(log("a"), log("b", MARKED), log("c", OTHER), log("d", OTHER, MARKED))) == ["a", "c"]


@pytest.mark.parametrize("place", ["resource", "scope"])
def test_what_stands_below_a_mark_stays_here_with_it(place):
    request = logs(log("a"), **{place: [MARKED]})
    request.MergeFrom(logs(log("b"), resource=[KeyValue(key="plan")]))
    assert left(request) == ["b"]
    assert b"ttf.consent" not in for_vendor("logs", request.SerializeToString())


def test_nothing_leaves_when_everything_is_marked():
    assert for_vendor("logs", logs(log("a", MARKED), log("b", MARKED)).SerializeToString()) == b""


def test_of_many_every_second_one():
    names = [str(number) for number in range(2000)]
    request = logs(*(log(name, *([MARKED] if int(name) % 2 else [])) for name in names))
    assert left(request) == names[::2]


def test_a_marked_span_event_stays_here_and_its_span_leaves():
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="GET /", trace_id=b"t" * 16)
    for name, attributes in (("a", []), ("b", [MARKED]), ("c", [OTHER])):
        span.events.append(Span.Event(name=name, attributes=attributes))
    span.links.append(Span.Link(attributes=[MARKED]))
    found = ExportTraceServiceRequest.FromString(for_vendor("traces", request.SerializeToString()))
    (kept,) = found.resource_spans[0].scope_spans[0].spans
    assert [event.name for event in kept.events] == ["a", "c"]
    assert not kept.links
    span.attributes.append(MARKED)
    assert for_vendor("traces", request.SerializeToString()) == b""


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_marked_data_points_stay_here(kind):
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="latency")
    points = getattr(metric, kind).data_points
    points.add(time_unix_nano=1)
    points.add(time_unix_nano=2).attributes.append(MARKED)
    if kind != "summary":
        points[0].exemplars.add(as_int=1)
        points[0].exemplars.add(as_int=2).filtered_attributes.append(MARKED)
    found = ExportMetricsServiceRequest.FromString(for_vendor("metrics", request.SerializeToString()))
    (kept,) = found.resource_metrics[0].scope_metrics[0].metrics
    (point,) = getattr(kept, kind).data_points
    assert point.time_unix_nano == 1
    if kind != "summary":
        assert [exemplar.as_int for exemplar in point.exemplars] == [1]
    points[0].attributes.append(MARKED)
    assert for_vendor("metrics", request.SerializeToString()) == b""


def test_a_metric_marked_in_its_metadata_stays_here():
    metric = Metric(name="latency", metadata=[MARKED])
    metric.gauge.data_points.add()
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.append(metric)
    assert for_vendor("metrics", request.SerializeToString()) == b""
