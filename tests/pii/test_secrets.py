"""Secrets: the scan misses nothing that a detector finds, and no text takes longer than its length."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.secret import SECRETS
from otel_ttf.pii.keyrules import SECRET_PHRASES
from otel_ttf.pii.scanner import ENGINES, Pattern, Scanner

TABLES = {
    one.name: yaml.safe_load((Path(__file__).parent / "cases" / f"{one.name}.yaml").read_text())
    for one in SECRETS
}
SCANNERS = [
    (
        engine,
        Scanner(
            [Pattern(1 << place, text) for place, one in enumerate(SECRETS) for text in one.supersets], engine
        ),
    )
    for engine in ENGINES
]
WORDS = [
    *(case["text"] for table in TABLES.values() for case in [*table["found"], *table["left_alone"]]),
    *SECRET_PHRASES,
    *"=:&?#;,.@/\\\"'`<>()[]{} \n-_%+",
    "://",
    " => ",
    "--",
    "</",
    "\\n",
    "%20",
    "password",
    "Authorization: ",
    "Bearer ",
    "ghp_",
    "eyJhbGciOiJIUzI1NiJ9.",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "aB3dE5fG7hJ9kL1mN2pQ",
    "日本",
    "é",
    "ſ",
    "\u212a",
    "\u00a0",
    "\x00",
]
UNITS = [
    "a", "0", "=", ":", "_", ".", "'", '"', "\\", "a-", "a:", "a=", "SK", "sk-ant-", "ghp_", "eyJ", "eyJ.",
    "://", "://a@", "://a:b", "?token=", " password=", "password: ", "password=,a", "password='",
    "password=a(", "password=*a*", "password", "token=", "token: ", "--password ", "--token ", "<password>",
    "</password>", "<password ", "cookie: a=b; ", "a=b;", "Authorization: Bearer ", "bearer ", "basic YTpi",
    "digest response=", "curl -u ", "curl -u a:b ", " secret key:", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY----------END A-----",
    "-----BEGIN PRIVATE KEY-----\n" + "A" * 64, "-----BEGIN PRIVATE KEY-----\na-b: c", "Private-Lines: 1\n",
    '"kty" "d":"', "eyJhbGciOiJIUzI1NiJ9.", "discord MNO", "mailgun key-", "hooks.slack.com/aa/", "azdo",
    "+ASt", "a.atlasv1.", ":AA", "identified by '", "aws secret ", "@tcp(", " a:b@", "AKIA",
    "pat01234567890123", '\\"password\\":\\"', "%41",
]  # fmt: skip
# Whole texts, and pieces of them beside pieces of others.
pieces = st.sampled_from(WORDS).flatmap(
    lambda word: (
        st.just(word)
        | st.tuples(st.integers(0, len(word)), st.integers(0, len(word))).map(
            lambda cut: word[min(cut) : max(cut)]
        )
        | st.just(word.swapcase())
    )
)
texts = st.lists(pieces | st.text(max_size=6), max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_the_scan_hits_whatever_a_detector_finds(text):
    found = sum(1 << place for place, one in enumerate(SECRETS) if any(True for _ in one.find(text)))
    if found:
        for engine, scanner in SCANNERS:
            # The neighbours of a text in protobuf may be any bytes.
            assert scanner.hits([b"5" + text.encode() + b"5"]).get(0, 0) & found == found, engine


@settings(max_examples=300, deadline=None)
@given(texts)
def test_findings_are_in_order_and_do_not_overlap(text):
    for detector in SECRETS:
        end = 0
        for start, stop in detector.find(text):
            assert end <= start < stop <= len(text), detector.name
            end = stop


@settings(max_examples=300, deadline=None)
@given(texts)
def test_what_takes_the_place_of_a_finding_is_not_found_again(text):
    for detector in SECRETS:
        for start, stop in reversed(list(detector.find(text))):
            text = f"{text[:start]}[{detector.label}]{text[stop:]}"
        again = [text[start:stop] for start, stop in detector.find(text)]
        assert f"[{detector.label}]" not in again, detector.name


@pytest.mark.parametrize("unit", UNITS)
def test_the_time_is_linear_in_the_text(unit):
    def seconds(detector: Detector, size: int) -> float:
        text = unit * (size // len(unit))
        best = float("inf")
        for _ in range(2):
            start = time.thread_time()
            for _ in detector.find(text):
                pass
            best = min(best, time.thread_time() - start)
        return best

    # Quadratic would be 16 times as long; the smaller one has a floor for what the clock cannot tell.
    for detector in SECRETS:
        small = max(seconds(detector, 1 << 14), 1e-3)
        assert seconds(detector, 1 << 16) < 9 * small, detector.name
