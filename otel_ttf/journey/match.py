"""The one match language: which records a milestone, a journey's `only` or a rule means.

A list means any of its matches; a mapping means all of its keys: `event` (the name of a log record or span
event), `span` {name, kind, status}, `attributes`, `resource`, `any`, `all`, `not`. What a value may be is in
values.py. An `event` condition holds for log records and span events only, a `span` condition for spans only,
whatever it says about the name. A missing attribute, and an empty name, is false, and `not` of it true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, Protocol, TypeAlias

from otel_ttf.journey.match_schema import JSON_SCHEMA, SPAN_KINDS, SPAN_STATUSES
from otel_ttf.journey.values import (
    MAX_DEPTH,
    MISSING,
    NOTHING,
    Condition,
    MatchError,
    MatchErrors,
    Path,
    Value,
    found,
    json_text,
    listed,
    read,
    read_word,
    sorted_json,
    unknown,
)

__all__ = [
    "JSON_SCHEMA",
    "SPAN_KINDS",
    "SPAN_STATUSES",
    "Group",
    "Match",
    "MatchError",
    "MatchErrors",
    "Path",
    "Record",
    "Value",
    "parse",
]

Group: TypeAlias = Literal["event", "span"]
"""What a name belongs to: log records and span events are events."""

_EVENT_KINDS = frozenset({"log", "span_event"})


class Record(Protocol):
    """What a match or a segment can see: the masked record."""

    @property
    def kind(self) -> str:
        """log, span_event or span."""

    @property
    def name(self) -> str:
        """The event's name, or the span's."""

    @property
    def span_kind(self) -> str:
        """One of SPAN_KINDS; empty unless a span."""

    @property
    def status(self) -> str:
        """One of SPAN_STATUSES; empty unless a span."""

    @property
    def attributes(self) -> Mapping[str, Value]:
        """The record's own."""

    @property
    def resource(self) -> Mapping[str, Value]: ...


Attributes: TypeAlias = "Mapping[str, Value]"
Test: TypeAlias = Callable[[Record], bool]
Given: TypeAlias = Callable[[Group, str], "bool | None"]
Names: TypeAlias = "frozenset[tuple[str, str]] | None"


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A compiled match. Two are equal when their canonical forms are.

    canonical  JSON-able: one form for all orders and spellings; parse() takes it back
    test       what calling the match does, for callers that want no frame in between
    """

    canonical: object
    test: Test
    _given: Given
    _names: Names
    _attributes: frozenset[str] = frozenset()
    _resource: frozenset[str] = frozenset()

    def __call__(self, record: Record) -> bool:
        return self.test(record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Match) and json_text(self.canonical) == json_text(other.canonical)

    def __hash__(self) -> int:
        return hash(json_text(self.canonical))

    def given(self, group: Group, name: str) -> bool | None:
        """What follows from a record's group and name alone; None when the rest of the record decides."""
        return self._given(group, name)

    def may_match_span(self, name: str) -> bool:
        """False only when no span of that name can match."""
        return self._given("span", name) is not False

    def may_match_event(self, name: str) -> bool:
        """False only when no log record or span event of that name can match."""
        return self._given("event", name) is not False

    def names(self) -> frozenset[tuple[str, str]] | None:
        """The (group, name) pairs outside which the match is false; None where that can't be told."""
        return self._names

    def attributes(self) -> frozenset[str]:
        """The record attributes that it reads."""
        return self._attributes

    def resource_attributes(self) -> frozenset[str]:
        """The resource attributes that it reads."""
        return self._resource


def parse(data: object, *, path: Path = ()) -> Match:
    """The match that parsed configuration spells.

    path  where data stands, for the errors
    Raises MatchErrors with every mistake at once.
    """
    errors: list[MatchError] = []
    match = _match(data, path, errors, 0)
    if errors:
        raise MatchErrors(errors)
    return match


def all_of(matches: Iterable[Match]) -> Match:
    """True where all of them are."""
    parts = tuple(matches)
    if len(parts) == 1:
        return parts[0]
    known = [part._names for part in parts if part._names is not None]

    def given(group: Group, name: str) -> bool | None:
        answers = [part._given(group, name) for part in parts]
        return False if False in answers else None if None in answers else True

    return Match(
        _joined("all", [part.canonical for part in parts]),
        _every(tuple(part.test for part in parts)),
        given,
        frozenset.intersection(*known) if known else None,
        *_keys(parts),
    )


def any_of(matches: Iterable[Match]) -> Match:
    """True where one of them is."""
    parts = tuple(matches)
    if len(parts) == 1:
        return parts[0]
    known = [part._names for part in parts if part._names is not None]

    def given(group: Group, name: str) -> bool | None:
        answers = [part._given(group, name) for part in parts]
        return True if True in answers else None if None in answers else False

    return Match(
        _joined("any", [part.canonical for part in parts]),
        _some(tuple(part.test for part in parts)),
        given,
        frozenset().union(*known) if len(known) == len(parts) else None,
        *_keys(parts),
    )


def negated(match: Match) -> Match:
    """True where match is not."""
    test, inner = match.test, match._given

    def given(group: Group, name: str) -> bool | None:
        answer = inner(group, name)
        return None if answer is None else not answer

    canonical = {"not": match.canonical}
    return Match(canonical, lambda record: not test(record), given, None, *_keys([match]))


def _keys(parts: Iterable[Match]) -> tuple[frozenset[str], frozenset[str]]:
    parts = list(parts)
    return (
        frozenset().union(*(part._attributes for part in parts)),
        frozenset().union(*(part._resource for part in parts)),
    )


def _every(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda record: first(record) and second(record)
    return lambda record: all(test(record) for test in tests)


def _some(tests: tuple[Test, ...]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda record: first(record) or second(record)
    return lambda record: any(test(record) for test in tests)


def _joined(word: Literal["any", "all"], parts: Iterable[object]) -> object:
    """The canonical form of any or all of the parts: flat, each once, in one order."""
    flat: list[object] = []
    for part in parts:
        flat += part[word] if isinstance(part, dict) and word in part else [part]
    if word == "any":
        flat = _merged(flat)
    flat = sorted_json(flat)
    return flat[0] if len(flat) == 1 else {word: flat}


def _merged(parts: Iterable[object]) -> list[object]:
    """Conditions that one thing equals this or that, as the one condition that it equals any of these."""
    others: list[object] = []
    lists: dict[tuple[str, ...], list[object]] = {}
    for part in parts:
        place: tuple[str, ...] = ()
        inner = part
        while isinstance(inner, dict) and len(inner) == 1:
            ((word, inner),) = inner.items()
            place = (*place, word)
        # A list that stands deeper belongs to a `not` or a `range`.
        if isinstance(inner, list) and len(place) == _PLACE_OF_VALUE.get(place[0]):
            lists.setdefault(place, []).extend(inner)
        else:
            others.append(part)
    for place, items in lists.items():
        merged: object = sorted_json(items)
        for word in reversed(place):
            merged = {word: merged}
        others.append(merged)
    return others


def _match(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
    if depth > MAX_DEPTH:
        errors.append(MatchError(path, f"at most {MAX_DEPTH} levels", "more"))
        return _NEVER
    if isinstance(data, list):
        return any_of(_matches(data, path, errors, depth))
    if not isinstance(data, Mapping):
        expected = "a mapping such as {event: signup}, or a list of such"
        errors.append(MatchError(path, expected, found(data)))
        return _NEVER
    return all_of(_entries(data, _WORDS, path, errors, depth))


def _matches(data: Sequence[object], path: Path, errors: list[MatchError], depth: int) -> list[Match]:
    if not data:
        errors.append(MatchError(path, "at least one match", found(data)))
        return [_NEVER]
    return [_match(item, (*path, index), errors, depth + 1) for index, item in enumerate(data)]


Reader: TypeAlias = Callable[[object, Path, list[MatchError], int], Match]


def _entries(
    data: object, words: Mapping[str, Reader], path: Path, errors: list[MatchError], depth: int
) -> list[Match]:
    """One match per key of a mapping whose keys are among words."""
    if not isinstance(data, Mapping) or not data:
        expected = "a mapping with " + listed(words).replace("one of", "some of")
        errors.append(MatchError(path, expected, found(data)))
        return [_NEVER]
    parts = []
    for word, argument in data.items():
        if isinstance(word, str) and word in words:
            parts.append(words[word](argument, (*path, word), errors, depth))
        else:
            where = (*path, word if isinstance(word, str) else found(word))
            errors.append(MatchError(where, listed(words), unknown(word, words)))
    return parts or [_NEVER]


def _read_name(data: object, path: Path, errors: list[MatchError], depth: int) -> Condition:
    """A condition on a name. YAML reads an unquoted `on` or `yes` as true, which no name can be."""
    for index, item in enumerate(data if isinstance(data, list) else [data]):
        if isinstance(item, bool) or item == "":
            where = (*path, index) if isinstance(data, list) else path
            what = "empty text" if item == "" else f"{found(item)} (quote it if it is a name)"
            errors.append(MatchError(where, "a name", what))
            return NOTHING
    return read(data, path, errors, depth)


def _event(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
    condition = _read_name(data, path, errors, depth)
    test, texts = condition.test, condition.texts
    plain = isinstance(condition.canonical, list) and texts is not None

    def is_one(record: Record) -> bool:
        return record.name in names and record.kind in _EVENT_KINDS

    def fits(record: Record) -> bool:
        return record.kind in _EVENT_KINDS and test(record.name or MISSING)

    names = texts or frozenset()
    return Match(
        {"event": condition.canonical},
        is_one if plain else fits,
        lambda group, name: group == "event" and test(name or MISSING),
        None if texts is None else frozenset(("event", text) for text in texts),
    )


def _span_name(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
    condition = _read_name(data, path, errors, depth)
    test, texts = condition.test, condition.texts
    return Match(
        {"span": {"name": condition.canonical}},
        lambda record: record.kind == "span" and test(record.name or MISSING),
        lambda group, name: group == "span" and test(name or MISSING),
        None if texts is None else frozenset(("span", text) for text in texts),
    )


def _span_word(field: str, words: tuple[str, ...], get: Callable[[Record], str]) -> Reader:
    def reader(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
        condition = read_word(data, words, path, errors, depth)
        test = condition.test
        return Match(
            {"span": {field: condition.canonical}},
            lambda record: record.kind == "span" and test(get(record)),
            lambda group, name: None if group == "span" else False,
            None,
        )

    return reader


def _span(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
    return all_of(_entries(data, _SPAN_WORDS, path, errors, depth))


def _attribute(field: str, key: str, condition: Condition, get: Callable[[Record], Attributes]) -> Match:
    test, keys = condition.test, frozenset([key])
    return Match(
        {field: {key: condition.canonical}},
        lambda record: test(get(record).get(key, MISSING)),
        lambda group, name: None,
        None,
        keys if field == "attributes" else frozenset(),
        keys if field == "resource" else frozenset(),
    )


def _attributes(field: Literal["attributes", "resource"]) -> Reader:
    get: Callable[[Record], Attributes] = attrgetter(field)

    def reader(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
        if not isinstance(data, Mapping) or not data:
            errors.append(MatchError(path, "a mapping of attribute names to values", found(data)))
            return _NEVER
        parts = []
        for key, argument in data.items():
            if isinstance(key, str) and key:
                condition = read(argument, (*path, key), errors, depth)
                parts.append(_attribute(field, key, condition, get))
            else:
                what = "empty text" if key == "" else f"{found(key)} (quote it if it is a name)"
                errors.append(MatchError(path, "an attribute's name", what))
        return all_of(parts or [_NEVER])

    return reader


def _list(word: str, join: Callable[[Iterable[Match]], Match]) -> Reader:
    def reader(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
        if isinstance(data, list):
            return join(_matches(data, path, errors, depth))
        errors.append(MatchError(path, "a list of matches", found(data)))
        return _NEVER

    return reader


def _not(data: object, path: Path, errors: list[MatchError], depth: int) -> Match:
    return negated(_match(data, path, errors, depth + 1))


# Stands where the configuration has a mistake; parse() never returns it.
_NEVER = Match(None, lambda record: False, lambda group, name: False, frozenset())

# How many words deep the value of each stands in a canonical form.
_PLACE_OF_VALUE = {"event": 1, "span": 2, "attributes": 2, "resource": 2}

_SPAN_WORDS: dict[str, Reader] = {
    "name": _span_name,
    "kind": _span_word("kind", SPAN_KINDS, attrgetter("span_kind")),
    "status": _span_word("status", SPAN_STATUSES, attrgetter("status")),
}
_WORDS: dict[str, Reader] = {
    "event": _event,
    "span": _span,
    "attributes": _attributes("attributes"),
    "resource": _attributes("resource"),
    "any": _list("any", any_of),
    "all": _list("all", all_of),
    "not": _not,
}
