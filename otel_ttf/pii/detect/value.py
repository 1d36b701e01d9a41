"""What stands where a secret would: what surely is none, what is masked already, what looks made by chance."""

from __future__ import annotations

import re
from itertools import pairwise

# Words that say how it is with the secret, not what it is.
_TOLD = """
    absent accepted bad blank changed configured declined denied disabled empty enabled error exists expired
    expiring failed failure false forbidden found generated granted incorrect invalid issued malformed masked
    mismatch missing needed nil no none null obtained ok omitted optional passed pending present provided
    received redacted refreshed refused rejected renewed required reset revoked rotated set sent success too
    true undefined unauthorized unavailable unchanged unknown unset unsupported updated used valid validated
    verified wrong yes
"""
_WORDS = frozenset(_TOLD.split())
# Of HTTP authentication, as far as one token follows.
SCHEMES = frozenset(
    [
        "bearer",
        "basic",
        "token",
        "negotiate",
        "ntlm",
        "apikey",
        "api-key",
        "key",
        "bot",
        "splunk",
        "dpop",
        "geniekey",
        "jwt",
        "sso-key",
    ]
)
# [EMAIL], [FILTERED], [card:k1:...]: what masking leaves behind, ours or somebody else's.
_MASKED = re.compile(r"\[[A-Za-z][A-Za-z0-9_ ]{1,31}(?::[^\]\s]{0,300})?\]|<[A-Za-z_ -]{1,40}>|\(hidden\)")
# ${NAME}, {{ name }}, {0}, %s, %(name)s, $NAME, $1, ?, and one character again and again.
_EMPTY = re.compile(
    r"\$\{[^}]{0,80}\}?|\{\{?[^}]{0,80}\}{0,2}|\$\([^)]{0,80}\)?|%\(\w{1,40}\)s|%[sdvq]|\$[A-Z_][A-Z0-9_]{0,60}|\$[0-9]"
    r"|\?|(.)\1{2,}|\*{1,3}[^*]{0,40}\*{1,3}"
)
_RANDOM = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_~+/=%.\-]{16,}")
_LEAST = 16
_CHANGES = 0.4
_CHANCE = re.compile(r"[A-Za-z0-9_~+/=%.\-]{16,}(?=[,;|)\]}&]|</)")
# Words that follow in sentences, also joined by dashes.
_PROSE = re.compile(r"[A-Za-z]?[a-z']{0,20}(?:[-/_.][A-Za-z]?[a-z]{1,20}){0,4}(?:[.,:;!?)]{0,2}|\.{3}|…)")


def any_of(text: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words stands in a text."""
    # A loop is far quicker here than any().
    for word in words:  # noqa: SIM110
        if word in text:
            return True
    return False


def is_masked(value: str) -> bool:
    """Whether it is what masking leaves behind."""
    return _MASKED.fullmatch(value) is not None


def is_vacant(value: str) -> bool:
    """Whether it stands for a value that is not there: a word about it, a template, stars, a placeholder."""
    return (
        value.strip(".,:;!?").lower() in _WORDS
        or (len(value) <= 1 and not value.isalnum())
        or _MASKED.fullmatch(value) is not None
        or ((empty := _EMPTY.fullmatch(value)) is not None and not (empty[1] and empty[1].isdigit()))
    )


def is_prose(value: str) -> bool:
    """Whether it may be a word of a sentence: `must`, `token-based`, `Required.`, `Loading...`"""
    return _PROSE.fullmatch(value) is not None


def is_random(value: str) -> bool:
    """Whether it looks made by chance: 16 characters or more, letters and digits, or letters of changing case."""
    if _RANDOM.fullmatch(value) is not None:
        return True
    if len(value) < _LEAST or not (value.isascii() and value.isalpha()):
        return False
    # Half of the letters are of another case than the one before; of AbstractSingletonFactory, a third.
    changes = sum(one.isupper() is not next_one.isupper() for one, next_one in pairwise(value))
    return changes >= _CHANGES * len(value)


def without_list(value: str) -> str:
    """The value without what is listed behind it: what is made by chance has no comma in it, a password may."""
    made = _CHANCE.match(value)
    return made[0] if made is not None and is_random(made[0]) else value


def masked_at(text: str, start: int) -> int | None:
    """Where what masking leaves behind ends, if it begins here."""
    found = _MASKED.match(text, start)
    return None if found is None else found.end()
