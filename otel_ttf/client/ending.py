"""Events as OTLP without the SDK, for a process that ends before the SDK was imported: while Python goes down it cannot
be any more, since it starts threads when it is."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.resources import OTELResourceDetector

from otel_ttf import __version__
from otel_ttf.client.event import Event
from otel_ttf.client.options import Options
from otel_ttf.client.outcome import Outcome
from otel_ttf.client.wire import Wire, in_unicode

_HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}


class EndingExporter:
    """As SdkExporter: the same records of the same resource, but for what the SDK adds of its own."""

    def __init__(self, options: Options) -> None:
        self._wire = Wire(options)
        self._resource = {"service.name": "unknown_service", **OTELResourceDetector().detect().attributes}
        if options.service_name is not None:
            self._resource["service.name"] = options.service_name

    def send(self, events: Sequence[Event], timeout: float) -> Outcome:
        """One try, for at most timeout seconds."""
        self._wire.timeout = timeout
        return self._wire.post(gzip.compress(self.encoded(events), 6), _HEADERS)

    def close(self) -> None:
        """Ends its connections."""
        self._wire.close()

    def encoded(self, events: Sequence[Event]) -> bytes:
        """An ExportLogsServiceRequest."""
        request = ExportLogsServiceRequest()
        by_resource = request.resource_logs.add()
        _fill(by_resource.resource.attributes, self._resource)
        by_scope = by_resource.scope_logs.add()
        by_scope.scope.name, by_scope.scope.version = "otel_ttf.client", __version__
        for event in events:
            record = by_scope.log_records.add(
                time_unix_nano=event.at, observed_time_unix_nano=event.at, event_name=in_unicode(event.name)
            )
            if event.trace is not None:
                record.trace_id = event.trace.trace_id.to_bytes(16, "big")
                record.span_id = event.trace.span_id.to_bytes(8, "big")
                record.flags = event.trace.flags
            _fill(record.attributes, in_unicode(event.attributes))
        return request.SerializeToString()


def _fill(pairs: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        _set(pairs.add(key=key).value, value)


def _set(target: AnyValue, value: Any) -> None:
    match value:
        case None:
            target.SetInParent()
        case bool():
            target.bool_value = value
        case str():
            target.string_value = value
        case int():
            target.int_value = value
        case float():
            target.double_value = value
        case bytes():
            target.bytes_value = value
        case list() | tuple():
            target.array_value.SetInParent()
            for one in value:
                _set(target.array_value.values.add(), one)
        case dict():
            target.kvlist_value.SetInParent()
            _fill(target.kvlist_value.values, value)
