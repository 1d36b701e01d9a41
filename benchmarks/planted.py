"""Secrets in every place where OTLP can carry a text, and which of them are still there in what came out.

Each place gets one secret of each kind, all different, each in a request of its own. Beside it stands a mark: where
the mark has come out and the secret hasn't, the secret was masked; where the mark is missing, too, the whole value
was replaced or dropped.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal
from urllib.parse import quote

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Signal = Literal["logs", "traces", "metrics"]
Put = Callable[[Any, str], None]
# Of the first secret; the last one has six digits, too.
_FIRST = 100_001


@dataclass(frozen=True, slots=True)
class Plant:
    """marks: any of which in the output says that the value is still there
    needles: the secret in all spellings, any of which in the output says that it is in clear"""

    place: str
    kind: str
    signal: Signal
    request: bytes
    marks: tuple[bytes, ...]
    needles: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Of one place: how many secrets were planted, came out in clear, and are gone with what was around them."""

    planted: int
    clear: int
    gone: int


def corpus() -> list[Plant]:
    """All plants; always the same but for the times, which are now."""
    plants: list[Plant] = []
    for signal, places in _PLACES.items():
        for place, put in places.items():
            for kind, make in _kinds(place).items():
                number = _FIRST + len(plants)
                plants.append(_plant(signal, place, kind, put, number, *make(number)))
    return plants


def found(plants: Iterable[Plant], came_out: bytes) -> Mapping[str, Found]:
    """What came out, by place."""
    places: dict[str, Found] = {}
    for plant in plants:
        before = places.get(plant.place, Found(0, 0, 0))
        clear = any(needle in came_out for needle in plant.needles)
        gone = not clear and not any(mark in came_out for mark in plant.marks)
        places[plant.place] = Found(before.planted + 1, before.clear + clear, before.gone + gone)
    return places


# Kinds of secrets: (what stands in the text, what must not come out), made of a number.


def _email(number: int) -> tuple[str, str]:
    return (address := f"jo.zq{number}@mail.example.com"), address


def _card(number: int) -> tuple[str, str]:
    return (digits := _digits(number)), digits


def _spaced_card(number: int) -> tuple[str, str]:
    digits = _digits(number)
    return (spaced := " ".join(digits[at : at + 4] for at in range(0, 16, 4))), spaced


def _digits(number: int) -> str:
    """A Visa number with its check digit (ISO/IEC 7812-1)."""
    digits = f"45391488{number:07d}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 - place % 2)
        total += doubled - 9 * (doubled > 9)
    return digits + str(-total % 10)


def _jwt(number: int) -> tuple[str, str]:
    payload = base64.urlsafe_b64encode(b'{"sub": "zq%d"}' % number).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJlLXpx", payload


def _bearer(number: int) -> tuple[str, str]:
    return f"Authorization: Bearer zq{number}abcdefGHIJK", f"zq{number}abcdefGHIJK"


def _vendor(number: int) -> tuple[str, str]:
    return (token := f"ghp_{number:08d}" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9b"), token


def _login(number: int) -> tuple[str, str]:
    return f"https://admin:zq{number}pass@db.example.com/x", f"zq{number}pass"


_KINDS: dict[str, Callable[[int], tuple[str, str]]] = {
    "email": _email,
    "card": _card,
    "spaced card": _spaced_card,
    "jwt": _jwt,
    "bearer": _bearer,
    "vendor token": _vendor,
    "URL login": _login,
}


def _by_key(number: int) -> tuple[str, str]:
    return (told := f"zq{number}secret"), told


def _kinds(place: str) -> Mapping[str, Callable[[int], tuple[str, str]]]:
    """The kinds that the place can hold."""
    if "named" in place:
        return {"by key": _by_key}
    return {"card": _card} if place.endswith("number") else _KINDS


# How else a text can be written.


def percent_encoded(text: str) -> str:
    return quote(text, safe="")


def with_entities(text: str) -> str:
    return "".join(sign if sign.isalnum() else f"&#{ord(sign)};" for sign in text)


def full_width(text: str) -> str:
    """Digits and @ as their full-width forms, which stand 0xFEE0 above ASCII."""
    return "".join(chr(ord(sign) + 0xFEE0) if sign in "0123456789@" else sign for sign in text)


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, percent_encoded, with_entities, full_width)


# Places: how a text is put into a record, a span or a metric with all that is above it.


def _value(value: Any, text: str) -> None:
    value.string_value = text


def _listed(value: Any, text: str) -> None:
    value.array_value.values.add().string_value = text


def _mapped(value: Any, text: str) -> None:
    value.kvlist_value.values.add(key="inner").value.string_value = text


def _map_key(value: Any, text: str) -> None:
    value.kvlist_value.values.add(key=text).value.string_value = "x"


def _deep(value: Any, text: str) -> None:
    for _ in range(3):
        value = value.array_value.values.add().kvlist_value.values.add(key="deeper").value
    value.string_value = text


def _bytes(value: Any, text: str) -> None:
    value.bytes_value = text.encode()


def _json(value: Any, text: str) -> None:
    value.string_value = json.dumps({"user": {"notes": [text]}})


def _json_in_json(value: Any, text: str) -> None:
    value.string_value = json.dumps({"payload": json.dumps({"notes": text})})


def _percent(value: Any, text: str) -> None:
    value.string_value = percent_encoded(text)


def _query(value: Any, text: str) -> None:
    value.string_value = f"https://shop.example.com/pay?next=1&note={percent_encoded(text)}"


def _entities(value: Any, text: str) -> None:
    value.string_value = with_entities(text)


def _wide(value: Any, text: str) -> None:
    value.string_value = full_width(text)


def _int(value: Any, text: str) -> None:
    value.int_value = int(text)


_VALUES: dict[str, Put] = {
    "text": _value,
    "item of a list": _listed,
    "value in a map": _mapped,
    "key in a map": _map_key,
    "lists and maps, six deep": _deep,
    "bytes": _bytes,
    "number": _int,
    "JSON in a text": _json,
    "JSON in JSON": _json_in_json,
    "percent-encoded": _percent,
    "URL query": _query,
    "HTML entities": _entities,
    "full-width signs": _wide,
}


@dataclass(frozen=True, slots=True)
class _Chain:
    """A record, span or metric and what it is in."""

    resources: Any
    scopes: Any
    item: Any

    @property
    def event(self) -> Any:
        return self.item.events.add(time_unix_nano=time.time_ns())

    @property
    def link(self) -> Any:
        return self.item.links.add(trace_id=b"\x02" * 16, span_id=b"\x02" * 8)

    @property
    def point(self) -> Any:
        points = self.item.gauge.data_points
        return points[0] if points else points.add(time_unix_nano=time.time_ns(), as_int=1)

    @property
    def exemplar(self) -> Any:
        return self.point.exemplars.add(time_unix_nano=time.time_ns(), as_int=1)


def _field(path: str) -> Put:
    *above, name = path.split(".")

    def put(chain: _Chain, text: str) -> None:
        setattr(_at(chain, above), name, text)

    return put


def _body(into: Put) -> Put:
    return lambda chain, text: into(chain.item.body, text)


def _attribute(path: str, into: Put, key: str = "note") -> Put:
    return lambda chain, text: into(_at(chain, path.split(".")).add(key=key).value, text)


def _key(path: str) -> Put:
    def put(chain: _Chain, text: str) -> None:
        _at(chain, path.split(".")).add(key=text).value.string_value = "x"

    return put


def _at(chain: _Chain, path: Iterable[str]) -> Any:
    return reduce(getattr, path, chain)


def _attributes(name: str, path: str, values: Iterable[str] = ("text", "value in a map")) -> dict[str, Put]:
    return {
        **{f"{name}: {value}": _attribute(path, _VALUES[value]) for value in values},
        f"{name}: key": _key(path),
    }


_PLACES: dict[Signal, dict[str, Put]] = {
    "logs": {
        **{f"log body: {name}": _body(into) for name, into in _VALUES.items()},
        **_attributes("log attribute", "item.attributes", _VALUES),
        "log attribute named password": _attribute("item.attributes", _value, "password"),
        "log attribute named x-api-key": _attribute("item.attributes", _value, "x-api-key"),
        "event name": _field("item.event_name"),
        "severity text": _field("item.severity_text"),
        **_attributes("resource attribute", "resources.resource.attributes"),
        "resource's schema URL": _field("resources.schema_url"),
        "scope name": _field("scopes.scope.name"),
        "scope version": _field("scopes.scope.version"),
        **_attributes("scope attribute", "scopes.scope.attributes"),
    },
    "traces": {
        "span name": _field("item.name"),
        "trace state": _field("item.trace_state"),
        "span status message": _field("item.status.message"),
        **_attributes("span attribute", "item.attributes"),
        "span event name": _field("event.name"),
        **_attributes("span event attribute", "event.attributes"),
        "link's trace state": _field("link.trace_state"),
        **_attributes("link attribute", "link.attributes"),
    },
    "metrics": {
        "metric name": _field("item.name"),
        "metric description": _field("item.description"),
        "metric unit": _field("item.unit"),
        **_attributes("metric's metadata", "item.metadata"),
        **_attributes("data point attribute", "point.attributes"),
        **_attributes("exemplar attribute", "exemplar.filtered_attributes"),
    },
}


def _plant(signal: Signal, place: str, kind: str, put: Put, number: int, written: str, secret: str) -> Plant:
    request, chain = _empty(signal)
    needles = [spelt(secret).encode() for spelt in _SPELLINGS]
    if place.endswith("number"):
        marks = [""]
        put(chain, written)
        needles.append(_varint(int(secret)))
    else:
        marks = [f"zqmark{number}", f"zqmark{full_width(str(number))}"]
        put(chain, f"zqmark{number} {written} end")
    if signal == "metrics":
        _ = chain.point  # a metric without any is nothing
    return Plant(
        place,
        kind,
        signal,
        request.SerializeToString(),
        tuple(mark.encode() for mark in marks),
        tuple(needles),
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _empty(signal: Signal) -> tuple[Message, _Chain]:
    """A request with one record, span or metric, and where to find it."""
    now = time.time_ns()
    if signal == "logs":
        logs = ExportLogsServiceRequest()
        by_resource = logs.resource_logs.add()
        by_scope = by_resource.scope_logs.add()
        return logs, _Chain(by_resource, by_scope, by_scope.log_records.add(time_unix_nano=now))
    if signal == "traces":
        traces = ExportTraceServiceRequest()
        of = traces.resource_spans.add()
        within = of.scope_spans.add()
        span = within.spans.add(
            trace_id=b"\x01" * 16, span_id=b"\x01" * 8, start_time_unix_nano=now, end_time_unix_nano=now
        )
        return traces, _Chain(of, within, span)
    metrics = ExportMetricsServiceRequest()
    measured = metrics.resource_metrics.add()
    inside = measured.scope_metrics.add()
    return metrics, _Chain(measured, inside, inside.metrics.add(name="zq.metric"))
