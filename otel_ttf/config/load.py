"""A preset, files, `--set` and the environment -> Config, or everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from otel_ttf import presets
from otel_ttf.config import checks, masking
from otel_ttf.config.journeys import default_data
from otel_ttf.config.model import Config
from otel_ttf.config.problems import ConfigError, Problem
from otel_ttf.config.sources import Tree, overlay, read, read_file, set_path
from otel_ttf.config.translate import place, problem, problems_of

# What a file gives here takes the place of the default; everywhere else it is laid over it.
WHOLE: Mapping[tuple[str, ...], object] = {
    ("journeys",): default_data(),
    ("receivers", "otlp", "protocols"): {"grpc": {}, "http": {}},
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, what it was made from, and what is probably not meant."""

    config: Config
    tree: Tree
    warnings: tuple[Problem, ...]


def load(
    files: Iterable[str] = (),
    settings: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    preset: str | None = None,
) -> Loaded:
    """The configuration of the files, each over the ones before, then of the settings (`a.b=c`).

    env     the environment that `${env:NAME}` reads; none by default
    preset  one of presets.names(), laid under the files
    Raises ConfigError with every problem.
    """
    variables = env or {}
    problems: list[Problem] = []
    tree = Tree({}, "defaults")
    for above in [read_file(path, variables, problems) for path in files]:
        if above is None:  # whatever else is wrong may come from what is not there
            raise ConfigError(problems)
        tree = overlay(tree, above)
    if preset is not None:
        tree = _over_preset(preset, tree, problems)
    sets = list(settings)
    if sets:  # one setting of a journey, say, needs the journey that it is laid over
        for where, default in WHOLE.items():
            tree = _with_default(tree, where, _defaults(default))
    for setting in sets:
        tree = set_path(tree, setting, variables, problems)
    plain = tree.plain()
    problems += [
        problem(tree, path, expected, found) for path, expected, found in checks.findings(plain, variables)
    ]
    try:
        config = Config.model_validate(plain)
    except ValidationError as error:
        told = [each.path for each in problems]
        errors = [
            each
            for each in error.errors(include_url=False, include_input=False)
            if each["type"] != "value_error" or not masking.told_better(each["loc"], told)
        ]
        problems += problems_of(errors, tree, Config)
        raise ConfigError(_first_of_each(problems)) from None
    if problems:
        raise ConfigError(_first_of_each(problems))
    return Loaded(
        config,
        tree,
        tuple(Problem(*place(tree, path), path, text) for path, text in checks.warnings(config, variables)),
    )


def _over_preset(name: str, given: Tree, problems: list[Problem]) -> Tree:
    tree = read(presets.text(name), f"preset {name}", {}, problems) or Tree({}, "defaults")
    for where in WHOLE:
        steps = list(given.along(where))
        if len(steps) == len(where) and isinstance(steps[-1][1].value, dict):
            tree = _only(tree, where, steps[-1][1].value)
    return overlay(tree, given)


def _only(tree: Tree, where: tuple[str, ...], names: Collection[str]) -> Tree:
    """The tree with none but these entries in the mapping there."""
    if not isinstance(tree.value, dict):
        return tree
    if not where:
        return replace(tree, value={key: entry for key, entry in tree.value.items() if key in names})
    entries = {
        key: _only(entry, where[1:], names) if key == where[0] else entry for key, entry in tree.value.items()
    }
    return replace(tree, value=entries)


def _defaults(value: object) -> Tree:
    match value:
        case dict():
            return Tree({key: _defaults(entry) for key, entry in value.items()}, "defaults")
        case list():
            return Tree([_defaults(item) for item in value], "defaults")
        case str() | int() | float() | None:
            return Tree(value, "defaults")
    raise TypeError(f"no default can be a {type(value).__name__}")


def _with_default(tree: Tree, where: tuple[str, ...], default: Tree) -> Tree:
    """The tree with the default there if it has nothing there; what isn't a mapping stays as it is."""
    if not where:
        return default if tree.value is None else tree
    if not isinstance(tree.value, dict | None):
        return tree
    entries = dict(tree.value or {})
    entries[where[0]] = _with_default(entries.get(where[0], Tree(None, "defaults")), where[1:], default)
    return Tree(entries, tree.source, tree.line)


def _first_of_each(problems: Iterable[Problem]) -> list[Problem]:
    """Of several problems of one value the first: a variable that is unset has no type, too."""
    first: dict[object, Problem] = {}
    for each in problems:
        key = (each.source, each.line, each.path) if each.path else each
        first.setdefault(key, each)
    return list(first.values())
