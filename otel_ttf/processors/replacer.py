"""Subject attributes in attribute lists, at all depths: whom they name, and a token in the place of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_ttf.otlp.subject import SubjectKeys, with_text
from otel_ttf.otlp.tree import Walker, as_text, named
from otel_ttf.pii.json_text import Leaf, Path, rewrite
from otel_ttf.pii.masking import Trace, Where
from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES, Pseudonyms, is_token, subject_text

REDACTED = "[REDACTED]"
NOBODY = 1 << 30


class Replacer(Walker):
    """Replaces subject attributes, at all depths.

    subject, rank  of the uppermost ones of a list, the one that counts, as it came; token: its own
    rule           what the first subject that breaks one breaks
    trace          told of each value that is replaced, see masking.Where
    """

    looks_at_texts = False

    def __init__(
        self, keys: SubjectKeys, pseudonyms: Pseudonyms | Noting, normalise: str, *, trusted: bool
    ) -> None:
        self.subject: str | None = None
        self.rank = NOBODY
        self.rule: str | None = None
        self.token: str | None = None
        self.trace: Trace | None = None
        self._path: list[str] = []
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
        return None if rank is None else self._done(pair.value, rank, pair.key)[0]

    def one(self, pair: Any) -> bool:
        if self.trace is None:
            return super().one(pair)
        self._path.append(pair.key)
        try:
            return super().one(pair)
        finally:
            self._path.pop()

    def top(self, pair: Any) -> bool:
        """A KeyValue of an attribute list."""
        rank = self._keys.rank(pair.key)
        if rank is None:
            return self.one(pair)
        changed, subject = self._done(pair.value, rank, pair.key)
        if subject is not None and rank <= self.rank:
            self.subject, self.rank, self.token = subject, rank, pair.value.string_value
        return changed

    def value(self, value: Any) -> bool:
        """Pairs that are written as lists or maps, and JSON in texts, count like attributes, but name no subject."""
        kind = value.WhichOneof("value")
        if kind == "string_value":
            new = self._json(value.string_value)
            if new is not None:
                value.string_value = new
            return new is not None
        if kind == "bytes_value":
            text, encoding = as_text(value.bytes_value)
            if (new := self._json(text)) is not None:
                value.bytes_value = new.encode(encoding)
            return new is not None
        pair = named(value)
        rank = None if pair is None else self._keys.rank(pair[0])
        changed = pair is not None and rank is not None and self._done(pair[1], rank, pair[0])[0]
        return super().value(value) or changed

    def _json(self, text: str) -> str | None:
        """The text with all ids replaced in it, if it is JSON; None: it stays."""
        # The one scan does not see a name that is escaped, so nobody sees it.
        if text[:1].isspace() or text[:1] in ("{", "["):
            return (
                rewrite(text, _InJson(self))
                if self._keys.in_(text.encode("utf-8", "surrogatepass"))
                else None
            )
        return None

    def rank_of(self, key: str) -> int | None:
        """Place of an attribute in the order."""
        return self._keys.rank(key)

    def token_of(self, value: object) -> str | None:
        """What takes the place of an id in JSON; None for what is empty."""
        if self._trusted and isinstance(value, str) and (is_token(value) or value == REDACTED):
            return value
        if value is None:
            return None
        subject = subject_text(value, self._normalise)
        if subject is None:
            return None if isinstance(value, str) else REDACTED
        return self._pseudonyms.token(subject) if len(subject.encode()) <= MAX_SUBJECT_BYTES else REDACTED

    def _done(self, value: Any, rank: int, key: str) -> tuple[bool, str | None]:
        """Replaces, and tells of it."""
        if self.trace is None:
            return self._replace(value, rank)
        kind = value.WhichOneof("value")
        before = str(getattr(value, kind)) if kind in ("string_value", "int_value") else ""
        done = self._replace(value, rank)
        if done[0] and value.string_value != before:
            path = self._path if self._path and self._path[-1] == key else [*self._path, key]
            rule = f"subject.from {self._keys.names[rank]}"
            self.trace(Where(place=self.place, path=list(path)), rule, before, value.string_value)
        return done

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


class _InJson:
    """Replaces ids in JSON (json_text.Visitor)."""

    def __init__(self, replacer: Replacer) -> None:
        self._replacer = replacer

    def member(self, path: Path) -> int | None:
        return self._replacer.rank_of(path[-1])

    def leaf(self, value: Leaf, path: Path, rule: int | None) -> str | None:
        return None if rule is None else self._replacer.token_of(value)

    def name(self, path: Path) -> str:
        return path[-1]


class Noting:
    """Pseudonyms that note whom they were asked for: token -> user id."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self.ids: dict[str, str] = {}

    def token(self, subject: str) -> str:
        token = self._pseudonyms.token(subject)
        self.ids[token] = subject
        return token

    def of(self, subjects: Iterable[str]) -> dict[str, str]:
        tokens = self._pseudonyms.of(subjects)
        self.ids.update((token, subject) for subject, token in tokens.items())
        return tokens
