"""A secret of every kind, in every spelling, under every key that has a rule: none of them stays anywhere."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import zstandard
from canaries import MAKERS, SPELLINGS, Planted
from disk import contents
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from server_process import Answer, ServerProcess, wait_for
from sinks import Sinks

from otel_ttf.pii.detect import DETECTORS
from otel_ttf.pii.keyrules import registry

HARMLESS = "zq-harmless"
# Under keys of the registry, and under some that go by their words.
KEYS = sorted(
    key for key, rule in registry().items() if rule.masks and not key.endswith(".*") and key != "user.id"
)
WORDED = (
    "password",
    "apiKey",
    "x-api-key",
    "client_secret",
    "customer.phone",
    "firstName",
    "shipping.address line",
)
PROTOBUF = {"content-type": "application/x-protobuf"}
DENIED = "zq-who-denied"
# In a URL, /home/jane is a page like any.
LEFT_ALONE = {("user_path", "percent-encoded"), ("user_path", "query")}

Put = Callable[[Any, str, Planted, str], None]


def _attribute(made: Any, key: str, planted: Planted, place: str) -> None:
    made.add(key=key).value.string_value = planted.word(place)


def _bytes(made: Any, key: str, planted: Planted, place: str) -> None:
    made.add(key=key).value.bytes_value = planted.word(place).encode()


def _number(made: Any, key: str, planted: Planted, place: str) -> None:
    made.add(key=key).value.double_value = planted.degrees(place)


def _list(made: Any, key: str, planted: Planted, place: str) -> None:
    values = made.add(key=key).value.array_value.values
    values.add().string_value = planted.word(place)
    values.add().kvlist_value.values.add(key="zq").value.string_value = planted.word(place)


def _deep(made: Any, key: str, planted: Planted, place: str) -> None:
    below = made.add(key="zq.map").value.kvlist_value.values.add(key="zq.list").value.array_value.values.add()
    below.kvlist_value.values.add(key=key).value.string_value = planted.word(place)


def _pair(made: Any, key: str, planted: Planted, place: str) -> None:
    pair = made.add(key="zq.pairs").value.array_value.values.add().array_value.values
    pair.add().string_value = key
    pair.add().string_value = planted.word(place)


def _named(made: Any, key: str, planted: Planted, place: str) -> None:
    pair = made.add(key="zq.named").value.array_value.values.add().kvlist_value.values
    pair.add(key="name").value.string_value = key
    pair.add(key="value").value.string_value = planted.word(place)


def _json(made: Any, key: str, planted: Planted, place: str) -> None:
    document = {"zq": [{key: planted.word(place)}], key: {"zq": planted.word(place)}}
    made.add(key="zq.json").value.string_value = json.dumps(document)


SHAPES: dict[str, Put] = {
    "an attribute": _attribute,
    "bytes": _bytes,
    "a number": _number,
    "a list": _list,
    "deep in a map": _deep,
    "a pair in a list": _pair,
    "a name and a value": _named,
    "JSON": _json,
}


def by_key(planted: Planted, keys: tuple[str, ...] | list[str]) -> ExportLogsServiceRequest:
    """Each key with values in two shapes, by turns, in a record, its resource and its body."""
    request = ExportLogsServiceRequest()
    for at, key in enumerate(keys):
        for shape, put in [*SHAPES.items()][at % 4 :: 4]:
            by_resource = request.resource_logs.add()
            put(by_resource.resource.attributes, key, planted, f"{key} of a resource as {shape}")
            record = by_resource.scope_logs.add().log_records.add(event_name=HARMLESS)
            put(record.attributes, key, planted, f"{key} as {shape}")
            put(record.body.kvlist_value.values, key, planted, f"{key} of a body as {shape}")
    return request


def kinds(planted: Planted) -> Iterator[tuple[str, Message]]:
    """Each kind in each spelling, in texts of all signals: as values, keys, bytes, names, bodies, messages."""
    logs, traces, metrics = (
        ExportLogsServiceRequest(),
        ExportTraceServiceRequest(),
        ExportMetricsServiceRequest(),
    )
    records = logs.resource_logs.add().scope_logs.add().log_records
    spans = traces.resource_spans.add().scope_spans.add().spans
    points = metrics.resource_metrics.add().scope_metrics.add().metrics
    for spelling in SPELLINGS:
        for kind in MAKERS:
            if (kind, spelling) in LEFT_ALONE:
                continue

            def text(place: str, kind: str = kind, spelling: str = spelling) -> str:
                return planted.of(kind, place, spelling)

            record = records.add(event_name=text("log.event_name"))
            record.body.string_value = text("log.body")
            record.attributes.add(key="zq.note").value.string_value = f"{HARMLESS} {text('an attribute')}"
            record.attributes.add(key=text("a key")).value.int_value = 1
            record.attributes.add(key="zq.raw").value.bytes_value = text("bytes").encode()
            span = spans.add(name=text("span.name"))
            span.status.message = text("status.message")
            span.events.add(name=text("span_event.name"))
            metric = points.add(name="zq.metric", description=text("metric.description"))
            point = metric.gauge.data_points.add(as_int=1)
            point.attributes.add(key="zq.note").value.string_value = text("a data point's")
    yield from (("logs", logs), ("traces", traces), ("metrics", metrics))


def of_users(planted: Planted, *users: str) -> ExportLogsServiceRequest:
    """Records with words that only their owner makes personal."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for user in users:
        record = records.add(event_name="signup")
        record.body.string_value = planted.word("a body of whoever is not taken")
        record.attributes.add(key="user.id").value.string_value = user
        record.attributes.add(key="plan").value.string_value = planted.word(
            "an attribute of whoever is not taken"
        )
    return request


def denies(user: str) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="user.id").value.string_value = user
    record.attributes.add(key="ttf.consent").value.string_value = "deny"
    return request


def refused(server: ServerProcess, planted: Planted) -> Iterator[bytes]:
    """What is not taken: too long ids, whoever denied, what is broken. Words that are personal to nobody but them."""
    planted.secret(DENIED, "who denied")
    yield post(server, "logs", denies(DENIED).SerializeToString())
    long = planted.word("an id that is too long") * 40
    for user in (DENIED, long):
        raw = of_users(planted, user).SerializeToString()
        yield post(server, "logs", raw)
        yield post(server, "logs", raw[:-1], status=400)
        yield post(server, "logs", raw + raw[:7], status=400)
    yield post(server, "logs", b"\x0a\x7f" + planted.word("no protobuf").encode(), status=400)
    yield post(server, "logs", json.dumps([planted.word("no OTLP")]).encode(), status=400, media="json")
    events: list[dict[str, object]] = [
        {"event_name": "signup", "user_id": planted.word("a REST id that is too long") * 40},
        {"event_name": "signup", "field": planted.word("a REST value")},
        {"event_name": "signup", "user_id": [planted.word("a REST id in a list")]},
        {"event_name": "signup", "timestamp": planted.word("a REST time")},
    ]
    for event in events:
        answer = server.post_json("/api/v1/events", {"events": [event]})
        assert answer.status == 400
        yield whole(answer)


def post(
    server: ServerProcess, signal: str, raw: bytes, *, status: int = 200, media: str = "x-protobuf"
) -> bytes:
    answer = server.request("POST", f"/v1/{signal}", raw, headers={"content-type": f"application/{media}"})
    assert answer.status == status, answer.body
    return whole(answer)


def whole(answer: Answer) -> bytes:
    return str(answer.headers).encode() + answer.body


def asked(server: ServerProcess) -> Iterator[tuple[str, bytes]]:
    for path in ("/metrics", "/api/v1/events/names?limit=10000", "/api/v1/ttf", "/api/v1/stuck?over=0s"):
        yield path, whole(server.get(path))


def under_load(server: ServerProcess, requests: list[bytes]) -> list[tuple[str, bytes]]:
    """kill -9 while these come in on several connections again and again; what was on the disk before that.

    That is looked at as soon as there are rows in the log: those that are taken are soon deleted.
    """
    seen: list[tuple[str, bytes]] = []

    def send() -> None:
        with suppress(OSError, HTTPException):
            while True:
                for raw in requests:
                    server.request("POST", "/v1/logs", raw, headers=PROTOBUF)

    def has_rows() -> bool:
        seen[:] = contents(server.data_dir)
        return HARMLESS in control([HARMLESS], seen).get("log.db", ())

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    try:
        wait_for(has_rows, "the search to find something in the log", 30)
    finally:
        server.kill()
        for sender in senders:
            sender.join(20)
    return seen


def test_every_kind_that_is_looked_for_has_a_secret() -> None:
    assert [one.name for one in DETECTORS if one.default != "keep"] == list(MAKERS)


@pytest.mark.slow
def test_nothing_of_any_kind_or_key_stays_also_over_a_crash(tmp_path: Path) -> None:
    planted = Planted()
    settings = [
        "service.telemetry.logs.level=debug",
        "service.telemetry.logs.format=json",
        "storage.events=all",
    ]
    with ServerProcess(tmp_path / "data", settings=settings) as server:
        answers: list[tuple[str, bytes]] = []

        def sent(signal: str, message: Message) -> None:
            answers.append((f"an answer to {signal}", post(server, signal, message.SerializeToString())))

        for signal, message in kinds(planted):
            sent(signal, message)
        sent("logs", by_key(planted, [*KEYS, *WORDED]))
        answers += [("a refusal", answer) for answer in refused(server, planted)]
        keyed = by_key(planted, WORDED).SerializeToString()
        requests = [message.SerializeToString() for signal, message in kinds(planted) if signal == "logs"]
        pieces = under_load(server, [keyed, *requests])
        pieces += contents(server.data_dir)
        server.start()
        server.wait_caught_up()
        answers += asked(server)
        pieces += contents(server.data_dir)
        assert server.terminate() == 0
        pieces += contents(server.data_dir)
    assert planted.count > 3000
    printed = server.printed().encode()
    assert planted.found_in([*pieces, *answers, ("our own lines", printed)]) == {}
    # The same search finds what is there, in each of the places.
    there = {"log.db": HARMLESS, "store.db": HARMLESS, "/metrics": "otel_ttf_consent", "consent.db": "u1_"}
    there |= {"/api/v1/events/names?limit=10000": HARMLESS, "our own lines": "stopped"}
    found = control(there.values(), [*pieces, *answers, ("our own lines", printed)])
    assert {sink: word for sink, word in there.items() if word not in found.get(sink, ())} == {}
    with closing(sqlite3.connect(server.data_dir / "log.db")) as log:
        assert log.execute("SELECT count(*) FROM entry").fetchone() == (0,), "all rows have been deleted"


@pytest.mark.slow
def test_nothing_of_any_kind_or_key_goes_on_to_a_destination(tmp_path: Path) -> None:
    planted = Planted()
    with Sinks() as sinks, ServerProcess(tmp_path / "data", settings=sinks.settings) as server:
        for signal, message in kinds(planted):
            post(server, signal, message.SerializeToString())
        post(server, "logs", by_key(planted, [*KEYS, *WORDED]).SerializeToString())
        for _ in refused(server, planted):
            pass
        sinks.wait(server)
        pieces = [*contents(server.data_dir), *sinks.pieces()]
        assert server.terminate() == 0
        pieces += contents(server.data_dir)
    assert planted.found_in([*pieces, ("our own lines", server.printed().encode())]) == {}
    found = control([HARMLESS, "zq.metric"], pieces)
    assert all(found[way] == {HARMLESS, "zq.metric"} for way in sinks.ways)
    assert "zq.metric" in found["exporters.db"], "dead letters are looked at, too"


def control(words: Any, pieces: list[tuple[str, bytes]]) -> dict[str, set[str]]:
    """Sink -> which of the words are in there, by the search that finds nothing else."""
    known = Planted()
    for word in words:
        known.secret(word, word)
    found: dict[str, set[str]] = {}
    for piece, places in known.found_in(pieces).items():
        sink = piece.partition(" at ")[0].removesuffix("-wal")
        found.setdefault(sink, set()).update(place.partition(" (")[0] for place in places)
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_search_finds_every_kind_in_every_spelling(spelling: str) -> None:
    planted = Planted()
    for kind in MAKERS:
        text = planted.of(kind, kind, spelling)
        for shape, data in {
            "as it is": text.encode(),
            "in JSON": json.dumps(text).encode(),
        }.items():
            assert planted.found_in([(shape, b"before" + data + b"behind")]), f"{kind} {shape}"


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("size", [0, 2_000, 100_000])
@pytest.mark.parametrize("pack", [bytes, zstandard.ZstdCompressor().compress], ids=["plain", "packed"])
def test_the_search_finds_what_is_in_a_database_or_was(
    tmp_path: Path, pack: Callable[[bytes], bytes], size: int, deleted: bool
) -> None:
    planted = Planted()
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete=OFF")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE x (data BLOB)")
        noise = random.Random(1)
        db.execute("INSERT INTO x VALUES (?)", [pack(noise.randbytes(size) + planted.word("a row").encode())])
        assert planted.found_in(contents(tmp_path)), "in the write-ahead log"
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if deleted:
            db.execute("DELETE FROM x")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert planted.found_in(contents(tmp_path))
