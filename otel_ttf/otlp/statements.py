"""Statements about consent in attribute lists: which attributes make them, and what their values mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from otel_ttf.otlp.events import NAME_ATTRIBUTES
from otel_ttf.otlp.leaving import MARK, keep
from otel_ttf.otlp.subject import canonical

Kind = Literal["consent", "sale", "do_not_sell", "gpc"]

# What is stated, as bits.
GRANT, DENY, SALE, DO_NOT_SELL, UNREADABLE = 1, 2, 4, 8, 16
STATEMENTS = {
    GRANT: "grant",
    DENY: "deny",
    SALE: "sell",
    DO_NOT_SELL: "do_not_sell",
    UNREADABLE: "unreadable",
}

_YES = frozenset({"grant", "granted", "true", "yes", "1"})
_NO = frozenset({"deny", "denied", "false", "no", "0"})
# Kind -> (what yes states, what no states).
_MEANINGS: dict[str, tuple[int, int]] = {
    "consent": (GRANT, DENY),
    "sale": (SALE, DO_NOT_SELL),
    "do_not_sell": (DO_NOT_SELL, SALE),
    "gpc": (DO_NOT_SELL, 0),
}
_PREFIX = "ttf."
_ATTRIBUTES = {"Exemplar": "filtered_attributes", "Metric": "metadata"}


def attributes_of(message: Any) -> Any:
    """The attribute list of a resource, a scope, a record or a part of one."""
    return getattr(message, _ATTRIBUTES.get(message.DESCRIPTOR.name, "attributes"))


def below(message: Any) -> tuple[str, Any]:
    """(field, elements) of what a record holds that has attributes of its own: events of a span, data points of a
    metric, exemplars of a data point. ("", ()) for what holds none."""
    name = message.DESCRIPTOR.name
    if name == "Span":
        return "events", message.events
    if name == "Metric":
        kind = message.WhichOneof("data")
        return (kind, getattr(message, kind).data_points) if kind is not None else ("", ())
    if name.endswith("DataPoint") and name != "SummaryDataPoint":
        return "exemplars", message.exemplars
    return "", ()


class Statements:
    """Reads statements.

    attributes  name -> what it is; of HTTP headers `-` and `_` are alike
    events      names of consent events: in these, names count without `ttf.`, too
    """

    def __init__(self, attributes: Mapping[str, Kind], events: Iterable[str]) -> None:
        self._kinds = {canonical(name): kind for name, kind in attributes.items()}
        short = {name.removeprefix(_PREFIX): kind for name, kind in self._kinds.items()}
        self._in_events = short | self._kinds
        self._events = frozenset(events)

    def of(self, message: Any, *, trusted: bool = False) -> int:
        """What a resource, a scope, a record or a part of one states, as bits.

        trusted  our own mark is no statement: it says what counted when it was made
        """
        kinds = self._kinds_in(message)
        found = 0
        for pair in attributes_of(message):
            kind = kinds.get(canonical(pair.key))
            if kind is not None and not (trusted and pair.key == MARK):
                found |= _stated(kind, pair.value)
        return found

    def take_off(self, message: Any) -> bool:
        """Takes all statements away; whether there were any."""
        kinds = self._kinds_in(message)
        return keep(attributes_of(message), lambda pair: canonical(pair.key) not in kinds)

    def _kinds_in(self, message: Any) -> Mapping[str, Kind]:
        return self._in_events if self._is_event(message) else self._kinds

    def _is_event(self, message: Any) -> bool:
        match message.DESCRIPTOR.name:
            case "LogRecord":
                if message.event_name:
                    return message.event_name in self._events
                named = [pair for pair in message.attributes if pair.key in NAME_ATTRIBUTES]
                return any(pair.value.string_value in self._events for pair in named)
            case "Span" | "Event":
                return message.name in self._events
        return False


def _stated(kind: Kind, value: Any) -> int:
    yes, no = _MEANINGS[kind]
    found = 0
    for word in _words(value):
        if word in _YES:
            found |= yes
        elif word in _NO:
            found |= no
        elif kind == "consent" and word == "do_not_sell":
            found |= DO_NOT_SELL
        else:
            found |= UNREADABLE
    return found


def _words(value: Any) -> Iterator[str]:
    """A value as words: text, booleans, integers, and lists of these; "" for what cannot be read."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        for element in value.array_value.values:
            yield from _words(element) if element.WhichOneof("value") != "array_value" else ("",)
    elif kind in ("string_value", "bool_value", "int_value"):
        yield str(getattr(value, kind)).strip().lower()
    else:
        yield ""


def set_mark(attributes: Any, *, wanted: bool) -> bool:
    """Gives an attribute list our mark, once, or takes a sender's away; whether something was changed."""
    found = [pair for pair in attributes if pair.key == MARK]
    if not found and not wanted:
        return False
    if wanted and len(found) == 1 and found[0].value.bool_value:
        return False
    keep(attributes, lambda pair: pair.key != MARK)
    if wanted:
        attributes.add(key=MARK).value.bool_value = True
    return True


def literals(attributes: Iterable[str], events: Iterable[str]) -> Sequence[str]:
    """Texts one of which stands in whatever holds a statement; none holds another."""
    kept: list[str] = []
    for text in sorted({*attributes, *events}, key=len):
        if text and not any(shorter in text for shorter in kept):
            kept.append(text)
    return kept
