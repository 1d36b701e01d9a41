"""Secrets: the scan misses nothing that a detector finds, and no text takes longer than its length."""

from __future__ import annotations

import base64
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import TABLES

from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.secret import SECRETS
from otel_ttf.pii.keyrules import SECRET_PHRASES
from otel_ttf.pii.scanner import ENGINES, Engine, Pattern, Scanner

WORDS = [
    *(case["text"] for one in SECRETS for kind in ("found", "left_alone") for case in TABLES[one.name][kind]),
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


@cache
def scanner(engine: Engine) -> Scanner:
    return Scanner(
        [Pattern(1 << place, text) for place, one in enumerate(SECRETS) for text in one.supersets], engine
    )


@settings(max_examples=300, deadline=None)
@given(texts)
def test_the_scan_hits_whatever_a_detector_finds(text):
    found = sum(1 << place for place, one in enumerate(SECRETS) if any(True for _ in one.find(text)))
    if found:
        for engine in ENGINES:
            # The neighbours of a text in protobuf may be any bytes.
            assert scanner(engine).hits([b"5" + text.encode() + b"5"]).get(0, 0) & found == found, engine


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


# What telemetry is full of.
CLEAN = [
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
    "registry.example.com/app@sha256:9b2c0de1f0a5f5b0f0c3a3f0b6b1e7d8c9a0b1c2d3e4f5061728394a5b6c7d8e",
    'ETag: W/"5d41402abc4b2a76b9719d911017c592"',
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
    "integrity=sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC",
    "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "1.3.6.1.4.1.311.21.8",
    "v1.2.3-rc.1+20240719.g2fd4e1c",
    "arn:aws:iam::123456789012:role/app",
    "AKIAIOSFODNN7EXAMPLE",
    "2024-07-19T12:30:00.123456789Z",
    "std::map<std::string, int>::find(key)",
    "at com.example.auth.TokenService.validate(TokenService.java:42)",
    "gen_ai.usage.input_tokens=512 gen_ai.usage.output_tokens=7",
    "SELECT id, password_hash FROM users WHERE token = ? AND secret IS NULL",
    "auth.method=password mfa=true session.id=0123456789abcdef",
    "password_reset_completed for 3 users, password_changed=true",
    "The password must contain a digit; your token has expired: sign in again",
    "invalid_grant: The provided authorization code is invalid",
    "GET /oauth/authorize?client_id=web&response_type=code&state=af0ifjsldkj&redirect_uri=https%3A%2F%2Fx.io%2Fcb",
    "GET /search?q=token+ring&sort=key&page_token=CAUQAA HTTP/1.1 200",
    "npm ERR! pkg@1.2.3 postinstall: node ./scripts/secret-scan.js",
    "git@github.com:otel/ttf.git https://esm.sh/react@18.2.0",
    "kubernetes secret default/db-credentials not found",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "bearer of bad news, basic knowledge, digest of the week",
    "key: home.title key=value {key} keyId=12 primary_key=id",
    "cookie consent: accepted; cookies_enabled=true",
    "AAAAAAAA1pw= e3e70682-c209-4cac-629f-6fbed82c07cd",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQsw\n-----END CERTIFICATE-----",
]


@pytest.mark.parametrize("text", CLEAN, ids=lambda text: text[:40])
def test_telemetry_is_left_alone(text):
    assert {one.name: [text[start:stop] for start, stop in one.find(text)] for one in SECRETS} == {
        one.name: [] for one in SECRETS
    }


hexadecimal = st.integers(0, 2**256 - 1).map(lambda number: f"{number:x}")
ids = st.one_of(
    st.uuids().map(str),
    hexadecimal,
    st.tuples(st.sampled_from(["trace_id", "sha256", "etag", "key", "user.id", "hash"]), hexadecimal).map("=".join),
    st.binary(min_size=8, max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.integers(0, 2**63).map(str),
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(ids, min_size=1, max_size=4).map(" ".join))
def test_ids_and_hashes_are_left_alone(text):
    assert [one.name for one in SECRETS if any(True for _ in one.find(text))] == []


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

    # 16 times the text; quadratic would take 256 times as long. What the clock cannot tell has a floor.
    for detector in SECRETS:
        small = max(seconds(detector, 1 << 12), 1e-3)
        assert seconds(detector, 1 << 16) < 64 * small, detector.name
