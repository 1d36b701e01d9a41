"""What OTLP senders are told: responses, partial success, and google.rpc.Status for refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ttf.access.gate import Refused, Why
from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.wire import Signal
from otel_ttf.receivers.prepare import Receipt

# signal -> its response, and the field that counts what was rejected
RESPONSES: dict[Signal, tuple[type[Message], str]] = {
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
REASONS = 10
REASON_CHARACTERS = 500
STATUS_CHARACTERS = 1000


def response(signal: Signal, receipt: Receipt) -> Message:
    """The export response: partial_success is unset when all is well, and stays far below 4 MiB."""
    kind, rejected = RESPONSES[signal]
    message = kind()
    if receipt.rejected or receipt.warnings:
        partial = message.partial_success  # type: ignore[attr-defined]
        setattr(partial, rejected, receipt.refused)
        partial.error_message = explanation(receipt)
    return message


def explanation(receipt: Receipt) -> str:
    """English text: the first reasons, each with its record and rule, then the first warnings."""
    parts = []
    if receipt.rejected:
        total = receipt.accepted + receipt.refused
        parts.append(f"rejected {receipt.refused} of {total}: {_first(receipt.rejected.values())}")
    if receipt.warnings:
        parts.append(f"warning: {_first(receipt.warnings)}")
    return ". ".join(parts)


def _first(texts: Iterable[str]) -> str:
    told: list[str] = []
    more = 0
    for text in texts:
        if len(told) < REASONS:
            told.append(text[:REASON_CHARACTERS])
        else:
            more += 1
    return "; ".join(told) + (f"; and {more} more" if more else "")


def bad_data(text: str) -> status_pb2.Status:
    """INVALID_ARGUMENT with google.rpc.BadRequest: the sender drops the request."""
    text = _header_safe(text)
    detail = error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(description=text)]
    )
    return _status(code_pb2.INVALID_ARGUMENT, text, detail)


def come_again(refused: LogRefused) -> status_pb2.Status:
    """UNAVAILABLE with google.rpc.RetryInfo: the sender keeps the request and comes again."""
    detail = error_details_pb2.RetryInfo()
    detail.retry_delay.FromMilliseconds(round(refused.retry_after * 1000))
    return _status(code_pb2.UNAVAILABLE, _header_safe(f"not taken now: {refused.reason}"), detail)


_NOT_ADMITTED: dict[Why, int] = {
    "unauthenticated": code_pb2.UNAUTHENTICATED,
    "too_often": code_pb2.RESOURCE_EXHAUSTED,
    "forbidden": code_pb2.PERMISSION_DENIED,
    "limited": code_pb2.RESOURCE_EXHAUSTED,
    "unavailable": code_pb2.UNAVAILABLE,
}


def not_admitted(refused: Refused) -> status_pb2.Status:
    """For whoever is not let in: with google.rpc.RetryInfo where waiting helps, else the sender drops the request."""
    detail = None
    if refused.seconds:
        detail = error_details_pb2.RetryInfo()
        detail.retry_delay.FromMilliseconds(math.ceil(refused.seconds * 1000))
    return _status(_NOT_ADMITTED[refused.why], str(refused), detail)


# HTTP status -> code in the body; 400 and 503 have functions of their own
_CODES = {
    404: code_pb2.NOT_FOUND,
    421: code_pb2.FAILED_PRECONDITION,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
}


def http_status(status: int, text: str) -> status_pb2.Status:
    """Body of an HTTP error."""
    return bad_data(text) if status == 400 else _status(_CODES[status], text)


def _header_safe(text: str) -> str:
    # It travels in a header too, where one character may become nine, and clients take 8 KiB of headers.
    return text.encode("ascii", "backslashreplace").decode()[:STATUS_CHARACTERS]


def _status(code: int, text: str, detail: Message | None = None) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=text)
    if detail is not None:
        status.details.add().Pack(detail)
    return status
