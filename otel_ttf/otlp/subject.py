"""The attributes that may name the subject (journeys.md, Identity)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_ttf.pii.pseudonym import TOKEN_LENGTH, is_token

Search: TypeAlias = Callable[[bytes], object]

_HEADERS = ("http.request.header.", "http.response.header.")
# Where user ids stay, the attribute that their token stands in, in the same list.
BESIDE = "ttf.subject"
# What stands between key and text of an attribute of so many bytes: the lengths of the value and of the text.
_LENGTHS = [bytes((size + 2, 0x0A, size)) for size in range(126)]


class SubjectKeys:
    """Attribute names in the order in which they count; `-` and `_` in names of HTTP headers are alike.

    names     as configured
    masked    the attributes that hold the token once ids have been replaced: these
    literals  an attribute with one of the names has one of these in its bytes, however oddly encoded
    likely    (index, bytes) of those encoded attributes that have a literal
    """

    masked: SubjectKeys

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.masked = self
        self._ranks = {canonical(name): rank for rank, name in reversed(list(enumerate(names)))}
        told = sorted({(_header(name) or name).encode() for name in names}, key=len)
        kept: list[bytes] = []
        for literal in told:
            if not any(shorter in literal for shorter in kept):
                kept.append(literal)
        self.literals = tuple(kept)
        # `in` takes five times as long as a search: it asks first whether bytes are a number, and an error says no.
        self._searches = [re.compile(re.escape(literal)).search for literal in kept]
        self.likely = _likely(self._searches)
        # Up to the value's length, of an attribute as protobuf's own encoders write it.
        self._starts = [
            (rank, start, len(start), [(literal, start.count(literal)) for literal in self.literals])
            for rank, name in enumerate(names)
            if rank == self._ranks[canonical(name)]
            for start in [KeyValue(key=name, value=AnyValue()).SerializeToString()[:-1]]
        ]
        self._tokens = [(rank, start + _LENGTHS[TOKEN_LENGTH]) for rank, start, _, _ in self._starts]
        self._plain = tuple(start for _, start, _, _ in self._starts)
        # Only what cannot overlap itself can be counted.
        self._countable = not any(x[:n] == x[-n:] for x in self.literals for n in range(1, len(x)))

    def rank(self, key: str) -> int | None:
        """Place of an attribute in the order; None for any other attribute."""
        return self._ranks.get(canonical(key) if key.startswith(_HEADERS) else key)

    def in_(self, data: bytes) -> bool:
        """Whether an encoded attribute, or anything with attributes in it, may hold a subject attribute."""
        # A loop is far quicker here than any().
        for search in self._searches:  # noqa: SIM110
            if search(data):
                return True
        return False

    def all_in(self, pairs: Sequence[bytes], record: bytes) -> list[tuple[int, bytes]] | None:
        """Like `likely`, but quicker, and there is no literal in the rest of the record. None: it can't be told.

        pairs  attributes of the record, encoded; record: all of its bytes
        """
        plain = self._plain
        found = [(at, data) for at, data in enumerate(pairs) if data.startswith(plain)]
        # As often in the record as in what was found, so nowhere else.
        missing = 0
        for literal in self.literals:
            missing += record.count(literal)
            for _, data in found:
                missing -= data.count(literal)
        return None if missing or not self._countable else found

    def place(self, pairs: Sequence[bytes]) -> int:
        """Where the first subject attribute stands that is plainly encoded; 0 without one."""
        plain = self._plain
        return next((at for at, data in enumerate(pairs) if data.startswith(plain)), 0)

    def alone(self, pairs: Sequence[bytes], record: bytes, at: int) -> tuple[int, bytes, bytes] | None:
        """`text` of the attribute at a place, if nothing else in the record has a literal.

        None: it can't be told, so all attributes have to be looked at. Arguments as for `all_in`.
        """
        if at < len(pairs) and self._countable:
            data = pairs[at]
            for rank, start, size, literals in self._starts:
                # The only bytes that begin and end like this are KeyValue(key, AnyValue(string_value=text)).
                if data.startswith(start):
                    text = data[size + 3 :]
                    if len(text) >= len(_LENGTHS) or data[size : size + 3] != _LENGTHS[len(text)]:
                        return None
                    # One in the text itself would make it more than there are in what stands before it.
                    for literal, count in literals:
                        if record.count(literal) != count:
                            return None
                    return rank, text, start
        return None

    def text(self, data: bytes) -> tuple[int, bytes, bytes] | None:
        """(rank, text, what stands before the value) of an attribute with a short string, plainly encoded.

        None for anything else: it has to be decoded.
        """
        for rank, start, size, _ in self._starts:
            if data.startswith(start):
                text = data[size + 3 :]
                # The only bytes that begin and end like this are KeyValue(key, AnyValue(string_value=text)).
                if len(text) < len(_LENGTHS) and data[size : size + 3] == _LENGTHS[len(text)]:
                    return rank, text, start
        return None

    def token(self, pairs: Sequence[bytes], record: bytes | None = None) -> str | None:
        """The subject of a masked attribute list: the token in the first of the names; of a key that comes
        twice, the last token.

        record  all bytes of what has the attributes, if at hand: it is quicker then
        """
        best: str | None = None
        best_rank = len(self.names)
        found = None if record is None else self.all_in(pairs, record)
        for _, data in self.likely(pairs) if found is None else found:
            known = self._masked(data)
            if known is not None and known[0] <= best_rank and is_token(known[1]):
                best_rank, best = known
        return best

    def _masked(self, data: bytes) -> tuple[int, str] | None:
        """(rank, text) of a masked attribute; None for one of another name."""
        for rank, start in self._tokens:
            # Something may stand behind the value: only this long it is the token and nothing else.
            if len(data) == len(start) + TOKEN_LENGTH and data.startswith(start):
                return rank, str(data[len(start) :], "utf-8")
        pair = KeyValue.FromString(data)
        known = self.rank(pair.key)
        return None if known is None else (known, pair.value.string_value)


class KeptSubjects(SubjectKeys):
    """Where ids stay as they came: their attributes and the one beside them, which alone is read for the token.

    sent  the attributes that hold ids
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__((*names, BESIDE))
        self.sent = SubjectKeys(names)
        self.masked = SubjectKeys((BESIDE,))

    def token(self, pairs: Sequence[bytes], record: bytes | None = None) -> str | None:
        return self.masked.token(pairs, record)


def with_text(start: bytes, text: bytes) -> bytes:
    """An encoded attribute with another text; see SubjectKeys.text. At most 125 bytes."""
    return start + _LENGTHS[len(text)] + text


@lru_cache(maxsize=64)
def subject_keys(names: tuple[str, ...]) -> SubjectKeys:
    """The same object for the same names."""
    return SubjectKeys(names)


def _likely(searches: Sequence[Search]) -> Callable[[Iterable[bytes]], list[tuple[int, bytes]]]:
    match searches:
        case [only]:
            return lambda pairs: [(at, data) for at, data in enumerate(pairs) if only(data)]
        case [one, other]:
            return lambda pairs: [(at, data) for at, data in enumerate(pairs) if one(data) or other(data)]
        case _:
            return lambda pairs: [(at, d) for at, d in enumerate(pairs) if any(x(d) for x in searches)]


def _header(name: str) -> str | None:
    return next((prefix for prefix in _HEADERS if name.startswith(prefix)), None)


def canonical(name: str) -> str:
    """An attribute name with the two spellings of header names made one."""
    return name.replace("_", "-") if name.startswith(_HEADERS) else name
