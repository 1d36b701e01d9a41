"""The match language's laws: compiled equals read aloud, and one canonical form for all spellings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from seen import Seen

from otel_ttf.journey.match import JSON_SCHEMA, SPAN_KINDS, SPAN_STATUSES, MatchErrors, parse

SCHEMA = jsonschema.Draft202012Validator(JSON_SCHEMA)


# Few names and values, so that matches often hold.
NAMES = st.sampled_from(["a", "b", "ab", "7"])
KEYS = st.sampled_from(["x", "y"])
KINDS, STATUSES = st.sampled_from(SPAN_KINDS), st.sampled_from(SPAN_STATUSES)
SCALARS = st.sampled_from(["a", "ab", "7", 7, 7.0, 7.5, "7.50", True, False, 1, -1, 2**63 - 1])
FORMS = st.recursive(
    SCALARS | st.lists(SCALARS, min_size=1, max_size=3),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "glob": st.sampled_from(["*", "a*", "?", "7*", "*b"]),
            "range": st.sampled_from([[None, 7], [7, None], [0, 7.5], [None, None]]),
            "exists": st.booleans(),
            "not": inner,
        },
    ).filter(bool),
    max_leaves=3,
)
NAME_FORMS = (
    NAMES | st.lists(NAMES, min_size=1, max_size=3) | FORMS.filter(lambda form: isinstance(form, dict))
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "event": NAME_FORMS,
        "span": st.fixed_dictionaries(
            {},
            optional={"name": NAME_FORMS, "kind": KINDS, "status": STATUSES},
        ).filter(bool),
        "attributes": st.dictionaries(KEYS, FORMS, min_size=1, max_size=2),
        "resource": st.dictionaries(KEYS, FORMS, min_size=1, max_size=2),
    },
).filter(bool)
MATCHES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries(
            {"all": st.lists(inner, min_size=1, max_size=3)}, optional={"event": NAME_FORMS}
        ),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)
VALUES = SCALARS | st.sampled_from([None, b"a", [], ["a"], [7], ["a", "a"], {"a": 1}, float("nan")])
BAGS = st.dictionaries(KEYS, VALUES, max_size=2)
RECORDS = st.builds(
    Seen, st.sampled_from(["log", "span_event"]), NAMES, attributes=BAGS, resource=BAGS
) | st.builds(Seen, st.just("span"), NAMES, KINDS, STATUSES, BAGS, BAGS)


def plainly(data: Any, record: Seen) -> bool:
    """The language read aloud, without compiling anything."""
    if isinstance(data, list):
        return any(plainly(one, record) for one in data)
    is_span = record.kind == "span"
    name = {"": record.name} if record.name else {}
    results = []
    for word, argument in data.items():
        if word == "event":
            results.append(not is_span and said(argument, name, ""))
        elif word == "span":
            own = name | {"kind": record.span_kind, "status": record.status}
            results.append(
                is_span and all(said(v, own, "" if k == "name" else k) for k, v in argument.items())
            )
        elif word in ("attributes", "resource"):
            results.append(all(said(value, getattr(record, word), key) for key, value in argument.items()))
        elif word == "not":
            results.append(not plainly(argument, record))
        else:
            results.append({"any": any, "all": all}[word](plainly(one, record) for one in argument))
    return all(results)


def said(form: Any, bag: Mapping[str, Any], key: str) -> bool:
    if isinstance(form, dict):
        return all(FORM[word](argument, bag, key) for word, argument in form.items())
    scalars = form if isinstance(form, list) else [form]
    return any(key in bag and spelled(alone(bag[key])) == spelled(scalar) for scalar in scalars)


def alone(value: Any) -> Any:
    return alone(value[0]) if isinstance(value, list) and len(value) == 1 else value


def spelled(value: Any) -> str:
    """Equal for equal values: numbers by their shortest text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{type(value)} {value!r}"
    return str(int(value)) if value == value and value == int(value) else repr(value)


def globbed(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(globbed(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and globbed(pattern[1:], text[1:])


def between(bounds: list[Any], value: Any) -> bool:
    try:
        number = float(value) if not isinstance(value, bool | bytes | list | dict | None) else float("nan")
    except ValueError:
        return False
    low, high = bounds
    return number == number and (low is None or low <= number) and (high is None or number <= high)


def texted(value: Any) -> str | None:
    is_text = isinstance(value, str | int | float) and not isinstance(value, bool) and value == value
    return spelled(value) if is_text else None


FORM = {
    "glob": lambda pattern, bag, key: (
        key in bag and texted(alone(bag[key])) is not None and globbed(pattern, texted(alone(bag[key])))
    ),
    "range": lambda bounds, bag, key: key in bag and between(bounds, alone(bag[key])),
    "exists": lambda wanted, bag, key: (key in bag) is wanted,
    "not": lambda inner, bag, key: not said(inner, bag, key),
}


@settings(max_examples=400, deadline=None)
@given(MATCHES, RECORDS)
def test_compiled_is_as_read_aloud(data, record):
    assert parse(data)(record) is plainly(data, record)


@settings(max_examples=200, deadline=None)
@given(MATCHES, RECORDS)
def test_the_canonical_form_means_the_same_and_is_its_own(data, record):
    match = parse(data)
    stored = json.loads(json.dumps(match.canonical))
    assert parse(stored).canonical == match.canonical
    assert parse(stored)(record) == match(record)
    SCHEMA.validate(stored)


@settings(max_examples=200, deadline=None)
@given(MATCHES, RECORDS)
def test_what_a_name_decides_is_never_wrong(data, record):
    match = parse(data)
    group = "span" if record.kind == "span" else "event"
    assert match.given(group, record.name) in (None, match(record))
    if match.names() is not None and (group, record.name) not in match.names():
        assert not match(record)


@settings(max_examples=100, deadline=None)
@given(st.lists(MATCHES, min_size=1, max_size=3), st.data())
def test_the_canonical_form_knows_no_order(matches, data):
    turned = data.draw(st.permutations(matches))
    assert parse({"any": matches}).canonical == parse(turned).canonical
    assert parse({"all": matches}).canonical == parse({"all": turned}).canonical


WORDS = ["event", "span", "any", "not", "attributes", "glob", "range", "name", "kind"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_any_configuration_is_parsed_or_refused_with_reasons(data):
    try:
        parse(data)
        refused = ()
    except MatchErrors as wrong:
        refused = wrong.errors
    assert all(error.expected and error.found for error in refused)
    assert refused or SCHEMA.is_valid(data)
