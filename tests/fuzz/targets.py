"""What has to hold for any bytes: each target takes them, and raises where it doesn't."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from configured import configuration, match, mutated_json, some_configurations, some_matches
from google.protobuf import json_format
from made import NOW, TEXTS, request
from serving import RULES as SERVED
from serving import real_pipeline
from test_fast_is_plain import RULES, everything, known, run
from wire import mutated

from otel_ttf.clock import ManualClock
from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.wire import SIGNALS, Malformed, Signal, decode
from otel_ttf.pii.masking import Where, for_messages
from otel_ttf.pii.scanner import ENGINES, Engine
from otel_ttf.receivers.prepare import Preparation, Prepared, Receipt, Request

_ENGINES = ENGINES
Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """check   raises where something doesn't hold
    seeds   inputs to begin with
    mutate  how an input becomes another, given how plain bytes do; None: as bytes
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    mutate: Callable[[bytes, random.Random, Mutate], bytes] | None = None


def paths(data: bytes) -> None:
    """The fast path gives what the plain one gives. The first byte chooses signal, engine, rules and trust."""
    if not data:
        return
    chosen, raw = data[0], data[1:]
    signal, engine = SIGNALS[chosen % 3], _ENGINES[chosen // 3 % len(_ENGINES)]
    rules, trusted = RULES[chosen // 9 % 2], chosen // 18 % 2 == 1
    fast, plain = (_through(signal, raw, engine, rules, trusted, plain) for plain in (False, True))
    assert fast == plain


def _through(signal: Signal, raw: bytes, engine: Engine, rules: Any, trusted: bool, plain: bool) -> object:
    try:
        batch = run(signal, raw, engine, seed=len(raw), trusted=trusted, plain=plain)
        # As bytes: NaN is not equal to itself.
        out = known(signal, batch.finish()).SerializeToString(deterministic=True)
        return out, everything(batch, rules)
    except Malformed as refused:
        return str(refused)


def _some_requests() -> Iterator[bytes]:
    for seed in range(108):
        yield bytes([seed % 36]) + request(SIGNALS[seed % 3], random.Random(seed), odd=seed % 2 == 1)


def _mutated_request(data: bytes, rng: random.Random, mutate: Mutate) -> bytes:
    if not data or rng.random() < 0.05:
        return mutate(data, rng)
    return data[:1] + mutated(data[1:], rng, mutate)


def door(data: bytes) -> None:
    """A request is taken or refused for good, each of its records told of, and its neighbour's as if alone."""
    if not data:
        return
    signal, raw = SIGNALS[data[0] % 3], data[1:]
    neighbour = _NEIGHBOURS[signal]
    (alone,) = _told(signal, [raw])
    if isinstance(alone, Receipt):
        assert alone.accepted >= 0
        assert len(alone.rejected) == alone.refused
        with suppress(Malformed):
            assert alone.accepted + alone.refused == _size(signal, decode(signal, raw))
    assert _told(signal, [raw, neighbour]) == [alone, *_told(signal, [neighbour])]


def _told(signal: Signal, raws: Sequence[bytes]) -> list[Receipt | str]:
    told: dict[int, Receipt | str] = {}
    for part, numbers in _prepare()(signal, [Request(raw) for raw in raws], False):
        if isinstance(part, Prepared):
            if part.entry is not None:
                decode(part.entry.signal, part.entry.payload)
            told |= zip(numbers, part.receipts, strict=True)
        elif isinstance(part, Malformed):
            told[numbers[0]] = str(part)
        else:
            raise part
    return [told[number] for number in range(len(raws))]


def _size(signal: Signal, made: Any) -> int:
    """Log records, spans, or data points."""
    if signal == "logs":
        return sum(len(scope.log_records) for one in made.resource_logs for scope in one.scope_logs)
    if signal == "traces":
        return sum(len(scope.spans) for one in made.resource_spans for scope in one.scope_spans)
    metrics = (m for one in made.resource_metrics for scope in one.scope_metrics for m in scope.metrics)
    return sum(len(getattr(m, kind).data_points) for m in metrics if (kind := m.WhichOneof("data")))


@cache
def _prepare() -> Preparation:
    return Preparation(real_pipeline(consent=False), SERVED, ManualClock(NOW))


_NEIGHBOURS = {signal: request(signal, random.Random(5), odd=False) for signal in SIGNALS}


def text(data: bytes) -> None:
    """Masking a text raises nothing, and doing it again changes nothing."""
    told = data.decode(errors="replace")
    once = for_messages().text(told, Where())
    assert for_messages().text(once, Where()) == once


def _some_texts() -> Iterator[bytes]:
    yield from (one.encode() for one in TEXTS)
    rng = random.Random(1)
    for _ in range(50):
        yield "".join(rng.choices(TEXTS, k=3)).encode()


def from_json(data: bytes) -> None:
    """OTLP/JSON becomes a request, or is Malformed. The first byte chooses the signal."""
    if data:
        signal = SIGNALS[data[0] % 3]
        with suppress(Malformed):
            decode(signal, otlp_json.decode(signal, data[1:]))


def _some_json() -> Iterator[bytes]:
    for seed in range(30):
        signal = SIGNALS[seed % 3]
        made = decode(signal, request(signal, random.Random(seed), odd=False))
        document = json_format.MessageToDict(made, use_integers_for_enums=True)
        yield bytes([seed % 3]) + json.dumps(document).encode()


TARGETS = {
    "paths": Target(paths, _some_requests, _mutated_request),
    "text": Target(text, _some_texts),
    "from_json": Target(from_json, _some_json),
    "door": Target(door, _some_requests, _mutated_request),
    "match": Target(match, some_matches, mutated_json),
    "configuration": Target(configuration, some_configurations),
}
