"""Our own metrics and log lines."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from otel_ttf.telemetry import Telemetry, configure_logs, failure


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    before = root.handlers, root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    configure_logs("info", json=True)
    yield capsys
    root.handlers, root.level = before
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()


def text(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


@pytest.mark.parametrize(
    ("signal", "protocol", "metric", "labels"),
    [
        pytest.param("logs", "grpc", "log_records", ("otlp", "grpc"), id="logs over gRPC"),
        pytest.param("traces", "http", "spans", ("otlp", "http"), id="spans over HTTP"),
        pytest.param("metrics", "grpc", "metric_points", ("otlp", "grpc"), id="data points over gRPC"),
        pytest.param("logs", "rest", "log_records", ("rest", "http"), id="REST events are log records"),
    ],
)
def test_records_are_counted_under_the_collectors_names(telemetry, signal, protocol, metric, labels):
    way = telemetry.way_in(signal, protocol)
    way.accepted.inc(3)
    way.refused.inc(2)
    value = telemetry.registry.get_sample_value
    where = dict(zip(("receiver", "transport"), labels, strict=True))
    assert value(f"otelcol_receiver_accepted_{metric}_total", where) == 3
    assert value(f"otelcol_receiver_refused_{metric}_total", where) == 2


def test_everything_is_there_before_it_first_happens(telemetry):
    exposed = text(telemetry)
    for reason in ("malformed", "rejected", "refused", "internal"):
        assert f'telemetry_errors_total{{reason="{reason}"}} 0.0' in exposed
    for signal in ("logs", "traces", "metrics"):
        assert f'telemetry_events_total{{signal="{signal}"}} 0.0' in exposed
    assert 'otel_ttf_request_duration_seconds_count{protocol="grpc",signal="logs"} 0.0' in exposed
    assert "otel_ttf_clock_step_seconds 0.0" in exposed
    assert "otel_ttf_build_info{" in exposed


def test_no_created_series(telemetry):
    telemetry.way_in("logs", "grpc").seconds.observe(0.1)
    assert "_created" not in text(telemetry)


def test_lag_and_clock_are_asked_at_every_scrape(telemetry):
    lags = iter([(5, 1.5), (0, 0.0)])
    steps = iter([60.0, 0.0])
    telemetry.watch_consumer("tracker", lambda: next(lags))
    telemetry.watch_clock(lambda: next(steps))
    first, second = text(telemetry), text(telemetry)
    assert 'otel_ttf_consumer_lag_records{consumer="tracker"} 5.0' in first
    assert 'otel_ttf_consumer_lag_seconds{consumer="tracker"} 1.5' in first
    assert "otel_ttf_clock_step_seconds 60.0" in first
    assert 'otel_ttf_consumer_lag_records{consumer="tracker"} 0.0' in second
    assert "otel_ttf_clock_step_seconds 0.0" in second


def test_milestones_without_a_subject(telemetry):
    telemetry.milestone_without_subject("onboarding.signup", 2)
    assert 'otel_ttf_milestones_without_subject_total{milestone="onboarding.signup"} 2.0' in text(telemetry)


def test_two_processes_parts_do_not_share_metrics(telemetry):
    Telemetry().error("internal")
    assert telemetry.registry.get_sample_value("telemetry_errors_total", {"reason": "internal"}) == 0


def test_a_failure_is_told_by_type_and_place_alone():
    try:
        configure_logs("jane@example.com")
    except KeyError as error:
        told = failure(error)
    assert told["error"] == "KeyError"
    assert told["place"].startswith("telemetry.py:")
    assert "jane" not in str(told)


def test_log_lines_never_hold_the_text_of_an_exception(logs):
    try:
        raise ValueError("jane@example.com")
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
        logging.getLogger("grpc._cython.cygrpc").exception("Unexpected [%s]", "jane@example.com")
    lines = [json.loads(line) for line in logs.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["failed", "Unexpected [%s]"]
    assert [line["error"] for line in lines] == ["ValueError", "ValueError"]
    assert "jane" not in str(lines)


def test_an_error_that_nobody_handles_is_told_without_its_text(logs):
    def fail() -> None:
        raise ValueError("jane@example.com")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    printed = logs.readouterr().err
    assert json.loads(printed)["error"] == "ValueError"
    assert "jane" not in printed


def test_lines_below_the_level_are_not_written(logs):
    structlog.get_logger().debug("quiet")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert logs.readouterr().err == ""
