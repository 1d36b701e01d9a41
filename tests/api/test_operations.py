"""/health, /ready, /metrics, /api/v1/events/names."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from otel_ttf.api.health import Readiness
from otel_ttf.commands import Given
from otel_ttf.store.base import MINUTE_BOUNDS, SCORE_BOUNDS, CounterRow, HistogramRow, NoStore, SeenName
from otel_ttf.store.sqlite_read import SqliteReader

# design.md, Interfaces that people know.
METRICS = {
    "ttf_started_total": "counter",
    "ttf_completion_total": "counter",
    "ttf_expired_total": "counter",
    "ttf_corrections_total": "counter",
    "ttf_complete_minutes": "histogram",
    "ttf_stage_minutes": "histogram",
    "ttf_efficiency_score": "histogram",
    "ttf_in_flight": "gauge",
    "ttf_entered_late": "gauge",
    "ttf_overdue": "gauge",
}
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def samples(text, parse=families):
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value for family in parse(text) for s in family.samples
    }


def test_alive_is_alive_whatever_else(serve_memory, onboarding):
    api = serve_memory(onboarding, {})
    api.readiness = Readiness(("draining",))
    assert api.get("/health") == {"status": "ok"}


def test_ready(serve_memory, onboarding):
    assert serve_memory(onboarding, {}).get("/ready") == {"status": "ready", "reasons": [], "notes": []}


def test_not_ready_tells_every_reason(serve_memory, onboarding):
    api = serve_memory(onboarding, {})
    api.readiness = Readiness(("starting", "the log is full"), ("see to this",))
    assert api.get("/ready", 503) == {
        "status": "not ready",
        "reasons": ["starting", "the log is full"],
        "notes": ["see to this"],
    }


def test_a_note_sends_no_traffic_elsewhere(serve_memory, onboarding):
    api = serve_memory(onboarding, {})
    api.readiness = Readiness(notes=("see to this",))
    assert api.get("/ready", 200) == {"status": "ready", "reasons": [], "notes": ["see to this"]}


def test_without_a_store_questions_are_503_and_the_process_is_still_measured(serve_over, onboarding):
    api = serve_over(NoStore("store.db is damaged: restore it"), {"onboarding": onboarding})
    for path in ("/api/v1/ttf", "/api/v1/ttf/ada", "/api/v1/stuck", "/api/v1/events/names"):
        told = api.get(path, 503)
        assert told["type"] == "urn:otel-ttf:problem:store-unreadable"
        assert told["detail"] == "store.db is damaged: restore it"
    text = api.client.get("/metrics").text
    assert "otel_ttf_build_info{" in text
    assert "# TYPE ttf_started_total counter" in text


def test_a_file_that_becomes_unreadable_is_503(serve_over, onboarding, tmp_path):
    (tmp_path / "store.db").write_bytes(b"no store" * 1000)
    reader = SqliteReader(tmp_path / "store.db", {"onboarding": onboarding}, Given(Path("/data")))
    api = serve_over(reader, {"onboarding": onboarding})
    assert "`otel-ttf salvage --data-dir /data`" in api.get("/api/v1/ttf/ada", 503)["detail"]
    assert "otel_ttf_build_info{" in api.client.get("/metrics").text
    reader.close()


DAMAGED_ROWS = {
    "times of a journey": (
        "/api/v1/ttf/ada",
        "journey SET reached = substr(reached, 2)",
        "row 1 of table journey",
    ),
    "segments of a journey": ("/api/v1/ttf/ada", "journey SET segments = '{'", "row 1 of table journey"),
    "key of a journey": ("/api/v1/stuck?over=0s", "journey SET key = '{'", "row 1 of table journey"),
    "definition": ("/api/v1/ttf/ada", "definition SET canonical = '{'", "row 1 of table definition"),
    "figures": ("/api/v1/ttf", "rollup SET cells = substr(cells, 2)", "a row of table rollup"),
    "figures of no milestone": (
        "/api/v1/ttf",
        "rollup SET cells = CAST(x'ffffffff' || substr(cells, 5) AS BLOB)",
        "a row of table rollup",
    ),
    "times of the young": (
        "/api/v1/ttf",
        "journey SET reached = substr(reached, 9)",
        "a row of table journey",
    ),
    "segments of figures": (
        "/api/v1/ttf?segment.plan=pro",
        "combo SET segments = '['",
        "row 1 of table combo",
    ),
    "names": ("/api/v1/events/names", "seen SET matched = '{'", "row event of table seen"),
}


@pytest.mark.parametrize(("path", "change", "what"), DAMAGED_ROWS.values(), ids=DAMAGED_ROWS)
def test_a_row_that_nobody_wrote_so_is_503_and_says_what_to_do(damaged, path, change, what):
    api, reader = damaged(change)
    told = api.get(path, 503)
    assert told["type"] == "urn:otel-ttf:problem:store-unreadable"
    assert f"store.db is damaged ({what} cannot be read)" in told["detail"]
    assert "`otel-ttf restore FILE --data-dir /data`" in told["detail"]
    assert reader.damaged == told["detail"], "for /ready"


DAMAGED_COUNTS = {
    "labels": "counter SET labels = '{'",
    "labels without a journey": 'histogram SET labels = \'{"stage":"agent"}\'',
    "a metric that there is not": "counter SET metric = 'ttf_startec_total'",
    "buckets": "histogram SET counts = '[1]'",
}


@pytest.mark.parametrize("change", DAMAGED_COUNTS.values(), ids=DAMAGED_COUNTS)
def test_metrics_of_the_process_are_there_beside_a_damaged_row(damaged, change):
    api, reader = damaged(change)
    answer = api.client.get("/metrics")
    assert answer.status_code == 200
    assert "otel_ttf_build_info{" in answer.text
    assert "cannot be read" in reader.damaged


@pytest.mark.parametrize(("name", "kind"), METRICS.items())
def test_every_family_is_there_before_the_first_journey(serve_memory, onboarding, name, kind):
    text = serve_memory(onboarding, {}).client.get("/metrics").text
    assert text.count(f"# HELP {name} ") == 1
    assert text.count(f"# TYPE {name} {kind}\n") == 1


def test_counters_and_gauges_by_their_exact_names(serve, onboarding, state, token, serve_memory):
    labels = {"journey": "onboarding", "plan": "pro"}
    api = serve_memory(
        onboarding,
        {token("a"): state(onboarding, 0), token("b"): state(onboarding, None, 4)},
        counted=[CounterRow("ttf_started_total", labels, 7), CounterRow("ttf_completion_total", labels, 3)],
    )
    got = samples(api.at(80).client.get("/metrics").text)
    told = tuple(labels.items())
    assert (got["ttf_started_total", told], got["ttf_completion_total", told]) == (7, 3)
    journey = (("journey", "onboarding"),)
    assert (got["ttf_in_flight", journey], got["ttf_entered_late", journey]) == (1, 1)
    levels = {level: got["ttf_overdue", (*journey, ("level", level))] for level in onboarding.overdue}
    assert levels == {"warning": 1, "critical": 0, "escalation": 0}


@pytest.mark.parametrize(
    ("metric", "bounds", "counts", "total", "buckets"),
    [
        pytest.param(
            "ttf_stage_minutes",
            MINUTE_BOUNDS,
            [2, 0, 1, *[0] * 16, 4],
            300.5,
            {"1.0": 2, "2.0": 2, "5.0": 3, "43200.0": 3, "+Inf": 7},
            id="minutes",
        ),
        pytest.param(
            "ttf_efficiency_score",
            SCORE_BOUNDS,
            [*[0] * 8, 1, 2, 0],
            280.0,
            {"10.0": 0, "90.0": 1, "100.0": 3, "+Inf": 3},
            id="score",
        ),
    ],
)
def test_histograms_are_cumulative(serve_memory, onboarding, metric, bounds, counts, total, buckets):
    labels = {"journey": "onboarding", "stage": "project"}
    api = serve_memory(onboarding, {}, observed=[HistogramRow(metric, labels, bounds, counts, total)])
    got = samples(api.client.get("/metrics").text)
    told = tuple(labels.items())
    for bound, count in buckets.items():
        key = tuple(sorted((labels | {"le": bound}).items()))
        assert got[f"{metric}_bucket", key] == count
    assert (got[f"{metric}_count", told], got[f"{metric}_sum", told]) == (sum(counts), total)


def test_the_processs_own_metrics_stand_beside_them(serve_memory, onboarding):
    api = serve_memory(onboarding, {})
    text = api.client.get("/metrics").text
    assert "# TYPE telemetry_events_total counter" in text
    assert "_created" not in text


def test_text_by_default_and_openmetrics_where_asked_for(serve_memory, onboarding):
    labels = {"journey": "onboarding"}
    counted = [CounterRow("ttf_started_total", labels, 7)]
    api = serve_memory(onboarding, {}, counted=counted)
    plain, asked = api.client.get("/metrics"), api.client.get("/metrics", headers=OPEN_METRICS)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
    for text, parse in ((plain.text, families), (asked.text, open_families)):
        assert samples(text, parse)["ttf_started_total", tuple(labels.items())] == 7


def test_label_values_of_any_kind_are_escaped(serve_memory, onboarding):
    labels = {"journey": "onboarding", "plan": 'a"b\\c\nd ü'}
    api = serve_memory(onboarding, {}, counted=[CounterRow("ttf_started_total", labels, 1)])
    assert samples(api.client.get("/metrics").text)["ttf_started_total", tuple(labels.items())] == 1


def test_counters_are_shown_while_figures_are_counted_anew(serve_memory, onboarding):
    labels = {"journey": "onboarding"}
    counted = [CounterRow("ttf_started_total", labels, 7)]
    api = serve_memory(onboarding, {}, counted=counted, recounting=0.5)
    text = api.client.get("/metrics").text
    got = samples(text)
    assert got["ttf_started_total", tuple(labels.items())] == 7
    assert "# TYPE ttf_in_flight gauge" in text
    assert not [name for name, _ in got if name == "ttf_in_flight"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("", ["login", "GET /"], id="all"),
        pytest.param("?limit=1", ["login"], id="the most frequent"),
    ],
)
def test_names_that_came_with_what_they_matched(serve_memory, onboarding, query, names):
    seen = [
        SeenName("span", "GET /", 2, 1_000_000_007, ("onboarding.signup",)),
        SeenName("event", "login", 5, 2_000_000_000, ()),
    ]
    got = serve_memory(onboarding, {}, seen=seen).get(f"/api/v1/events/names{query}")
    assert [name["name"] for name in got["names"]] == names
    if len(names) == 2:
        assert got["names"][1] == {
            "kind": "span",
            "name": "GET /",
            "count": 2,
            "last_seen": "1970-01-01T00:00:01.000000007Z",
            "milestones": ["onboarding.signup"],
        }
