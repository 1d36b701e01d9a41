"""What is left of a value that is made coarse: a network, a tenth of a degree, a year.

Each function gives None for a text that is no such value, and what it gives, it gives again.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import date

# Bits that are kept, by version: the rest of an IPv4 address is one of 256, of an IPv6 one what a site gives out.
_KEPT = {4: 24, 6: 48}
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?\Z")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}\Z")
_PREFIX = re.compile(r"(.+)/([0-9]{1,3})\Z")


def truncate_ip(text: str) -> str | None:
    """The network of an IP address: /24, IPv6 /48. Ports and zones go; of a list with commas, each one's.

    Prefix lengths stay, at most as long as what is kept: `192.0.2.7/32` is `192.0.2.0/24`.
    """
    parts = [_network(part.strip()) for part in text.split(",")]
    return None if None in parts else ", ".join(part for part in parts if part is not None)


def _network(text: str) -> str | None:
    if (bare := _BRACKETED.match(text) or _WITH_PORT.match(text)) is not None:
        text = bare[1]
    prefix = _PREFIX.match(text)
    if prefix is not None:
        text = prefix[1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    kept = _KEPT[address.version]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        kept = 120
    bits = address.max_prefixlen
    if prefix is not None and int(prefix[2]) > bits:
        return None
    short = type(address)(int(address) >> (bits - kept) << (bits - kept))
    told = (
        f"::ffff:{short.ipv4_mapped}"
        if kept == 120 and isinstance(short, ipaddress.IPv6Address)
        else str(short)
    )
    return told if prefix is None else f"{told}/{min(int(prefix[2]), kept)}"


_DEGREES = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]*)?\Z")
_BETWEEN = re.compile(r"([,; ]\s*)")
_MOST_DEGREES = 360


def truncate_geo(value: str | float) -> str | float | None:
    """Degrees to one decimal, about 11 km; a number stays one of its type. A text may be a list: `52.5, 13.4`."""
    if not isinstance(value, str):
        if not math.isfinite(value) or abs(value) > _MOST_DEGREES:
            return None
        # Adding 0 makes -0.0 plain.
        return value if isinstance(value, int) else round(value, 1) + 0.0
    told = []
    for place, part in enumerate(_BETWEEN.split(value.strip())):
        if place % 2:
            told.append(part)
        elif not _DEGREES.match(part) or abs(float(part)) > _MOST_DEGREES:
            return None
        else:
            told.append(str(round(float(part), 1) + 0.0) if "." in part else part)
    return "".join(told)


# Year first, year last, or the year alone; a time of day may follow the first. Two digits are no year.
_YEAR_FIRST = re.compile(
    r"([0-9]{4})(?:(-|/|\.|)([0-9]{2})(?:\2([0-9]{2}))?)?(?:[T ][0-9:.,]{2,18}(?:Z|[+-][0-9:]{2,5})?)?\Z"
)
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})\Z")
_MONTH_NAMED = re.compile(
    r"(?:[0-9]{1,2}(?:\.|st|nd|rd|th)?[ -]{1,2}[^\W\d_]{3,10}|[^\W\d_]{3,10}\.? [0-9]{1,2}(?:st|nd|rd|th)?)"
    r",?[ -]([0-9]{4})\Z"
)
_YEARS = range(1800, 2200)


def truncate_date(text: str) -> str | None:
    """The year of a date, e.g. of a birth: of four digits, in 1800 to 2199."""
    text = text.strip()
    if (first := _YEAR_FIRST.match(text)) is not None:
        year, _, month, day = first.groups()
        return _year(year, month or "1", day or "1")
    if (last := _YEAR_LAST.match(text)) is not None:
        one, _, other, year = last.groups()
        return _year(year, one, other) or _year(year, other, one)
    named = _MONTH_NAMED.match(text)
    return None if named is None else _year(named[1], "1", "1")


def _year(year: str, month: str, day: str) -> str | None:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return year if int(year) in _YEARS else None


TRUNCATIONS: Mapping[str, Callable[[str], str | float | None]] = {
    "ip": truncate_ip,
    "geo": truncate_geo,
    "date": truncate_date,
}
