"""Durations and sizes as people write them: `5m`, `400d`, `512MiB`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, WithJsonSchema

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_DURATION = {"ms": 1_000_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_SIZE = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
# Reading a text takes the square of its length, and some texts come from strangers.
_LONGEST = 100
# Added to times of today, it is still one that 64 bits hold.
_MOST = 40_000 * DAY
_LARGEST = 2**62
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")


def duration(text: object) -> int:
    """Nanoseconds of `90s`, `1h30m`, `0.5s`, `0`. Raises ValueError with what was expected."""
    if isinstance(text, str):
        stripped = text.strip()
        if len(stripped) > _LONGEST:
            raise ValueError(f"expected a duration of at most {_LONGEST} characters")
        if stripped == "0":
            return 0
        parts = _PART.findall(stripped)
        if parts and _PART.sub("", stripped) == "":
            told = sum(float(number) * _DURATION[unit] for number, unit in parts)
            if told > _MOST:
                raise ValueError("expected a duration of at most 40000d")
            return round(told)
    elif text == 0 and not isinstance(text, bool):
        return 0
    raise ValueError("expected a duration such as 30s, 5m, 1h30m or 30d")


def size(text: object) -> int:
    """Bytes of `512MiB`, `10 GiB`, or a plain number. Raises ValueError with what was expected."""
    told: float = -1
    if isinstance(text, int) and not isinstance(text, bool):
        told = text
    elif isinstance(text, str) and len(text) <= _LONGEST:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(B|[KMGT]iB|[kMG]B)?", text.strip())
        if match:
            told = float(match[1]) * _SIZE[match[2] or "B"]
    if 0 <= told <= _LARGEST:
        return round(told)
    raise ValueError("expected a size such as 512MiB or 10GiB")


def size_text(size: float) -> str:
    """`32MiB`, `1.5GiB`, `12B`: with one digit behind the point at most; what `size` reads."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _SIZE[unit]:
            return f"{size / _SIZE[unit]:.1f}".removesuffix(".0") + unit
    return f"{size:.0f}B"


def duration_text(nanoseconds: int) -> str:
    """`5m`, `30d`, `1.5s`: in the largest unit that is exact; what `duration` reads."""
    for unit in ("d", "h", "m", "s"):
        if nanoseconds % _DURATION[unit] == 0 and nanoseconds:
            return f"{nanoseconds // _DURATION[unit]}{unit}"
    return f"{nanoseconds / 1_000_000:.6f}".rstrip("0").rstrip(".") + "ms" if nanoseconds else "0s"


def readers(annotation: Any, metadata: Iterable[Any] = ()) -> set[Callable[..., Any]]:
    """The functions that read values of a field from text: `duration`, `size`."""
    found = {each.func for each in metadata if isinstance(each, BeforeValidator)}
    for each in getattr(annotation, "__metadata__", ()):
        found |= readers(None, [each])
    for argument in get_args(annotation):
        found |= readers(argument)
    return found


Duration = Annotated[
    int,
    BeforeValidator(duration),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["30s", "5m", "1h30m", "30d"]}),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["512MiB", "10GiB"]}),
]
