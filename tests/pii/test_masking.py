"""What becomes of texts: all detectors together, by every engine, and in time linear in the text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import TEXTS

from otel_ttf.pii.action import Action
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.keyrules import SECRET_PHRASES, KeyRule, KeyRules
from otel_ttf.pii.masking import Masking, ValueHashes, Watch, Where, for_messages
from otel_ttf.pii.scanner import CONTENT, ENCODED, ENGINES, FIRST_DETECTOR, KEY, Engine, Pattern, Scanner
from otel_ttf.pii.unfold import PATTERNS as ENCODINGS

ON = [
    Watch(one, one.default, FIRST_DETECTOR << at) for at, one in enumerate(DETECTORS) if one.default != "keep"
]
RULES = KeyRules([KeyRule(words="tax id")])
HASHES = ValueHashes("ab2c", b"k" * 32)
MASKING = Masking(ON, RULES, HASHES)
PATTERNS = [
    *RULES.patterns,
    *(Pattern(ENCODED, expression) for expression in ENCODINGS),
    *(Pattern(watch.group, expression) for watch in ON for expression in watch.detector.supersets),
]
FRAGMENTS = [
    *(case["text"] for case in TEXTS),
    *"@.-_ 4/=:[]{}\"'%&\\",
    "jane",
    "example.com",
    "4111",
    "1111",
    "eyJ",
    "Bearer ",
    "basic ",
    "password",
    "u1_",
    "%40",
    "&#64;",
    "\\u0040",
    "\uff20",
    "\u200b",
    "日本",
    "é",
    "ſ",
    "\u212a",
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=8).map("".join)
ways: list[Action] = ["redact", "hash", "partial", "truncate"]


@cache
def scanner(engine: Engine) -> Scanner:
    """Made when it is needed: it takes a second."""
    return Scanner(PATTERNS, engine)


def masked(text: str, masking: Masking = MASKING, **told: bool) -> str:
    return masking.text(text, Where(**told))


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case["text"][:50])
def test_case(case):
    assert masked(case["text"], for_messages()) == case.get("masked", case["text"])


@settings(max_examples=300, deadline=None)
@given(texts)
def test_masking_twice_is_masking_once(text):
    once = masked(text)
    assert masked(once) == once


def test_what_becomes_json_by_being_masked_is_masked_as_json():
    """A control character in a value kept it from being JSON; found by fuzzing."""
    text = '{"token": "Autho]Authorization: Bearer ajbca\x00def0eyJhbGciOiJI"}'
    once = masked(text, for_messages())
    assert once == masked(once, for_messages()) == '{"token": "[REDACTED]"}'


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(ways))
def test_masking_twice_is_masking_once_whatever_is_done(text, way):
    watches = [Watch(one, way, FIRST_DETECTOR << at) for at, one in enumerate(DETECTORS)]
    masking = Masking(watches, RULES, HASHES)
    once = masked(text, masking, trusted=True)
    assert masked(once, masking, trusted=True) == once


@settings(max_examples=300, deadline=None)
@given(texts)
def test_the_scan_hits_whatever_is_masked(text):
    if masked(text) != text:
        for engine in ENGINES:
            # The neighbours of a text in protobuf may be any bytes.
            assert scanner(engine).hits([b"5" + text.encode() + b"5"])[0] & (CONTENT | KEY), engine


@settings(max_examples=300, deadline=None)
@given(texts)
def test_only_the_detectors_that_the_scan_names_have_to_look(text):
    groups = scanner("re").hits([b"5" + text.encode() + b"5"]).get(0, 0)
    assert MASKING.text(text, Where(), groups) == masked(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(texts.map(str.encode) | st.binary(max_size=20), max_size=6))
def test_engines_find_the_same_in_the_same_pieces(pieces):
    alone = {place: found[0] for place, piece in enumerate(pieces) if (found := scanner("re").hits([piece]))}
    for engine in ENGINES:
        told = scanner(engine).hits(pieces)
        for place in range(len(pieces)):
            # A match across a border may add a hit, none may be missing.
            assert told.get(place, 0) & alone.get(place, 0) == alone.get(place, 0), engine
        each = {place: scanner(engine).hits([piece]).get(0) for place, piece in enumerate(pieces)}
        assert {place: groups for place, groups in each.items() if groups} == alone


def test_pieces_of_many_megabytes_are_found_in():
    pieces = [b"x" * (3 << 20), b"", b"jane@example.com", b"y" * (5 << 20), b"a@b.de"]
    for engine in ("hyperscan", "re2"):
        assert sorted(scanner(engine).hits(pieces)) == [2, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("jane%40example.com", "[EMAIL]", id="percent-encoded"),
        pytest.param("to jane&#64;example&period;com now", "to [EMAIL] now", id="HTML"),
        pytest.param("ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "[EMAIL]", id="full width"),
        pytest.param("４１１１ １１１１ １１１１ １１１１", "[CARD]", id="full-width digits"),
        pytest.param("jane@exam\u200bple.com", "[EMAIL]", id="a character without room"),
        pytest.param(
            '{"mail": "jane\\u0040example.com", "n": 1.50}', '{"mail": "[EMAIL]", "n": 1.50}', id="JSON"
        ),
        pytest.param(
            '{"password": "x", "n": [1, {"cvv": 123}]}',
            '{"password": "[REDACTED]", "n": [1, {"cvv": "[REDACTED]"}]}',
            id="keys in JSON",
        ),
        pytest.param(
            '{"a": "{\\"password\\": \\"x y\\"}"}',
            '{"a": "{\\"password\\": \\"[REDACTED]\\"}"}',
            id="JSON in JSON",
        ),
        pytest.param(
            '{"client": {"address": "203.0.113.7"}, "user": {"email": "at home", "roles": ["a"]}}',
            '{"client": {"address": "203.0.113.0"}, "user": {"email": "[EMAIL]", "roles": ["a"]}}',
            id="an attribute's name as keys in one another",
        ),
        pytest.param(
            '{"card": {"number": "4111111111111111"}, "order": {"number": 4111111111111111}}',
            '{"card": {"number": "[CARD]"}, "order": {"number": 4111111111111111}}',
            id="a card's number and an order's",
        ),
        pytest.param(
            '{"a": 4111111111111111.0, "b": [4.111111111111111E+15, -4111111111111111.0]}',
            '{"a": "[CARD]", "b": ["[CARD]", -4111111111111111.0]}',
            id="a card's number as a float",
        ),
        pytest.param(
            '{"order_id": 4111111111111111.0, "b": 4111111111111111.5, "c": 41.11111111111111e14}',
            '{"order_id": 4111111111111111.0, "b": 4111111111111111.5, "c": 41.11111111111111e14}',
            id="floats that are none, or written as nobody does",
        ),
        pytest.param('[["password", "hunter2"]]', '[["password", "[REDACTED]"]]', id="a pair as a list"),
        pytest.param("password=hunter2 user=7", "password=[REDACTED] user=7", id="key=value"),
        pytest.param("?q=1&email=jane%40example.com#x", "?q=1&email=[EMAIL]#x", id="a query"),
        pytest.param("cannot open %2FUsers%2Fada%2Fx", "cannot open %2FUsers%2F[USER]%2Fx", id="a path"),
        pytest.param("file%3A%2F%2F%2Fhome%2Fada", "file%3A%2F%2F%2Fhome%2F[USER]", id="a URL of a file"),
        pytest.param("/login?next=%2Fhome%2Foffers", "/login?next=%2Fhome%2Foffers", id="a page to go to"),
        pytest.param("from 203.0.113.77 port 443", "from 203.0.113.0 port 443", id="an address"),
        pytest.param(
            " ".join(
                "".join(f"%{ord(c):02x}" for c in text)
                for text in (
                    "jane@example.com",
                    "DE89370400440532013000",
                    "4111111111111111",
                    "+4930901820",
                    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
                    "219-09-9999",
                    "AKIAIOSFODNN7EXAMPLQ",
                    "8.8.4.77",
                    "/home/jane/x",
                    "password=Hunter22",
                    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0."
                    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
                )
            ),
            "[EMAIL] [IBAN] [CARD] [PHONE] [TOKEN] [SSN] [TOKEN] 8.8.4.0 "
            "%2f%68%6f%6d%65%2f[USER]%2f%78 %70%61%73%73%77%6f%72%64%3d[REDACTED] [TOKEN]",
            id="more kinds than rounds, all encoded",
        ),
    ],
)
def test_what_hides_is_found(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("redact", "card [CARD]"),
        ("partial", "card [CARD:1111]"),
        ("keep", "card 4111 1111 1111 1111"),
        ("drop", "card [CARD]"),
        ("encrypt", "card [CARD]"),
    ],
)
def test_what_is_done_with_a_finding(way, expected):
    card = next(one for one in DETECTORS if one.name == "card")
    where = Where()
    masking = Masking([Watch(card, way, FIRST_DETECTOR)], RULES, HASHES)
    assert masking.text("card 4111 1111 1111 1111", where) == expected
    assert where.drop is (way == "drop"), "what holds the text goes"


def test_hashes_of_equal_values_are_equal_however_they_are_written():
    masking = Masking(
        [Watch(one, "hash", watch.group) for watch in ON for one in [watch.detector]], RULES, HASHES
    )
    first, second = (masked(text, masking) for text in ("4111 1111 1111 1111", "4111-1111-1111-1111"))
    assert first == second
    assert first.startswith("[CARD:ab2c_")
    other = Masking(ON, RULES, ValueHashes("ab2c", b"o" * 32))
    assert masked("4111 1111 1111 1111", other) != first


def test_an_untrusted_hash_is_hashed_like_any_value():
    rule = RULES.rule("user.full_name")
    mine = f"[NAME:{HASHES.of('jane')}]"
    assert rule is not None
    assert MASKING.keyed(rule, "hash", mine, Where()) != mine
    assert MASKING.keyed(rule, "hash", mine, Where(trusted=True)) == mine


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
        ("", False),
        ("日本語", False),
    ],
)
def test_which_keys_are_secret(key, secret):
    assert (MASKING.by_key([key]) is not None) is secret
    if secret:
        for engine in ENGINES:
            assert Scanner(RULES.patterns, engine).hits([bytes([len(key)]) + key.encode()])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [word for phrase in SECRET_PHRASES for word in phrase.split()]
            + ["_", ".", "-", "é", "ſ", "\u212a", "[EMAIL]"]
        ),
        max_size=6,
    ).map("".join),
    st.booleans(),
)
def test_the_scan_hits_every_secret_key(key, upper):
    key = key.upper() if upper else key
    if len(key.encode()) < 128 and MASKING.by_key([key]) is not None:
        data = key.encode()
        assert Scanner(RULES.patterns, "re").hits([bytes([len(data)]) + data])
