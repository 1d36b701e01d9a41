"""Conditions on one value: what may stand behind `event`, behind a span's name, behind an attribute.

A scalar or a list of scalars (equals one), or `{glob: ...}`, `{range: [lo, hi]}`, `{exists: bool}`,
`{not: ...}`; a mapping with several of these means all of them.

Numbers are equal by value (201 and 201.0), and a number equals its shortest decimal text (201 and "201").
Two texts are equal only when they are the same: "1.10" is not "1.1", "007" is not 7.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

Value: TypeAlias = "str | int | float | bool | bytes | list[Value] | dict[str, Value] | None"
Scalar: TypeAlias = "str | int | float | bool"
Path: TypeAlias = "tuple[str | int, ...]"


class Missing:
    """The type of MISSING."""

    __slots__ = ()


MISSING: Final = Missing()
"""Stands for an attribute that a record does not have (None is one that it has, without a value)."""

# Deeper nesting is a mistake or a YAML alias that contains itself.
MAX_DEPTH = 32
# No finite double has more digits before the point.
_MAX_DIGITS = 309
_TOO_LARGE = 2**1024
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NUMERIC = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

SCALAR = "text, a number, true or false"
VALUE = (
    f"{SCALAR}, a list of these, or one of {{glob: ...}}, {{range: [lo, hi]}}, {{exists: ...}}, {{not: ...}}"
)


class MatchError(ValueError):
    """One mistake in a match: where it stands, what was expected there, and what was found.

    found is a keyword or scalar of the configuration, or names a type; never a record's data.
    """

    def __init__(self, path: Path, expected: str, found: str) -> None:
        where = ".".join(map(str, path))
        super().__init__(f"{where + ': ' if where else ''}expected {expected}, found {found}")
        self.path = path
        self.expected = expected
        self.found = found


class MatchErrors(ValueError):
    """All mistakes of one match, in the order in which they stand."""

    def __init__(self, errors: Iterable[MatchError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(map(str, self.errors)))


@dataclass(frozen=True, slots=True)
class Condition:
    """What a value has to be.

    canonical  JSON-able, and itself a way to write the condition
    test       takes a Value or MISSING
    texts      the only texts that it is true of; None where that can't be told
    """

    canonical: object
    test: Callable[[object], bool]
    texts: frozenset[str] | None = None


def found(data: object) -> str:
    """Names what stands in the configuration, for an error message."""
    if data is None:
        return "nothing"
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, str):
        return repr(data if len(data) <= 60 else data[:57] + "...")
    if isinstance(data, int | float):
        return str(data)
    if isinstance(data, list | Mapping):
        return f"{'a' if data else 'an empty'} {'list' if isinstance(data, list) else 'mapping'}"
    return f"a {type(data).__name__}"


def unknown(word: object, known: Iterable[str]) -> str:
    """What `found` says, with the nearest of the known words."""
    near = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return found(word) + (f" (did you mean {near[0]}?)" if near else "")


def listed(words: Iterable[str]) -> str:
    return "one of " + ", ".join(words)


def sorted_json(items: Iterable[object]) -> list[object]:
    """Each distinct item once, in the order of their JSON text."""
    return [item for _, item in sorted({json_text(item): item for item in items}.items())]


def json_text(data: object) -> str:
    """The one JSON text of data: sorted keys, no spaces, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def shortest(number: int | float) -> str:
    """A number's shortest decimal text; a whole number has no point. Finite only."""
    return repr(number) if isinstance(number, float) and not number.is_integer() else str(int(number))


def _normal(scalar: Scalar) -> Scalar:
    """One spelling for all scalars that are equal."""
    if isinstance(scalar, bool):
        return scalar
    if isinstance(scalar, float):
        return int(scalar) if scalar.is_integer() else scalar
    if isinstance(scalar, str) and len(scalar) <= _MAX_DIGITS + 1:
        if _INTEGER.fullmatch(scalar):
            return int(scalar)
        if _NUMERIC.fullmatch(scalar):
            number = float(scalar)
            if math.isfinite(number) and shortest(number) == scalar:
                return number
    return scalar


def _alone(value: object) -> object:
    """An array of one is its element."""
    while type(value) is list and len(value) == 1:
        value = value[0]
    return value


def _text(value: object) -> str | None:
    """The text of a text or number; None for anything else."""
    if type(value) is str:
        return value
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return shortest(value)
    return None


def _number(value: object) -> int | float | None:
    """The number of a number or numeric text; None for anything else."""
    if type(value) is int or type(value) is float:
        return value
    if type(value) is str and _NUMERIC.fullmatch(value):
        return int(value) if len(value) <= _MAX_DIGITS and value.lstrip("+-").isdigit() else float(value)
    return None


def equals(scalars: Iterable[Scalar]) -> Condition:
    """True of whatever is equal to one of the scalars (finite numbers)."""
    canonical = sorted_json(map(_normal, scalars))
    bools = frozenset(item for item in canonical if isinstance(item, bool))
    numbers = frozenset(n for n in canonical if isinstance(n, int | float) and not isinstance(n, bool))
    texts = frozenset(s for s in canonical if isinstance(s, str)) | frozenset(map(shortest, numbers))

    def test(value: object) -> bool:
        kind = type(value)
        if kind is str:
            return value in texts
        if kind is bool:
            return value in bools
        if kind is int or kind is float:
            return value in numbers
        return type(value) is list and len(value) == 1 and test(_alone(value))

    return Condition(canonical, test, texts)


NOTHING = equals(())
"""True of no value; stands where the configuration has a mistake."""


def read(data: object, path: Path, errors: list[MatchError], depth: int = 0) -> Condition:
    """The condition that data spells. Mistakes are added to errors."""
    if depth > MAX_DEPTH:
        return _refuse(errors, path, f"at most {MAX_DEPTH} levels", "more")
    if isinstance(data, Mapping):
        return _mapping(data, path, errors, depth)
    if isinstance(data, list):
        if not data:
            return _refuse(errors, path, "at least one value", found(data))
        wrong = [(index, item) for index, item in enumerate(data) if not is_scalar(item)]
        for index, item in wrong:
            _refuse(errors, (*path, index), SCALAR, found(item))
        return NOTHING if wrong else equals(data)
    return equals([data]) if is_scalar(data) else _refuse(errors, path, VALUE, found(data))


def read_word(
    data: object, words: Collection[str], path: Path, errors: list[MatchError], depth: int = 0
) -> Condition:
    """A condition on what has only certain words for values: a word, a list of words, or `{not: ...}`."""
    if isinstance(data, Mapping) and list(data) == ["not"]:
        if depth > MAX_DEPTH:
            return _refuse(errors, path, f"at most {MAX_DEPTH} levels", "more")
        return _negated(read_word(data["not"], words, (*path, "not"), errors, depth + 1))
    items = data if isinstance(data, list) and data else [data]
    before = len(errors)
    for index, item in enumerate(items):
        if not isinstance(item, str) or item not in words:
            where = (*path, index) if items is data else path
            _refuse(errors, where, listed(words), unknown(item, words))
    return NOTHING if len(errors) > before else equals(map(str, items))


def is_scalar(data: object) -> TypeGuard[Scalar]:
    """Whether it is text, true, false, or a number that a double can be near to."""
    if isinstance(data, int):
        return abs(data) < _TOO_LARGE
    return isinstance(data, str) or (isinstance(data, float) and math.isfinite(data))


def _refuse(errors: list[MatchError], path: Path, expected: str, what: str) -> Condition:
    errors.append(MatchError(path, expected, what))
    return NOTHING


def _mapping(data: Mapping[object, object], path: Path, errors: list[MatchError], depth: int) -> Condition:
    if not data:
        return _refuse(errors, path, listed(_FORMS), found(data))
    parts: dict[str, Condition] = {}
    for form, argument in data.items():
        if isinstance(form, str) and form in _FORMS:
            parts[form] = _FORMS[form](argument, (*path, form), errors, depth + 1)
        else:
            where = (*path, form if isinstance(form, str) else found(form))
            _refuse(errors, where, listed(_FORMS), unknown(form, _FORMS))
    if len(parts) == 1:
        return next(iter(parts.values()))
    tests = tuple(part.test for part in parts.values())
    known = [part.texts for part in parts.values() if part.texts is not None]
    canonical = {form: argument for part in parts.values() for form, argument in _as_mapping(part).items()}
    return Condition(
        canonical,
        lambda value: all(test(value) for test in tests),
        frozenset.intersection(*known) if known else None,
    )


def _as_mapping(part: Condition) -> dict[str, object]:
    return part.canonical if isinstance(part.canonical, dict) else {}


def _glob(data: object, path: Path, errors: list[MatchError], depth: int) -> Condition:
    if not isinstance(data, str) or not data:
        return _refuse(errors, path, "text with * and ?", found(data))
    # Of fnmatch's language only * and ? are ours. Its translation never backtracks over a *.
    fits = re.compile(fnmatch.translate(data.replace("[", "[[]"))).match

    def test(value: object) -> bool:
        text = _text(_alone(value))
        return text is not None and fits(text) is not None

    literal = None if "*" in data or "?" in data else frozenset([data])
    return Condition({"glob": data}, test, literal)


def _range(data: object, path: Path, errors: list[MatchError], depth: int) -> Condition:
    expected = "[lowest, highest]: two numbers, null where open"
    if not isinstance(data, list) or len(data) != 2:
        what = f"a list of {len(data)}" if isinstance(data, list) and data else found(data)
        return _refuse(errors, path, expected, what)
    before = len(errors)
    bounds = [-math.inf, math.inf]
    for index, bound in enumerate(data):
        if is_scalar(bound) and isinstance(bound, int | float) and not isinstance(bound, bool):
            bounds[index] = bound
        elif bound is not None:
            _refuse(errors, (*path, index), "a number, or null where open", found(bound))
    if len(errors) > before:
        return NOTHING
    lowest, highest = bounds
    if lowest > highest:
        return _refuse(errors, path, expected, f"[{found(lowest)}, {found(highest)}], which is empty")

    def test(value: object) -> bool:
        number = _number(_alone(value))
        return number is not None and lowest <= number <= highest

    canonical = [None if bound is None else _normal(bound) for bound in data]
    return Condition({"range": canonical}, test)


def _exists(data: object, path: Path, errors: list[MatchError], depth: int) -> Condition:
    if not isinstance(data, bool):
        return _refuse(errors, path, "true or false", found(data))
    return Condition({"exists": data}, lambda value: (value is not MISSING) is data)


def _not(data: object, path: Path, errors: list[MatchError], depth: int) -> Condition:
    return _negated(read(data, path, errors, depth))


def _negated(condition: Condition) -> Condition:
    test = condition.test
    return Condition({"not": condition.canonical}, lambda value: not test(value))


_FORMS: dict[str, Callable[[object, Path, list[MatchError], int], Condition]] = {
    "glob": _glob,
    "range": _range,
    "exists": _exists,
    "not": _not,
}
