"""`privacy.subject: keep`: user ids stay as they came, and their tokens stand beside them.

Whatever reads a masked record reads the token; the id itself could have the form of somebody else's. What a sender
brings in the token's place is taken off first, so that nobody writes into another's journey.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.leaving import keep
from otel_ttf.otlp.subject import BESIDE, KeptSubjects
from otel_ttf.otlp.tree import Walker
from otel_ttf.processors.base import Setting
from otel_ttf.processors.pseudonymise import Pseudonymise
from otel_ttf.processors.replacer import Replacer


class _Beside(Replacer):
    """Puts tokens beside subject attributes, in the same list, at all depths; what is no id is replaced as ever."""

    def pairs(self, pairs: Any) -> bool:
        changed = keep(pairs, _ours)
        named: list[tuple[int, str]] = []
        for pair in pairs:
            rank = self._keys.rank(pair.key)
            if rank is None:
                changed |= self.one(pair)
                continue
            value = AnyValue()
            value.CopyFrom(pair.value)
            replaced, subject = self._replace(value, rank)
            if subject is not None:
                named.append((rank, value.string_value))
            elif replaced:
                pair.value.CopyFrom(value)
                changed = True
        # Readers take the last one: the one that counts. The others are there for consent.
        named.sort(key=lambda one: -one[0])
        last = {token: at for at, (_, token) in enumerate(named)}
        tokens = [token for at, (_, token) in enumerate(named) if last[token] == at]
        pairs.extend([KeyValue(key=BESIDE, value=AnyValue(string_value=token)) for token in tokens])
        return changed or bool(tokens)

    def value(self, value: Any) -> bool:
        """In pairs that are no attributes, and in texts, ids stay."""
        return Walker.value(self, value)


def _ours(pair: Any) -> bool:
    return bool(pair.key != BESIDE)


class KeepIds(Pseudonymise):
    """Everything is decoded: with ids in plain, speed is nobody's first concern."""

    whole = True

    def __init__(self, setting: Setting, subject: KeptSubjects) -> None:
        super().__init__(setting)
        self._keys = subject.sent

    def _replacer(self, batch: Batch) -> Replacer:
        return _Beside(self._keys, self._pseudonyms, self._normalise, trusted=batch.trusted)
