"""Texts with one value in each, made from a seed: what benchmarks/pii.py measures on."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pii_clean import clean_value

LOCALES = [
    "en_US",
    "en_GB",
    "en_CA",
    "en_AU",
    "en_IN",
    "de_DE",
    "de_CH",
    "fr_FR",
    "es_ES",
    "it_IT",
    "nl_NL",
    "pl_PL",
    "pt_BR",
    "pt_PT",
    "sv_SE",
    "da_DK",
    "no_NO",
    "fi_FI",
    "cs_CZ",
    "tr_TR",
    "ru_RU",
    "uk_UA",
    "el_GR",
    "ja_JP",
]


@dataclass(frozen=True)
class Planted:
    """lead   what stands directly before the value and says what it is; may be empty
    value  what is to be found
    tail   what stands directly after it
    """

    value: str
    lead: str = ""
    tail: str = ""


@dataclass(frozen=True)
class Text:
    """start, end  where the value stands; both 0: there is none
    first, last  the widest finding that still counts
    """

    text: str
    start: int = 0
    end: int = 0
    first: int = 0
    last: int = 0


class Source:
    """Random numbers and one Faker a locale, of one seed."""

    def __init__(self, seed: int) -> None:
        from faker import Faker  # an extra: only who measures needs it

        self.random = random.Random(seed)
        self.fakers: dict[str, Any] = {}
        for locale in LOCALES:
            self.fakers[locale] = Faker(locale)
            self.fakers[locale].seed_instance(f"{seed} {locale}")

    def faker(self, locale: str | None = None) -> Any:
        return self.fakers[locale or self.random.choice(LOCALES)]

    def chars(self, alphabet: str, size: int) -> str:
        return "".join(self.random.choices(alphabet, k=size))

    def digits(self, size: int) -> str:
        return self.chars(string.digits, size)


# Where the value stands, and clean values beside it.
_FRAMES = (
    "{}",
    "{c} {}",
    "{} {c}",
    "INFO {c} handled {} in {n} ms",
    "user action failed for {} (attempt {n})",
    "ts={c} level=warn msg=rejected detail=[{}] code={n}",
    '{{"ts":"{c}","detail":"{}","n":{n}}}',
    '{{"a":[{n},"{c}"],"b":{{"c":"{}"}}}}',
    "[{c}] WARN com.example.Service - could not process {}: retry",
    'Traceback (most recent call last):\\n  File \\"/srv/app/x.py\\", line {n}, in f\\nValueError: bad value {}',
    "Exception in thread main: java.lang.IllegalArgumentException: {}\n\tat com.example.A.b(A.java:{n})",
    "INSERT INTO t VALUES ({n}, '{}', '{c}')",
    "{c},{},{n}",
    "<item id={n}>{}</item>",
    "GET https://api.example.com/v1/things?q={u}&page={n} {c}",
)


def planted(source: Source, make: Callable[[Source], Planted]) -> Text:
    """A value in a frame. In URLs only what is written there as it is."""
    value = make(source)
    whole = value.lead + value.value + value.tail
    frames = (
        _FRAMES
        if quote(whole, safe="@:/+().") == whole and "/" not in whole[:1] and "+" not in whole
        else _FRAMES[:-1]
    )
    if '"' in whole or "'" in whole or "\n" in whole:
        frames = _FRAMES[:5]
    before, after = _framed(source, frames)
    start = len(before) + len(value.lead)
    text = before + whole + after
    return Text(text, start, start + len(value.value), len(before), len(before) + len(whole))


def empty(source: Source) -> Text:
    """A clean value in a frame."""
    before, after = _framed(source, _FRAMES[:-1])
    return Text(before + clean_value(source.random)[1] + after)


def _framed(source: Source, frames: tuple[str, ...]) -> tuple[str, str]:
    """What stands before and after a value."""
    frame = source.random.choice(frames).replace("{u}", "{}")
    beside = clean_value(source.random)[1].replace("{", "(").replace("}", ")")
    before, _, after = (
        frame.replace("{c}", beside).replace("{n}", str(source.random.randint(1, 9999))).partition("{}")
    )
    return tuple(part.replace("{{", "{").replace("}}", "}") for part in (before, after))  # type: ignore[return-value]
