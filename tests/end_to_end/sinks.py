"""Where exporters send everything, in each of the ways in which they do, for tests that look at every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from destinations import OK, Answer, Came, Destination, GrpcDestination, HttpDestination
from server_process import ServerProcess, wait_for

from otel_ttf.otlp.wire import SIGNALS

_BYTES = re.compile(rb'"bytesValue": ?"[^"]*"')


def refusing_metrics() -> Callable[[Came], Answer]:
    """Refuses metrics that are not alone, and every other one that is: so there are dead letters."""
    turn = count()

    def judge(came: Came) -> Answer:
        taken = came.signal != "metrics" or (len(came.names) == 1 and next(turn) % 2)
        return OK if taken else Answer("bad")

    return judge


class Sinks:
    """One for each way. Settings are for a server; as a context they listen."""

    def __init__(self) -> None:
        judge = refusing_metrics()
        self.ways: dict[str, Destination] = {
            "otlp_grpc": GrpcDestination(judge=judge),
            "otlp_http": HttpDestination(judge=judge),
            "otlp_http/json": HttpDestination(judge=judge),
        }

    def __enter__(self) -> Sinks:
        for sink in self.ways.values():
            sink.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self.ways.values():
            sink.stop()

    @property
    def settings(self) -> list[str]:
        """All signals go to all of them."""
        configs = {
            name: {
                "endpoint": f"http://127.0.0.1:{sink.port}",
                "retry_on_failure": {"max_interval": "100ms"},
                **({"encoding": "json"} if name.endswith("json") else {}),
            }
            for name, sink in self.ways.items()
        }
        given = {"exporters": configs, "service.pipelines": {s: {"exporters": [*configs]} for s in SIGNALS}}
        return [f"{name}={json.dumps(value)}" for name, value in given.items()]

    def wait(self, server: ServerProcess) -> None:
        """Until all of the log is sent, and something is set aside for each."""
        for name in self.ways:
            waiting = partial(_total, server, "otelcol_exporter_queue_size", exporter=name)
            wait_for(lambda waiting=waiting: waiting() == 0, f"{name} to send all of it", 60)
            aside = partial(_total, server, "otel_ttf_quarantine_records", consumer=f"{name}:metrics")
            wait_for(lambda aside=aside: aside() > 0, f"something to be set aside for {name}")

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """(way, bytes) of each request as it came, and of its headers."""
        for name, sink in self.ways.items():
            assert {came.signal for came in sink.came} >= {"logs", "metrics"}
            for came in sink.came:
                # Bytes stand in JSON in base64, and of an address its first part may stand there: they are looked at
                # as they are.
                yield name, _BYTES.sub(b"", came.raw)
                yield name, came.request.SerializeToString()
                yield f"{name} at its headers", str(came.headers).encode()


def _total(server: ServerProcess, metric: str, **labels: str) -> float:
    return server.metrics().total(metric, **labels)
