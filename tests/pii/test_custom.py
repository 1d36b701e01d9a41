"""Detectors of one's own: what the configuration takes, what they find, and that the one scan never misses them."""

from __future__ import annotations

import re
from contextlib import nullcontext
from itertools import pairwise

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_ttf.pii.detect.custom import CustomDetector, sharing
from otel_ttf.pii.detect.superset import Reach, reach, superset
from otel_ttf.pii.scanner import ENGINES, Pattern, Scanner
from otel_ttf.processors.mask import MaskConfig

# Patterns, and texts that each of them matches.
PATTERNS = [
    (r"\bEMP-\d{6}\b", ["EMP-123456", "an EMP-000001."]),
    (r"(?i)cust[0-9a-f]{8}", ["CUST0123abcd", "cu\u017ft0123abcd"]),
    (r"^user:(?P<name>[^\s]+)$", ["user:jürgen", "user:日本"]),
    (r"[[:alpha:]]{3}\.x", ["abc.x"]),
    (r"é+\pL\d", ["éééß7"]),
    (r"a*?b+?c{2,3}?", ["bcc", "aabccc"]),
    (r"(?i)[a-z]{2}-k", ["xy-\u212a", "AB-K"]),
    (r"\Qa.b\E\d", ["a.b7"]),
    (r"x{2,}", ["xx", "xxxxx"]),
    (r"(?:MRN|mrn)[ :#]*(\d{7,10})", ["MRN: 12345678"]),
    (r"..-\d\D\W\S", ["é日-7xé!"]),
    (r"\x41\x{e9}\101\t", ["AéA\t"]),
    (r"[^a]-b|c-[d-f\]]", ["ß-b", "c-]"]),
]


@pytest.mark.parametrize(("pattern", "texts"), PATTERNS)
def test_the_scan_hits_whatever_a_pattern_matches(pattern, texts):
    detector = CustomDetector(pattern=pattern).detector("own")
    for engine in ENGINES:
        scanner = Scanner([Pattern(1, superset(pattern))], engine)
        for text in texts:
            assert any(detector.find(text)), text
            assert scanner.hits([b"k" + text.encode() + b"9"]), (engine, text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_scan_hits_what_patterns_made_at_random_match(data):
    pieces = st.sampled_from(
        [r"\d", r"\w", ".", "[a-f]", "[^x]", "k", "S", "é", r"\.", r"\b", "(?:ab|cd)", r"\s", "[k-t0-9]"]
    )
    repeats = st.sampled_from(["", "", "+", "?", "{2}", "{1,3}", "*?"])
    made = data.draw(st.lists(st.tuples(pieces, repeats), min_size=1, max_size=5))
    pattern = "".join(piece + ("" if piece == r"\b" else repeat) for piece, repeat in made)
    text = data.draw(st.text("abkKsS019 .éß日\u212a\u017f", max_size=12))
    try:
        detector = CustomDetector(pattern=pattern).detector("own")
    except ValidationError:
        return
    found = list(detector.find(text))
    if found:
        most, endless = reach(pattern)
        for start, end in found:
            assert len(re2.sub(endless, "", text[start:end]) if endless else text[start:end]) <= most
        for engine in ENGINES:
            assert Scanner([Pattern(1, superset(pattern))], engine).hits([b"a" + text.encode() + b"1"]), (
                engine
            )


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param({"pattern": r"(?<=x)a"}, "RE2 refuses it: ", id="look-behind"),
        pytest.param({"pattern": r"(a)\1"}, "RE2 refuses it: ", id="back-reference"),
        pytest.param({"pattern": "("}, "RE2 refuses it: ", id="no expression"),
        pytest.param({"pattern": "a*"}, "does not match the empty text", id="the empty text"),
        pytest.param({"pattern": "[A-Z]{3,}"}, "finds part of the placeholder", id="a placeholder"),
        pytest.param({"pattern": "x", "action": "truncate"}, "another one than truncate", id="truncate"),
        pytest.param({"pattern": "x", "tests": {"found": ["y"]}}, "finds nothing in 'y'", id="finds nothing"),
        pytest.param(
            {"pattern": "x", "tests": {"left_alone": ["axb"]}}, "finds 'x' in 'axb'", id="finds something"
        ),
        pytest.param({"pattern": "x", "validator": "none"}, "luhn", id="no validator"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(wrong, reason, capfd):
    with pytest.raises(ValidationError, match=re.escape(reason)):
        CustomDetector.model_validate(wrong)
    assert capfd.readouterr().err == "", "RE2 writes to standard error"


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        pytest.param(["order", "badge", "order_item"], {}, id="all differ"),
        pytest.param(["order1", "order_2"], {"order_2": "order1"}, id="digits do not count"),
        pytest.param(["ssn"], {"ssn": "the built-in detector us_ssn"}, id="a built-in one's"),
        pytest.param(["location"], {"location": "values that are masked by their key"}, id="a key rule's"),
    ],
)
def test_a_placeholder_is_of_one_detector_alone(names, shared):
    told = dict(sharing(names))
    assert told.keys() == shared.keys()
    assert all(told[name].endswith(f"is that of {owner}") for name, owner in shared.items())
    custom = {name: {"pattern": "x+y"} for name in names}
    with pytest.raises(ValidationError, match="another name") if shared else nullcontext():
        MaskConfig.model_validate({"custom": custom})


def test_check_digits_of_a_text_of_any_length_are_told():
    texts = {"GB82WEST12345698765432": True, "GB82WEST12345698765433": False, "A" * 10_000: False}
    detector = CustomDetector(pattern="[A-Z0-9]{10,}", validator="mod97").detector("own")
    assert {text: any(detector.find(text)) for text in texts} == texts


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["#", "#a", "é#"]), st.integers(1, 1000), st.booleans())
def test_what_was_looked_through_too_often_is_one_finding_to_its_end(unit, kilo, bounded):
    text = unit * kilo * 4
    detector = CustomDetector(pattern="#(?:a{0,9}z)?" if bounded else "#(?:.*z)?").detector("own")
    found = list(detector.find(text))
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    # Nothing is left out, and where no find can look far, or there are few, each is told by itself.
    signs = {place for place, sign in enumerate(text) if sign == "#"}
    assert signs <= {place for start, end in found for place in range(start, end)}
    if bounded or len(signs) <= 1000:
        assert found == [(place, place + 1) for place in sorted(signs)]
    elif len(signs) > 2000:  # before that, looks of less than half of the text are left
        assert len(found) <= 2000
        assert found[-1][1] == len(text)


@pytest.mark.parametrize(
    ("pattern", "most", "endless"),
    [
        ("EMP-[0-9]+", 4, "(?:[0-9])"),
        ("a*?b*", 0, "(?:a|b)"),
        ("x{2,}", 0, "(?:x)"),
        (r"(?:a.|\bb{3}\C)*c", 1, r"(?:a|.|b|(?s:.))"),
        (r"(?:a+b){3}|[.]{2}", 3, "(?:a)"),
        ("(?i)a+", 0, "(?:a|(?is:a))"),
        ("(?s:.+)x", 1, "(?:.|(?is:.))"),
        (r"[*]{3}\Qa+\E?", 5, None),
        (r"\Qa+\E*", 1, r"(?:\+)"),
        ("EMP-[0-9]{6}", 10, None),
        ("[A-Z]{2,50}-[0-9]{1,50}", 101, None),
        ("(?:a{10}){3,9}", 90, None),
        ("x.*?y", 2, None),
        (r"x.*?\d{2}", 3, None),
        ("x.*?y+", 1, "(?:.|y)"),
        ("x.*?y|z", 2, "(?:.)"),
    ],
)
def test_how_far_a_pattern_can_look(pattern, most, endless):
    assert reach(pattern) == Reach(most, endless)


@pytest.mark.parametrize(
    "pattern",
    [
        r"ORD-\d+",
        "[A-Z]{2,50}-[0-9]{1,50}",
        r"O.*?\d{5}",
        r"\bORD-[0-9]+\b",
        r"(?i)o[a-z]+-[^\s,-]+",
    ],
)
@pytest.mark.parametrize("between", [" ", ", ", "-", "\n"])
def test_as_many_finds_as_there_may_be_where_none_looks_far(pattern, between):
    orders = [f"ORD-{number}" for number in range(10_000, 15_000)]
    text = between.join(orders)
    finds = [text[slice(*span)] for span in CustomDetector(pattern=pattern).detector("own").find(text)]
    assert finds == orders


@pytest.mark.parametrize("pattern", [r"\bC[a-z]+-[a-z]+", r"C(?:.*z)?"])
def test_where_no_context_word_stands_nothing_is_found_however_often_it_was_looked(pattern):
    text = "Cache-ab " * 20_000
    detector = CustomDetector(pattern=pattern, context=("customer",)).detector("own")
    assert list(detector.find(text)) == []
    assert next(detector.find("customer " + text))[0] == len("customer ")


def test_a_group_tells_what_is_masked_and_context_and_validator_have_to_agree():
    config = CustomDetector(pattern=r"no\. (\d{8,12})", validator="luhn", context=("member",))
    detector = config.detector("member")
    texts = {
        "Member no. 79927398713": ["79927398713"],
        "order no. 79927398713": [],
        "member no. 79927398714": [],
        "member" + " " * 41 + "no. 79927398713": [],
    }
    assert {text: [text[a:b] for a, b in detector.find(text)] for text in texts} == texts
    assert detector.label == "MEMBER"
