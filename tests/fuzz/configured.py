"""What has to hold for whatever an operator writes: matches and configuration files."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from seen import Seen

from otel_ttf.config import Config, ConfigError, load, show
from otel_ttf.journey.match import SPAN_KINDS, SPAN_STATUSES, MatchErrors, parse

ROOT = Path(__file__).parents[2]
_CASES = yaml.safe_load((ROOT / "tests" / "journey" / "match_cases.yaml").read_text())
_WORDS: tuple[Any, ...] = (
    *("event", "span", "attributes", "resource", "any", "all", "not", "name", "kind", "status"),
    *("glob", "range", "exists", "signup", "a*", "[ab]", "**", "", "7", "7.0", "1e400", "\ud800", "x"),
    *(0, -0.0, 7, 7.5, 2**63, 10**400, 1e308, float("nan"), float("inf"), True, None, [], {}),
)


_BAGS: tuple[dict[str, Any], ...] = (
    {},
    {"plan": "pro", "x": 7, "kind": "signup", "": "7"},
    {"plan": float("nan"), "x": -(2**63), "kind": [1, ["a"], {"b": b"\xff"}], "a": b"7"},
    {"plan": None, "x": 7.0, "kind": True, "n": 1e308},
)
_SEEN = tuple(
    Seen(kind, name, span_kind, status, attributes, resource)
    for kind, span_kind, status in (
        ("log", "", ""),
        ("span_event", "", ""),
        *(("span", kind, status) for kind in SPAN_KINDS for status in SPAN_STATUSES),
    )
    for name in ("signup", "7", "")
    for attributes, resource in zip(_BAGS, reversed(_BAGS), strict=True)
)


def match(data: bytes) -> None:
    """A match says what is wrong with it, or holds for the same records as its canonical form."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        read = parse(told)
    except MatchErrors:
        return
    again = parse(json.loads(json.dumps(read.canonical)))
    assert again == read
    names = read.names()
    for record in _SEEN:
        holds = read(record)
        group: Any = "span" if record.kind == "span" else "event"
        assert again(record) == holds
        assert read.given(group, record.name) in (None, holds)
        assert not holds or names is None or (group, record.name) in names


def some_matches() -> Iterator[bytes]:
    """Those of the table of cases."""
    for case in _CASES:
        yield json.dumps(case["match"], default=str).encode()


def mutated_json(data: bytes, rng: random.Random, change: Callable[[bytes, random.Random], bytes]) -> bytes:
    """The document with one change somewhere in it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return change(data, rng)
    return json.dumps(_changed(document, rng)).encode()


def _changed(node: Any, rng: random.Random) -> Any:
    choice = rng.random()
    if choice < 0.15:
        return rng.choice(_WORDS)
    if choice < 0.25:
        return rng.choice(([node], {rng.choice(_WORDS[:13]): node}, [node, node]))
    if isinstance(node, dict) and node:
        key = rng.choice(list(node))
        if choice < 0.4:
            return {**node, str(rng.choice(_WORDS)): node[key]}
        return {**node, key: _changed(node[key], rng)}
    if isinstance(node, list) and node:
        at = rng.randrange(len(node))
        return [*node[:at], _changed(node[at], rng), *node[at + 1 :]]
    return rng.choice(_WORDS)


def configuration(data: bytes) -> None:
    """A file says what is wrong with it and where, or means what print-config makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        given, printed = Path(folder, "given.yaml"), Path(folder, "printed.yaml")
        given.write_bytes(data)
        try:
            loaded = load([str(given)], env={"SET": "on", "NUMBER": "7"})
        except ConfigError:
            return
        printed.write_text(show.as_yaml(loaded), encoding="utf-8")
        again = load([str(printed)], env={"SET": "on", "NUMBER": "7"}).config
        assert _told(again) == _told(loaded.config)
        assert again.domain_journeys() == loaded.config.domain_journeys()


def _told(config: Config) -> object:
    return config.model_dump(exclude={"journeys"})


def some_configurations() -> Iterator[bytes]:
    """The sections of config.yaml, with its examples, and files that are wrong."""
    text = (ROOT / "config.yaml").read_text()
    sections = re.split(r"\n(?=[a-z])", text)
    for section in sections:
        plain = "\n".join(line for line in section.splitlines() if not line.lstrip().startswith("#"))
        yield plain.encode()
        yield section.encode()[:4096]
    for path in sorted((ROOT / "tests" / "config" / "invalid").glob("*.yaml")):
        yield re.sub(r" +#.*", "", path.read_text()).encode()
    yield from (b"storage: {url: '${env:SET}'}", b"a: &a [*a]", b"log: {max_size: ${env:NUMBER}MiB}", b"")
