"""Each detector by its table: what it finds in a text, and what it leaves alone and why."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import TABLES

from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.scanner import ENGINES, Engine, Pattern, Scanner

BY_NAME = {detector.name: detector for detector in DETECTORS}
FOUND = [(name, case) for name, table in TABLES.items() for case in table["found"]]
LEFT_ALONE = [(name, case) for name, table in TABLES.items() for case in table["left_alone"]]


@cache
def _scanner(name: str, engine: Engine) -> Scanner:
    return Scanner([Pattern(1, expression) for expression in BY_NAME[name].supersets], engine)


def _id(value: object) -> str:
    return value if isinstance(value, str) else str(value["text"])[:60]


def test_every_detector_has_a_table_of_both_kinds():
    assert TABLES.keys() == BY_NAME.keys()
    assert [name for name, table in TABLES.items() if not (table["found"] and table["left_alone"])] == []


@pytest.mark.parametrize(("name", "case"), FOUND, ids=_id)
def test_it_finds(name, case):
    detector, text = BY_NAME[name], case["text"]
    assert [text[start:end] for start, end in detector.find(text)] == case["spans"]
    for engine in ENGINES:
        assert _scanner(name, engine).hits([b"5" + text.encode() + b"5"]), engine


@pytest.mark.parametrize(("name", "case"), LEFT_ALONE, ids=_id)
def test_it_leaves_alone(name, case):
    text = case["text"]
    assert [text[start:end] for start, end in BY_NAME[name].find(text)] == []
    assert case["why"]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_no_placeholder_is_found(detector):
    for other in DETECTORS:
        assert list(detector.find(f"[{other.label}]")) == []


@given(st.sampled_from(DETECTORS), st.text())
def test_what_stands_under_a_key_may_be_any_text(detector, text):
    """Nobody promises that `client.address` holds an address: a socket there may not fail the request."""
    assert isinstance(detector.canonical(text), str)
    assert isinstance(detector.truncated(text), str | None)
