"""Laws of the detectors of personal data: what they find, the scan hits; twice is once; time is linear."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import TABLES

from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.card import is_card
from otel_ttf.pii.detect.iban import FORMATS, is_iban
from otel_ttf.pii.detect.ip import Ip
from otel_ttf.pii.detect.personal import PERSONAL
from otel_ttf.pii.scanner import ENGINES, Engine, Pattern, Scanner

NAMES = [detector.name for detector in PERSONAL]
by_name = pytest.mark.parametrize("detector", PERSONAL, ids=NAMES)
FRAGMENTS = [
    *"@.-_ 4/=:[]{}+()#,\n",
    "\\n",
    "é",
    "日本",
    "ſ",
    "\u212a",
    "\u00a0",
    "u003c",
    "%22",
    "0",
    "12",
    "4111",
    "::",
]
WORDS = [
    "jane",
    "example.com",
    "call me at ",
    "Tel. ",
    "ssn ",
    "card no ",
    "order ",
    "ip ",
    "version ",
    "imei ",
    "тел ",
]


@cache
def texts_of(detector: Detector) -> st.SearchStrategy[str]:
    """Texts made of the detector's own cases, of pieces of them, and of what may stand between."""
    table = TABLES[detector.name]
    cases = [case["text"] for kind in ("found", "left_alone") for case in table[kind]]
    spans = [span for case in table["found"] for span in case["spans"]]
    pieces = st.sampled_from(spans).flatmap(
        lambda span: st.tuples(st.integers(0, len(span)), st.integers(0, len(span))).map(
            lambda ends: span[min(ends) : max(ends)]
        )
    )
    some = (
        st.sampled_from(cases)
        | st.sampled_from(spans)
        | pieces
        | st.sampled_from(FRAGMENTS + WORDS)
        | st.text(max_size=4)
    )
    return st.lists(some, max_size=7).map("".join)


def masked(detector: Detector, text: str) -> str:
    """As masking does it: again, until nothing changes."""
    for _ in range(8):
        new = masked_once(detector, text)
        if new == text:
            break
        text = new
    return text


def masked_once(detector: Detector, text: str) -> str:
    end, parts = 0, []
    for start, stop in detector.find(text):
        assert end <= start < stop <= len(text)
        parts += [text[end:start], f"[{detector.label}]"]
        end = stop
    return "".join(parts) + text[end:]


@cache
def scanner(detector: Detector, engine: Engine) -> Scanner:
    return Scanner([Pattern(1, expression) for expression in detector.supersets], engine)


@by_name
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_the_scan_hits_whatever_is_found(detector, data):
    text = data.draw(texts_of(detector))
    for start, end in detector.find(text):
        # The neighbours of a text in protobuf may be any bytes.
        for engine in ENGINES:
            assert scanner(detector, engine).hits([b"5" + text.encode() + b"5"]), (engine, text[start:end])


@by_name
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_masking_twice_is_masking_once(detector, data):
    text = data.draw(texts_of(detector))
    once = masked(detector, text)
    assert masked(detector, once) == once


@by_name
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_two_spellings_of_a_finding_are_one(detector, data):
    text = data.draw(texts_of(detector))
    for start, end in detector.find(text):
        once = detector.canonical(text[start:end])
        assert once
        assert detector.canonical(once) == once


@settings(max_examples=200, deadline=None)
@given(st.ip_addresses())
def test_an_address_is_truncated_once(address):
    once = Ip().truncated(str(address))
    assert once is not None
    assert Ip().truncated(once) == once


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.7", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("2001:DB8:1::6", "2001:db8:1::"),
        ("::ffff:203.0.113.7", "203.0.113.0"),
    ],
)
def test_what_is_left_of_an_address(address, kept):
    assert Ip().truncated(address) == kept


@pytest.mark.parametrize(
    ("digits", "named", "card"),
    [
        pytest.param("4111111111111111", False, True, id="Visa"),
        pytest.param("4222222222222", False, True, id="Visa of 13 digits"),
        pytest.param("378282246310005", False, True, id="American Express"),
        pytest.param("30569309025904", False, True, id="Diners Club"),
        pytest.param("501800000009", False, True, id="Maestro of 12 digits"),
        pytest.param("560000000003", False, False, id="so wide a range only where it is named"),
        pytest.param("1111111111111117", True, False, id="no issuer"),
        pytest.param("4111", True, False, id="too short"),
        pytest.param("41111111111111111110", True, False, id="too long"),
    ],
)
def test_which_numbers_are_cards(digits, named, card):
    assert is_card(digits, named=named) is card


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_the_check_digits_of_an_iban_are_unique(country, data):
    body = data.draw(st.from_regex(FORMATS[country][1], fullmatch=True))[4:]
    good = [f"{country}{check:02}{body}" for check in range(100) if is_iban(f"{country}{check:02}{body}")]
    assert len(good) == 1


UNITS = [
    *(
        "a.",
        "a@a-",
        "@",
        "a@a.",
        "a@b.de ",
        "@a.b-",
        "%41",
        "a",
        "-",
        "1 ",
        "1",
        "4111 1111 1111 1111",
        "4111 ",
        "4111-",
    ),
    *(
        "DE89",
        "DE89 ",
        "DE89 3704 ",
        "1.",
        "1.1.1.1 ",
        "1.1.1.1-",
        "a:",
        ":",
        "2001:",
        "::1",
        "2001:db8::1 ",
        "00:",
    ),
    *(
        "+49 ",
        "+",
        "+4915112345678 ",
        "(",
        "+1(",
        "call ",
        "call 1",
        "tel",
        "Tel. 030 ",
        "phone number ",
        "123-45-6789",
    ),
    *(
        "123-",
        "ssn ",
        "/home/",
        "/home/a",
        "C:\\Users\\",
        "C:\\Users\\a ",
        "/Users/a b",
        "12345678Z",
        "AB12",
        "X1234567L",
    ),
    *(
        "RSSMRA85T10A562S",
        "123.456.789-",
        "1234 5678 ",
        "order ",
        "A",
        "_",
        "[",
        "\\n",
        "é",
        "日本",
        "00-",
        "0a.0a.",
        "x ",
    ),
]


@pytest.mark.parametrize("unit", UNITS)
def test_the_time_is_linear_in_the_text(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        best = float("inf")
        for _ in range(2):
            start = time.thread_time()
            for detector in PERSONAL:
                for _span in detector.find(text):
                    pass
            best = min(best, time.thread_time() - start)
        return best

    # Quadratic would be 16 times as long; the smaller one has a floor for what the clock cannot tell.
    assert seconds(1 << 14) < 9 * max(seconds(1 << 12), 2e-3)
