"""GET /metrics: this process's metrics and those of the journeys, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from otel_ttf.api.context import Context
from otel_ttf.store.base import HistogramRow, NotReady, StoreUnreadable

# name -> (type, help). They are there, empty, before the first journey: dashboards find them.
FAMILIES = {
    "ttf_started_total": ("counter", "Journeys whose start became known."),
    "ttf_completion_total": ("counter", "Journeys that were completed."),
    "ttf_expired_total": ("counter", "Journeys that were given up on."),
    "ttf_corrections_total": ("counter", "Transitions by which a late event changed what had been told."),
    "ttf_complete_minutes": ("histogram", "Minutes from the first milestone until the journey was complete."),
    "ttf_stage_minutes": ("histogram", "Minutes that a stage took."),
    "ttf_efficiency_score": ("histogram", "Efficiency score at completion, 0 to 100."),
    "ttf_in_flight": ("gauge", "Journeys in progress."),
    "ttf_entered_late": ("gauge", "Journeys without a known start."),
    "ttf_overdue": ("gauge", "Journeys in progress by the highest overdue level that they have passed."),
}


class JourneyMetrics(Collector):
    """What the store counts, as Prometheus families; read anew at every scrape."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        as_of = self._context.as_of()
        reader = self._context.reader
        # The client adds _total to a counter's name itself.
        families = {
            name: Metric(name.removesuffix("_total") if kind == "counter" else name, text, kind)
            for name, (kind, text) in FAMILIES.items()
        }
        try:
            # One snapshot, so that a histogram's count is the counter beside it.
            with reader.snapshot():
                counters, histograms = reader.counters(), reader.histograms()
                try:
                    gauges = reader.gauges(as_of.at)
                except NotReady:
                    # Counted anew: no gauge is better than half a one, and the counters are right all the same.
                    gauges = []
        except StoreUnreadable:
            # What the process counts is wanted all the more; /ready says why the rest is missing.
            return families.values()
        for row in [*counters, *gauges]:
            families[row.metric].add_sample(row.metric, dict(row.labels), row.value)
        for histogram in histograms:
            _add(families[histogram.metric], histogram)
        return families.values()


def _add(family: Metric, row: HistogramRow) -> None:
    bounds = [*(str(float(bound)) for bound in row.bounds), "+Inf"]
    below = list(accumulate(row.counts))
    for bound, count in zip(bounds, below, strict=True):
        family.add_sample(f"{row.metric}_bucket", {**row.labels, "le": bound}, count)
    family.add_sample(f"{row.metric}_count", dict(row.labels), below[-1])
    family.add_sample(f"{row.metric}_sum", dict(row.labels), row.total)


class Together(Collector):
    """Several sources as one."""

    def __init__(self, *sources: Collector | CollectorRegistry) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        for source in self._sources:
            yield from source.collect()


def routes(context: Context, registry: CollectorRegistry) -> APIRouter:
    """/metrics over the process's registry and the store."""
    router = APIRouter(tags=["operations"])
    everything = Together(registry, JourneyMetrics(context))

    @router.get(
        "/metrics",
        operation_id="getMetrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {
                "description": "Prometheus text, or OpenMetrics where asked for.",
                "content": {"text/plain": {}},
            }
        },
    )
    def metrics(request: Request) -> Response:
        # A plain `def`: reading the store and writing the text happen in a worker thread.
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(everything), headers={"Content-Type": content_type})

    return router
