"""What is wrong with a configuration, so that it can be mended: `file:line: path: expected X, found Y`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; 0: the source has no lines (`--set`, a default)."""

    source: str
    line: int
    path: Path
    text: str

    def __str__(self) -> str:
        where = self.source if self.line == 0 else f"{self.source}:{self.line}"
        return ": ".join(part for part in (where, dotted(self.path), self.text) if part)


class ConfigError(ValueError):
    """The configuration cannot be used. `problems` has all that is wrong with it, source by source."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(
            set(problems),
            key=lambda problem: (problem.source, problem.line, dotted(problem.path), problem.text),
        )
        super().__init__("\n".join(map(str, self.problems)))


class CannotStart(Exception):
    """The server cannot start; the message is one sentence that says why and what to do.

    exit_code  1 for a failure of the surroundings, 2 for something that the user has to configure
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Expected(ValueError):
    """A value breaks a rule; raised by validators that know better than the value itself what was found.

    found  None: described from the value
    """

    def __init__(self, expected: str, found: str | None = None) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected
        self.found = found


def dotted(path: Path) -> str:
    """`journeys.onboarding.milestones[1].target`; keys with dots in them are quoted as `--set` takes them."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = f'"{part}"' if "." in part or "=" in part or part == "" else part
            text += f".{quoted}" if text else quoted
    return text


def one_of(names: Sequence[str], last: str = "or") -> str:
    """`a, b or c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean "endpoint"?)`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
