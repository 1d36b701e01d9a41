"""What is encrypted is nowhere in plain: not beside its key, nor when the key is destroyed."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from canaries import Planted
from disk import contents
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from server_process import ServerProcess, keys
from sinks import Sinks
from test_canary_kinds import HARMLESS, asked, control, post

from otel_ttf.pii.sealed import FOR_US, SEALED

MASK = {
    "detectors": {"email": {"action": "encrypt", "vendors": "drop"}},
    "keys": [{"key": "plan.code", "action": "encrypt"}],
}
SETTINGS = [
    "privacy.subject=encrypted",
    f"processors.mask={json.dumps(MASK)}",
    "storage.events=all",
    "service.telemetry.logs.level=debug",
]
USERS = 20


def sealed_things(planted: Planted, users: list[str]) -> bytes:
    """Records of users with what is sealed: by its kind, by its key, in all kinds of values; and of nobody."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for user in [*users, ""]:
        record = records.add(event_name="signup")
        record.body.string_value = planted.of("email", "a body")
        record.attributes.add(key="zq.where").value.string_value = HARMLESS
        if user:
            record.attributes.add(key="user.id").value.string_value = user
        record.attributes.add(key="plan.code").value.string_value = planted.word("plan.code")
        record.attributes.add(key="note").value.string_value = planted.of("email", "JSON", "JSON")
        record.attributes.add(key=planted.of("email", "a key")).value.int_value = 1
        raw = planted.of("email", "bytes").encode()
        record.attributes.add(key="raw").value.bytes_value = raw
        deep = record.attributes.add(key="map").value.kvlist_value.values.add(key="plan.code").value
        deep.array_value.values.add().string_value = planted.word("plan.code in a map")
    return request.SerializeToString()


def metrics(planted: Planted) -> bytes:
    """Some with what is sealed: of them some are set aside."""
    request = ExportMetricsServiceRequest()
    for _ in range(8):
        made = request.resource_metrics.add().scope_metrics.add().metrics.add(name=HARMLESS)
        point = made.gauge.data_points.add(as_int=1)
        point.attributes.add(key="plan.code").value.string_value = planted.word("plan.code of a metric")
    return request.SerializeToString()


def wrapped(folder: Path, subject: str) -> bytes:
    """The wrapped key of a subject, without what all of them begin with."""
    with closing(sqlite3.connect(f"file:{folder / 'vault.db'}?mode=ro", uri=True)) as vault:
        (slot,) = vault.execute(
            "SELECT slot FROM data_key JOIN subject USING (id) WHERE subject = ?", [subject]
        ).fetchone()
    return bytes(slot).rstrip(b"\0")[-32:]


@pytest.mark.slow
def test_what_is_sealed_is_nowhere_in_plain_and_a_destroyed_key_is_nowhere_at_all(tmp_path: Path) -> None:
    planted = Planted()
    users = [planted.word(f"user {number}") for number in range(USERS)]
    gone = users[0]
    with Sinks() as sinks, ServerProcess(tmp_path / "data", settings=SETTINGS + sinks.settings) as server:
        answers = [("an answer", post(server, "logs", sealed_things(planted, users)))]
        server.wait_caught_up()
        subject = server.get(f"/api/v1/ttf/{gone}").json["subject"]
        assert keys(server.data_dir, "reveal", subject, check=True).stdout == f"{subject}\t{gone}\n"
        before = list(contents(server.data_dir))
        key = wrapped(server.data_dir, subject)
        assert any(key in data for _, data in before), "the search finds the key that is there"
        keys(server.data_dir, "destroy", gone, "--yes", check=True)
        # Both, what goes on and what the destroyed one still sends.
        answers.append(("an answer", post(server, "logs", sealed_things(planted, users))))
        server.wait_caught_up()
        answers += asked(server)
        post(server, "metrics", metrics(planted))
        sinks.wait(server)
        answers += sinks.pieces()
        server.kill()
        pieces = [*contents(server.data_dir)]
        assert not any(key in data for _, data in pieces), "a page or the write-ahead log keeps it"
    pieces += before
    lines = ("our own lines", server.printed().encode())
    assert planted.found_in([*pieces, *answers, lines]) == {}
    found = control([HARMLESS, subject, "otel_ttf"], [*pieces, *answers, lines])
    # Of the log nothing is left where SQLite overwrites what it deletes; test_canary_kinds looks at it in time.
    assert HARMLESS in found["store.db"]
    assert subject in found["vault.db"] & found["store.db"]
    assert all({HARMLESS, subject} <= found[way] for way in sinks.ways)
    assert HARMLESS in found["exporters.db"]
    assert "otel_ttf" in found["/metrics"]
    with server.store() as store:
        kept = b"".join(bytes(row[0]) for row in store.execute("SELECT attributes FROM event")).decode(
            "latin-1"
        )
    both = {bool(FOR_US.match(one.group())) for one in re.finditer(SEALED, kept)}
    assert both == {True, False}, "values have been sealed, for us alone and for vendors, too"
