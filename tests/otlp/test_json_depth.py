"""JSON is read however deeply it is nested: what nobody would look at goes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.otlp.json_depth import MAX_CONTAINERS_DEEP, Doubled, read, shallow

LEVELS = MAX_CONTAINERS_DEEP
TEXTS = st.text(max_size=5) | st.sampled_from(["[", "]}", '"', "\\", '\\"[', "{"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


def around(value: object, levels: int) -> object:
    for level in range(levels):
        value = [value, "]"] if level % 2 else {"[": value, '"': 1}
    return value


def lowered(value: Any, room: int) -> Any:
    """What is left of a value with room for so many objects and lists within each other."""
    if not isinstance(value, list | dict):
        return value
    if not room:
        return 0
    if isinstance(value, list):
        return [lowered(one, room - 1) for one in value]
    return {key: lowered(one, room - 1) for key, one in value.items()}


@settings(deadline=None)
@given(VALUES, st.integers(0, 4), st.booleans())
def test_what_is_too_deep_becomes_0_and_the_rest_stays(value, room, ascii_):
    body = json.dumps(around(value, LEVELS - room), ensure_ascii=ascii_).encode()
    assert json.loads(shallow(body)) == around(lowered(value, room), LEVELS - room)


@settings(deadline=None)
@given(VALUES, st.booleans())
def test_what_is_not_deep_stays_byte_for_byte(value, ascii_):
    body = json.dumps(value, ensure_ascii=ascii_).encode()
    assert shallow(body) == body


def test_a_mistake_is_where_it_was():
    body = b'{"a":\n' + b"[" * 5000 + b"\n" + b"]" * 5000 + b", oops}"
    with pytest.raises(json.JSONDecodeError) as caught:
        read(body)
    assert (caught.value.lineno, caught.value.colno) == (3, 5003)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 1_000_000, id="brackets that stay open"),
        pytest.param(b"[" * 5000 + b"]" * 4999, id="one that stays open"),
        pytest.param(b"[" * 5000 + b"]" * 5001, id="one that was not open"),
        pytest.param(b"[" * 5000 + b'"' + b"]" * 5000, id="a text that stays open"),
        pytest.param(b"]" * 5000 + b"[" * 5000, id="the other way round"),
    ],
)
def test_what_is_no_json_is_none_however_deep(body):
    with pytest.raises(json.JSONDecodeError):
        read(body)


def test_what_is_there_twice_is_known_at_every_depth():
    body = b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}, "a": 4, "e": 5}'
    outer = read(body)
    assert isinstance(outer, Doubled)
    assert outer.doubled == {"a"}
    assert outer == {"a": 4, "b": {"c": 3, "d": 2}, "e": 5}
    assert isinstance(outer["b"], Doubled)
    assert outer["b"].doubled == {"c"}
    assert type(read(b'{"a": {}, "b": {}}')) is dict


@settings(deadline=None)
@given(VALUES)
def test_what_is_there_once_is_read_as_by_python(value):
    body = json.dumps(value).encode()
    assert read(body) == json.loads(body)
