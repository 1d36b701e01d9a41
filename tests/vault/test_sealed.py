"""The sealed form, and what is bound to it."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_ttf.pii.sealed import (
    FOR_US,
    CannotOpen,
    Tampered,
    bound_to,
    from_text,
    is_sealed,
    to_text,
)
from otel_ttf.vault import Vault

from .conftest import JANE, JOHN

texts = st.text(st.characters(exclude_categories=()), max_size=200)
ours = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@ours
@given(texts, texts, st.booleans())
def test_what_is_sealed_opens_to_the_same_text(vault: Vault, path, text, vendors):
    sealed = vault.seal(JANE, path, text, vendors=vendors)
    assert is_sealed(sealed)
    assert (FOR_US.fullmatch(sealed) is None) is vendors
    assert vault.open(JANE, path, sealed) == text


@ours
@given(texts)
def test_the_sealed_form_is_a_mark_and_letters_and_never_the_same_twice(vault: Vault, text):
    first, second = vault.seal(JANE, "p", text), vault.seal(JANE, "p", text)
    assert first != second
    assert re.fullmatch("e1_[a-p]+", first)
    assert re.fullmatch("e1v_[a-p]+", vault.seal(JANE, "p", text, vendors=False))


@ours
@given(texts, st.data())
def test_any_changed_letter_is_refused(vault: Vault, text, data):
    sealed = vault.seal(JANE, "p", text)
    place = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.characters(max_codepoint=255).filter(lambda c: c != sealed[place]))
    with pytest.raises(Tampered):
        vault.open(JANE, "p", sealed[:place] + letter + sealed[place + 1 :])


@ours
@given(texts, st.integers(1, 60))
def test_a_part_of_it_is_refused(vault: Vault, text, cut):
    with pytest.raises(Tampered):
        vault.open(JANE, "p", vault.seal(JANE, "p", text)[:-cut])


@ours
@given(texts, texts)
def test_another_path_is_refused(vault: Vault, path, other):
    sealed = vault.seal(JANE, path, "text")
    if path != other:
        with pytest.raises(Tampered):
            vault.open(JANE, other, sealed)


def test_another_subject_or_another_rule_for_vendors_is_refused(vault: Vault):
    sealed = vault.seal(JANE, "p", "text", vendors=False)
    vault.prepare([JOHN])
    with pytest.raises(Tampered):
        vault.open(JOHN, "p", sealed)
    with pytest.raises(Tampered):
        vault.open(JANE, "p", sealed.replace("e1v_", "e1_"))


@given(texts, texts, texts, texts, st.booleans(), st.booleans())
def test_no_two_places_have_the_same_associated_data(subject, path, subject2, path2, vendors, vendors2):
    same = (subject, path, vendors) == (subject2, path2, vendors2)
    first, second = (
        bound_to(subject, path, vendors=vendors),
        bound_to(subject2, path2, vendors=vendors2),
    )
    assert (first == second) is same


def test_associated_data_does_not_run_together():
    assert bound_to("a\0b", "c", vendors=True) != bound_to("a", "b\0c", vendors=True)
    assert bound_to("a", "", vendors=True) != bound_to("", "a", vendors=True)


@given(st.binary(min_size=28, max_size=99), st.booleans())
def test_the_letters_are_the_bytes(data, vendors):
    assert from_text(to_text(data, vendors=vendors)) == (data, vendors)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("e1_" + "a" * 54, id="too short for nonce and tag"),
        pytest.param("e1_" + "a" * 57, id="half a byte"),
        pytest.param("e1_" + "a" * 55 + "q", id="a letter beyond p"),
        pytest.param("e1_" + "A" * 56, id="upper case"),
        pytest.param("e2_" + "a" * 56, id="another version"),
        pytest.param("e1_" + "a" * 56 + "\n", id="a line break behind"),
        pytest.param(" e1_" + "a" * 56, id="a blank before"),
    ],
)
def test_what_has_not_the_form(text):
    assert not is_sealed(text)
    with pytest.raises(Tampered):
        from_text(text)


def test_errors_hold_neither_value_nor_text(vault: Vault):
    sealed = vault.seal(JANE, "p", "jane@example.com")
    for bad in (sealed[:-1] + ("a" if sealed[-1] != "a" else "b"), sealed + "q", "jane@example.com"):
        with pytest.raises(CannotOpen) as caught:
            vault.open(JANE, "p", bad)
        assert "jane" not in str(caught.value)
        assert sealed[10:20] not in str(caught.value)
