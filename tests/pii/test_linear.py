"""No text is slow: time is fitted against length, for what could make each detector go over a text again and again."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from tables import TEXTS

from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.custom import CustomDetector
from otel_ttf.pii.masking import Where, for_messages

KIB = 1 << 10
SIZES = [2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB]
# Squares have a slope of 2.
MOST = 1.5
# Whatever takes no longer for the largest size isn't slow; shorter times say more about the clock.
HARMLESS = 2e-3
TRIES = 4

# What detectors begin with, go on with, and stop at.
TOKENS = (
    *(
        "a",
        "1",
        "4",
        "@",
        ".",
        "-",
        "_",
        ":",
        "/",
        "//",
        "=",
        "&",
        "?",
        "%",
        "%40",
        " ",
        "\n",
        "\\",
        '"',
        "{",
        "[",
    ),
    *(
        "eyJ",
        "bearer ",
        "basic ",
        "u1_",
        "ghp_",
        "AKIA",
        "sk_live_",
        "https://",
        "-----BEGIN ",
        "PRIVATE KEY-----",
    ),
    *("password=", "DE", "+49", "::", "&#64;", "＠", "\u200b", "é", "日"),
)
# Of two in turns, so many that all pairs are still quick.
TURNS = ("a", "1", "4 ", "@", ".", "-", ":", "/", "=", "%", " ", "eyJ", "https://", "bearer ", "\u200b")

Text = Callable[[int], str]
Work = Callable[[str], object]


def again(unit: str, before: str = "", after: str = "") -> Text:
    return lambda size: before + unit * max(1, size // len(unit)) + after


def adversaries() -> dict[str, Text]:
    made: dict[str, Text] = {}
    for unit in (
        *TOKENS,
        *("".join(pair) for pair in product(TURNS, TURNS)),
        *(case["text"] for case in TEXTS),
    ):
        made[f"{unit!r} again and again"] = again(unit)
    # A beginning, and no end; an end far behind; the last sign spoils it.
    for token, run in product(TOKENS, ("a", "1", "a.", "-", " ")):
        made[f"{token!r}, then {run!r} again and again"] = again(run, before=token)
        made[f"{run!r} again and again, then {token!r}"] = again(run, after=token)
    made["labels of all lengths"] = lambda size: (
        "x@" + ".".join("a" * (n % 64) for n in range(1, size // 32 + 1))
    )
    made["JSON that never ends"] = again('{"a":', after="1")
    made["numbers in groups of all sizes"] = lambda size: " ".join(
        "4" * (n % 7 + 1) for n in range(size // 5)
    )
    return made


ADVERSARIES = adversaries()
WAYS: dict[str, Work] = {
    "all of masking": lambda text: for_messages().text(text, Where()),
    **{one.name: lambda text, one=one: list(one.find(text)) for one in DETECTORS},
}


def seconds(work: Work, text: str) -> float:
    began = time.thread_time()
    work(text)
    return time.thread_time() - began


def slope(work: Work, text_of: Text, sizes: Sequence[int] = SIZES) -> float:
    """Exponent e of time ~ length ** e, by least squares; 0 when all is quick."""
    texts = [text_of(size) for size in sizes]
    times = [min(seconds(work, text) for _ in range(3)) for text in texts]
    if times[-1] < HARMLESS:
        return 0.0
    lengths = [math.log(len(text)) for text in texts]
    return float(np.polyfit(lengths, [math.log(max(t, 1e-6)) for t in times], 1)[0])


def least(work: Work, text_of: Text) -> float:
    """The least exponent of some fits, of which the first that is no square is enough."""
    fitted = math.inf
    for _ in range(TRIES):
        fitted = min(fitted, slope(work, text_of))
        if fitted <= MOST:
            break
    return fitted


def suspicious(work: Work, text_of: Text, sizes: Sequence[int] = SIZES) -> bool:
    """A first look: far fewer measurements than a fit, and none that is too lenient."""
    # At a quarter of the largest size, where a square takes a sixteenth of the time.
    short, long = (text_of(size) for size in (sizes[0], sizes[-3]))
    took = seconds(work, long)
    return took > HARMLESS / 16 and took > 1.5 * len(long) / len(short) * seconds(work, short)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", WAYS)
def test_time_grows_as_the_length(way: str) -> None:
    work = WAYS[way]
    slow = {
        name: fitted
        for name, text_of in ADVERSARIES.items()
        if suspicious(work, text_of) and (fitted := least(work, text_of)) > MOST
    }
    assert slow == {}


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        pytest.param("#(?:.*z)?", "#", id="each find looks to the end"),
        pytest.param("#(?:[^z]*z)?", "#\n", id="over lines, too"),
        pytest.param("#(?:.*z)?", "é#", id="beyond ASCII"),
        pytest.param("#(?:.{0,900}z)?", "#", id="each find looks far"),
        pytest.param("(#).*?(?:z|#)", "# ", id="a group"),
    ],
)
def test_no_pattern_of_ones_own_is_slow(pattern: str, unit: str) -> None:
    detector = CustomDetector(pattern=pattern).detector("own")
    work: Work = lambda text: list(detector.find(text))  # noqa: E731
    assert not suspicious(work, again(unit)) or least(work, again(unit)) <= MOST


@pytest.mark.parametrize(
    ("work", "text_of"),
    [
        pytest.param(re.compile(r"[a-z]+@").search, again("a"), id="a run before something"),
        pytest.param(re.compile(r"eyJ.*?\.").findall, again("eyJ"), id="a beginning without an end"),
        pytest.param(lambda text: [list(text[:n]) for n in range(0, len(text), 8)], again("1"), id="slices"),
    ],
)
def test_squares_are_seen(work: Any, text_of: Text) -> None:
    sizes = [size // 4 for size in SIZES]
    assert suspicious(work, text_of, sizes)
    assert slope(work, text_of, sizes) > MOST
