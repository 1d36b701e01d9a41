"""A request cut into slices, and put together again.

What nobody changes stays the bytes that came; what is changed is put back, and one serialisation at the end splices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from otel_ttf.otlp.leaving import keep
from otel_ttf.otlp.wire import Shape


@dataclass(slots=True, eq=False)
class Head:
    """A resource or a scope, with the slices that stand below it.

    data, url   its bytes as they are now, of whatever type; received: as they came
    first, end  its slices
    subject     the subject that a resource names, as it came
    gone        it goes, with all that is below; the slices have been dropped
    """

    kind: Literal["resource", "scope"]
    container: Any
    data: bytes
    url: bytes
    received: bytes
    first: int
    end: int
    present: bool
    changed: bool = False
    subject: str | None = None
    gone: bool = False


class Cut:
    """A request that was decoded before, so that it is known to be sound.

    names     of logs that have one, of all spans; sizes: events of a span, data points of a metric; see wire.contents
    slices    its records, as they are now
    complete  whether nothing stood in it beside resources, scopes and records; what did is gone
    """

    def __init__(self, shape: Shape, raw: bytes, names: Mapping[int, str], sizes: dict[int, int]) -> None:
        self.names = names
        self.sizes = sizes
        self._shallow = shape.shallow.FromString(raw)
        self._shallow.DiscardUnknownFields()
        self.complete = self._shallow.ByteSize() == len(raw)
        self.resources: list[Head] = []
        self.scopes: list[Head] = []
        self.slices: list[bytes] = []
        self._owners: list[int] = []  # first slice of each resource
        for by_resource in self._shallow.resources:
            first = len(self.slices)
            for by_scope in by_resource.scopes:
                start = len(self.slices)
                self.slices += by_scope.records
                self.scopes.append(_head("scope", by_scope, by_scope.scope, start, len(self.slices)))
            self.resources.append(
                _head("resource", by_resource, by_resource.resource, first, len(self.slices))
            )
            self._owners.append(first)

    @property
    def heads(self) -> Sequence[Head]:
        """Resources, then scopes."""
        return [*self.resources, *self.scopes]

    def resource_of(self, number: int) -> Head:
        """The resource of a slice."""
        if len(self.resources) == 1:
            return self.resources[0]
        # The last that begins here or before; those without slices begin where the next one does.
        return self.resources[bisect_right(self._owners, number) - 1]

    def joined(self, changed: Sequence[int], dropped: Set[int]) -> bytes:
        """The request as it is now; once. changed: slices that are not what they were, in order; dropped: which go."""
        heads = [head for head in self.heads if head.changed]
        for head in heads:
            occurrences = getattr(head.container, head.kind)
            del occurrences[:]
            if head.present:
                occurrences.append(head.data)
            head.container.schema_url = head.url
        at = 0
        numbers = iter(range(len(self.slices)))
        for scope in self.scopes:
            records = scope.container.records
            while at < len(changed) and changed[at] < scope.end:
                records[changed[at] - scope.first] = self.slices[changed[at]]
                at += 1
            if dropped:
                keep(records, lambda _: next(numbers) not in dropped)
        if any(head.gone for head in heads):
            scopes, resources = iter(self.scopes), iter(self.resources)
            for by_resource in self._shallow.resources:
                keep(by_resource.scopes, lambda _: not next(scopes).gone)
            keep(self._shallow.resources, lambda _: not next(resources).gone)
        return bytes(self._shallow.SerializeToString())


def _head(kind: Literal["resource", "scope"], container: Any, data: Any, first: int, end: int) -> Head:
    joined = b"".join(data)
    return Head(kind, container, joined, container.schema_url, joined, first, end, len(data) > 0)
