"""The scan cannot miss: whatever a detector finds in a text, one of its expressions hits, however the text is bent."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable
from functools import cache

import pytest
from tables import TABLES

from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.scanner import ENCODED, Pattern, Scanner
from otel_ttf.pii.unfold import PATTERNS, unfold

TEXTS = [
    case["text"] if isinstance(case, dict) else case
    for table in TABLES.values()
    for kind in ("found", "left_alone")
    for case in table[kind]
]
MARKS = (
    "",
    " ",
    "\n",
    "\t",
    ",",
    ";",
    "&",
    '"',
    "'",
    "/",
    "\\",
    "=",
    ":",
    ".",
    "-",
    "_",
    "+",
    "[",
    "]",
    "][",
    "{",
    "}",
)
ODD = (
    "é",
    "K",
    "ſ",
    "\ufffd",
    "\u200b",
    "\0",
    "%20",
    "%2F",
    "\\n",
    "\\\\n",
    "\\u0020",
    "&nbsp;",
    "@",
    "0",
    "a",
    "Z",
)


@cache
def scanner() -> Scanner:
    return Scanner(
        [
            *(
                Pattern(ENCODED << 1 << place, one)
                for place, d in enumerate(DETECTORS)
                for one in d.supersets
            ),
            *(Pattern(ENCODED, one) for one in PATTERNS),
        ]
    )


def escaped(rng: random.Random, text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 and rng.random() < 0.2 else c for c in text)


def cut(rng: random.Random, text: str) -> str:
    """Something put in, or taken out, at any place."""
    at = rng.randrange(len(text) + 1)
    return rng.choice(
        [text[:at] + rng.choice(MARKS + ODD) + text[at:], text[:at] + text[at + 1 :], text[at:]]
    )


BENT: tuple[Callable[[random.Random, str], str], ...] = (
    lambda rng, text: "".join(
        f"%{b:02X}" if b > 127 or rng.random() < 0.3 else chr(b) for b in text.encode()
    ),
    lambda rng, text: "".join(f"&#{ord(c)};" if rng.random() < 0.2 else html.escape(c) for c in text),
    lambda _, text: json.dumps({"a": text}),
    lambda rng, text: rng.choice([text.upper(), text.lower(), text.swapcase()]),
    escaped,
    cut,
    cut,
    cut,
)


def made(rng: random.Random) -> str:
    text = rng.choice(TEXTS)
    if rng.random() < 0.5:
        text += rng.choice(MARKS) + rng.choice(TEXTS)
    for _ in range(rng.randrange(4)):
        text = rng.choice(BENT)(rng, text)
    return text[:1500]


def missed(text: str) -> list[str]:
    """Detectors that find something that the scan does not tell them of."""
    # In a request, the length of a text stands before it.
    groups = scanner().hits([b"\0" + text.encode("utf-8", "surrogatepass")]).get(0, 0)
    return [
        one.name
        for place, one in enumerate(DETECTORS)
        if not groups & (ENCODED << 1 << place) and any(one.find(text))
    ]


@pytest.mark.parametrize("seed", range(8))
def test_no_find_without_a_hit(seed: int) -> None:
    rng = random.Random(seed)
    found = 0
    for _ in range(600):
        text = made(rng)
        shadow = unfold(text)
        for seen in (text, *([] if shadow is None else [shadow.text])):
            assert missed(seen) == [], seen
            found += 1
    assert found > 600


@pytest.mark.parametrize(
    "name",
    [
        "session_id",
        "aws_access_key_id",
        "google_access_id",
        "php_sess_id",
        "user[pass][word]",
        "user[session][id]",
        "saml-response",
        "secret.id",
        "x_key_id",
        "pass-phrase",
    ],
)
def test_names_in_urls_have_marks_where_words_meet(name: str) -> None:
    text = f"GET /x?{name}=abcdefgh1X2 HTTP/1.1"
    (url,) = (one for one in DETECTORS if one.name == "url")
    assert missed(text) == []
    if name not in ("x_key_id", "secret.id"):
        assert any(url.find(text))
