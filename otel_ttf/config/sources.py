"""Configuration text -> one tree that knows where each value stands.

YAML as the OpenTelemetry Collector reads it (YAML 1.2 scalars: `no` and `on` are text), `${env:NAME}` and
`${env:NAME:-default}` in every value, several files laid over one another, `--set a.b=c` last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from otel_ttf.config.problems import Path, Problem

Scalar = str | int | float | bool | None
MAX_DIGITS = 300
MAX_NESTED = 100
MAX_VALUES = 100_000  # of one file: ten lines of aliases of each other could stand for a billion
_UNTAGGED = (BaseResolver.DEFAULT_MAPPING_TAG, BaseResolver.DEFAULT_SEQUENCE_TAG)
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_KEY = re.compile(r'(?:"([^"]*)"|([^."=]+))(\.|=)')


@dataclass(slots=True)
class Tree:
    """A value with its place.

    source, line  where it stands; line 0: in no file
    reference     the text with `${env:...}` when a variable that is set supplied (part of) the value, else ""
    """

    value: dict[str, Tree] | list[Tree] | Scalar
    source: str
    line: int = 0
    reference: str = ""

    def plain(self) -> object:
        """The value without places, for pydantic."""
        match self.value:
            case dict(entries):
                return {key: entry.plain() for key, entry in entries.items()}
            case list(items):
                return [item.plain() for item in items]
            case scalar:
                return scalar

    def along(self, path: Path) -> Iterator[tuple[str | int, Tree]]:
        """The parts of the path that exist here, each with what stands there.

        Parts that name no child are passed over: pydantic puts the branches of a union into its paths.
        """
        here = self
        for part in path:
            child: Tree | None = None
            if isinstance(here.value, dict) and isinstance(part, str):
                child = here.value.get(part)
            elif isinstance(here.value, list) and isinstance(part, int) and part < len(here.value):
                child = here.value[part]
            if child is not None:
                here = child
                yield part, child

    def nearest(self, path: Path) -> Tree:
        """What stands at the path, or nearest above it."""
        steps = list(self.along(path))
        return steps[-1][1] if steps else self


# YAML 1.2's core schema: (tag, pattern, first characters).
SCALARS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", tuple("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", tuple("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        tuple("-+0123456789."),
    ),
    ("merge", r"^(?:<<)$", ("<",)),
    ("null", r"^(?:~|null|Null|NULL|)$", ("~", "n", "N", "")),
)


class _Resolver(BaseResolver):
    """YAML 1.2's core schema: only true and false are booleans, dates and base 60 are text."""


for _tag, _pattern, _first in SCALARS:
    _Resolver.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


class _Loader(
    yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Resolver
):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)
        self._nested = 0

    def compose_node(self, parent: Node | None, index: object) -> Node | None:
        self._nested += 1
        if self._nested > MAX_NESTED:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"values within each other more than {MAX_NESTED} deep", mark)
        try:
            return super().compose_node(parent, index)  # type: ignore[arg-type]
        finally:
            self._nested -= 1


@dataclass
class _Reading:
    """One source being read: nodes -> Tree, what is wrong goes into `problems`."""

    source: str
    env: Mapping[str, str]
    problems: list[Problem]
    lines: bool = True
    open: list[int] = field(default_factory=list)
    values: int = 0
    resolver: _Resolver = field(default_factory=_Resolver)

    def tree(self, node: Node, path: Path, line: int | None = None) -> Tree:
        at = self.line(node) if line is None else line
        if id(node) in self.open:
            self.wrong(at, path, "expected a value, found an alias of itself")
            return Tree(None, self.source, at)
        if not self.fits(at, path):
            return Tree(None, self.source, at)
        if not isinstance(node, ScalarNode) and node.tag not in _UNTAGGED:
            self.wrong(at, path, f"expected a value without a tag, found {node.tag}")
            return Tree(None, self.source, at)
        self.open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return Tree(self.mapping(node, path), self.source, at)
            if isinstance(node, SequenceNode):
                items = [self.tree(item, (*path, place)) for place, item in enumerate(node.value)]
                return Tree(items, self.source, at)
            assert isinstance(node, ScalarNode)
            return self.scalar(node, path, at)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Tree]:
        entries: dict[str, Tree] = {}
        merged: list[Node] = []
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = self.line(key_node)
            if not isinstance(key_node, ScalarNode):
                self.wrong(line, path, "expected a name as key, found a list or a mapping")
                continue
            if key_node.tag.endswith(":merge"):
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            key = str(key_node.value)
            if key in first:
                self.wrong(line, (*path, key), f"expected each key once, found it on line {first[key]}, too")
                continue
            first[key] = line
            entries[key] = self.tree(value_node, (*path, key), line)
        for other in merged:
            if not isinstance(other, MappingNode):
                self.wrong(self.line(other), path, "expected a mapping behind <<, found something else")
            elif id(other) in self.open:
                self.wrong(self.line(other), path, "expected a mapping behind <<, found the one it stands in")
            elif self.fits(self.line(other), path):
                self.open.append(id(other))
                for key, entry in self.mapping(other, path).items():
                    entries.setdefault(key, entry)
                self.open.pop()
        return entries

    def fits(self, line: int, path: Path) -> bool:
        """Counts one more value, an alias as often as it is followed; whether these aren't too many, said once."""
        self.values += 1
        if self.values == MAX_VALUES + 1:
            self.wrong(line, path, f"expected at most {MAX_VALUES} values, aliases followed, found more")
        return self.values <= MAX_VALUES

    def scalar(self, node: ScalarNode, path: Path, line: int) -> Tree:
        text, from_env = self.substituted(str(node.value), path, line)
        tag = node.tag
        if text != node.value and node.style is None:
            tag = self.resolver.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        value: Scalar
        match tag.rpartition(":")[2]:
            case "null":
                value = None
            case "bool":
                value = text.lower() == "true"
            case "int" | "float" as kind:
                try:
                    value = _number(kind, text)
                except ValueError:
                    found = f"text of {len(text)} characters"
                    self.wrong(
                        line, path, f"expected a number of at most {MAX_DIGITS} characters, found {found}"
                    )
                    value = None
            case "str" | "merge" if "\0" not in text:
                value = text
            case "str" | "merge":
                self.wrong(line, path, "expected text without characters of value 0, found one")
                value = None
            case _:
                self.wrong(line, path, f"expected a value without a tag, found {tag}")
                value = None
        return Tree(value, self.source, line, str(node.value) if from_env else "")

    def substituted(self, text: str, path: Path, line: int) -> tuple[str, bool]:
        """The text with its references replaced, and whether any variable that is set was used."""
        used = False

        def replace(match: re.Match[str]) -> str:
            nonlocal used
            if match[1] is None:  # $${ stands for ${
                return "${"
            reference = _ENV.fullmatch(match[1])
            if reference is None:
                self.wrong(line, path, f"expected ${{env:NAME}} or ${{env:NAME:-default}}, found {match[0]}")
                return ""
            name, default = reference[1], reference[2]
            found = self.env.get(name)
            if found or (found is not None and default is None):
                used = True
                return found
            if default is None:
                self.wrong(line, path, f"expected the environment variable {name} to be set, found it unset")
                return ""
            return str(default)

        return _REFERENCE.sub(replace, text), used

    def line(self, node: Node) -> int:
        return node.start_mark.line + 1 if self.lines else 0

    def wrong(self, line: int, path: Path, text: str) -> None:
        self.problems.append(Problem(self.source, line, path, text))


def _number(kind: str, text: str) -> int | float:
    """Raises ValueError: no number (a tag says that it is one), or longer than any that means something."""
    if len(text) > MAX_DIGITS:
        raise ValueError
    if kind == "float" and text:
        return float(SafeConstructor().construct_yaml_float(ScalarNode("", text)))
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def read(text: str, source: str, env: Mapping[str, str], problems: list[Problem]) -> Tree | None:
    """The tree of one YAML text; None if it is none at all. What is wrong goes into `problems`."""
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        said = f"expected YAML, found an error in it: {error.problem or error.context}"
        if any("${" in written for written in text.splitlines()[line - 1 : line]):
            said += " (inside { } and [ ], put ${...} in quotes)"
        problems.append(Problem(source, line, (), said))
        return None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem(source, line, (), "expected YAML, found a character that it does not allow"))
        return None
    if node is None or (isinstance(node, ScalarNode) and node.tag.endswith(":null")):
        return Tree({}, source)
    tree = _Reading(source, env, problems).tree(node, ())
    if not isinstance(tree.value, dict):
        problems.append(
            Problem(source, tree.line, (), "expected sections such as api:, found something else")
        )
        return None
    return tree


def read_file(path: str, env: Mapping[str, str], problems: list[Problem]) -> Tree | None:
    """The tree of one file; None if it can't be read. What is wrong goes into `problems`."""
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        problems.append(Problem(path, 0, (), f"expected a file that can be read, found: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(Problem(path, 0, (), "expected UTF-8 text, found other bytes"))
    else:
        if text.strip():
            return read(text, path, env, problems)
        # Whoever writes a file often empties it first: a reload in between would take all that is configured away.
        wanted = "expected sections such as api:, or at least a comment, found an empty file"
        problems.append(Problem(path, 0, (), wanted))
    return None


def overlay(below: Tree, above: Tree) -> Tree:
    """`above` over `below`: mappings key by key, all else replaced; `name:` leaves a mapping alone."""
    if isinstance(below.value, dict):
        if above.value is None:
            return below
        if isinstance(above.value, dict):
            entries = dict(below.value)
            for key, entry in above.value.items():
                entries[key] = overlay(entries[key], entry) if key in entries else entry
            return Tree(entries, above.source, above.line)
    return above


def set_path(tree: Tree, setting: str, env: Mapping[str, str], problems: list[Problem]) -> Tree:
    """The tree with one `--set a.b=c`; keys with dots are quoted (`a."b.c"=d`), a number is a place."""
    keys: list[str] = []
    position = 0
    while match := _KEY.match(setting, position):
        keys.append(match[1] if match[1] is not None else match[2].strip())
        position = match.end()
        if match[3] == "=":
            break
    if not keys or position == 0 or setting[position - 1] != "=":
        problems.append(
            Problem("--set", 0, (), f"expected path.to.setting=value, found {setting.partition('=')[0]!r}")
        )
        return tree
    reading = _Reading("--set", env, problems, lines=False)
    try:
        node = _Loader(setting[position:]).get_single_node()
    except (yaml.MarkedYAMLError, ReaderError):
        problems.append(Problem("--set", 0, tuple(keys), "expected YAML after =, found something else"))
        return tree
    value = Tree(None, "--set") if node is None else reading.tree(node, tuple(keys))
    return _placed(tree, keys, value, (), problems)


def _placed(tree: Tree, keys: list[str], value: Tree, path: Path, problems: list[Problem]) -> Tree:
    if not keys:
        return overlay(tree, value)
    key, *rest = keys
    if isinstance(tree.value, list):
        if not key.isdecimal() or int(key) >= len(tree.value):
            text = f"expected a place in the list, 0 to {len(tree.value) - 1}, found {key!r}"
            problems.append(Problem(value.source, 0, path, text))
            return tree
        items = list(tree.value)
        items[int(key)] = _placed(items[int(key)], rest, value, (*path, int(key)), problems)
        return Tree(items, tree.source, tree.line)
    entries = dict(tree.value) if isinstance(tree.value, dict) else {}
    below = entries.get(key, Tree({} if rest else None, value.source))
    entries[key] = _placed(below, rest, value, (*path, key), problems)
    return Tree(entries, tree.source if isinstance(tree.value, dict) else value.source, tree.line)
