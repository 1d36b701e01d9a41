"""What is wrong is said at once, each with file, line, path, what was expected and what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_ttf.config import Config, ConfigError, load
from otel_ttf.config.translate import EXPECTED
from otel_ttf.exporters.table import EXPORTERS
from otel_ttf.processors.mask import MaskConfig

INVALID = Path(__file__).parent / "invalid"
MARK = "# !! "


def said(files, settings=(), env=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(list(map(str, files)), settings, env)
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize("file", sorted(INVALID.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_error_of_a_file_is_said_at_its_line(file):
    expected = [
        f"{file}:{number}: {line.partition(MARK)[2].strip()}"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if MARK in line
    ]
    assert expected
    assert sorted(said([file])) == sorted(expected)


def test_errors_of_several_files_and_settings_come_together(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("storage: {events: some}\nlog: {max_size: 1GiB}\n")
    second.write_text("log: {max_size: huge}\n")
    assert said([first, second], ["api.endpoint=nowhere"]) == [
        '--set: api.endpoint: expected host:port, such as 127.0.0.1:8080 or [::1]:8080, found "nowhere"',
        f'{first}:1: storage.events: expected named, milestones, all or none, found "some"',
        f'{second}:1: log.max_size: expected a size such as 512MiB or 10GiB, found "huge"',
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("a: [1", "1: expected YAML, found an error in it: ", id="a list that does not end"),
        pytest.param("a: {b: ${env:X}}", "put ${...} in quotes)", id="a reference in a flow mapping"),
        pytest.param("a: 1\n---\nb: 2", "expected YAML, found an error in it: ", id="two documents"),
        pytest.param("just words", "expected sections such as api:, found something else", id="no mapping"),
        pytest.param("\n \n", "or at least a comment, found an empty file", id="nothing at all"),
        pytest.param(
            "a: \x07", "expected YAML, found a character that it does not allow", id="a control character"
        ),
        pytest.param(
            "{a: 1}: 2", "expected a name as key, found a list or a mapping", id="a mapping as a key"
        ),
        pytest.param("<<: 1", "expected a mapping behind <<, found something else", id="a number to merge"),
        pytest.param(
            "\na: &a\n  <<: *a",
            ":2: a: expected a mapping behind <<, found the one it stands in",
            id="a mapping to merge with itself",
        ),
        pytest.param("\na: &a [*a]", ":2: a[0]: expected a value, found an alias", id="a list in itself"),
        pytest.param(
            "a: 1\nb: !!python/object/apply:os.system [id]",
            ":2: b: expected a value without a tag, found tag:yaml.org,2002:python/object/apply:os.system",
            id="an object of Python's",
        ),
        pytest.param(
            "a: 1\nb: !!python/name:os.system x",
            ":2: b: expected a value without a tag, found tag:yaml.org,2002:python/name:os.system",
            id="a function of Python's",
        ),
        pytest.param(
            "\na: " + "[" * 5000,
            ":2: expected YAML, found an error in it: values within each other more than 100 deep",
            id="brackets",
        ),
    ],
)
def test_what_is_no_configuration_is_said_so(tmp_path, text, error):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    lines = said([file])
    assert lines[0].startswith(f"{file}:")
    assert [line for line in lines if error in line]


@pytest.mark.parametrize(
    "level",
    [
        pytest.param("l{n}: &l{n} [{aliases}]", id="lists"),
        pytest.param("l{n}: &l{n} {{{pairs}}}", id="mappings"),
        pytest.param("l{n}: &l{n} {{<<: [{aliases}]}}", id="merged"),
    ],
)
def test_a_small_file_that_would_become_a_large_tree_is_refused(tmp_path, level):
    file = tmp_path / "bomb.yaml"
    lines = ["l0: &l0 {}"]
    for n in range(1, 12):
        before = f"*l{n - 1}"
        pairs = ", ".join(f"k{at}: {before}" for at in range(10))
        lines.append(level.format(n=n, aliases=", ".join([before] * 10), pairs=pairs))
    file.write_text("\n".join(lines))
    (told,) = [line for line in said([file]) if "values" in line]
    assert re.match(rf"{re.escape(str(file))}:\d+: .*expected at most 100000 values", told)


def test_files_that_cannot_be_read_are_named(tmp_path):
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe4")
    assert said([tmp_path / "absent.yaml", latin]) == [
        f"{tmp_path}/absent.yaml: expected a file that can be read, found: No such file or directory"
    ] or said([latin]) == [f"{latin}: expected UTF-8 text, found other bytes"]


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        pytest.param("nope", "--set: expected path.to.setting=value, found 'nope'", id="no value"),
        pytest.param("=1", "--set: expected path.to.setting=value, found ''", id="no path"),
        pytest.param(
            "log.max_size={", "--set: log.max_size: expected YAML after =, found something else", id="no YAML"
        ),
        pytest.param(
            "journeys.onboarding.milestones.9.target=1m",
            "--set: journeys.onboarding.milestones: expected a place in the list, 0 to 4, found '9'",
            id="a place beyond the list",
        ),
    ],
)
def test_settings_that_make_no_sense(setting, error):
    assert said([], [setting]) == [error]


def test_other_names_for_user_ids_are_refused_as_keys_of_rules_too(tmp_path):
    file = tmp_path / "c.yaml"
    header = "http.request.header.x-user-id"
    file.write_text(
        f"subject: {{from: [{header}]}}\n"
        "processors:\n"
        "  mask:\n"
        "    keys:\n"
        f"      - key: {header.replace('-', '_')}\n"
        "      - key: user.id\n"
    )
    (line,) = said([file])
    assert line.startswith(f"{file}:5: processors.mask.keys[0].key: expected another attribute than those of")


SECRETS = {"TOKEN": "hunter2"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("storage: {events: '${env:TOKEN}'}", id="a word from the environment"),
        pytest.param("log: {max_size: 'x${env:TOKEN}'}", id="a part from the environment"),
        pytest.param(
            "journeys: {a: {segments: ['${env:TOKEN}', '${env:TOKEN}']}}", id="a segment, refused by a rule"
        ),
        pytest.param("journeys: {a: {only: {event: {glob: ['${env:TOKEN}']}}}}", id="in a condition"),
        pytest.param("journeys: {a: {only: {span: {kind: '${env:TOKEN}'}}}}", id="a word of a condition"),
        pytest.param("storage: {url: 'mysql://u:hunter2@host/db'}", id="in a URL"),
        pytest.param(
            "exporters: {otlp: {endpoint: 'http://u:hunter2@host:1'}}", id="in the address of a collector"
        ),
        pytest.param(
            "exporters: {otlp: {endpoint: 'u:hunter2@host:1'}}", id="in an address without a scheme"
        ),
        pytest.param(
            f"auth: {{oidc: {{audience: [a], issuer_url: 'https://u:{'hunter2' * 20}@host'}}}}",
            id="in a URL that is too long to be shown whole",
        ),
        pytest.param("privacy: {subject_keys: [hunter2]}", id="a key where its name belongs"),
        pytest.param(
            "processors: {mask: {custom: {a: {pattern: '(${env:TOKEN}'}}}}",
            id="a pattern that cannot be used",
        ),
        pytest.param(
            "processors: {mask: {custom: {a: {pattern: x, tests: {found: ['${env:TOKEN}']}}}}}",
            id="a text that a pattern does not find",
        ),
        pytest.param(
            "processors: {mask: {custom: {a: {pattern: er2, tests: {left_alone: ['${env:TOKEN}']}}}}}",
            id="a text that a pattern finds",
        ),
        pytest.param(
            "processors: {enrich: {attributes: {api_key: [hunter2]}}}", id="below a name of secrets"
        ),
    ],
)
def test_secrets_and_the_environment_are_never_shown(tmp_path, text):
    file = tmp_path / "secret.yaml"
    file.write_text(text)
    lines = said([file], env=SECRETS)
    assert lines
    assert not [line for line in lines if "hunter2" in line]


# Type of a core schema -> the errors that it raises; then constraint -> error.
RAISED = {
    "any": (),
    "bool": ("bool_type", "bool_parsing"),
    "date": ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
    "dict": ("dict_type",),
    "float": ("float_type", "float_parsing"),
    "int": ("int_type", "int_parsing", "int_parsing_size", "int_from_float"),
    "list": ("list_type",),
    "literal": ("literal_error",),
    "model": ("model_type",),
    "model-field": ("missing",),
    "model-fields": ("model_type",),
    "none": ("none_required",),
    "str": ("string_type", "string_unicode"),
    "tuple": ("tuple_type",),
    "function-before": (),
    "function-wrap": (),
    "function-after": (),
    **dict.fromkeys(("lax-or-strict", "json-or-python", "is-instance"), ()),  # of secrets: a text will do
    "function-plain": (),  # exporters: each type for itself, see below
    "default": (),
    "nullable": (),
    "union": (),
    "definitions": (),
    "definition-ref": (),
}
CONSTRAINTS = {
    ("str", "pattern"): "string_pattern_mismatch",
    ("str", "min_length"): "string_too_short",
    ("str", "max_length"): "string_too_long",
    **{(kind, "ge"): "greater_than_equal" for kind in ("int", "float", "date")},
    **{(kind, "gt"): "greater_than" for kind in ("int", "float", "date")},
    **{(kind, "le"): "less_than_equal" for kind in ("int", "float", "date")},
    **{(kind, "lt"): "less_than" for kind in ("int", "float", "date")},
    **{(kind, "multiple_of"): "multiple_of" for kind in ("int", "float")},
    **{(kind, "min_length"): "too_short" for kind in ("list", "tuple", "dict")},
    **{(kind, "max_length"): "too_long" for kind in ("list", "tuple", "dict")},
    ("float", "allow_inf_nan"): "finite_number",
}


def raised(schema: object) -> set[str]:
    """The types of error that validation by a core schema can raise."""
    if isinstance(schema, list | tuple):
        return set().union(*map(raised, schema))
    if not isinstance(schema, dict):
        return set()
    kind = schema.get("type")
    found = set(RAISED[kind]) if isinstance(kind, str) else set()
    found |= {error for (of, constraint), error in CONSTRAINTS.items() if of == kind and constraint in schema}
    return found.union(*(raised(part) for name, part in schema.items() if name not in DATA))


DATA = ("metadata", "serialization", "default", "expected", "function", "cls", "config", "ref", "schema_ref")


def test_every_error_that_the_models_can_raise_has_words_of_ours():
    models = [Config, *EXPORTERS.values()]
    assert raised([model.__pydantic_core_schema__ for model in models]) <= set(EXPECTED)


MISTAKES = {
    "emial": "redact",
    "jwt": "never",
    "email": "truncate",
    "card": 7,
    "phone": {"vendors": "maybe"},
    "iban": {"action": "hash", "vendors": "drop"},
    "mac": {"acton": "hash"},
}


def detectors_said(names) -> set[str]:
    given = ", ".join(f"{name}: {json.dumps(MISTAKES[name])}" for name in names)
    return set(said([], [f"processors.mask.detectors={{{given}}}"]))


@given(st.sets(st.sampled_from(sorted(MISTAKES)), min_size=1))
def test_mistakes_with_detectors_hide_none_of_one_another(names):
    assert detectors_said(names) == set().union(*(detectors_said([name]) for name in names))


@given(st.sets(st.sampled_from(sorted(MISTAKES)), min_size=1))
def test_the_model_alone_tells_of_each_detector_with_a_mistake(names):
    with pytest.raises(ValidationError) as caught:
        MaskConfig.model_validate({"detectors": {name: MISTAKES[name] for name in names}})
    assert {error["loc"][1] for error in caught.value.errors()} == names
