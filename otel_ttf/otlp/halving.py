"""A masked request halved, down to a single record."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from google.protobuf.message import DecodeError

from otel_ttf.otlp.events import pack_ids, unpack_ids
from otel_ttf.otlp.wire import SHAPES, Signal


@dataclass(frozen=True, slots=True)
class Half:
    """A part of a request that is a request itself, each record below its own resource and scope.

    ids      of its events, by place in this part (events.pack_ids)
    records  log records, spans or metrics in it
    first    how many stand before it in what was halved
    """

    payload: bytes
    ids: bytes
    records: int
    first: int


def halves(signal: Signal, payload: bytes, ids: bytes) -> tuple[Half, Half] | None:
    """Both halves of a request; None: it has no two records, or its records cannot be told apart.

    Between two resources where it has more with records, since that copies none; else in the middle.
    """
    shape = SHAPES[signal]
    try:
        whole = shape.shallow.FromString(payload)
        ends = list(
            accumulate(sum(len(scope.records) for scope in resource.scopes) for resource in whole.resources)
        )
        count = ends[-1] if ends else 0
        if count < 2:
            return None
        middle = min(
            (end for end in ends if 0 < end < count),
            key=lambda end: abs(2 * end - count),
            default=count // 2,
        )
        first, second = shape.shallow(), shape.shallow()
        before = number = 0  # places of ids in the first half; records
        for resource in whole.resources:
            here: list[Any] = [None, None]
            for scope in resource.scopes:
                records = scope.records[:]
                left = min(max(middle - number, 0), len(records))
                if signal == "traces":
                    before += sum(len(shape.view.FromString(span).events) for span in records[:left])
                number += len(records)
                for side, half, part in ((0, first, records[:left]), (1, second, records[left:])):
                    if part:
                        if here[side] is None:
                            here[side] = half.resources.add(
                                resource=resource.resource, schema_url=resource.schema_url
                            )
                        here[side].scopes.add(scope=scope.scope, schema_url=scope.schema_url, records=part)
    except DecodeError:
        return None
    if signal == "logs":
        before = middle
    known = unpack_ids(ids)
    return (
        Half(
            first.SerializeToString(),
            pack_ids({place: id_ for place, id_ in known.items() if place < before}),
            middle,
            0,
        ),
        Half(
            second.SerializeToString(),
            pack_ids({place - before: id_ for place, id_ in known.items() if place >= before}),
            count - middle,
            middle,
        ),
    )
