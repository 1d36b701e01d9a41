"""Documentation that cannot drift: commands, options, metrics, links and examples in it are real."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from otel_ttf.api import resolve
from otel_ttf.api.app import build
from otel_ttf.api.health import Readiness
from otel_ttf.api.metrics import FAMILIES
from otel_ttf.cli import main
from otel_ttf.config import load
from otel_ttf.exporters.metrics import ExportMetrics
from otel_ttf.exporters.table import EXPORTERS
from otel_ttf.journey.definition import MAX_MILESTONES, default_onboarding
from otel_ttf.journey.keys import MAX_KEY_PARTS, MAX_KEYS, MAX_PART_BYTES
from otel_ttf.pii.action import Action
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.keyrules import KeyRules
from otel_ttf.pii.keys import new, parse
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.receivers.limits import MAX_RECORDS
from otel_ttf.receivers.rest_events import MAX_EVENTS
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.store.sqlite_read import SqliteReader
from otel_ttf.telemetry import Telemetry

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder, pattern in ((".", "*.md"), ("docs", "**/*.md"), ("benchmarks", "*.md"))
    for path in (ROOT / folder).glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
METRICS = ROOT / "docs" / "metrics.md"
# | `name` | type | labels | meaning |
METRIC_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)
# Flags that belong to no command of ours stand in other lines.
CALL = re.compile(r"(?:^|[\s`(/])otel-ttf (?!\d)([^`#\n)]*)")
# A path of the API behind a port, a quote, a blank or a method.
ADDRESS = re.compile(
    r"(?<=[\s`0])(/(?:api/v1|v1|metrics|health|ready|docs|openapi\.json)\b[\w/{}.-]*(?<![.]))"
)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> list:
    return [
        pytest.param(text, id=f"{named(page)} {number}")
        for page in PAGES
        for number, (found, text) in enumerate(FENCE.findall(page.read_text()))
        if found == language
    ]


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from commands(below, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands())
PATHS = [pytest.param(path, id=" ".join(path)) for path in COMMANDS]


@pytest.mark.parametrize("path", PATHS)
def test_the_readme_names_every_command(path):
    assert f"otel-ttf {' '.join(path)}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", PATHS)
def test_help_shows_every_option_and_examples_that_can_be_called(path):
    text = CliRunner().invoke(main, [*path, "--help"], prog_name="otel-ttf").output
    for option in COMMANDS[path].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.opts[0] in text.split("Options:")[1]
    examples = CALL.findall(text.split("Examples:")[1].split("Options:")[0])
    assert examples
    for example in examples:
        can_be_called(re.split(r"\s{2,}|[>|]", example)[0])


def can_be_called(call: str) -> None:
    """Fails unless these arguments of otel-ttf name a command and options that it has."""
    words = shlex.split(call)
    path = next((p for p in COMMANDS if tuple(words[: len(p)]) == p), None)
    assert path is not None, f"otel-ttf {call}: no such command"
    known = {flag for option in COMMANDS[path].params for flag in option.opts} | {"--help"}
    for word in words[len(path) :]:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"otel-ttf {call}: no such option"


@pytest.mark.parametrize(
    "call",
    sorted(
        {
            re.split(r"\s{2,}|[>|;,:]", call)[0].strip()
            for page in PAGES
            for call in CALL.findall(page.read_text())
        }
    ),
)
def test_calls_in_the_documentation_can_be_made(call):
    can_be_called(call)


def exported() -> dict[str, tuple[str, frozenset[str]]]:
    """Metrics of the process: name -> (type, labels)."""
    telemetry = Telemetry()
    telemetry.milestone_without_subject("signup")
    telemetry.milestone_without_key("signup", "key")
    telemetry.key_used("environment")
    telemetry.files_read("api_keys", True)
    telemetry.handshakes_failed("api")
    telemetry.certificate_ends("api", 0.0)
    telemetry.counted(
        {
            ("masked", "email", "log.body"): 1,
            ("filtered", "health", "dropped"): 1,
            ("sampled_out", "event"): 1,
            ("underived", "user_agent"): 1,
        }
    )
    telemetry.watch_consumer("tracker", lambda: (0, 0.0))
    ExportMetrics(telemetry.registry).of("otlp_grpc")
    found = {}
    for family in telemetry.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels)
        found[name] = (family.type, labels - {"le"})
    return found


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = METRIC_ROW.findall(METRICS.read_text())
    assert len(rows) == len({name for name, *_ in rows}), "a metric stands there twice"
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}


def test_every_metric_is_documented_with_its_type_and_no_other():
    types = {name: kind for name, (kind, _) in exported().items()}
    types |= {name: kind for name, (kind, _) in FAMILIES.items()}
    assert {name: kind for name, (kind, _) in documented().items()} == types


def test_labels_of_the_process_s_metrics_are_documented():
    told = documented()
    assert {name: told[name] for name in exported()} == exported()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_metric_that_is_not_there(page):
    known = {*exported(), *FAMILIES}
    series = {name + end for name in known for end in ("", "_bucket", "_sum", "_count")}
    text = page.read_text()
    for name in re.findall(r"`((?:ttf|telemetry|otel_ttf|otelcol)_\w+)", text):
        if re.search(r"_(total|seconds|records|minutes|overdue|flight|info|late)$", name):
            assert name in series or name.startswith("ttf_project"), name


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_in_the_documentation_is_valid(text, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert load((str(file),), (), {}).warnings == ()


@pytest.mark.parametrize("text", blocks("python"))
def test_python_in_the_documentation_compiles(text):
    compile(text, "block", "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize(
    ("page", "row", "limits"),
    [
        ("senders", "most records in one", [MAX_RECORDS, MAX_RECORDS, MAX_EVENTS]),
        ("semantics", "user ids in one", [resolve.MAX_IDS, resolve.MOST_AT_ONCE]),
        ("semantics", "journeys of one kind and one user", [MAX_KEYS]),
        ("semantics", "attributes of a key", [MAX_KEY_PARTS, MAX_PART_BYTES]),
        ("semantics", "milestones of a journey", [MAX_MILESTONES]),
    ],
)
def test_limits_in_tables_are_those_that_hold(page, row, limits):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row}")]
    cells = line.partition("|")[2].partition("|")[2]
    known = [int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*\b", cells)]
    assert [limit for limit in limits if limit not in known] == []
    if page == "senders":
        assert [number for number in known if number not in (400, 413)] == limits


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=named)
def test_the_readme_leads_to_every_page(page):
    assert f"]({named(page)})" in (ROOT / "README.md").read_text()


def test_addresses_in_the_documentation_are_those_of_the_api(tmp_path):
    journeys = {"onboarding": default_onboarding()}
    store = SqliteStore(tmp_path / "store.db")
    reader = SqliteReader(store.path, journeys)
    pseudonyms = Pseudonyms(parse(new()))
    app = build(journeys, reader, pseudonyms, lambda: (0, 0.0), Readiness, Telemetry())
    taken = {"/api/v1", "/api/v1/events", "/docs", "/openapi.json", "/v1/logs", "/v1/traces", "/v1/metrics"}
    templates = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in app.openapi()["paths"]]
    for page in PAGES:
        for path in ADDRESS.findall(page.read_text()):
            assert path in taken or any(t.fullmatch(path) for t in templates), f"{named(page)}: {path}"
    reader.close()
    store.close()


PRIVACY = (ROOT / "docs" / "privacy.md").read_text()


def rows(header: str) -> list[list[str]]:
    """Cells of the table in docs/privacy.md with this header."""
    table = PRIVACY.partition(f"| {header} |\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert table, f"no table | {header} |"
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in table]


def test_every_detector_is_documented_with_its_placeholder_and_default():
    told = {
        name: (label, default, group, None)
        for group in ("secret", "personal")
        for name, label, default, _ in rows(f"{group} | becomes | default | what")
    }
    told |= {
        name: (label, "keep", "personal", pack)
        for pack, name, label, _ in rows("pack | detector | becomes | what")
    }
    assert told == {
        one.name: (f"[{one.label}]", one.default, "secret" if one.secret else "personal", one.pack)
        for one in DETECTORS
    }


def masked(text: str) -> str:
    return CliRunner().invoke(main, ["mask"], input=text).stdout.removesuffix("\n")


@pytest.mark.parametrize(("_", "text", "becomes"), rows("seen through | example | becomes"))
def test_what_is_said_to_be_seen_through_is(_, text, becomes):
    assert masked(text) == becomes


@pytest.mark.parametrize(("text", "_"), rows("left as it is | why"))
def test_what_is_said_not_to_be_found_is_not(text, _):
    assert masked(text) == text


@pytest.mark.parametrize(("key", "policy", "_"), rows("key | class | why"))
def test_keys_have_the_classes_that_are_documented(key, policy, _):
    rule = KeyRules().rule(key)
    assert rule is not None
    assert rule.policy == policy


def test_every_action_is_documented():
    header = "action | `4111 1111 1111 1111` becomes | for"
    assert {action for action, *_ in rows(header)} == set(get_args(Action))


def settings(model: type[BaseModel]) -> Iterator[tuple[str, object]]:
    """(name with dots, default) of each setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            for below, default in settings(type(field.default)):
                yield f"{name}.{below}", default
        else:
            yield name, field.default


@pytest.mark.parametrize("kind", sorted(EXPORTERS))
def test_every_setting_of_an_exporter_is_documented(kind):
    page = (ROOT / "docs" / "exporters.md").read_text()
    assert [name for name, _ in settings(EXPORTERS[kind]) if f"`{name}`" not in page] == []
    assert f"`{kind}`" in page


def our_log() -> list[tuple[str, str]]:
    """(where, text) of the warnings and errors in the code."""
    return [
        (f"{named(path)}:{call.lineno}", call.args[0].value)
        for path in sorted((ROOT / "otel_ttf").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("warning", "error", "critical")
        and ast.unparse(call.func.value) in ("log", "_log", "structlog.get_logger()")
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]


def test_every_warning_and_error_of_our_log_has_a_row_that_says_what_to_do():
    section = (
        (ROOT / "docs" / "operations.md")
        .read_text()
        .partition("## What our log says")[2]
        .partition("\n## ")[0]
    )
    begins = tuple(
        begin
        for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
        for begin in re.findall(r"`([^`]+)`", row)
    )
    told = our_log()
    assert len(told) > 20
    assert [(place, text) for place, text in told if not text.startswith(begins)] == []


def test_every_test_that_a_promise_names_is_there():
    named_tests = re.findall(r"`((?:tests|benchmarks)/[\w/.]*)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named_tests) > 15
    assert [name for name in named_tests if not (ROOT / name).exists()] == []
