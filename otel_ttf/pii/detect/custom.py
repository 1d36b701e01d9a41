"""Detectors from the configuration: a pattern for RE2, a validator by name, words that have to stand in front."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from otel_ttf.pii.action import Action, rule_for_vendors
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.detect.base import Detector, Span
from otel_ttf.pii.detect.superset import reach, superset
from otel_ttf.pii.keyrules import labels

NAME = "^[a-z][a-z0-9_]*$"
_MOST_PATTERN = 1000
# So often a text may be looked through; after that, what is left of it is one finding. The time is linear in the text.
_LOOKS = 1000
_NEAR = 40  # characters in front of a finding in which a context word stands


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    if not digits.isdecimal():
        return False
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _mod97(text: str) -> bool:
    """ISO/IEC 7064, MOD 97-10, as IBAN uses it: the first four characters move to the end."""
    if not (text.isascii() and text.isalnum()):
        return False
    rest = 0
    # One by one: Python makes no number of a text of thousands of digits.
    for character in text[4:] + text[:4]:
        digits = int(character, 36)
        rest = (rest * (10 if digits < 10 else 100) + digits) % 97
    return rest == 1


def _varied(text: str) -> bool:
    """At least a third of the characters differ: no `xxxx-xxxx` of a manual."""
    return len(set(text)) * 3 >= len(text)


# Of a finding, told without spaces, hyphens and dots.
VALIDATORS: Mapping[str, Callable[[str], bool]] = {"luhn": _luhn, "mod97": _mod97, "varied": _varied}
ValidatorName = Literal["luhn", "mod97", "varied"]


class Tests(BaseModel):
    """What the detector is to find and to leave alone; `otel-ttf validate` and every start run them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    found: tuple[str, ...] = Field((), description="Texts in which it finds something.")
    left_alone: tuple[str, ...] = Field((), description="Texts in which it finds nothing.")


class CustomDetector(BaseModel):
    """A detector of one's own. It looks after the built-in ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str = Field(
        min_length=1,
        max_length=_MOST_PATTERN,
        description="Regular expression in RE2's syntax; with a group in it, only what the first one holds is masked.",
    )
    validator: ValidatorName | None = Field(
        None,
        description="What else has to hold, without spaces, hyphens and dots: luhn, mod97 (as of IBAN), varied.",
    )
    context: tuple[str, ...] = Field(
        (), description=f"Words of which one stands at most {_NEAR} characters in front; case does not count."
    )
    action: Action = Field(
        "redact", description="What is done with a finding; truncate is for built-in ones."
    )
    vendors: Literal["keep", "drop"] = Field(
        "keep", description="`drop`: what is encrypted here does not go to vendors."
    )
    tests: Tests = Field(Tests(), description="Texts to try it on.")

    @model_validator(mode="after")
    def _works(self) -> CustomDetector:
        if self.action == "truncate":
            raise ValueError("action: expected another one than truncate: nothing is known of a coarser form")
        rule_for_vendors(self.action, vendors=self.vendors == "keep")
        found = _compiled(self.pattern)
        if found.search("") is not None:
            raise ValueError("pattern: expected one that does not match the empty text")
        try:
            searches = re.compile(superset(self.pattern).encode(), re.DOTALL | re.IGNORECASE)
            _hyperscan(superset(self.pattern))
        except Exception as error:  # noqa: BLE001 - each engine has errors of its own
            raise ValueError(f"pattern: cannot be scanned for: {error}") from None
        if searches.search(b"") is not None:
            raise ValueError("pattern: expected one that needs some character")
        detector = self.detector("own")
        for label in (*(known.label for known in DETECTORS), "OWN"):
            for shown in (f"[{label}]", f"[{label}:2345]", f"[{label}:ab2c_{'ponmlkjihgfedcba' * 2}]"):
                if any(detector.find(shown)):
                    raise ValueError(
                        f"pattern: finds part of the placeholder {shown}: masked twice, nothing would be left"
                    )
        for text in self.tests.found:
            if not any(detector.find(text)):
                raise ValueError(f"tests.found: finds nothing in {text!r}")
        for text in self.tests.left_alone:
            if (span := next(detector.find(text), None)) is not None:
                raise ValueError(f"tests.left_alone: finds {text[slice(*span)]!r} in {text!r}")
        return self

    def detector(self, name: str) -> Detector:
        """The detector that this describes."""
        members = {
            "__doc__": f"Configured as `{name}`.",
            "name": name,
            "label": label_of(name),
            "supersets": (superset(self.pattern),),
            "default": self.action,
            "config": self,
        }
        made: Detector = type("Custom", (_Custom,), members)()
        return made


def label_of(name: str) -> str:
    """Of the placeholder. Letters alone: digits could be taken for a find."""
    return re.sub(r"[^A-Z]+", "_", name.upper()).strip("_") or "CUSTOM"


def sharing(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, what is wrong) of those whose placeholder is another's: nobody could tell whose find it was."""
    owners = dict.fromkeys(labels(), "values that are masked by their key")
    owners |= {known.label: f"the built-in detector {known.name}" for known in DETECTORS}
    for name in names:
        label = label_of(name)
        if (owner := owners.setdefault(label, name)) != name:
            yield name, f"another name: its placeholder [{label}] is that of {owner}"


class _Custom(Detector):
    secret = False
    config: CustomDetector

    @cached_property
    def _pattern(self) -> Any:
        return _compiled(self.config.pattern)

    @cached_property
    def _context(self) -> tuple[str, ...]:
        return tuple(word.lower() for word in self.config.context)

    @cached_property
    def _looks(self) -> Callable[[str], _Looks]:
        most, endless = reach(self.config.pattern)
        compiled = None if endless is None else _compiled(f"{endless}+")
        return lambda text: _Looks(text, most, compiled)

    def find(self, text: str) -> Iterator[Span]:
        valid = VALIDATORS[self.config.validator] if self.config.validator else None
        group = 1 if self._pattern.groups else 0
        left = _LOOKS * len(text)
        looks: _Looks | None = None
        ends: list[int] = []
        for match in self._pattern.finditer(text):
            ends.append(match.end())
            if len(ends) > _LOOKS:  # fewer cannot look through it more often
                looks = looks or self._looks(text)
                left -= sum(map(looks.beyond, ends if len(ends) == _LOOKS + 1 else ends[-1:]))
            if left < 0:
                rest = text[max(0, match.start() - _NEAR) :].lower()
                if not self._context or any(word in rest for word in self._context):
                    yield match.start(), len(text)
                return
            start, end = match.span(group)
            if start == end or start < 0:
                continue
            if valid is not None and not valid(re.sub(r"[\s.-]", "", text[start:end])):
                continue
            if self._context:
                before = text[max(0, match.start() - _NEAR) : start].lower()
                if not any(word in before for word in self._context):
                    continue
            yield start, end


class _Looks:
    """How far RE2 can have looked beyond its finds for something better: `a(?:.*z)?`, to the end.

    It does not tell. What it read outside of endless repeats is bounded, so it stopped at the latest at the first
    character too many that no such repeat takes.
    """

    def __init__(self, text: str, most: int, endless: Any | None) -> None:
        self._length, self._most = len(text), most
        self._stops = None if endless is None else _between(endless.finditer(text), len(text))
        self._next: deque[int] = deque()

    def beyond(self, end: int) -> int:
        """In characters, for a find that ends there; one after the other."""
        if self._stops is None:
            return min(self._length - end, self._most)
        while self._next and self._next[0] < end:
            self._next.popleft()
        while len(self._next) <= self._most:
            stop = next(self._stops, None)
            if stop is None:
                return self._length - end
            if stop >= end:
                self._next.append(stop)
        return self._next[self._most] - end


def _between(matches: Iterable[Any], length: int) -> Iterator[int]:
    """The places that no match covers."""
    place = 0
    for match in matches:
        yield from range(place, match.start())
        place = match.end()
    yield from range(place, length)


def _compiled(pattern: str) -> Any:
    """Raises ValueError with RE2's reason."""
    re2 = import_module("re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"pattern: RE2 refuses it: {said}") from None


def _hyperscan(expression: str) -> None:
    try:
        hyperscan = import_module("hyperscan")
    except ImportError:
        return
    hyperscan.Database().compile(
        expressions=[expression.encode()], ids=[0], elements=1, flags=[hyperscan.HS_FLAG_DOTALL]
    )
