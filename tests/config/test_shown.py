"""config.yaml, print-config and the schema say the same as the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.config import Config, load, show
from otel_ttf.config.sources import read_file
from otel_ttf.pii.detect import DETECTORS
from otel_ttf.units import DAY, duration, duration_text

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "config.yaml")


def same(one: Config, other: Config) -> bool:
    """Equal, with conditions compared by what they mean."""
    journeys = one.domain_journeys() == other.domain_journeys()
    return journeys and one.model_dump(exclude={"journeys"}) == other.model_dump(exclude={"journeys"})


def test_config_yaml_is_the_default_made_visible():
    loaded = load([FILE])
    assert same(loaded.config, Config())
    assert loaded.warnings == ()


def uncommented(section: str) -> str:
    """config.yaml with the examples below a setting of the mask in place of its default."""
    lines = Path(FILE).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if re.match(rf"    {section}: (\{{\}}|\[\])$", line))
    end = next(n for n in range(start + 1, len(lines)) if not lines[n].startswith("      # "))
    lines[start] = f"    {section}:"
    lines[start + 1 : end] = [
        line.replace("      # ", "      ", 1)
        for line in lines[start + 1 : end]
        if not re.fullmatch(r" +# [A-Z].*:", line)
    ]
    return "\n".join(lines)


def test_detectors_in_config_yaml_stand_with_what_they_do_by_default(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(uncommented("detectors"))
    mask = load([str(file)]).config.processors.mask
    expected = {detector.name: detector.default for detector in DETECTORS if detector.pack is None}
    assert {name: rule.action for name, rule in mask.detectors.items()} == expected
    packs = re.findall(r"\b([a-z]{2}) \(([a-z_, ]+)\)", Path(FILE).read_text().partition("packs: []")[0])
    assert {(name, pack) for pack, names in packs for name in names.split(", ")} == {
        (detector.name, detector.pack) for detector in DETECTORS if detector.pack is not None
    }


@pytest.mark.parametrize("section", ["keys", "custom"])
def test_examples_in_config_yaml_can_be_used(tmp_path, section):
    file = tmp_path / "c.yaml"
    file.write_text(uncommented(section))
    loaded = load([str(file)])
    assert loaded.warnings == ()
    assert len(getattr(loaded.config.processors.mask, section)) == {"keys": 5, "custom": 1}[section]


def test_config_yaml_reads_the_environment():
    loaded = load([FILE], env={"OTEL_TTF_LOG_LEVEL": "debug"})
    assert loaded.config.service.telemetry.logs.level == "debug"


def test_config_yaml_shows_every_section_with_a_comment():
    lines = Path(FILE).read_text().splitlines()
    data = yaml.safe_load(Path(FILE).read_text())
    assert set(data) == set(Config.model_fields)
    for section in data:
        above = lines[next(n for n, line in enumerate(lines) if line.startswith(f"{section}:")) - 1]
        assert above.startswith("#") or section == "service"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([], id="the default"),
        pytest.param(
            [
                "log.max_size=1500000",
                "journeys.onboarding.settle=1500ms",
                "privacy.key_file=k",
                "storage.events=none",
            ],
            id="settings",
        ),
        pytest.param(
            ['processors.enrich.attributes={a: "no", b: "0o17", c: "$${env:X}", d: 1.5}'], id="odd texts"
        ),
    ],
)
def test_what_is_printed_means_the_same_when_it_is_read(tmp_path, settings):
    loaded = load([], settings)
    printed = tmp_path / "printed.yaml"
    printed.write_text(show.as_yaml(loaded))
    assert load([str(printed)]).config == loaded.config


def test_values_of_the_environment_and_secrets_are_not_printed(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "processors: {enrich: {attributes: {region: '${env:REGION}', api_key: hunter2, zone: '${env:Z:-eu}'}"
        "}}\n"
        "subject: {from: ['${env:FROM}', b]}\n"
    )
    printed = show.as_yaml(load([str(file)], env={"REGION": "hunter3", "FROM": "hunter4"}))
    assert "hunter" not in printed
    data = yaml.safe_load(printed)
    assert data["processors"]["enrich"]["attributes"] == {
        "region": "${env:REGION}",
        "api_key": "[redacted]",
        "zone": "eu",
    }
    assert data["subject"]["from"] == ["${env:FROM}", "b"]


def test_headers_of_exporters_are_not_printed():
    given = "exporters={otlp/x: {endpoint: 'a:4317', headers: {x-team: hunter5}, timeout: 2500ms}}"
    printed = show.as_yaml(load([], [given]))
    assert "hunter" not in printed
    shown = yaml.safe_load(printed)["exporters"]["otlp/x"]
    assert (shown["headers"], shown["timeout"]) == ({"x-team": "[redacted]"}, "2500ms")


def test_the_committed_schema_is_that_of_the_code():
    """If not: otel-ttf print-config --schema > docs/config.schema.json"""
    assert (ROOT / "docs" / "config.schema.json").read_text() == show.schema_text()


@pytest.fixture(scope="module")
def schema():
    made = json.loads(show.schema_text())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def test_config_yaml_and_what_is_printed_pass_the_schema(schema):
    assert list(schema.iter_errors(read_file(FILE, {}, []).plain())) == []
    assert list(schema.iter_errors(yaml.safe_load(show.as_yaml(load())))) == []


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        pytest.param("api:", True, id="an empty section"),
        pytest.param("receivers: {otlp: {protocols: {grpc: }}}", True, id="an empty protocol"),
        pytest.param(
            "receivers: {otlp: {protocols: {grpc: {max_recv_msg_size_mib: '${env:X}'}}}}",
            True,
            id="a reference",
        ),
        pytest.param("storage: {events: '${env:X:-all}'}", True, id="a reference for a word"),
        pytest.param("journeys: {a: {segments: [a, {attribute: b}]}}", False, id="no milestones"),
        pytest.param("storage: {events: some}", False, id="a word that is none"),
        pytest.param("recievers: {}", False, id="a section that is none"),
        pytest.param(
            "journeys: {a: {milestones: [{name: x, match: {evnt: x}}, {name: y, match: {event: y}}]}}",
            False,
            id="a match that is none",
        ),
    ],
)
def test_the_schema_tells_editors_what_is_right(schema, text, valid):
    assert schema.is_valid(yaml.safe_load(text)) is valid


def test_everything_in_the_schema_is_described(schema):
    sections = [schema.schema, *schema.schema["$defs"].values()]
    undescribed = [
        name
        for section in sections
        for name, entry in section.get("properties", {}).items()
        if "description" not in entry and "$ref" not in entry
    ]
    assert undescribed == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40_000 * DAY))
def test_a_duration_is_read_as_it_is_written(nanoseconds):
    exact = nanoseconds // 1000 * 1000 if nanoseconds > 2**50 else nanoseconds
    assert abs(duration(duration_text(exact)) - exact) <= exact // 2**50
