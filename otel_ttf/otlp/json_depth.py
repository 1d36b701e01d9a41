"""JSON, however deeply it is nested, and with what is said twice in it.

Python's parser calls itself for each object or list within another, and ends with RecursionError beyond some 1,000 of
them (sys.setrecursionlimit, less what calls it; other limits from Python 3.12 on). Where it does, what stands deeper
than anybody looks is taken out of the bytes, and the rest is read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

# Objects and lists within each other. A value at level 33, which is cut, has at most 4 of them for each level around
# it, and 16 around the outermost.
MAX_CONTAINERS_DEEP = 200

TWICE = "expected once, found more than once"

# Up to the next bracket that stands in no text. From a given place only: a search would try again from each byte.
_TO_BRACKET = re.compile(
    rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL
).match
_OPENS = frozenset(b"[{")
_BLANKS = bytes(byte if byte in b"\r\n" else ord(" ") for byte in range(256))


class Doubled(dict[str, Any]):
    """An object with a key that stands in it more than once, of which the last counts.

    Parsers differ in which of them they take, or whether they take both (RFC 8259, 4), so whoever needs that key
    should not guess. doubled: the keys
    """

    doubled: frozenset[str]


def read(body: bytes, **options: Callable[[str], Any]) -> Any:
    """What the JSON says; what is no UTF-8 becomes halves of surrogate pairs, see json.unicode. Objects are dicts, or
    Doubled.

    options  of json.loads
    What stands deeper than MAX_CONTAINERS_DEEP may be 0 in the place of what it was, and need not be JSON.
    Raises ValueError, mostly json.JSONDecodeError.
    """
    try:
        return _loads(body, options)
    except RecursionError:
        pass  # not read again in here: it would keep all that was read so far
    return _loads(shallow(body), options)


def _loads(body: bytes | bytearray, options: dict[str, Callable[[str], Any]]) -> Any:
    text = body.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    return json.loads(text, object_pairs_hook=as_object, **options)  # type: ignore[arg-type]


def as_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A dict, or Doubled."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    counts = Counter(key for key, _ in pairs)
    twice = Doubled(found)
    twice.doubled = frozenset(key for key, count in counts.items() if count > 1)
    return twice


def shallow(body: bytes) -> bytearray:
    """The same with 0 in the place of what stands too deep, and blanks behind it: places in errors stay right."""
    new = bytearray(body)
    depth = at = begin = 0
    while bracket := _TO_BRACKET(body, at):
        at = bracket.end()
        if body[at - 1] in _OPENS:
            depth += 1
            if depth == MAX_CONTAINERS_DEEP + 1:
                begin = at - 1
        else:
            depth -= 1
            if depth == MAX_CONTAINERS_DEEP:
                new[begin:at] = b"0" + body[begin + 1 : at].translate(_BLANKS)
    if depth > MAX_CONTAINERS_DEEP:
        del new[begin:]  # it does not end, so this is no JSON
    return new
