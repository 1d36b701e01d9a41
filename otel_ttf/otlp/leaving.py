"""What may leave for a vendor: an OTLP request without what must not be sold, and without what is sealed for us alone.

A sealed value carries the rule in itself, see pii.sealed. An attribute or an element of a list that holds one goes as a
whole; in a name or a body the sealed part alone is replaced, since the rest of the record would go with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_ttf.otlp.tree import Walker, as_text
from otel_ttf.otlp.wire import Signal, decode
from otel_ttf.pii.sealed import FOR_US

# On whatever must not be sold, true; on a resource or a scope it counts for everything below.
MARK = "ttf.consent.do_not_sell"

# A request without any of these goes as it is.
_LITERALS = (MARK.encode(), b"e1v_")
_REDACTED = "[REDACTED]"


def for_vendor(signal: Signal, payload: bytes) -> bytes:
    """The masked request without marked records and without what is sealed for us alone; the same bytes when there
    is neither, b"" when nothing is left.

    Raises Malformed.
    """
    if not any(literal in payload for literal in _LITERALS):
        return payload
    request = decode(signal, payload)
    _leave(request)
    _TAKE_OFF.message(request)
    return bytes(request.SerializeToString())


def marked(attributes: Any) -> bool:
    """Whether a list of KeyValue holds the mark."""
    return any(pair.key == MARK and pair.value.bool_value for pair in attributes)


def _unmarked(message: Any) -> bool:
    return not marked(message.attributes)


def _filled(field: str, owner: str | None = None) -> Callable[[Any], bool]:
    """Whether a message that only holds others still has some, and its owner has no mark."""
    return lambda message: bool(
        len(getattr(message, field)) and (owner is None or _unmarked(getattr(message, owner)))
    )


def _has_points(metric: Any) -> bool:
    kind = metric.WhichOneof("data")
    return kind is not None and len(getattr(metric, kind).data_points) > 0 and not marked(metric.metadata)


# Element of a list -> whether it stays, asked when what is below it has been dealt with. Elements of any message
# type may stand here: `KeyValue` is each attribute at each depth.
_STAYS: dict[str, Callable[[Any], bool]] = {
    "LogRecord": _unmarked,
    "Span": _unmarked,
    "Event": _unmarked,
    "Link": _unmarked,
    "NumberDataPoint": _unmarked,
    "HistogramDataPoint": _unmarked,
    "ExponentialHistogramDataPoint": _unmarked,
    "SummaryDataPoint": _unmarked,
    "Exemplar": lambda exemplar: not marked(exemplar.filtered_attributes),
    "Metric": _has_points,
    "ScopeLogs": _filled("log_records", "scope"),
    "ScopeSpans": _filled("spans", "scope"),
    "ScopeMetrics": _filled("metrics", "scope"),
    "ResourceLogs": _filled("scope_logs", "resource"),
    "ResourceSpans": _filled("scope_spans", "resource"),
    "ResourceMetrics": _filled("scope_metrics", "resource"),
}


def _leave(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            _leave(value)
            continue
        for element in value:
            _leave(element)
        stays = _STAYS.get(field.message_type.name)
        if stays is not None:
            keep(value, stays)


def keep(elements: Any, stays: Callable[[Any], bool]) -> bool:
    """Takes messages out of a repeated field; whether any went."""
    kept = [element for element in elements if stays(element)]
    if len(kept) == len(elements):
        return False
    # One by one from the end would take the square of their number.
    del elements[:]
    elements.extend(kept)
    return True


class _Sealed(Walker):
    """Takes off what is sealed and not for vendors."""

    def text(self, text: str) -> str:
        return FOR_US.sub(_REDACTED, text)

    def pairs(self, pairs: Any) -> bool:
        gone = keep(pairs, lambda pair: not FOR_US.search(pair.key) and _may_leave(pair.value))
        return super().pairs(pairs) or gone

    def value(self, value: Any) -> bool:
        gone = value.HasField("array_value") and keep(value.array_value.values, _may_leave)
        return super().value(value) or gone


def _may_leave(value: Any) -> bool:
    """Whether an AnyValue is no text with a sealed value in it; maps and lists are looked into, not judged."""
    text = as_text(value.bytes_value)[0] if value.HasField("bytes_value") else value.string_value
    return FOR_US.search(text) is None


_TAKE_OFF = _Sealed()
