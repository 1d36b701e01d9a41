"""JSON in strings: what is changed, and that nothing else is."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.pii.json_text import DROP, MAX_CHARACTERS, MAX_DEPTH, Drop, Leaf, Path, parse, rewrite


class Nothing:
    """Changes nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.members: list[Path] = []
        self.leaves: list[tuple[Leaf, Path]] = []

    def member(self, path: Path) -> str | Drop | None:
        self.members.append(path)
        return None

    def leaf(self, value: Leaf, path: Path, rule: str | None) -> str | None:
        self.leaves.append((value, path))
        return None

    def name(self, path: Path) -> str:
        return path[-1]


class Masks:
    """password is masked, gone is dropped, jane and the number 4111 are masked wherever they are."""

    def member(self, path: Path) -> str | Drop | None:
        return {"password": "[REDACTED]", "gone": DROP}.get(path[-1].lower())

    def leaf(self, value: Leaf, path: Path, rule: str | None) -> str | None:
        if rule is not None:
            return rule
        if isinstance(value, str):
            return value.replace("jane", "[NAME]")
        return "[CARD]" if value == 4111 and value is not True else None

    def name(self, path: Path) -> str:
        return path[-1].replace("jane", "[NAME]")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"password": "x"}', '{"password": "[REDACTED]"}'),
        (' {"password":1.50 , "n":1.50}\n', ' {"password":"[REDACTED]" , "n":1.50}\n'),
        (
            '{"password": {"a": [1, true, null, "x"], "b": {}}}',
            '{"password": {"a": ["[REDACTED]", "[REDACTED]", "[REDACTED]", "[REDACTED]"], "b": {}}}',
        ),
        ('[{"a":"jane x","b":4111,"c":4112}]', '[{"a":"[NAME] x","b":"[CARD]","c":4112}]'),
        ('{"jane":1,"a":{"xjane":2}}', '{"[NAME]":1,"a":{"x[NAME]":2}}'),
        ('{"a":"j\\u0061ne \\" ü"}', '{"a":"[NAME] \\" ü"}'),
        ('{"a":"j\\u0061ne \\u00fc"}', '{"a":"[NAME] \\u00fc"}'),
        ('{"pass\\u0077ord":"x"}', '{"pass\\u0077ord":"[REDACTED]"}'),
        ('{"a":"jane","a":"jane","n":1e2}', '{"a":"[NAME]","a":"[NAME]","n":1e2}'),
        ('["jane", "\\ud800jane"]', '["[NAME]", "\\ufffd[NAME]"]'),
        # A member that goes, with its comma
        ('{"gone":1}', "{}"),
        ('{ "gone":1, "a":2 }', '{ "a":2 }'),
        ('{"a":1, "gone":2}', '{"a":1}'),
        ('{"a":1, "gone":{"x":"jane"}, "b":"jane"}', '{"a":1, "b":"[NAME]"}'),
        ('{"gone":1,"gone":2,"a":3,"gone":4,"gone":5}', '{"a":3}'),
        ('{"gone":1,"gone":2}', "{}"),
        # Pairs
        ('[["password","x"],["a","jane"]]', '[["password","[REDACTED]"],["a","[NAME]"]]'),
        ('{"headers":[["password",["x","y"]]]}', '{"headers":[["password",["[REDACTED]","[REDACTED]"]]]}'),
        ('[["a",1],["gone",2],["b",3]]', '[["a",1],["b",3]]'),
        ('{"name": "password", "value": "x"}', '{"name": "password", "value": "[REDACTED]"}'),
        ('[{"Value":"x","Key":"Password"}]', '[{"Value":"[REDACTED]","Key":"Password"}]'),
        ('{"key":"password","value":{"stringValue":"x"}}', '{"key":"password","value":{"stringValue":"[REDACTED]"}}'),
        ('[{"name":"gone","value":1},{"name":"a","value":2}]', '[{"name":"a","value":2}]'),
        ('{"x":{"name":"gone","value":1}}', '{"x":{"name":"gone"}}'),
        # JSON in JSON
        ('{"body":"{\\"password\\":\\"x\\",\\"n\\":1}"}', '{"body":"{\\"password\\":\\"[REDACTED]\\",\\"n\\":1}"}'),
        ('{"password":"{\\"a\\":1}"}', '{"password":"[REDACTED]"}'),
        ('["[jane"]', '["[[NAME]"]'),
    ],
)  # fmt: skip
def test_what_becomes_of_it(text, masked):
    assert rewrite(text, Masks()) == masked
    assert rewrite(masked, Masks()) is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "jane", '"jane"', "4111", "null", "[INFO] jane", "{jane}", "{", "}", "[", "]", "{]", "[}",
        "[,]", "[1,]", "[1 2]",
        '{"a"}', '{"a":}', '{"a":"jane",}', "{'a':'jane'}", '{"a":"jane"', '{"a":"ja', '{"a":1}{"a":2}',
        '{"a":1} jane', "[NaN]",
        "[01]", "[+1]", "[1.]", '["\\x41"]', '["a\nb"]', '["\\u12"]', '{1:"jane"}', '{"a":"jane"}\x00',
        "\ufeff[]",
        "[" * (MAX_DEPTH + 1) + '"jane"' + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '["jane"' + " " * MAX_CHARACTERS + "]",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_json_is_left_to_others(text):
    assert parse(text) is None
    assert rewrite(text, Masks()) is None


def test_the_deepest_and_the_longest_are_read():
    deepest = "[" * MAX_DEPTH + '"jane"' + "]" * MAX_DEPTH
    assert rewrite(deepest, Masks()) == deepest.replace("jane", "[NAME]")
    longest = '["jane"' + " " * (MAX_CHARACTERS - 8) + "]"
    assert rewrite(longest, Masks()) == longest.replace("jane", "[NAME]")


def test_json_in_json_in_json_is_a_text():
    once = json.dumps({"password": "x"})
    twice = json.dumps({"b": once})
    assert json.loads(rewrite(twice, Masks()) or "")["b"] == '{"password": "[REDACTED]"}'
    assert rewrite(json.dumps({"c": twice}), Masks()) is None


def test_paths_lead_from_the_outside_in():
    asked = Nothing()
    assert rewrite('{"a": [{"b": [1, "x"]}, [["c", true]]], "d": "{\\"e\\": null}"}', asked) is None
    assert asked.leaves == [
        (1, ("a", "b")),
        ("x", ("a", "b")),
        ("c", ("a",)),
        (True, ("a", "c")),
        (None, ("d", "e")),
    ]
    assert set(asked.members) == {("a",), ("a", "b"), ("a", "c"), ("d",), ("d", "e")}


def test_numbers_of_any_size_are_offered_where_a_rule_is_and_else_in_common_spellings():
    class Ruled(Nothing):
        def member(self, path: Path) -> str | Drop | None:
            return "rule"

    numbers = f"[-0, 1e400, {'9' * 5000}, 4111111111111111, 4.1e15, 4111111111110.0, 1.5]"
    ruled, free = Ruled(), Nothing()
    assert rewrite(f'{{"a": {numbers}}}', ruled) is None
    assert rewrite(f'{{"a": {numbers}}}', free) is None
    inf = float("inf")
    assert [value for value, _ in ruled.leaves] == [0, inf, inf, 4111111111111111, 4.1e15, 4111111111110, 1.5]
    assert [value for value, _ in free.leaves] == [0, 4111111111111111, 4.1e15, 4111111111110]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
    | st.sampled_from(["jane", '{"password": "x"}', "[4111]"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["a", "password", "name", "value"]) | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, list | dict))  # fmt: skip
documents = st.builds(
    json.dumps,
    values,
    ensure_ascii=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    sort_keys=st.booleans(),
)


def _depth(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if below is None else 1 + max(map(_depth, below), default=0)


def _shape(value: Any) -> Any:
    """Lists and names as they are; a leaf is a leaf."""
    if isinstance(value, dict):
        return {name: _shape(below) for name, below in value.items()}
    return [_shape(below) for below in value] if isinstance(value, list) else 0


@settings(max_examples=300, deadline=None)
@given(documents)
def test_a_visitor_that_changes_nothing_changes_nothing(text):
    assert parse(text) is not None
    assert rewrite(text, Nothing()) is None


class AllLeaves(Nothing):
    def member(self, path: Path) -> str | Drop | None:
        return "rule"

    def leaf(self, value: Leaf, path: Path, rule: str | None) -> str | None:
        return 'm"é\\'


@settings(max_examples=300, deadline=None)
@given(documents)
def test_masking_keeps_the_shape(text):
    before, new = json.loads(text), rewrite(text, AllLeaves())
    after = json.loads(text if new is None else new)
    assert _shape(after) == _shape(before)
    assert new is None or text.isascii() == new.isascii() or not text.isascii()


@settings(max_examples=300, deadline=None)
@given(documents)
def test_dropping_leaves_json(text):
    class Drops(Nothing):
        def member(self, path: Path) -> str | Drop | None:
            return DROP if path[-1] in ("a", "password") or len(path[-1]) % 2 else None

    new = rewrite(text, Drops())
    assert new is None or isinstance(json.loads(new), list | dict)
    assert rewrite(text if new is None else new, Drops()) is None


# Pieces of JSON in any order: mostly broken.
PIECES = [
    *'{}[]:,"\\', *" \n\t0", "1.5", "-", "e", "true", "nul", '"a"', '"jane"', "\\u00e9", "\\ud800", "\ud800", "é",
    "[[", "]]", '{"a":',
]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14).map("".join))
def test_it_reads_what_the_standard_library_reads(text):
    try:
        told = json.loads(text, parse_constant=int)  # of NaN: a ValueError
    except ValueError:
        told = None
    assert (parse(text) is not None) == isinstance(told, list | dict)
    rewrite(text, Masks())


def test_little_room_on_the_stack_is_enough():
    def at(depth: int) -> str | None:
        return at(depth - 1) if depth else rewrite("[" * MAX_DEPTH + '"jane"' + "]" * MAX_DEPTH, Masks())

    assert at(sys.getrecursionlimit() - 400) is not None


def seconds_of(text: str) -> float:
    """The better of two tries: of CPU, so that others' work does not count."""
    best = float("inf")
    for _ in range(2):
        start = time.thread_time()
        rewrite(text, Masks())
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.parametrize(
    "unit",
    [
        '"jane",',
        "1,",
        "[],",
        '{"a":"jane"},',
        '{"gone":1},',
        '["a","b"],',
        '"\\\\",',
        '"\\u00e9",',
        '{"name":"a","value":1},',
        '"[1]",',
    ],
)
def test_the_time_is_linear_in_the_text(unit):
    def seconds(size: int) -> float:
        text = f"[{(unit * (size // len(unit)))[:-1]}]"
        return seconds_of(text)

    # 16 times the text; quadratic would take 256 times as long. What the clock cannot tell has a floor.
    assert seconds(1 << 16) < 64 * max(seconds(1 << 12), 5e-4)


def test_many_names_and_many_values_in_one_object_take_linear_time():
    def seconds(size: int) -> float:
        members = ['"name":"jane"'] * (size // 24) + ['"value":1'] * (size // 24)
        text = "{" + ",".join(members) + "}"
        return seconds_of(text)

    assert seconds(1 << 16) < 64 * max(seconds(1 << 12), 5e-4)


@pytest.mark.parametrize("unit", ["[", '{"a":', '"', '"\\', "[1,", "{", '["'])
def test_what_is_broken_is_told_in_linear_time(unit):
    def seconds(size: int) -> float:
        text = "[" + unit * (size // len(unit)) + "]"
        best = float("inf")
        for _ in range(2):
            start = time.thread_time()
            assert parse(text) is None
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(1 << 16) < 64 * max(seconds(1 << 12), 5e-4)
