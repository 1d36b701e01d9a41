"""Which of several sources counts, what the environment supplies, and how YAML is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf import processors
from otel_ttf.config import Config, ConfigError, load, model
from otel_ttf.config.sources import read
from otel_ttf.journey.definition import default_onboarding
from otel_ttf.units import HOUR, MINUTE


@pytest.fixture
def written(tmp_path):
    """Writes configuration files; gives their paths."""
    count = 0

    def write(*texts: str) -> list[str]:
        nonlocal count
        paths = []
        for text in texts:
            count += 1
            path = tmp_path / f"{count}.yaml"
            path.write_text(text)
            paths.append(str(path))
        return paths

    return write


def test_no_configuration_is_the_default_journey_on_loopback():
    config = load().config
    assert config == Config()
    assert config.domain_journeys() == (default_onboarding(),)
    assert config.api.endpoint == "127.0.0.1:8080"
    assert config.receivers.otlp.protocols.grpc.endpoint == "127.0.0.1:4317"
    assert config.receivers.otlp.protocols.http.endpoint == "127.0.0.1:4318"
    assert not load().warnings


def test_later_files_win_key_by_key_and_settings_win_over_files(written):
    files = written(
        "log: {max_size: 1GiB}\nstorage: {events: all, retention: {events: 7d}}\nsubject: {from: [a, b]}",
        "storage: {events: none}\nsubject: {from: [c]}",
    )
    config = load(files, ["storage.events=milestones", "api.endpoint='127.0.0.1:9'"]).config
    assert config.storage.events == "milestones"
    assert config.storage.retention.events == 7 * 24 * HOUR
    assert config.log.max_size == 2**30
    assert list(config.subject.from_) == ["c"]
    assert config.api.endpoint == "127.0.0.1:9"


def test_the_last_of_two_settings_wins():
    assert load([], ["storage.events=all", "storage.events=none"]).config.storage.events == "none"


def test_journeys_of_a_file_take_the_place_of_the_default(written):
    files = written(
        "journeys: {a: {milestones: [{name: x, match: {event: x}}, {name: y, match: {event: y}}]}}"
    )
    config = load(files).config
    assert list(config.journeys) == ["a"]
    assert [milestone.stage for milestone in config.domain_journeys()[0].milestones] == ["", "y"]
    assert not config.domain_journeys()[0].overdue


def test_a_setting_changes_one_thing_of_the_default_journey():
    settings = ["journeys.onboarding.target=2h", "journeys.onboarding.milestones.1.target=7m"]
    (journey,) = load([], settings).config.domain_journeys()
    assert journey.target == 2 * HOUR
    assert journey.milestones[1].target == 7 * MINUTE
    assert journey.version == default_onboarding().version


@pytest.mark.parametrize(
    ("text", "grpc", "http"),
    [
        pytest.param("receivers: {otlp: }", True, True, id="nothing said"),
        pytest.param(
            "receivers: {otlp: {protocols: {grpc: }}}", True, False, id="gRPC alone, with its defaults"
        ),
        pytest.param("receivers: {otlp: {protocols: {http: {}}}}", False, True, id="HTTP alone"),
        pytest.param(
            "receivers: {otlp: {protocols: {}}}", False, False, id="neither: the API port takes OTLP, too"
        ),
    ],
)
def test_a_protocol_is_on_when_it_is_named_as_in_the_collector(written, text, grpc, http):
    protocols = load(written(text)).config.receivers.otlp.protocols
    assert (protocols.grpc is not None, protocols.http is not None) == (grpc, http)


def test_a_setting_leaves_the_other_protocol_on():
    protocols = load(
        [], ["receivers.otlp.protocols.grpc.endpoint=127.0.0.1:14317"]
    ).config.receivers.otlp.protocols
    assert protocols.grpc is not None
    assert protocols.grpc.endpoint == "127.0.0.1:14317"
    assert protocols.http is not None


def test_empty_sections_are_the_defaults(written):
    sections = [
        "receivers",
        "processors",
        "exporters",
        "service",
        "api",
        "journeys",
        "subject",
        "time",
        "storage",
        "log",
        "privacy",
    ]
    assert load(written("\n".join(f"{section}:" for section in sections))).config == Config()


def test_the_names_of_processors_are_those_that_are_built_in_their_order():
    assert tuple(processors.PROCESSORS) == model.PROCESSORS
    assert set(load().config.processor_configs("logs")) == set(processors.PROCESSORS)


def test_a_processor_that_may_be_left_out_is(written):
    config = load(written("service: {pipelines: {metrics: {processors: [pseudonymise, mask]}}}")).config
    assert list(config.processor_configs("metrics")) == ["pseudonymise", "mask"]
    assert list(config.processor_configs("logs")) == list(model.PROCESSORS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("a: ${env:NUMBER}", 5, id="plain: the type is YAML's"),
        pytest.param("a: '${env:NUMBER}'", "5", id="quoted: text"),
        pytest.param("a: ${env:FLAG}", True, id="plain true"),
        pytest.param("a: ${env:HOST}:${env:NUMBER}", "h:5", id="two in a longer text"),
        pytest.param("a: ${env:NOPE:-7}", 7, id="a default has a type, too"),
        pytest.param("a: ${env:NUMBER:-7}", 5, id="set: no default"),
        pytest.param("a: ${env:EMPTY:-7}", 7, id="empty: the default"),
        pytest.param("a: ${env:EMPTY}", None, id="empty without default: nothing"),
        pytest.param("a: ${env:NOPE:-}", None, id="an empty default"),
        pytest.param("a: ${env:NOPE:-http://h:1/x?y=z}", "http://h:1/x?y=z", id="a default with colons"),
        pytest.param("a: $${env:NUMBER}", "${env:NUMBER}", id="escaped"),
        pytest.param("a: $5 and $NUMBER", "$5 and $NUMBER", id="other dollars stay"),
        pytest.param("a: ${env:YAML}", "[1, 2]", id="no structure comes from the environment"),
    ],
)
def test_references_to_the_environment(text, value):
    env = {"NUMBER": "5", "FLAG": "true", "HOST": "h", "EMPTY": "", "YAML": "[1, 2]"}
    problems = []
    tree = read(text, "f", env, problems)
    assert (tree.plain(), problems) == ({"a": value}, [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "a: ${env:NOPE}",
            "f:1: a: expected the environment variable NOPE to be set, found it unset",
            id="unset",
        ),
        pytest.param(
            "a: ${NOPE}",
            "f:1: a: expected ${env:NAME} or ${env:NAME:-default}, found ${NOPE}",
            id="no scheme",
        ),
        pytest.param(
            "\nb: [1, '${file:x}']",
            "f:2: b[1]: expected ${env:NAME} or ${env:NAME:-default}, found ${file:x}",
            id="a file",
        ),
    ],
)
def test_references_that_lead_nowhere(text, error):
    problems = []
    read(text, "f", {}, problems)
    assert list(map(str, problems)) == [error]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("no", "no", id="no is text"),
        pytest.param("on", "on", id="on is text"),
        pytest.param("12:30:00", "12:30:00", id="no base 60"),
        pytest.param("2015-01-01", "2015-01-01", id="dates are text here"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("010", 10, id="a leading zero is no octal"),
        pytest.param("1e3", 1000.0, id="exponent without a point"),
        pytest.param("-.inf", float("-inf"), id="infinity"),
        pytest.param("~", None, id="null"),
        pytest.param("TRUE", True, id="true"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    assert read(f"a: {text}", "f", {}, []).plain() == {"a": value}


def test_anchors_and_merges():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{y: 9}, *a]}"
    assert read(text, "f", {}, []).plain() == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"y": 9, "x": 1},
    }


def test_a_key_with_dots_is_quoted_in_a_setting():
    config = load([], ['processors.enrich.attributes."deployment.environment.name"=prod']).config
    assert dict(config.processors.enrich.attributes) == {"deployment.environment.name": "prod"}


names = st.text('abcxyz._="-', min_size=1, max_size=5)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab1: ${}'\"\n#-", max_size=6)
trees = st.recursive(
    scalars, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(names, deeper, max_size=3)
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, trees, max_size=4))
def test_what_yaml_writes_is_read_back(data):
    import yaml

    def escaped(value):
        match value:
            case dict():
                return {key: escaped(entry) for key, entry in value.items()}
            case list():
                return [escaped(item) for item in value]
            case str():
                return value.replace("${", "$${")
            case other:
                return other

    problems = []
    tree = read(yaml.safe_dump(escaped(data)), "f", {}, problems)
    assert (tree.plain(), problems) == (data, [])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_no_text_is_more_than_a_configuration_error(text):
    with contextlib.suppress(ConfigError):
        load([], [text])
