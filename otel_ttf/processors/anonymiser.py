"""Takes off all that tells who it was."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from otel_ttf.otlp.identity import EVENT_ID
from otel_ttf.otlp.leaving import keep
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.tree import Walker, as_text, named
from otel_ttf.pii.json_text import DROP, Drop, Leaf, Path, rewrite
from otel_ttf.pii.keyrules import KeyRule, KeyRules
from otel_ttf.processors.base import Derivation


class Telling:
    """Knows which attributes tell who it was: also those that would be masked by their key, since a hash or a part
    still tells one from another; and what was derived from one of these. Threads may share one.

    configured  rules for keys; what one of them keeps goes nevertheless if it is personal for all we know
    """

    def __init__(
        self,
        keys: SubjectKeys,
        configured: Sequence[KeyRule] = (),
        derivations: Sequence[Derivation] = (),
    ) -> None:
        self._keys = keys
        self._derived: Set[str] = frozenset()
        ways = [(), configured] if configured else [()]
        self._rules = [KeyRules(way, keys.names) for way in ways]
        told = [one for one in derivations if any(self([source]) for source in one.sources)]
        self._derived = frozenset().union(*(one.targets for one in told))

    def __call__(self, path: Sequence[str]) -> bool:
        """path: the attribute's key, behind those of the maps that it stands in."""
        key = path[-1]
        if self._keys.rank(key) is not None or key == EVENT_ID or key in self._derived:
            return True
        for rules in self._rules:
            rule = rules.rule(key)
            if (rule is not None and rule.masks) or (len(path) > 1 and rules.nested(path) is not None):
                return True
        return False


class Anonymiser(Walker):
    """Takes off every attribute that tells who it was, at all depths and in JSON. For one thread."""

    looks_at_texts = False

    def __init__(self, tells: Telling) -> None:
        self._tells = tells
        self._path: list[str] = []

    def pairs(self, pairs: Any) -> bool:
        changed = keep(pairs, lambda pair: not self._tells([*self._path, pair.key]))
        return super().pairs(pairs) or changed

    def one(self, pair: Any) -> bool:
        self._path.append(pair.key)
        try:
            return super().one(pair)
        finally:
            self._path.pop()

    def value(self, value: Any) -> bool:
        """Pairs that are written as lists or maps stay without their value; JSON in texts loses its members."""
        kind = value.WhichOneof("value")
        if kind in ("string_value", "bytes_value"):
            data = getattr(value, kind)
            text, encoding = (data, "") if kind == "string_value" else as_text(data)
            new = rewrite(text, _InJson(self._tells, self._path))
            if new is not None:
                setattr(value, kind, new.encode(encoding) if encoding else new)
            return new is not None
        pair = named(value)
        if pair is not None and self._tells([*self._path, pair[0]]):
            value.Clear()
            return True
        return super().value(value)


class _InJson:
    """Takes members off (json_text.Visitor)."""

    def __init__(self, tells: Telling, outer: Sequence[str]) -> None:
        self._tells = tells
        self._outer = list(outer)

    def member(self, path: Path) -> Drop | None:
        return DROP if self._tells([*self._outer, *path]) else None

    def leaf(self, value: Leaf, path: Path, rule: None) -> None:
        return None

    def name(self, path: Path) -> str:
        return path[-1]
