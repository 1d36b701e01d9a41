"""pydantic's errors -> problems in our words, with their place. No text of pydantic's gets out."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from otel_ttf import units
from otel_ttf.config.problems import Expected, Path, Problem, did_you_mean, one_of
from otel_ttf.config.sources import Tree
from otel_ttf.exporters.table import Exporters, type_of
from otel_ttf.journey.match import MatchErrors

# Names of settings whose values are never shown; a URL may hold a password.
SECRET = re.compile(
    r"password|passwd|secret|token$|api_?key|credential|authorization|subject_keys|^headers$|^url$", re.I
)
_LOGIN = re.compile(r":.*@", re.S)  # https://user:password@host, and what was to be one
SHOWN = 60  # characters of a text that was found

LATER: Mapping[tuple[str, ...], str] = {
    ("receivers", "kafka"): "the kafka receiver comes with a later version",
    ("processors", "sample"): "the sample processor comes with a later version",
    **{
        ("exporters", name): f"the {name} exporter comes with a later version"
        for name in ("s3", "mixpanel", "amplitude", "segment", "datadog", "newrelic", "kafka")
    },
    ("alerts",): "alert rules come with a later version",
}

Context = Mapping[str, Any]
_KIND = "kind"  # in a context: one of _KINDS


# What reads a setting from text -> (what it is called in `above` and `below`, how a bound of it is written).
_KINDS: Mapping[object, tuple[str, Callable[[Any], str]]] = {
    units.size: ("a size", units.size_text),
    units.duration: ("a duration", units.duration_text),
}
_PLAIN = "a number", lambda bound: f"{bound:g}" if isinstance(bound, float) else f"{bound}"


def _number(text: str, key: str) -> Callable[[Context], str]:
    """text  may begin with the kind of number, `{}`"""

    def expected(context: Context) -> str:
        kind, written = context.get(_KIND, _PLAIN)
        return f"{text.format(kind)} {written(context[key])}"

    return expected


def _length(least: bool) -> Callable[[Context], str]:
    def expected(context: Context) -> str:
        count = context["min_length" if least else "max_length"]
        unit = "entry" if count == 1 else "entries"
        if count == 1 and least:
            return "at least one entry"
        return f"at {'least' if least else 'most'} {count} {unit}"

    return expected


def _characters(least: bool) -> Callable[[Context], str]:
    def expected(context: Context) -> str:
        count = context["min_length" if least else "max_length"]
        if least and count == 1:
            return "text that is not empty"
        return f"text of at {'least' if least else 'most'} {count} characters"

    return expected


def _literals(context: Context) -> str:
    """`'a', 'b' or 'c'` -> `a, b or c`."""
    return str(context["expected"]).replace("'", "")


# Every type of error that our models can raise -> what was expected.
EXPECTED: Mapping[str, str | Callable[[Context], str]] = {
    "missing": "a value",
    "string_type": "text",
    "string_sub_type": "text",
    "string_unicode": "text",
    "string_too_short": _characters(least=True),
    "string_too_long": _characters(least=False),
    "string_pattern_mismatch": lambda context: f"text that matches {context['pattern']}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
    "greater_than": _number("{} above", "gt"),
    "greater_than_equal": _number("at least", "ge"),
    "less_than": _number("{} below", "lt"),
    "less_than_equal": _number("at most", "le"),
    "multiple_of": _number("a multiple of", "multiple_of"),
    "too_short": _length(least=True),
    "too_long": _length(least=False),
    "literal_error": _literals,
    "enum": _literals,
    "date_type": "a date such as 2015-01-01",
    "date_parsing": "a date such as 2015-01-01",
    "date_from_datetime_parsing": "a date such as 2015-01-01",
    "date_from_datetime_inexact": "a date such as 2015-01-01, without a time of day",
}


def problems_of(errors: Iterable[ErrorDetails], tree: Tree, model: type[BaseModel]) -> Iterator[Problem]:
    """The problems that a ValidationError's errors stand for; several branches of a union make one."""
    expected: dict[tuple[Path, str | None], list[str]] = {}
    told = list(errors)
    for error in told:
        if error["type"] == "too_short" and any(
            other["loc"][: len(error["loc"])] == error["loc"] for other in told if other is not error
        ):
            continue  # pydantic counts only the entries that are right
        for path, wanted, found in _said(error, tree, model):
            alternatives = expected.setdefault((path, found), [])
            if wanted not in alternatives:
                alternatives.append(wanted)
    for (path, found), alternatives in expected.items():
        yield problem(tree, path, one_of(alternatives), found)


def problem(tree: Tree, path: Path, expected: str, found: str | None = None) -> Problem:
    """One problem at a path; `found` None: described from what stands there."""
    source, line = place(tree, path)
    shown = describe(tree, path, found)
    return Problem(source, line, path, f"expected {expected}, found {shown}")


def place(tree: Tree, path: Path) -> tuple[str, int]:
    """Source and line of the value at the path, or of what is nearest above it."""
    nearest = tree.nearest(path)
    return nearest.source, nearest.line


def describe(tree: Tree, path: Path, found: str | None = None) -> str:
    """What stands at the path, in a few words; never a secret, never what came from the environment."""
    steps = list(tree.along(path))
    here = steps[-1][1] if steps else tree
    exists = len(steps) == len(path)
    if here.reference:
        return f"another value (from {here.reference})"
    if exists and secret(path) and not isinstance(here.value, dict | list | None):
        return found or "another value (not shown)"
    if found is not None:
        return found
    if not exists:
        return "nothing"
    match here.value:
        case None:
            return "nothing"
        case bool(flag):
            return "true" if flag else "false"
        case str(text) if _LOGIN.search(text):
            return "another value (not shown: it may hold a password)"
        case str(text):
            return f'"{text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."}"'
        case dict(entries):
            return "a mapping" if entries else "an empty mapping"
        case list(items):
            return "a list" if items else "an empty list"
        case number:
            return str(number)


def secret(path: Path) -> bool:
    """Whether values at the path are never shown."""
    return any(isinstance(part, str) and SECRET.search(part) for part in path)


def _said(error: ErrorDetails, tree: Tree, model: type[BaseModel]) -> Iterator[tuple[Path, str, str | None]]:
    """(path, expected, found) of one error of pydantic's."""
    kind, where = error["type"], error["loc"]
    path: Path = tuple(part for part, _ in tree.along(where))
    if kind == "extra_forbidden":
        name = str(where[-1])
        allowed = names_at(model, path[:-1])
        types_of = tuple(str(part).partition("/")[0] for part in path)  # kafka/eu is a kafka
        later = next((why for key, why in LATER.items() if types_of[: len(key)] == key), None)
        if later is not None:
            yield path, f"{one_of(allowed) or 'no entry'}: {later}", f'"{name}"'
        else:
            names = f"one of {', '.join(allowed)}" if len(allowed) > 1 else "".join(allowed) or "no entry"
            yield path, names, f'"{name}"' + did_you_mean(name, allowed)
        return
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, MatchErrors):
        for mistake in cause.errors:
            yield (*path, *mistake.path), mistake.expected, mistake.found
    elif isinstance(cause, Expected):
        yield path, cause.expected, cause.found
    elif kind in ("value_error", "assertion_error"):
        yield path, str(cause).removeprefix("expected "), None
    elif kind == "missing":
        yield (*path, where[-1]), "a value", "nothing"
    else:
        if where[-1:] == ("[key]",):  # a key of a mapping is wrong, not its value
            path = tuple(part for part, _ in tree.along(where[:-1]))
            wanted = EXPECTED.get(kind, "another name")
            yield path, wanted(error.get("ctx", {})) if callable(wanted) else wanted, f'"{where[-2]}"'
            return
        wanted = EXPECTED.get(kind, "another value")
        found = None
        if kind in ("too_short", "too_long") and error["ctx"].get("actual_length"):
            found = str(error["ctx"]["actual_length"])
        context = {**error.get("ctx", {}), _KIND: _kind(model, path)}
        yield path, wanted(context) if callable(wanted) else wanted, found


def _kind(model: type[BaseModel], path: Path) -> tuple[str, Callable[[Any], str]]:
    """How numbers of a setting are written."""
    for section in _at(model, path[:-1]):
        for name, field in section.model_fields.items() if _is_model(section) else ():
            if path[-1:] == (field.alias or name,):
                for reader in units.readers(field.annotation, field.metadata):
                    return _KINDS.get(reader, _PLAIN)
    return _PLAIN


def names_at(model: type[BaseModel], path: Path) -> Sequence[str]:
    """The names that may stand in the mapping at the path; none if it is no section of the model."""
    return sorted(name for annotation in _at(model, path) for name in _fields(annotation))


def _at(model: type[BaseModel], path: Path) -> Sequence[Any]:
    """What may stand at the path."""
    here: Sequence[Any] = [model]
    for part in path:
        here = [child for annotation in here for child in _children(annotation, part)]
    return here


def _children(annotation: Any, part: str | int) -> Sequence[Any]:
    if _is_named(annotation):
        part = type_of(str(part))
    if part in _fields(annotation):
        return _branches(_fields(annotation)[str(part)])
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return _branches(arguments[1])
    return _branches(arguments[0]) if arguments and isinstance(part, int) else ()


def _branches(annotation: Any) -> Sequence[Any]:
    """The types that a value may be of: a union's branches, without what Annotated adds."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        arguments = typing.get_args(annotation)
        alternatives = arguments[:1] if hasattr(annotation, "__metadata__") else arguments
        return [branch for alternative in alternatives for branch in _branches(alternative)]
    return [annotation]


def _fields(annotation: Any) -> dict[str, Any]:
    """Name in the configuration -> annotation, if it is a model, or type -> model."""
    if _is_named(annotation):
        return dict(annotation.by_name())
    if not _is_model(annotation):
        return {}
    return {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}


def _is_named(annotation: Any) -> bool:
    """Whether it is a section of `type/name`."""
    return isinstance(annotation, type) and issubclass(annotation, Exporters)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
