"""Key files, and what is derived from keys."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ttf.pii.keys import KeyFileError, Keys, fingerprint, key_id, new, parse
from otel_ttf.pii.pseudonym import Hmac, Pseudonyms, is_token, subject_text

A, B, C = (base64.b64encode(bytes([n]) * 32).decode() for n in range(3))


def test_a_new_key_file_can_be_read_and_is_never_the_same():
    assert len(parse(new()).subjects) == 1
    assert parse(new()) != parse(new())


def test_subject_keys_are_newest_first():
    keys = parse(f"# ours\nevent {A}\n\nsubject {B} # since spring\nsubject {C}\n")
    assert keys == Keys(bytes(32), (bytes([1]) * 32, bytes([2]) * 32))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"event {A}\n", "at least one `subject` line", id="no subject key"),
        pytest.param(f"subject {A}\n", "one `event` line", id="no event key"),
        pytest.param(f"event {A}\nsubject abc\n", "line 2: expected base64 of 32 bytes", id="not 32 bytes"),
        pytest.param(f"event {A}\nuser {B}\n", "line 2: expected `event BASE64`", id="another word"),
        pytest.param(f"event {A}\nsubject {B}\nsubject {B}\n", "line 3: expected another key", id="twice"),
    ],
)
def test_a_bad_key_file_says_where_and_never_what(text, expected):
    with pytest.raises(KeyFileError, match=expected) as error:
        parse(text)
    assert A not in str(error.value)
    assert "abc" not in str(error.value)


def test_keys_are_not_shown():
    assert A not in repr(parse(f"event {A}\nsubject {B}"))
    assert len(fingerprint(bytes(32))) == 16


def test_a_token_is_the_key_id_and_20_bytes_of_hmac_in_base32():
    key = b"k" * 32
    digest = hmac.digest(key, b"jane", "sha256")[:20]
    expected = f"u1_{key_id(key)}_{base64.b32encode(digest).decode().lower()}"
    assert Pseudonyms(Keys(b"e" * 32, (key,))).token("jane") == expected
    assert is_token(expected)
    assert key_id(key) == base64.b32encode(hashlib.sha256(key).digest()).decode().lower()[:4]


def test_all_keys_can_be_asked_for_and_the_newest_is_first():
    pseudonyms = Pseudonyms(Keys(b"e" * 32, (b"n" * 32, b"o" * 32)))
    newest, oldest = pseudonyms.tokens("jane")
    assert newest == pseudonyms.token("jane") == pseudonyms.token("jane") != oldest


@pytest.mark.parametrize("message", [b"", b"x", b"x" * 1000])
def test_hmac_is_the_standard_one(message):
    assert Hmac(b"k" * 32).digest(message) == hmac.digest(b"k" * 32, message, "sha256")


@pytest.mark.parametrize(
    ("value", "normalise", "text"),
    [
        pytest.param("Jane", "none", "Jane", id="as sent"),
        pytest.param(" jane\n", "none", "jane", id="trimmed"),
        pytest.param("JanE", "lower", "jane", id="lower case if asked for"),
        pytest.param(42, "none", "42", id="an integer as decimal text"),
        pytest.param(["jane"], "none", "jane", id="an array of one is its element"),
        pytest.param("", "none", None, id="empty"),
        pytest.param("  ", "none", None, id="blank"),
        pytest.param(["a", "b"], "none", None, id="two are none"),
        pytest.param(True, "none", None, id="a boolean is none"),
        pytest.param(1.5, "none", None, id="a double is none"),
        pytest.param({"id": "jane"}, "none", None, id="a map is none"),
    ],
)
def test_what_a_subject_is(value, normalise, text):
    assert subject_text(value, normalise) == text


@pytest.mark.parametrize(
    "text",
    ["u1_abcd_" + "a" * 31, "u1_ABCD_" + "a" * 32, "u1_abcd_" + "1" * 32, "u1_abcd_" + "a" * 32 + "\n"],
)
def test_what_is_no_token(text):
    assert not is_token(text)


@given(subjects=st.lists(st.text(min_size=1, max_size=20), max_size=200))
def test_many_tokens_are_made_as_one_by_one(subjects):
    keys = Keys(b"e" * 32, (b"s" * 32,))
    together, alone = Pseudonyms(keys).of(subjects), Pseudonyms(keys)
    assert together == {subject: alone.token(subject) for subject in subjects}
    digest = hmac.digest(b"s" * 32, "".join(subjects[:1]).encode(), "sha256")
    assert not subjects or together[subjects[0]].endswith(base64.b32encode(digest[:20]).decode().lower())
