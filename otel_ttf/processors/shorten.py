"""Cuts what is too much of one thing: attributes, elements of lists and maps, texts. Values that are nested too deeply
are cut when the request is read (mend.py).

It comes after masking, so that nothing is cut in two which would have been found as a whole. Records that came too
short to hold too much are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.cut import Head
from otel_ttf.otlp.events import NAME_ATTRIBUTES
from otel_ttf.otlp.leaving import MARK
from otel_ttf.otlp.mend import REPAIRED
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.tree import Walker, as_text, plan
from otel_ttf.otlp.wire import BYTES, SHAPES, layout, within
from otel_ttf.pii.pseudonym import TOKEN, is_token
from otel_ttf.pii.sealed import SEALED
from otel_ttf.processors.base import Processor
from otel_ttf.processors.validate import ValidateConfig
from otel_ttf.units import size_text

_LEAST = 2  # bytes of an attribute or element, with its tag
_MOST_DROPPED = 2**32 - 1
# What masking has put there: half of it would be nothing.
_WHOLE = re.compile(rf"\[[A-Za-z0-9_]{{1,64}}(?::[A-Za-z0-9_]{{1,40}})?\]|{TOKEN.pattern}|{SEALED.pattern}")
_LONGEST = 128  # characters; of something sealed, which may be longer, these are enough to know it by
# Where it is said what a record is, and what may be done with it, beside who it is about.
_KEPT = frozenset([*NAME_ATTRIBUTES, MARK, REPAIRED])
_KINDS = {"resource": Resource, "scope": InstrumentationScope}


def shortening(config: ValidateConfig, subject: SubjectKeys) -> Processor:
    """A processor that cuts what is too much, and warns and counts."""
    size = config.max_value_size
    least = min(config.max_attributes, config.max_elements)
    shortest = min(_LEAST * least, size)
    told = {
        "attributes": f"attributes beyond {config.max_attributes} in a list: %d, dropped",
        "elements": f"elements beyond {config.max_elements} of a list or map: %d, dropped",
        "values": f"values of more than {size_text(size)}: %d, cut",
    }

    def cut(batch: Batch) -> Batch:
        heads: Sequence[Head]
        numbers: Sequence[int]
        if batch.plain:
            heads, numbers = batch.heads, range(len(batch))
        elif len(batch.raw) <= shortest:
            return batch
        else:
            heads = [head for head in batch.heads if len(head.data) > shortest or len(head.url) > shortest]
            slices = batch.slices
            large = max(map(len, slices), default=0) > shortest
            numbers = [at for at, data in enumerate(slices) if len(data) > shortest] if large else ()
        if heads or numbers:
            _cut(batch, heads, numbers)
        return batch

    def _cut(batch: Batch, heads: Iterable[Head], numbers: Iterable[int]) -> None:
        shortener = _Shortener(config, subject)

        def changed(kind: type[Any], data: bytes) -> bytes | None:
            if not batch.plain and len(data) <= size and not _many(kind, data, least):
                return None
            message = kind.FromString(data)
            return bytes(message.SerializeToString()) if shortener.message(message) else None

        def note(number: int) -> None:
            for what, count in shortener.taken().items():
                batch.mended(number, what, count, told[what])

        for head in heads:
            if head.gone:
                continue
            new = changed(_KINDS[head.kind], head.data)
            if new is not None:
                head.data, head.changed = new, True
            url = head.url.decode()
            if (new_url := shortener.text(url)) != url:
                head.url, head.changed = new_url.encode(), True
            # A sender is told about what holds records.
            note(head.first if head.first < head.end else -1)
        for number in numbers:
            if not batch.gone(number):
                new = changed(batch.shape.record, batch.slice(number))
                if new is not None:
                    batch.replace(number, new)
                note(number)

    return cut


def _tags(kind: type[Any]) -> list[tuple[bytes, bytes]]:
    """The bytes that attributes and elements can begin with: tags, as they are and as the beginning of longer ones."""
    pair = layout(KeyValue.DESCRIPTOR)
    numbers = {n for one in within(layout(kind.DESCRIPTOR)) for n, inner in one.items() if inner is pair}
    tags = [number << 3 | BYTES for number in sorted(numbers)]  # of an element 1, as of a map's entry
    return [(bytes([tag]), bytes([tag | 128])) for tag in tags]


_TAGS = {
    kind: _tags(kind)
    for kind in (Resource, InstrumentationScope, *(shape.record for shape in SHAPES.values()))
}


def _many(kind: type[Any], data: bytes, most: int) -> bool:
    """Whether a list in an encoded message may have more elements than that."""
    return any(data.count(tag) + data.count(longer) > most for tag, longer in _TAGS[kind])


class _Shortener(Walker):
    """Cuts whatever it visits. For one thread."""

    def __init__(self, config: ValidateConfig, subject: SubjectKeys) -> None:
        self._config = config
        self._subject = subject
        self._size = config.max_value_size
        self._counts = dict.fromkeys(("attributes", "elements", "values"), 0)

    def taken(self) -> dict[str, int]:
        """What was cut since the last time, how often."""
        counts = {what: count for what, count in self._counts.items() if count}
        self._counts.update(dict.fromkeys(counts, 0))
        return counts

    def message(self, message: Any, *, without: Iterable[str] = ()) -> bool:
        changed = False
        for name, _ in plan(message.DESCRIPTOR).lists:
            pairs = getattr(message, name)
            if len(pairs) > self._config.max_attributes:
                gone = self._attributes(pairs)
                changed |= gone > 0
                if name == "attributes" and "dropped_attributes_count" in message.DESCRIPTOR.fields_by_name:
                    message.dropped_attributes_count = min(
                        _MOST_DROPPED, message.dropped_attributes_count + gone
                    )
        return super().message(message, without=without) or changed

    def _attributes(self, pairs: Any) -> int:
        """Drops all behind the first ones but for what tells who and what it is, of each name the last; how many."""
        last: dict[object, Any] = {}
        for pair in pairs[self._config.max_attributes :]:
            name = self._name(pair)
            if name is not None:
                last.pop(name, None)
                last[name] = pair
        kept = [*last.values()]
        gone = len(pairs) - self._config.max_attributes - len(kept)
        if gone:
            del pairs[self._config.max_attributes :]
            pairs.extend(kept)
            self._counts["attributes"] += gone
        return gone

    def _name(self, pair: Any) -> object:
        """Tells those that stay from each other; None: it goes."""
        if pair.key in _KEPT:
            return pair.key if pair.value.string_value or pair.key not in NAME_ATTRIBUTES else None
        rank = self._subject.rank(pair.key)
        return None if rank is None else (rank, is_token(pair.value.string_value))

    def value(self, value: Any) -> bool:
        kind = value.WhichOneof("value")
        if kind == "bytes_value":
            data = value.bytes_value
            if len(data) <= self._size:
                return False
            value.bytes_value = self._begin(*as_text(data), data)
            return True
        gone = 0
        if kind in ("array_value", "kvlist_value"):
            elements = getattr(value, kind).values
            gone = max(0, len(elements) - self._config.max_elements)
            if gone:
                del elements[self._config.max_elements :]
                self._counts["elements"] += gone
        return super().value(value) or gone > 0

    def text(self, text: str) -> str:
        if len(text) * 4 <= self._size or len(data := text.encode()) <= self._size:
            return text
        return self._begin(text, "utf-8", data).decode()

    def _begin(self, text: str, encoding: str, data: bytes) -> bytes:
        """As much of a text as may be, without the half of a letter or of what masking has put there."""
        self._counts["values"] += 1
        kept = data[: self._size].decode(encoding, errors="ignore")
        for match in _WHOLE.finditer(text, 0, len(kept) + _LONGEST):
            if match.end() > len(kept):
                kept = kept[: match.start()]
                break
        return kept.encode(encoding)

    def id(self, message: Any, name: str, size: int) -> bool:
        if len(getattr(message, name)) <= self._size:
            return False
        self._counts["values"] += 1
        setattr(message, name, b"")
        return True
