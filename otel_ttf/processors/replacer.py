"""Subject attributes in attribute lists, at all depths: whom they name, and a token in the place of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_ttf.otlp.subject import SubjectKeys, with_text
from otel_ttf.otlp.tree import Walker
from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES, Pseudonyms, is_token, subject_text

REDACTED = "[REDACTED]"
NOBODY = 1 << 30


class Replacer(Walker):
    """Replaces subject attributes, at all depths.

    subject, rank  of the uppermost ones of a list, the one that counts, as it came; token: its own
    rule           what the first subject that breaks one breaks
    """

    looks_at_texts = False

    def __init__(
        self, keys: SubjectKeys, pseudonyms: Pseudonyms | Noting, normalise: str, *, trusted: bool
    ) -> None:
        self.subject: str | None = None
        self.rank = NOBODY
        self.rule: str | None = None
        self.token: str | None = None
        self._keys = keys
        self._pseudonyms = pseudonyms
        self._normalise = normalise
        self._trusted = trusted

    def start(self) -> None:
        """The next record begins."""
        self.subject, self.rank, self.rule, self.token = None, NOBODY, None, None

    def pairs_of(
        self, pairs: Sequence[bytes], likely: Sequence[tuple[int, bytes]] | None = None
    ) -> list[tuple[int, bytes]]:
        """(index, new bytes) of the attributes of an encoded list that change; also finds the subject.

        likely  what SubjectKeys.likely says of them, if known
        """
        new = []
        for index, data in self._keys.likely(pairs) if likely is None else likely:
            plain = None if self._trusted else self._keys.text(data)
            if plain is None:
                pair = KeyValue.FromString(data)
                pair.DiscardUnknownFields()
                if self.top(pair) or pair.ByteSize() != len(data):
                    new.append((index, pair.SerializeToString()))
                continue
            rank, text, start = plain
            subject = subject_text(str(text, "utf-8"), self._normalise)
            if subject is not None:
                token = self._pseudonyms.token(subject)
                new.append((index, with_text(start, token.encode())))
                if rank <= self.rank:
                    self.subject, self.rank, self.token = subject, rank, token
        return new

    def pair(self, pair: Any) -> bool | None:
        rank = self._keys.rank(pair.key)
        return None if rank is None else self._replace(pair.value, rank)[0]

    def top(self, pair: Any) -> bool:
        """A KeyValue of an attribute list."""
        rank = self._keys.rank(pair.key)
        if rank is None:
            return self.one(pair)
        changed, subject = self._replace(pair.value, rank)
        if subject is not None and rank <= self.rank:
            self.subject, self.rank, self.token = subject, rank, pair.value.string_value
        return changed

    def _replace(self, value: Any, rank: int) -> tuple[bool, str | None]:
        """(whether the value was changed, the subject that it was)."""
        kind = value.WhichOneof("value")
        inner = value
        if kind == "array_value" and len(value.array_value.values) == 1:
            inner = value.array_value.values[0]
            kind = inner.WhichOneof("value")
        elif kind == "array_value" and not value.array_value.values:
            return False, None
        if kind is None:
            return False, None
        if kind == "string_value" and self._trusted:
            text = inner.string_value
            if is_token(text):
                value.string_value = text
                return True, text
            if text == REDACTED:
                return False, None
        if kind not in ("string_value", "int_value"):
            value.string_value = REDACTED
            return True, None
        subject = subject_text(getattr(inner, kind), self._normalise)
        if subject is None:
            return False, None
        size = len(subject.encode())
        if size > MAX_SUBJECT_BYTES:
            # The first one is told: the two paths walk the rest of a record in different orders.
            if self.rule is None:
                self.rule = (
                    f"{self._keys.names[rank]}: expected at most {MAX_SUBJECT_BYTES} bytes, found {size}"
                )
            value.string_value = REDACTED
            return True, None
        value.string_value = self._pseudonyms.token(subject)
        return True, subject


class Noting:
    """Pseudonyms that note whom they were asked for: token -> user id."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self.ids: dict[str, str] = {}

    def token(self, subject: str) -> str:
        token = self._pseudonyms.token(subject)
        self.ids[token] = subject
        return token
