"""What is found in texts, what is left alone, and how long it takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.pii.detectors import DETECTORS, is_card, masked
from otel_ttf.pii.names import PHRASES, SecretNames
from otel_ttf.pii.scanner import ENGINES, Pattern, Scanner

CASES = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text())
PATTERNS = [Pattern(one.group, expression) for one in DETECTORS for expression in one.supersets]
SCANNERS = {engine: Scanner(PATTERNS, engine) for engine in ENGINES}
NAMES = SecretNames((*PHRASES, "tax id"))
FRAGMENTS = [
    *(case["text"] for case in CASES),
    *"@.-_ 4/=:[]{}",
    "jane",
    "example.com",
    "4111",
    "1111",
    "eyJ",
    "Bearer ",
    "basic ",
    "u1_",
    "日本",
    "é",
    "ſ",
    "\u212a",
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=8).map("".join)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:50])
def test_case(case):
    assert masked(case["text"], DETECTORS) == case.get("masked", case["text"])


@settings(max_examples=400, deadline=None)
@given(texts)
def test_masking_twice_is_masking_once(text):
    once = masked(text, DETECTORS)
    assert masked(once, DETECTORS) == once


@settings(max_examples=400, deadline=None)
@given(texts)
def test_the_scan_hits_whatever_a_detector_finds(text):
    for detector in DETECTORS:
        if masked(text, [detector]) != text:
            for scanner in SCANNERS.values():
                # The neighbours of a text in protobuf may be any bytes.
                assert scanner.hits([b"5" + text.encode() + b"5"])[0] & detector.group


@settings(max_examples=300, deadline=None)
@given(st.lists(texts.map(str.encode) | st.binary(max_size=20), max_size=6))
def test_engines_find_the_same_in_the_same_pieces(pieces):
    alone = {place: found[0] for place, piece in enumerate(pieces) if (found := SCANNERS["re"].hits([piece]))}
    for engine, scanner in SCANNERS.items():
        told = scanner.hits(pieces)
        for place in range(len(pieces)):
            # A match across a border may add a hit, none may be missing.
            assert told.get(place, 0) & alone.get(place, 0) == alone.get(place, 0), engine
        each = {place: scanner.hits([piece]).get(0) for place, piece in enumerate(pieces)}
        assert {place: groups for place, groups in each.items() if groups} == alone


def test_pieces_of_many_megabytes_are_found_in():
    pieces = [b"x" * (3 << 20), b"", b"jane@example.com", b"y" * (5 << 20), b"a@b.de"]
    for engine in ("hyperscan", "re2"):
        assert sorted(SCANNERS[engine].hits(pieces)) == [2, 4]


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("password", True),
        ("user.password", True),
        ("newPassword2", True),
        ("passWord", True),
        ("db.password_hash", True),
        ("http.request.header.authorization", True),
        ("http.request.header.set-cookie", True),
        ("Cookie", True),
        ("apiKey", True),
        ("x-api-key", True),
        ("APIKey", True),
        ("apikey", True),
        ("access_token", True),
        ("card.number", True),
        ("SSN", True),
        ("user.taxId", True),
        ("password_reset_token", True),
        ("author", False),
        ("authentication.completed", False),
        ("token_count", False),
        ("gen_ai.usage.input_tokens", False),
        ("password_reset_completed", False),
        ("secretary", False),
        ("class.name", False),
        ("cookies_enabled", False),
        ("url.path", False),
        ("user.id", False),
        ("", False),
        ("日本語", False),
    ],
)
def test_which_keys_are_secret(key, secret):
    assert NAMES.match(key) is secret
    if secret:
        for engine in ENGINES:
            assert Scanner(NAMES.patterns, engine).hits([b"\x09" + key.encode()])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [w for phrase in PHRASES for w in phrase.split()] + ["_", ".", "-", "é", "ſ", "\u212a"]
        ),
        max_size=6,
    ).map("".join),
    st.booleans(),
)
def test_the_scan_hits_every_secret_key(key, upper):
    key = key.upper() if upper else key
    if NAMES.match(key):
        assert Scanner(NAMES.patterns, "re").hits([key.encode()])


@pytest.mark.parametrize(
    ("digits", "card"),
    [
        pytest.param("4111111111111111", True, id="Visa"),
        pytest.param("4222222222222", True, id="Visa of 13 digits"),
        pytest.param("378282246310005", True, id="American Express"),
        pytest.param("30569309025904", True, id="Diners Club"),
        pytest.param("1111111111111117", False, id="no issuer"),
        pytest.param("9999999999999995", False, id="no issuer either"),
        pytest.param("4111", False, id="too short"),
        pytest.param("41111111111111111110", False, id="too long"),
    ],
)
def test_which_numbers_are_cards(digits, card):
    assert is_card(digits) is card


@pytest.mark.parametrize(
    "unit",
    [
        "a.",
        "a@a-",
        "@",
        "a@a.",
        "1 ",
        "4111 1111 1111 1111",
        "eyJ",
        "eyJ.",
        "eyJhbGciOiJub25lIn0.",
        "Bearer ",
        "u1_",
        "a",
        "-",
        "@a.b-",
        "://",
        "://a@",
        "?key=",
        "&",
        "ghp_a1b2c3d4",
        "SG.a",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 64,
        "-----BEGIN PRIVATE KEY-----\na-b: c",
        "-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
    ],
)
def test_the_time_is_linear_in_the_text(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            masked(text, DETECTORS)
            best = min(best, time.thread_time() - start)
        return best

    # Quadratic would be 16 times as long; the smaller one has a floor for what the clock cannot tell.
    assert seconds(1 << 16) < 9 * max(seconds(1 << 14), 1e-3)
