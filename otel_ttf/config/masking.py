"""What is wrong with what is to be masked, each at the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from otel_ttf.config.problems import Path, did_you_mean, one_of
from otel_ttf.otlp.subject import SubjectKeys
from otel_ttf.pii.action import Action
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.base import Detector
from otel_ttf.pii.detect.custom import NAME, CustomDetector, sharing
from otel_ttf.pii.keyrules import KeyRule
from otel_ttf.processors.mask import DetectorRule

# (path, expected, found); found None: described from the value
Finding = tuple[Path, str, str | None]

MASK: Path = ("processors", "mask")
ACTIONS: tuple[str, ...] = get_args(Action)
_BY_NAME = {detector.name: detector for detector in DETECTORS}
_FIELD = re.compile(r"(\w+): (.*)", re.DOTALL)


def findings(mask: Mapping[str, Any], subject: Iterable[str]) -> Iterator[Finding]:
    """What is wrong in `processors.mask`, beside what pydantic says itself. subject: attributes of user ids."""
    for path, expected, found in (
        *_detectors(_mapping(mask.get("detectors"))),
        *_keys(mask.get("keys"), SubjectKeys(tuple(subject))),
        *_customs(_mapping(mask.get("custom"))),
    ):
        yield (*MASK, *path), expected, found


def told_better(where: Path, paths: Iterable[Path]) -> bool:
    """Whether an error that one of our validators raised for the value at `where` stands at one of these paths."""
    return where[:2] == MASK and any(path[: len(where)] == where for path in paths)


def _mapping(data: object) -> Mapping[str, Any]:
    return data if isinstance(data, dict) else {}


def _detectors(given: Mapping[str, Any]) -> Iterator[Finding]:
    for name, rule in given.items():
        path: Path = ("detectors", name)
        detector = _BY_NAME.get(name)
        if detector is None:
            names = ", ".join(_BY_NAME)
            yield path, f"one of {names}", f'"{name}"' + did_you_mean(name, list(_BY_NAME))
            continue
        if not isinstance(rule, dict | str | bool):
            yield path, one_of(("true", "false", *ACTIONS)), None
            continue
        action = rule.get("action") if isinstance(rule, dict) else rule
        if isinstance(rule, dict):
            for field, expected in _said(DetectorRule, rule):
                yield (*path, field), expected.removeprefix("expected "), None
            path = (*path, "action")
        if action == "truncate" and not _coarse(detector):
            yield path, f"{_but('truncate')}: {name} has no coarser form", None
        elif isinstance(action, str) and action not in ACTIONS:
            yield path, one_of(ACTIONS if isinstance(rule, dict) else ("true", "false", *ACTIONS)), None


def _coarse(detector: Detector) -> bool:
    return detector.default == "truncate" or type(detector).truncated is not Detector.truncated


def _but(action: str) -> str:
    return one_of([each for each in ACTIONS if each != action])


def _keys(given: object, subject: SubjectKeys) -> Iterator[Finding]:
    for place, entry in enumerate(given if isinstance(given, list) else []):
        rule = {"words": entry} if isinstance(entry, str) else _mapping(entry)
        for field, expected in _said(KeyRule, rule):
            path = ("keys", place, field) if isinstance(entry, dict) else ("keys", place)
            yield path, expected.removeprefix("expected "), None
        key = rule.get("key")
        if isinstance(key, str) and subject.rank(key) is not None:
            yield (
                ("keys", place, "key"),
                "another attribute than those of subject.from: they become tokens before any rule is asked",
                None,
            )


def _customs(given: Mapping[str, Any]) -> Iterator[Finding]:
    names = [name for name in map(str, given) if name not in _BY_NAME and re.search(NAME, name)]
    for name, wrong in sharing(names):
        yield ("custom", name), wrong, f'"{name}"'
    for name, entry in given.items():
        if name in _BY_NAME:
            yield ("custom", name), "another name than that of a built-in detector", f'"{name}"'
        for path, expected, found in _custom(str(name), _mapping(entry)):
            yield ("custom", name, *path), expected, found


def _custom(name: str, entry: Mapping[str, Any]) -> Iterator[Finding]:
    if entry.get("action") == "truncate":
        yield ("action",), f"{_but('truncate')}: nothing is known of a coarser form", None
    pattern = entry.get("pattern")
    for _, why in _said(CustomDetector, {"pattern": pattern}):
        yield ("pattern",), *_pattern(why, pattern)
    tests = _mapping(entry.get("tests"))
    looks = {key: value for key, value in entry.items() if key not in ("tests", "action")}
    try:
        detector = CustomDetector.model_validate(looks).detector(name)
    except ValidationError:
        return
    if any(detector.find(f"[{detector.label}]")):
        yield ("pattern",), f"one that does not find its own placeholder [{detector.label}]", None
    for place, text in enumerate(_texts(tests.get("found"))):
        if not any(detector.find(text)):
            yield ("tests", "found", place), "a text in which it finds something", None
    for place, text in enumerate(_texts(tests.get("left_alone"))):
        if (span := next(detector.find(text), None)) is not None:
            found = f'"{text}", of which it finds "{text[slice(*span)]}"'
            yield ("tests", "left_alone", place), "a text in which it finds nothing", found


def _pattern(why: str, pattern: object) -> tuple[str, str | None]:
    if why.startswith("expected "):
        return why.removeprefix("expected "), None
    return "a pattern that can be used", f'"{pattern}" ({why})'


def _texts(given: object) -> list[str]:
    return [str(text) for text in given] if isinstance(given, list) else []


def _said(model: type[BaseModel], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, `expected ...` or what is wrong) of errors that name a field of the model."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            cause = each.get("ctx", {}).get("error")
            match = _FIELD.fullmatch(str(cause)) if each["type"] == "value_error" else None
            if match is not None and match[1] in model.model_fields:
                yield match[1], match[2]
