"""Events as the OpenTelemetry SDK's records, sent by its OTLP/HTTP exporter. Imported by the sending thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from requests import Response, Session

from otel_ttf import __version__
from otel_ttf.client.event import Event, Trace
from otel_ttf.client.options import Options
from otel_ttf.client.outcome import Next, Outcome
from otel_ttf.client.wire import Wire, in_unicode

_NO_SPAN = Trace(0, 0, 0)


class SdkExporter:
    """Sends batches to the server of these options. For one thread."""

    def __init__(self, options: Options) -> None:
        self._wire = Wire(options)
        self._outcome: Outcome | None = None
        file, key = options.certificate or (None, None)
        self._exporter = OTLPLogExporter(
            endpoint=self._wire.url,
            certificate_file=options.ca_file,
            client_certificate_file=file,
            client_key_file=key,
            timeout=options.timeout,
            compression=Compression.Gzip,
            session=_Calm(self._post),
        )
        named = {} if options.service_name is None else {"service.name": options.service_name}
        self._resource = Resource.create(named)
        self._scope = InstrumentationScope("otel_ttf.client", __version__)

    def send(self, events: Sequence[Event], timeout: float) -> Outcome:
        """One try, for at most timeout seconds."""
        self._wire.timeout = timeout
        self._outcome = None
        self._exporter.export([self._record(event) for event in events])
        # Without a request it is the events that cannot be encoded, or are too many bytes.
        return self._outcome or Outcome(Next.SMALLER, "events that cannot be encoded")

    def close(self) -> None:
        """Ends its connections."""
        self._wire.close()

    def _record(self, event: Event) -> ReadableLogRecord:
        record = LogRecord(
            timestamp=event.at,
            observed_timestamp=event.at,
            context=_context(event.trace or _NO_SPAN),
            attributes=in_unicode(event.attributes),
            event_name=in_unicode(event.name),
        )
        return ReadableLogRecord(record, self._resource, self._scope)

    def _post(self, data: bytes, headers: Mapping[str, str | bytes]) -> None:
        self._outcome = self._wire.post(data, headers)


class _Calm(Session):
    """What the exporter sends by: it hears OK in any case, since what came of it, and what to do, is for us to say.

    Its own way would be to try again for some seconds, log the answers, and not tell them.
    """

    def __init__(self, post: Callable[[bytes, Mapping[str, str | bytes]], None]) -> None:
        super().__init__()
        self._post = post

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> Response:
        self._post(more["data"], more.get("headers") or self.headers)
        response = Response()
        response.status_code = 200
        return response


def _context(trace: Trace) -> Context:
    span = SpanContext(trace.trace_id, trace.span_id, is_remote=False, trace_flags=TraceFlags(trace.flags))
    return set_span_in_context(NonRecordingSpan(span), Context())
