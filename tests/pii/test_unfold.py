"""What encodings hide is found where it stands, and the scan knows of it."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.pii.scanner import ENGINES, Pattern, Scanner
from otel_ttf.pii.unfold import PATTERNS, unfold

SCANNERS = [(engine, Scanner([Pattern(1, one) for one in PATTERNS], engine)) for engine in ENGINES]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("jane%40example.com", "jane@example.com"),
        ("?q=jane%2540example.com", "?q=jane@example.com"),
        ("%25252540", "%40"),
        ("j%C3%BCrgen@x.de", "jürgen@x.de"),
        ("jane@b%C3%BCcher.example", "jane@bücher.example"),
        ("to=%2B4917012345", "to=+4917012345"),
        ("4111%201111%201111%201111", "4111 1111 1111 1111"),
        ("q=my%204111111111111111", "q=my 4111111111111111"),
        ("Bearer%20abcdefgh", "Bearer abcdefgh"),
        ("https%3A%2F%2Fu:p%40h", "https://u:p@h"),
        ("user%5Bpassword%5D=x1", "user[password]=x1"),
        ("%EF%BC%A0", "@"),
        ("%u0040", "@"),
        ("%ff%40%e2%82", "%ff@%e2%82"),
        ("jane&#64;example.com", "jane@example.com"),
        ("jane&#x40;example&#0046;com", "jane@example.com"),
        ("jane&#64example.com", "jane@example.com"),
        ("jane&commat;example&period;com", "jane@example.com"),
        ("jane&amp;#64;example.com", "jane@example.com"),
        ("&quot;password&quot;:&quot;x1&quot;", '"password":"x1"'),
        ("jane\\u0040example.com", "jane@example.com"),
        ("jane\\\\u0040example.com", "jane@example.com"),
        ("jane\\x40example\\x2ecom", "jane@example.com"),
        ("jane\\u{40}example.com", "jane@example.com"),
        ("jane\\U00000040example.com", "jane@example.com"),
        ("j\\u00fcrgen@x.de", "jürgen@x.de"),
        ("at\\njane@x.de", "at\njane@x.de"),
        ("https:\\/\\/u:p@h\\/x", "https://u:p@h/x"),
        ("a=1\\u0026token=x", "a=1&token=x"),
        ("ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "jane@example.com"),
        ("４１１１１１１１１１１１１１１１", "4111111111111111"),
        ("４１１１ 1111", "4111 1111"),
        ("jane@example。com", "jane@example.com"),
        ("password：x1", "password:x1"),
        ("jane﹫example﹒com", "jane@example.com"),
        ("٤١١١ ١١١١", "4111 1111"),
        ("४१११", "4111"),
        ("𝟒𝟏𝟏𝟏", "4111"),
        ("411111111111111١", "4111111111111111"),
        ("ja\u200bne@exam\u00adple.com", "jane@example.com"),
        ("jane\u2060\ufeff@example.com", "jane@example.com"),
        ("é\u200b@x.de", "é@x.de"),
        ("4111\u00a01111\u202f1111\u20111111", "4111 1111 1111-1111"),
        ("4111&nbsp;1111", "4111 1111"),
        ("q=4111+1111+1111+1111", "q=4111 1111 1111 1111"),
        ("Bearer+abcdefgh", "Bearer abcdefgh"),
        ("%2FUsers%2Fada%2F", "/Users/ada/"),
        ("file%3A%2F%2F%2Fhome%2Fada", "file:///home/ada"),
        ("/home%2Fada", "/home/ada"),
        ("%2Fexport/home/ada", "/export/home/ada"),
        ("see%20/home/ada", "see /home/ada"),
        ("C:%5CUsers%5CAda", "C:\\Users\\Ada"),
        ("C:%5CDocuments%20and%20Settings%5CAda", "C:\\Documents and Settings\\Ada"),
        ("\\/home\\/ada\\/x", "/home/ada/x"),
    ],
)
def test_what_is_hidden(text, hidden):
    unfolded = unfold(text)
    assert unfolded is not None
    assert unfolded.text == hidden


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jane@example.com",
        "/search?q=hello%20world&lang=de",
        "/a%2Fb%2Cc?x=%5B%5D",
        "/?file=%2Fvar%2Flog%2Fhomework%2Fusers.csv",
        "/wiki/%E4%BD%A0%E5%A5%BD",
        "100% sure, 50%off, 7%",
        "tom & jerry &c; &unknown;",
        "a &amp; b",
        "C:\\new\\table\\x",
        "line\\nline\\ttab",
        "Gr\\u00fc\\u00dfe aus K\\u00f6ln",
        "Grüße aus Köln, 20 °C",
        "你好，世界：好。（三）",
        "これは　テスト。",
        "🙂👨‍👩‍👧",
        "می‌خواهم",
        "1+1=2",
        "2024-07-19T12:30:00.000+0200",
        "1.0.0+20240719",
        "\\ud83d",
    ],
)
def test_what_hides_nothing(text):
    assert unfold(text) is None


@pytest.mark.parametrize(
    ("text", "part", "place"),
    [
        ("a=jane%40x.de&b", "jane@x.de", "jane%40x.de"),
        ("a=%6Aane%2540x.de&b", "jane@x.de", "%6Aane%2540x.de"),
        ("a=%6Aane%2540x.de&b", "j", "%6A"),
        ("a=%6Aane%2540x.de&b", "@", "%2540"),
        ("j%C3%BCrgen%40x", "ü", "%C3%BC"),
        ("j%C3%BCrgen%40x", "ürgen@", "%C3%BCrgen%40"),
        ("&amp;#64;x", "@", "&amp;#64;"),
        ("\u200bja\u200bne\u200b@x", "jane", "ja\u200bne"),
        ("\u200bja\u200bne\u200b@x", "@", "@"),
        ("日本＠x", "@", "＠"),
    ],
)
def test_a_part_leads_back_to_where_it_stands(text, part, place):
    unfolded = unfold(text)
    assert unfolded is not None
    start = unfolded.text.index(part)
    begin, end = unfolded.span(start, start + len(part))
    assert text[begin:end] == place


ESCAPES = [
    "%40", "%2540", "%20", "%C3%BC", "%E2%80%8B", "%EF%BC%A0", "%", "%u0040", "&#64;", "&#x2E;", "&commat;",
    "&amp;", "&", "&nbsp;", "\\u0040", "\\\\u0040", "\\x40", "\\n", "\\/", "\\", "\\u00fc", "\\ud83d", "\\u{40}",
    "＠", "．", "１", "ａ", "：", "。", "１", "١", "४", "𝟏", "\u200b", "\u00ad", "\u00a0", "\u202f", "+", "@",
    ":", "Bearer", "basic", "BEGIN", "4111", "jane", "x.de", " ", "é", "日本", "🙂", "ſ", "\u212a", "%2F", "%5C", "/",
    "home", "Users", "settings", "var/",
]  # fmt: skip
texts = st.lists(st.sampled_from(ESCAPES) | st.text(max_size=4), max_size=10).map("".join)


@settings(max_examples=1000, deadline=None)
@given(texts)
def test_the_scan_hits_what_unfolds(text):
    if unfold(text) is not None:
        for engine, scanner in SCANNERS:
            assert scanner.hits([b"5" + text.encode() + b"5"]), engine


@settings(max_examples=1000, deadline=None)
@given(texts)
def test_parts_lead_back_in_order(text):
    unfolded = unfold(text)
    if unfolded is None:
        return
    assert unfolded.text
    assert unfolded.text != text
    end, last = 0, (0, 0)
    for place, character in enumerate(unfolded.text):
        start, stop = unfolded.span(place, place + 1)
        assert 0 <= start < stop <= len(text)
        # Characters of one escape share it; others stand one behind the other.
        assert start >= end or (start, stop) == last
        as_it_is = text[start] == character or (text[start], character) == ("+", " ")
        assert stop - start > 1 or as_it_is or unfold("0" + text[start] + "0") is not None
        end, last = stop, (start, stop)
    assert unfolded.span(0, len(unfolded.text))[1] == end


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="%&\\+")))
def test_plain_text_hides_nothing(text):
    assert unfold(text) is None


@given(st.from_regex(r"[a-z0-9.]{1,10}@[a-z0-9]{1,10}\.[a-z]{2,4}", fullmatch=True), st.integers(1, 2))
def test_addresses_are_found_in_every_common_encoding(address, rounds):
    hard = quoted = address
    for _ in range(rounds):
        hard = "".join(f"%{byte:02X}" for byte in hard.encode()) if hard is address else quote(hard)
        quoted = quote(quoted)
    for text in (
        hard,
        quoted,
        json.dumps(address).replace("@", "\\u0040")[1:-1],
        address.replace("@", "&#64;"),
    ):
        unfolded = unfold(f"<{text}>")
        assert unfolded is not None
        start = unfolded.text.index(address)
        begin, end = unfolded.span(start, start + len(address))
        assert f"<{text}>"[begin:end] == text


UNITS = [
    "%40", "%", "%25", "%2540", "%E4", "&#64;", "&amp;", "&", "\\u0040", "\\", "\\\\", "\\n", "\\na", "%20a", "@a",
    "\\u00fca", "٤", "\u200b", "a\u200b", "é", "1+", "111+", "＠", "\U0001d7d2", ":\\/",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_the_time_is_linear_in_the_text(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        best = float("inf")
        for _ in range(2):
            start = time.thread_time()
            unfold(text)
            best = min(best, time.thread_time() - start)
        return best

    # 16 times the text; quadratic would take 256 times as long. What the clock cannot tell has a floor.
    assert seconds(1 << 16) < 64 * max(seconds(1 << 12), 5e-4)
