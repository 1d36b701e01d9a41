"""The match language: journeys.md, Match, sentence by sentence, case by case."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from seen import Seen

from otel_ttf.journey.match import JSON_SCHEMA, MatchErrors, parse

CASES = yaml.safe_load((Path(__file__).parent / "match_cases.yaml").read_text())
SCHEMA = jsonschema.Draft202012Validator(JSON_SCHEMA)


def each(outcome: str) -> list[Any]:
    return [
        pytest.param(case["match"], record, id=f"{case['says']}-{number}")
        for case in CASES
        for number, record in enumerate(case[outcome])
    ]


@pytest.mark.parametrize(("match", "record"), each("holds"))
def test_a_match_holds(match, record):
    assert parse(match)(Seen(**record))


@pytest.mark.parametrize(("match", "record"), each("fails"))
def test_a_match_fails(match, record):
    assert not parse(match)(Seen(**record))


def test_every_sentence_has_cases_of_both_outcomes():
    assert len({case["says"] for case in CASES}) == len(CASES)
    assert [case["says"] for case in CASES if not case["holds"] or not case["fails"]] == []


@pytest.mark.parametrize("case", [pytest.param(case["match"], id=case["says"]) for case in CASES])
def test_the_schema_takes_every_match(case):
    SCHEMA.validate(case)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(JSON_SCHEMA)


WRONG = [
    pytest.param({"events": "a"}, "events", "event, span", "did you mean event", id="unknown key"),
    pytest.param(
        {"span": {"nmae": "a"}}, "span.nmae", "name, kind, status", "did you mean name", id="span key"
    ),
    pytest.param(
        {"span": {"kind": "Server"}}, "span.kind", "internal, server", "did you mean server", id="kind"
    ),
    pytest.param({"span": {"kind": ["server", 3]}}, "span.kind.1", "internal", "3", id="kind in a list"),
    pytest.param({"span": {"kind": {"glob": "s*"}}}, "span.kind", "internal", "a mapping", id="kind by glob"),
    pytest.param({"span": {"status": "okay"}}, "span.status", "unset, ok, error", "'okay'", id="status"),
    pytest.param({"span": "POST /"}, "span", "a mapping with some of name", "'POST /'", id="span as text"),
    pytest.param({"span": {}}, "span", "a mapping with some of name", "an empty mapping", id="empty span"),
    pytest.param("signup", "", "{event: signup}", "'signup'", id="text for a match"),
    pytest.param(None, "", "a mapping", "nothing", id="nothing for a match"),
    pytest.param([], "", "at least one match", "an empty list", id="empty list"),
    pytest.param({}, "", "a mapping with some of event", "an empty mapping", id="empty mapping"),
    pytest.param([{"event": "a"}, "b"], "1", "a mapping", "'b'", id="text in a list of matches"),
    pytest.param({"any": {"event": "a"}}, "any", "a list of matches", "a mapping", id="any without a list"),
    pytest.param({"all": []}, "all", "at least one match", "an empty list", id="all of nothing"),
    pytest.param({"not": "a"}, "not", "a mapping", "'a'", id="not of text"),
    pytest.param({"event": None}, "event", "text, a number", "nothing", id="no event name"),
    pytest.param({"event": ""}, "event", "a name", "empty text", id="empty event name"),
    pytest.param({"event": True}, "event", "a name", "true (quote it", id="on and yes are true in YAML"),
    pytest.param({"event": ["a", True]}, "event.1", "a name", "true", id="true in a list of names"),
    pytest.param({"event": []}, "event", "at least one value", "an empty list", id="empty list of names"),
    pytest.param(
        {"event": {"regex": "a"}}, "event.regex", "glob, range, exists, not", "'regex'", id="no such form"
    ),
    pytest.param({"event": {}}, "event", "glob, range, exists, not", "an empty mapping", id="empty value"),
    pytest.param({"event": [["a"]]}, "event.0", "text, a number", "a list", id="list in a list"),
    pytest.param(
        {"event": [{"glob": "a"}]}, "event.0", "text, a number", "a mapping", id="mapping in a list"
    ),
    pytest.param(
        {"attributes": []}, "attributes", "attribute names", "an empty list", id="attributes as list"
    ),
    pytest.param({"attributes": {}}, "attributes", "attribute names", "an empty mapping", id="no attributes"),
    pytest.param(
        {"attributes": {7: 1}}, "attributes", "an attribute's name", "7 (quote", id="number as attribute"
    ),
    pytest.param({"attributes": {"a": None}}, "attributes.a", "text, a number", "nothing", id="null value"),
    pytest.param(
        {"attributes": {"a": {"glob": 7}}}, "attributes.a.glob", "text with", "7", id="glob of a number"
    ),
    pytest.param(
        {"attributes": {"a": {"glob": ""}}}, "attributes.a.glob", "text with", "''", id="empty glob"
    ),
    pytest.param(
        {"attributes": {"a": {"range": 7}}}, "attributes.a.range", "two numbers", "7", id="range of one"
    ),
    pytest.param(
        {"attributes": {"a": {"range": [1]}}}, "attributes.a.range", "two", "a list of 1", id="short range"
    ),
    pytest.param(
        {"resource": {"a": {"range": ["x", 1]}}}, "resource.a.range.0", "a number", "'x'", id="bad bound"
    ),
    pytest.param(
        {"resource": {"a": {"range": [0, True]}}}, "resource.a.range.1", "a number", "true", id="true bound"
    ),
    pytest.param(
        {"resource": {"a": {"exists": "yes"}}}, "resource.a.exists", "true or false", "'yes'", id="exists"
    ),
    pytest.param(
        {"resource": {"a": {"not": None}}}, "resource.a.not", "text, a number", "nothing", id="not nothing"
    ),
]


@pytest.mark.parametrize(("match", "path", "expected", "found"), WRONG)
def test_a_mistake_says_where_and_what_was_expected_and_found(match, path, expected, found):
    with pytest.raises(MatchErrors) as caught:
        parse(match)
    (error,) = caught.value.errors
    assert ".".join(map(str, error.path)) == path
    assert expected in error.expected
    assert found in error.found
    assert str(error).endswith(f"expected {error.expected}, found {error.found}")


@pytest.mark.parametrize("match", [pytest.param(case.values[0], id=case.id) for case in WRONG])
def test_the_schema_refuses_what_parse_refuses(match):
    assert not SCHEMA.is_valid(match if match != {"attributes": {7: 1}} else {"attributes": {"": 1}})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"attributes": {"a": {"range": [2, 1]}}}, id="a range upside down"),
        pytest.param({"attributes": {"a": float("nan")}}, id="no number"),
        pytest.param({"attributes": {"a": {"range": [float("inf"), None]}}}, id="an infinite bound"),
        pytest.param({"on": 1, True: 2}, id="a key that is no text"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_too(data):
    with pytest.raises(MatchErrors):
        parse(data)


def test_every_mistake_is_told_at_once_and_in_order():
    data = {"evnt": "a", "span": {"kind": "x", "state": 1}, "any": [{"attributes": {"a": {"range": [0]}}}, 7]}
    with pytest.raises(MatchErrors) as caught:
        parse(data, path=("journeys", "j", "milestones", 0, "match"))
    paths = [".".join(map(str, error.path[5:])) for error in caught.value.errors]
    assert paths == ["evnt", "span.kind", "span.state", "any.0.attributes.a.range", "any.1"]
    assert all(error.path[:5] == ("journeys", "j", "milestones", 0, "match") for error in caught.value.errors)


def test_an_alias_that_holds_itself_is_a_mistake_and_no_endless_loop():
    for text in ("&a [*a]", "&a {not: *a}", "event: &a {not: *a}", "span: {kind: &a {not: *a}}"):
        with pytest.raises(MatchErrors, match="at most 32 levels"):
            parse(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"event": ["a", "b"]}, {"event": ["b", "a", "a"]}, id="order and repetition in a list"),
        pytest.param({"event": "a"}, {"event": ["a"]}, id="a list of one"),
        pytest.param({"event": ["a", "b"]}, [{"event": "b"}, {"event": "a"}], id="any of two names"),
        pytest.param(
            [{"event": "a"}, {"span": {"name": "b"}}],
            {"any": [{"span": {"name": "b"}}, {"event": "a"}]},
            id="a list is any",
        ),
        pytest.param({"attributes": {"n": "201"}}, {"attributes": {"n": 201}}, id="text and number"),
        pytest.param({"attributes": {"n": 201.0}}, {"attributes": {"n": 201}}, id="with and without a point"),
        pytest.param(
            {"attributes": {"n": {"range": [1.0, 2]}}},
            {"attributes": {"n": {"range": [1, 2.0]}}},
            id="bounds of a range",
        ),
        pytest.param(
            {"event": "a", "attributes": {"x": 1, "y": 2}},
            {"all": [{"attributes": {"y": 2}}, {"event": "a"}, {"attributes": {"x": 1}}]},
            id="mapping is all",
        ),
        pytest.param(
            {"span": {"name": "a", "kind": "server"}},
            {"span": {"kind": ["server"], "name": "a"}},
            id="order of span's keys",
        ),
        pytest.param(
            [[{"event": "a"}], [{"event": "b"}, {"event": "c"}]], {"event": ["c", "b", "a"]}, id="nested any"
        ),
        pytest.param(
            {"not": [{"event": "a"}, {"event": "b"}]}, {"not": {"event": ["b", "a"]}}, id="inside not"
        ),
    ],
)
def test_spellings_of_one_match_are_equal(one, other):
    assert parse(one).canonical == parse(other).canonical
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"event": "a"}, {"span": {"name": "a"}}, id="event and span"),
        pytest.param({"attributes": {"a": 1}}, {"resource": {"a": 1}}, id="attribute and resource"),
        pytest.param({"attributes": {"a": 1}}, {"attributes": {"a": True}}, id="1 and true"),
        pytest.param({"attributes": {"a": "1.10"}}, {"attributes": {"a": 1.1}}, id="a version and a number"),
        pytest.param({"event": {"not": "a"}}, {"not": {"event": "a"}}, id="not inside and outside event"),
        pytest.param({"event": ["a", "b"]}, {"all": [{"event": "a"}, {"event": "b"}]}, id="any and all"),
        pytest.param(
            [{"attributes": {"a": {"not": ["x"]}}}, {"attributes": {"a": {"not": ["y"]}}}],
            {"attributes": {"a": {"not": ["x", "y"]}}},
            id="not of each and not of both",
        ),
        pytest.param(
            [{"attributes": {"a": {"range": [1, 2]}}}, {"attributes": {"a": {"range": [3, 4]}}}],
            {"attributes": {"a": {"range": [1, 4]}}},
            id="two ranges and one",
        ),
    ],
)
def test_different_matches_differ(one, other):
    assert parse(one) != parse(other)


@pytest.mark.parametrize(
    ("match", "names"),
    [
        pytest.param({"event": ["a", "b"]}, {("event", "a"), ("event", "b")}, id="a list"),
        pytest.param({"event": 7}, {("event", "7")}, id="a number"),
        pytest.param({"event": {"glob": "a"}}, {("event", "a")}, id="a glob without a star"),
        pytest.param({"event": {"glob": "a*"}}, None, id="a glob"),
        pytest.param({"event": {"not": "a"}}, None, id="not"),
        pytest.param({"span": {"name": "a", "kind": "server"}}, {("span", "a")}, id="a span"),
        pytest.param({"span": {"kind": "server"}}, None, id="a span without a name"),
        pytest.param({"event": "a", "attributes": {"x": 1}}, {("event", "a")}, id="name and attribute"),
        pytest.param([{"event": "a"}, {"span": {"name": "b"}}], {("event", "a"), ("span", "b")}, id="any"),
        pytest.param([{"event": "a"}, {"attributes": {"x": 1}}], None, id="any with one that names nothing"),
        pytest.param({"event": "a", "span": {"name": "b"}}, set(), id="a record is not both"),
        pytest.param({"not": {"event": "a"}}, None, id="not of a name"),
    ],
)
def test_the_names_that_a_match_can_be_true_of(match, names):
    assert parse(match).names() == names


def test_it_tells_which_attributes_it_reads():
    match = parse(
        {"attributes": {"a": 1}, "any": [{"resource": {"b": 1}}, {"not": {"attributes": {"c": {"not": 2}}}}]}
    )
    assert match.attributes() == {"a", "c"}
    assert match.resource_attributes() == {"b"}


@pytest.mark.parametrize(
    ("match", "event", "span"),
    [
        pytest.param({"event": "a"}, True, False, id="its own event name"),
        pytest.param({"event": "b"}, False, False, id="another event name"),
        pytest.param({"span": {"name": "a"}}, False, True, id="its own span name"),
        pytest.param({"span": {"kind": "client"}}, False, None, id="a kind is not known by name"),
        pytest.param({"attributes": {"x": 1}}, None, None, id="an attribute is not known by name"),
        pytest.param({"event": "a", "attributes": {"x": 1}}, None, False, id="name and attribute"),
        pytest.param({"not": {"event": "a"}}, False, True, id="not of a name"),
        pytest.param([{"event": {"glob": "a*"}}, {"attributes": {"x": 1}}], True, None, id="any"),
    ],
)
def test_what_a_name_alone_decides(match, event, span):
    compiled = parse(match)
    assert (compiled.given("event", "a"), compiled.given("span", "a")) == (event, span)
    assert compiled.may_match_event("a") == (event is not False)
    assert compiled.may_match_span("a") == (span is not False)


def test_no_glob_is_slow_for_any_text():
    """A backtracking matcher would take longer than the universe has."""
    hostile = parse({"attributes": {"a": {"glob": "*a?*b" * 30}}})
    began = time.thread_time()
    assert not hostile(Seen(attributes={"a": "ab" * 20_000 + "a"}))
    assert time.thread_time() - began < 2


def test_numbers_of_any_length_are_read():
    match = parse({"attributes": {"a": {"range": [0, None]}}})
    assert match(Seen(attributes={"a": "9" * 100_000}))
    assert not match(Seen(attributes={"a": "-" + "9" * 100_000}))
    assert parse({"attributes": {"a": "9" * 10_000}})(Seen(attributes={"a": "9" * 10_000}))
