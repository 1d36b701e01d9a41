"""What was changed in a text or in JSON, shown in place: what is gone as [-this-], what came as {+this+}."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

Opcodes = Iterator[tuple[bool, list[Any], list[Any]]]
_WORDS = re.compile(r"([^\W_]+|.)", re.DOTALL)
# Above this many pairs of words a comparison would take seconds: then all of it is shown as changed.
_MOST_PAIRS = 1_000_000


class Shown:
    """Draws changes.

    gone, new  how such a piece is shown
    """

    def __init__(self, gone: Callable[[str], str], new: Callable[[str], str]) -> None:
        self._gone = gone
        self._new = new

    def of(self, before: object, after: object) -> str:
        """Two texts, or two JSON documents. after None: all of it is gone."""
        if isinstance(before, str) and (after is None or isinstance(after, str)):
            return self._text(before, after or "")
        return self._json(before, after) if after is not None else self._away(_told(before))

    def _away(self, text: str) -> str:
        return self._gone(_plain(text)) if text else ""

    def _come(self, text: str) -> str:
        return self._new(_plain(text)) if text else ""

    def _text(self, before: str, after: str) -> str:
        parts = []
        for same, old, new in _compared(_WORDS.findall(before), _WORDS.findall(after)):
            parts += [_plain("".join(old))] if same else [self._away("".join(old)), self._come("".join(new))]
        return "".join(parts)

    def _json(self, before: object, after: object) -> str:
        if before == after:
            return _plain(_told(after))
        if isinstance(before, dict) and isinstance(after, dict):
            return self._object(before, after)
        if isinstance(before, list) and isinstance(after, list):
            return self._array(before, after)
        if isinstance(before, str) and isinstance(after, str):
            return self._text(_told(before), _told(after))
        return self._away(_told(before)) + self._come(_told(after))

    def _object(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        # An AnyValue whose type changed has another key: {"intValue": "4111..."} -> {"stringValue": "[CARD]"}.
        parts = []
        for key, value in before.items():
            if key in after:
                parts.append(f"{_told(key)}: {self._json(value, after[key])}")
            else:
                parts.append(self._away(f"{_told(key)}: {_told(value)}"))
        parts += [self._come(f"{_told(key)}: {_told(after[key])}") for key in after if key not in before]
        return "{" + ", ".join(parts) + "}"

    def _array(self, before: list[Any], after: list[Any]) -> str:
        parts = []
        if len(before) == len(after):
            parts = [self._json(*pair) for pair in zip(before, after, strict=True)]
        else:
            # Something is gone or was added: elements are told apart by their key, or by all they hold.
            left = [*after]
            for element in before:
                match = next((n for n, other in enumerate(left) if _alike(element, other)), None)
                if match is None:
                    parts.append(self._away(_told(element)))
                else:
                    parts += [self._come(_told(other)) for other in left[:match]]
                    parts.append(self._json(element, left[match]))
                    del left[: match + 1]
            parts += [self._come(_told(other)) for other in left]
        return "[" + ", ".join(parts) + "]"


def _alike(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict) and "key" in one and "key" in other:
        return bool(one["key"] == other["key"])
    return one == other


def _told(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def _compared(old: Sequence[str], new: Sequence[str]) -> Opcodes:
    """(whether they are equal, piece of the old words, piece of the new words), in order."""
    start = 0
    least = min(len(old), len(new))
    while start < least and old[start] == new[start]:
        start += 1
    end = 0
    while end < least - start and old[-1 - end] == new[-1 - end]:
        end += 1
    yield True, list(old[:start]), []
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    if len(left) * len(right) > _MOST_PAIRS:
        yield False, list(left), list(right)
    else:
        for kind, a, b, c, d in SequenceMatcher(a=left, b=right, autojunk=False).get_opcodes():
            yield kind == "equal", list(left[a:b]), list(right[c:d])
    yield True, list(old[len(old) - end :]), []
