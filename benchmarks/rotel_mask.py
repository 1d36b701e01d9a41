"""What Rotel runs in peers.py: masks every text that its classes give access to, by the Collector's expressions.

Rotel calls the three functions with what came, on an interpreter of its own, which has the standard library only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

# The classes are in Rotel's binary.
from rotel_sdk.open_telemetry.common.v1 import AnyValue, ArrayValue, KeyValueList

_MASK = "****"
_KEY = b"key-of-the-benchmark"
_SECRET_NAME = re.compile(r"(?:^|[._-])(?:password|passwd|secret|authorization|api[._-]?key)$", re.IGNORECASE)
_PATTERNS = [
    re.compile(expression)
    for expression in (
        r"://[^\s/:@]+:[^\s/@]+@",
        r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
        r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
        r"(?i)\b(?:bearer|basic) +[A-Za-z0-9._~+/=-]{8,}",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|AKIA[A-Z0-9]{16})\b",
        r"\b(?:4[0-9]{3}|5[1-5][0-9]{2}|6011)[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}\b",
    )
]


def process_logs(logs: Any) -> None:
    """Rotel's entry point for log records."""
    _resource(logs.resource)
    for scope_logs in logs.scope_logs:
        _scope(scope_logs.scope)
        for record in scope_logs.log_records:
            record.event_name = _text(record.event_name)
            record.severity_text = _text(record.severity_text)
            if record.body is not None:
                record.body = _value(record.body) or record.body
            _pairs(record.attributes)


def process_spans(spans: Any) -> None:
    """Rotel's entry point for spans."""
    _resource(spans.resource)
    for scope_spans in spans.scope_spans:
        _scope(scope_spans.scope)
        for span in scope_spans.spans:
            span.name = _text(span.name)
            span.trace_state = _text(span.trace_state)
            _pairs(span.attributes)
            for event in span.events:
                event.name = _text(event.name)
                _pairs(event.attributes)
            for link in span.links:
                link.trace_state = _text(link.trace_state)
                _pairs(link.attributes)
            if span.status is not None:
                span.status.message = _text(span.status.message)


def process_metrics(metrics: Any) -> None:
    """Rotel's entry point for metrics."""
    _resource(metrics.resource)
    for scope_metrics in metrics.scope_metrics:
        _scope(scope_metrics.scope)
        for metric in scope_metrics.metrics:
            metric.name, metric.description = _text(metric.name), _text(metric.description)
            metric.unit = _text(metric.unit)
            _pairs(metric.metadata)
            if metric.data is not None:
                for point in metric.data[0].data_points:
                    _pairs(point.attributes)
                    for exemplar in getattr(point, "exemplars", ()):
                        _pairs(exemplar.filtered_attributes)


def _resource(resource: Any) -> None:
    if resource is not None:
        _pairs(resource.attributes)


def _scope(scope: Any) -> None:
    if scope is not None:
        scope.name, scope.version = _text(scope.name), _text(scope.version)
        _pairs(scope.attributes)


def _pairs(pairs: Any) -> None:
    for pair in pairs:
        key, value = pair.key, pair.value
        if key == "user.id" and value is not None:
            digest = hmac.new(_KEY, str(value.value).encode(), hashlib.sha256).hexdigest()
            pair.value = AnyValue(digest)
        elif _SECRET_NAME.search(key):
            pair.value = AnyValue(_MASK)
        else:
            if (masked := _text(key)) != key:
                pair.key = masked
            if value is not None and (new := _value(value)) is not None:
                pair.value = new


def _value(value: Any) -> Any:
    """What takes the place of a value; None: nothing has to. Lists and maps are changed where they are."""
    match held := value.value:
        case str():
            masked = _text(held)
            return None if masked == held else AnyValue(masked)
        case ArrayValue():
            for place in range(len(held)):
                if (new := _value(held[place])) is not None:
                    held[place] = new
        case KeyValueList():
            _pairs(held)
        case list():  # bytes are given as a list of numbers
            masked = _text(text := bytes(held).decode(errors="surrogateescape"))
            return None if masked == text else AnyValue(masked.encode(errors="surrogateescape"))
        case int() if not isinstance(held, bool):
            masked = _text(digits := str(held))
            return None if masked == digits else AnyValue(masked)
    return None


def _text(text: str) -> str:
    for pattern in _PATTERNS:
        text = pattern.sub(_MASK, text)
    return text
