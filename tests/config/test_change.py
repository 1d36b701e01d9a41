"""What differs between two configurations, and what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_ttf.config import Config, load
from otel_ttf.config.change import SETTINGS, changed, why_restart
from otel_ttf.config.problems import dotted

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def leaves(plain: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(plain, dict) and plain:
        for name, entry in plain.items():
            yield from leaves(entry, (*path, name))
    else:
        yield path


def config(*settings: str) -> Config:
    return load(settings=settings).config


@pytest.mark.parametrize("path", [*leaves(config().model_dump(by_alias=True))], ids=".".join)
def test_of_every_setting_it_is_said_whether_it_needs_a_restart(path):
    assert any(".".join(path[:length]) in SETTINGS for length in range(1, len(path) + 1))


@pytest.mark.parametrize(
    ("setting", "path", "restart"),
    [
        ("journeys.onboarding.target=50m", "journeys.onboarding.target", False),
        ("processors.mask.detectors.email=drop", "processors.mask.detectors", False),
        ("processors.consent.default=deny", "processors.consent.default", True),
        ("storage.retention.events=2d", "storage.retention.events", False),
        ("storage.url=sqlite:///other.db", "storage.url", True),
        ("api.endpoint=127.0.0.1:1", "api.endpoint", True),
        ("subject.from=[id]", "subject.from", True),
        ("subject.normalise=lower", "subject.normalise", False),
        ("receivers.otlp.max_in_flight=2MiB", "receivers.otlp.max_in_flight", False),
        ("receivers.otlp.protocols.grpc.endpoint=127.0.0.1:1", "receivers.otlp.protocols", True),
        ("service.telemetry.logs.level=debug", "service.telemetry.logs.level", False),
    ],
)
def test_what_was_changed_is_named(setting, path, restart):
    (found, *more) = changed(config(), config(setting))
    assert dotted(found).startswith(path)
    assert all((why_restart(one) is not None) == restart for one in [found, *more])


def test_nothing_was_changed():
    assert changed(config(), config()) == []


def test_what_nobody_knows_needs_a_restart():
    assert why_restart(("later", "setting")) is not None


def test_the_table_of_the_documentation_is_that_of_the_code():
    text = OPERATIONS.read_text()
    rows = [
        row.split("|")
        for row in text.partition("| setting | reload |")[2].partition("\n\n")[0].splitlines()[2:]
    ]
    told = {row[1].strip().strip("`"): row[2].strip() for row in rows}
    assert told == {
        name: "takes it over" if why is None else "needs a restart" for name, why in SETTINGS.items()
    }
