"""The walk that masks: each value by its key, each text by what it holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otel_ttf.otlp.leaving import MARK
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.otlp.tree import Walker, as_text, named
from otel_ttf.pii.action import Action
from otel_ttf.pii.keyrules import Rule
from otel_ttf.pii.masking import Masking, Where
from otel_ttf.pii.scanner import EVERYTHING


class Masker(Walker):
    """Replaces values by their key, and what the detectors find in any text. For one thread.

    where   where it stands, and what was done
    groups  what the scan says of what is visited
    """

    def __init__(self, masking: Masking, subject: SubjectKeys, where: Where, *, seals: bool = False) -> None:
        self.where = where
        self.groups = EVERYTHING
        self._masking = masking
        self._subject = subject
        self._seals = seals

    def text(self, text: str) -> str:
        self.where.place = self.place
        return self._masking.text(text, self.where, self.groups)

    def number(self, number: float) -> str | None:
        self.where.place = self.place
        return self._masking.number(number, self.where)

    def message(self, message: Any, *, without: Iterable[str] = ()) -> bool:
        if not self._seals or "attributes" not in message.DESCRIPTOR.fields_by_name:
            return super().message(message, without=without)
        # What is sealed is the subject's: the record's own, else that of what it stands in.
        before = self.where.subject
        pairs = [pair.SerializeToString() for pair in message.attributes]
        self.where.subject = self._subject.token(pairs) or before
        try:
            return super().message(message, without=without)
        finally:
            self.where.subject = before

    def pairs(self, pairs: Any) -> bool:
        changed = False
        gone = []
        for at, pair in enumerate(pairs):
            changed |= self.one(pair)
            if self.where.drop:
                self.where.drop = False
                gone.append(at)
        for at in reversed(gone):
            del pairs[at]
        return changed

    def one(self, pair: Any) -> bool:
        where, key = self.where, pair.key
        changed = False
        if pair.HasField("value") and self._subject.rank(key) is None:
            where.path.append(key)
            # No rule takes off what keeps a record from vendors.
            known = self._masking.by_key(where.path) if key != MARK else None
            if known is not None:
                changed = self.keyed(pair.value, *known)
            else:
                before = where.safe, where.digits
                self._masking.look(where.path, where)
                changed = self.value(pair.value)
                where.safe, where.digits = before
            where.path.pop()
        outer = self.place
        self.place = "key"
        drop = where.drop
        if (new := self.text(key)) != key:
            pair.key = new
            changed = True
        where.drop = drop
        self.place = outer
        return changed

    def value(self, value: Any) -> bool:
        pair = named(value)
        known = self._masking.by_key([pair[0]]) if pair is not None else None
        if pair is None or known is None:
            return super().value(value)
        return self.keyed(pair[1], *known) | super().value(value)

    def keyed(self, value: Any, rule: Rule, action: Action) -> bool:
        """A value whose key has a rule: all that it holds; maps and lists stay what they are."""
        if action == "keep":
            return False
        kind = value.WhichOneof("value")
        if kind is None:
            return False
        where = self.where
        where.place = self.place
        if action == "drop":
            where.drop = True
            where.note("key", rule.origin, "", "")
            return True
        if kind == "kvlist_value":
            changed = False
            for pair in value.kvlist_value.values:
                where.path.append(pair.key)
                changed |= self.keyed(pair.value, rule, action)
                where.path.pop()
                if (name := self.text(pair.key)) != pair.key:
                    pair.key = name
                    changed = True
            return changed
        if kind == "array_value":
            changed = False
            for element in value.array_value.values:
                changed |= self.keyed(element, rule, action)
            return changed
        old = getattr(value, kind)
        new: str | float
        if kind == "string_value":
            new = self._masking.keyed(rule, action, old, where)
        elif kind == "bytes_value":
            old, _ = as_text(old)
            new = self._masking.keyed(rule, action, old, where)
        elif kind == "bool_value":
            new = self._masking.keyed(rule, action, str(old).lower(), where)
        else:
            new = self._masking.keyed_number(rule, action, old, where)
        if new == old:
            return False
        if isinstance(new, str):
            value.string_value = new
        else:
            setattr(value, kind, type(old)(new))
        return True
