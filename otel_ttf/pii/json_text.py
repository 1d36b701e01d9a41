"""JSON inside a string: each name, text and number of it is offered to a visitor; all else stays byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

MAX_CHARACTERS = 256 << 10
MAX_DEPTH = 32
# JSON in a string of JSON is looked into; in that one's strings, no more.
_NESTED = 2

Path = tuple[str, ...]
Leaf = str | int | float | bool | None
Rule = TypeVar("Rule")


class Drop(Enum):
    """What `member` answers when the member goes."""

    DROP = auto()


DROP = Drop.DROP


class Visitor(Protocol[Rule]):
    """What is done with what JSON holds. A path is the names from the outside in; lists add nothing to it.

    Pairs are members, too: of `[["password", "x"]]` and `{"name": "password", "value": "x"}`, the path of x ends
    with `password`.
    """

    def member(self, path: Path) -> Rule | Drop | None:
        """What the last name of the path says about its value. None: nothing, and what is below is asked about;
        DROP: it goes; anything else is handed to `leaf` with each leaf below, and `member` is not asked there."""

    def leaf(self, value: Leaf, path: Path, rule: Rule | None) -> str | float | None:
        """What takes the place of a text, a number, true, false or null; None: it stays. Without a rule it is not
        asked about fractions and exponents that no program writes: the one scan does not know all spellings."""

    def name(self, path: Path) -> str:
        """What is written in the place of the last name of the path."""


class _Node:
    """kind: one of `"`, `0` (a number, true, false, null), `[`, `{`; names: of `{`, the node of each name."""

    __slots__ = ("below", "end", "kind", "names", "start")

    def __init__(self, kind: str, start: int, end: int) -> None:
        self.kind = kind
        self.start = start
        self.end = end
        self.names: list[_Node] = []
        self.below: list[_Node] = []


class Document:
    """A string that is a JSON object or list. Made by `parse`."""

    def __init__(self, text: str, root: _Node) -> None:
        self._text = text
        self._root = root

    def rewrite(self, visitor: Visitor[Rule]) -> str | None:
        """The text with what the visitor has changed; None: nothing."""
        return _Walk(self._text, visitor, 1).run(self._root, ())


def parse(text: str) -> Document | None:
    """None if it is no JSON object or list, broken, cut, deeper than MAX_DEPTH, or longer than MAX_CHARACTERS."""
    root = _parsed(text)
    return Document(text, root) if root is not None else None


def rewrite(text: str, visitor: Visitor[Rule]) -> str | None:
    """As `Document.rewrite`; None also if `parse` gives None. Never raises but what the visitor raises."""
    document = parse(text)
    return document.rewrite(visitor) if document is not None else None


# Reading: RFC 8259, nothing beyond it.

_FIRST = frozenset(" \t\n\r{[")
_SPACE = re.compile(r"[ \t\n\r]*+")
_OUTSIDE = re.compile(r"[ \t\n\r]*+[{\[]")
_TOKEN = re.compile(
    r'[ \t\n\r]*+(?:("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+")'
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)|([{}\[\],:]))"
)
_CLOSING = {"{": "}", "[": "]"}


class _Broken(Exception):
    pass


def _parsed(text: str) -> _Node | None:
    if (
        text[:1] not in _FIRST
        or len(text) > MAX_CHARACTERS
        or _OUTSIDE.match(text) is None
        or text.rstrip(" \t\n\r")[-1] not in "]}"
    ):
        return None
    try:
        root, end = _value(text, 0, 0)
    except _Broken:
        return None
    space = _SPACE.match(text, end)
    return root if space is not None and space.end() == len(text) else None


def _token(text: str, place: int) -> tuple[str, int, int]:
    """(kind, start, end); the kind of a mark is the mark."""
    match = _TOKEN.match(text, place)
    if match is None or match.lastindex is None:
        raise _Broken
    start, end = match.span(match.lastindex)
    return ('"', "0", text[start])[match.lastindex - 1], start, end


def _value(text: str, place: int, depth: int) -> tuple[_Node, int]:
    kind, start, end = _token(text, place)
    return _after(text, kind, start, end, depth)


def _after(text: str, kind: str, start: int, end: int, depth: int) -> tuple[_Node, int]:
    """The value that begins with this token, and where it ends."""
    node = _Node(kind, start, end)
    if kind in '"0':
        return node, end
    if kind not in _CLOSING or depth == MAX_DEPTH:
        raise _Broken
    closing = _CLOSING[kind]
    sign, start, place = _token(text, end)
    while sign != closing:
        if kind == "{":
            if sign != '"':
                raise _Broken
            node.names.append(_Node(sign, start, place))
            colon, _, place = _token(text, place)
            if colon != ":":
                raise _Broken
            sign, start, place = _token(text, place)
        below, place = _after(text, sign, start, place, depth + 1)
        node.below.append(below)
        sign, start, place = _token(text, place)
        if sign == ",":
            sign, start, place = _token(text, place)
            if sign == closing:
                raise _Broken
        elif sign != closing:
            raise _Broken
    node.end = place
    return node, place


# Writing: edits of the text, in order.

_HALVES = re.compile("[\ud800-\udfff]")
_NAMES = frozenset(["name", "key", "k", "header", "field", "attribute"])
_VALUES = frozenset(["value", "val", "v"])
# 4111111111111111.0, 4.111111111111111e+15
_COMMON = re.compile(r"[1-9][0-9]{11,18}\.[0-9]{1,18}|[1-9]\.[0-9]{1,18}[eE]\+?1[1-8]")
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class _Walk:
    """One pass over one text."""

    def __init__(self, text: str, visitor: Visitor[Any], level: int) -> None:
        self._text = text
        self._visitor = visitor
        self._level = level
        self._edits: list[tuple[int, int, str]] = []

    def run(self, root: _Node, path: Path) -> str | None:
        self._node(root, path, None)
        if not self._edits:
            return None
        parts: list[str] = []
        end = 0
        for start, stop, new in self._edits:
            parts += [self._text[end:start], new]
            end = stop
        return "".join(parts) + self._text[end:]

    def _node(self, node: _Node, path: Path, rule: Any) -> None:
        if node.kind == "{":
            self._object(node, path, rule)
        elif node.kind == "[":
            self._list(node, path, rule)
        else:
            self._leaf(node, path, rule)

    def _object(self, node: _Node, path: Path, rule: Any) -> None:
        paths = [(*path, self._string(name)) for name in node.names]
        named = self._names(node) if rule is None else []
        of_names: tuple[Path, Any] | None = None  # asked once, however many names and values there are
        kept = False
        for place, (name, below) in enumerate(zip(node.names, node.below, strict=True)):
            inner = paths[place]
            found = self._visitor.member(inner) if rule is None else rule
            if found is None and named and inner[-1].lower() in _VALUES:
                if of_names is None:
                    of_names = self._of_names(path, named)
                inner, found = of_names
            if found is DROP:
                self._drop(node.names, node.below, place, kept=kept)
                continue
            kept = True
            new = self._visitor.name(paths[place])
            if new != paths[place][-1]:
                self._write(name, new)
            self._node(below, inner, found)

    def _of_names(self, path: Path, named: Sequence[str]) -> tuple[Path, Any]:
        """(path, what it says) of the first name of a pair that says something, else of the last."""
        inner, found = path, None
        for each in named:
            inner = (*path, each)
            found = self._visitor.member(inner)
            if found is not None:
                break
        return inner, found

    def _list(self, node: _Node, path: Path, rule: Any) -> None:
        kept = False
        for place, below in enumerate(node.below):
            if rule is None and any(
                self._visitor.member((*path, name)) is DROP for name in self._names(below)
            ):
                self._drop(node.below, node.below, place, kept=kept)
                continue
            kept = True
            if rule is None and _is_pair(below):
                inner = (*path, self._string(below.below[0]))
                self._leaf(below.below[0], path, None)
                self._node(below.below[1], inner, self._visitor.member(inner))
            else:
                self._node(below, path, rule)

    def _names(self, node: _Node) -> list[str]:
        """What a pair calls its value."""
        if _is_pair(node):
            return [self._string(node.below[0])]
        names = [self._string(name).lower() for name in node.names]
        if _VALUES.isdisjoint(names):
            return []
        return [
            self._string(below)
            for name, below in zip(names, node.below, strict=True)
            if name in _NAMES and below.kind == '"'
        ]

    def _leaf(self, node: _Node, path: Path, rule: Any) -> None:
        token = self._text[node.start : node.end]
        value = self._string(node) if node.kind == '"' else _number(token)
        if rule is None and isinstance(value, str) and self._level < _NESTED and _OUTSIDE.match(value):
            root = _parsed(value)
            if root is not None:
                inside = _Walk(value, self._visitor, self._level + 1).run(root, path)
                if inside is not None:
                    self._write(node, inside)
                return
        if rule is None and isinstance(value, float) and _COMMON.fullmatch(token) is None:
            return
        new = self._visitor.leaf(value, path, rule)
        if new is not None and new != value:
            self._write(node, new)

    def _string(self, node: _Node) -> str:
        """A string as it is meant; half of a pair of surrogates is no character."""
        text = self._text[node.start + 1 : node.end - 1]
        if "\\" in text:
            text = json.loads(f'"{text}"')
        return _HALVES.sub("\ufffd", text)

    def _write(self, node: _Node, new: str | float) -> None:
        odd = isinstance(new, str) and _HALVES.search(new) is not None
        told = json.dumps(new, ensure_ascii=self._text.isascii() or odd)
        self._edits.append((node.start, node.end, told))

    def _drop(self, begins: Sequence[_Node], ends: Sequence[_Node], place: int, *, kept: bool) -> None:
        """Takes one of a list away, and the comma before it, or behind it if nothing before it stays."""
        if kept:
            self._edits.append((ends[place - 1].end, ends[place].end, ""))
        else:
            last = place + 1 == len(ends)
            self._edits.append(
                (begins[place].start, ends[place].end if last else begins[place + 1].start, "")
            )


def _is_pair(node: _Node) -> bool:
    return node.kind == "[" and len(node.below) == 2 and node.below[0].kind == '"'


def _number(token: str) -> Leaf:
    if token in _LITERALS:
        return _LITERALS[token]
    return int(token) if _INTEGER.fullmatch(token) else float(token)
