"""The one way into the log."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from serving import RULES, real_pipeline

from otel_ttf.clock import SystemClock
from otel_ttf.log.base import LogRefused
from otel_ttf.log.sqlite import LogConfig, SqliteLog
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.wire import Malformed
from otel_ttf.pii.consent import DENIED, Book, ConsentRefused
from otel_ttf.receivers.intake import GIANT, INLINE, InFlight, Intake
from otel_ttf.receivers.prepare import Pipeline
from otel_ttf.telemetry import Telemetry


def request(body: str = "", records: int = 1) -> bytes:
    message = ExportLogsServiceRequest()
    logs = message.resource_logs.add().scope_logs.add().log_records
    for _ in range(records):
        logs.add(event_name="signup").body.string_value = body
    return message.SerializeToString()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog.open(tmp_path / "log.db", LogConfig(), SystemClock())
    yield log
    await log.close()


@pytest.fixture
def make(log: SqliteLog) -> Callable[..., Intake]:
    def make(pipeline: Pipeline | None = None, **options: Any) -> Intake:
        return Intake(pipeline or real_pipeline(), log, RULES, SystemClock(), Telemetry(), **options)

    return make


@pytest.mark.parametrize("size", [10, INLINE * 2], ids=["small", "large"])
async def test_a_receipt_means_that_it_is_in_the_log(make, log, size):
    before = time.time_ns()
    receipt = await make()("logs", request("x" * size, 3), protocol="grpc")
    assert (receipt.accepted, receipt.rejected, receipt.warnings) == (3, {}, [])
    (row,) = log.read(0)
    assert (row.signal, row.records) == ("logs", 3)
    assert before <= row.arrival <= time.time_ns()


async def test_an_empty_request_does_not_reach_the_log(make, log):
    receipt = await make()("logs", b"", protocol="grpc")
    assert receipt.accepted == 0
    assert log.end() == 0


async def test_large_requests_leave_the_loop_free(make):
    main = threading.get_ident()
    threads: list[int] = []
    process = real_pipeline()

    def noting(batch: Batch) -> Batch:
        threads.append(threading.get_ident())
        return process(batch)

    intake = make(noting)
    await intake("logs", request("x"), protocol="grpc")
    await intake("logs", request("x" * INLINE), protocol="grpc")
    assert threads[0] == main
    assert threads[1] != main


async def test_what_has_to_be_mended_leaves_loop_and_workers_free(make, log):
    threads: list[str] = []
    process = real_pipeline()

    def noting(batch: Batch) -> Batch:
        out = process(batch)
        threads.append(threading.current_thread().name.partition("_")[0])
        return out

    intake = make(noting)
    for size in (10, INLINE, GIANT):
        bad = request("x" * size).replace(b"signup", b"s\xffgnup")
        receipt = await intake("logs", bad, protocol="grpc")
        assert receipt.accepted == 1
        assert "mended" in receipt.warnings[0]
    assert threads == ["mending", "mending", "giants"]
    assert intake.in_flight.used == 0


async def test_the_budget_is_given_back_whatever_happens(make, log):
    intake = make()
    await intake("logs", request(), protocol="grpc")
    with pytest.raises(Malformed):
        await intake("logs", b"\xff", protocol="grpc")
    await log.close()
    with pytest.raises(LogRefused):
        await intake("logs", request(), protocol="grpc")
    assert intake.in_flight.used == 0


async def test_requests_beyond_the_budget_are_refused_until_others_are_answered(make):
    go = threading.Event()
    process = real_pipeline()

    def waiting(batch: Batch) -> Batch:
        go.wait(10)
        return process(batch)

    raw = request("x" * INLINE)
    intake = make(waiting, max_in_flight=len(raw))  # one at a time
    first = asyncio.create_task(intake("logs", raw, protocol="grpc"))
    await asyncio.sleep(0)
    with pytest.raises(LogRefused, match="wait for their answer"):
        await intake("logs", raw, protocol="grpc")
    go.set()
    assert (await first).accepted == 1
    assert (await intake("logs", raw, protocol="grpc")).accepted == 1


async def test_a_request_larger_than_the_budget_passes_when_it_is_alone(make):
    assert (await make(max_in_flight=1)("logs", request(), protocol="grpc")).accepted == 1


async def test_an_unexpected_error_becomes_come_again(make, log):
    def broken(_batch: Batch) -> Batch:
        raise KeyError("jane@example.com")

    intake = make(broken)
    with pytest.raises(LogRefused) as caught:
        await intake("logs", request(), protocol="grpc")
    assert "jane" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert intake.telemetry.registry.get_sample_value("telemetry_errors_total", {"reason": "internal"}) == 1
    assert log.end() == 0


async def test_what_the_log_refuses_is_counted_by_records(make, log):
    intake = make()
    await log.close()
    with pytest.raises(LogRefused):
        await intake("logs", request(records=3), protocol="rest")
    value = intake.telemetry.registry.get_sample_value
    where = {"receiver": "rest", "transport": "http"}
    assert value("otelcol_receiver_refused_log_records_total", where) == 3
    assert value("otelcol_receiver_accepted_log_records_total", where) == 0


# Together.


async def test_small_requests_of_one_moment_become_one_row(make, log):
    intake = make()
    receipts = await asyncio.gather(
        *(intake("logs", request(records=n), protocol="grpc") for n in (1, 3, 2)),
        intake("logs", b"", protocol="http"),
    )
    assert [receipt.accepted for receipt in receipts] == [1, 3, 2, 0]
    (row,) = log.read(0)
    assert row.records == 6
    assert len(ExportLogsServiceRequest.FromString(row.payload).resource_logs) == 3
    value = intake.telemetry.registry.get_sample_value
    assert value("telemetry_events_total", {"signal": "logs"}) == 6
    name = "otel_ttf_request_duration_seconds_count"
    assert value(name, {"protocol": "grpc", "signal": "logs"}) == 3
    assert value(name, {"protocol": "http", "signal": "logs"}) == 1


async def test_signals_and_trust_are_not_mixed(make, log):
    intake = make()
    raw = request()
    await asyncio.gather(
        intake("logs", raw, protocol="grpc"),
        intake("traces", raw, protocol="grpc"),  # the same bytes are a span
        intake("logs", raw, protocol="grpc", trusted=True),
    )
    assert sorted(row.signal for row in log.read(0)) == ["logs", "logs", "traces"]


async def test_one_that_is_malformed_fails_alone(make, log):
    intake = make()
    told = await asyncio.gather(
        intake("logs", request(records=2), protocol="grpc"),
        intake("logs", b"\x0a\x7f", protocol="grpc"),
        intake("logs", request(records=1), protocol="grpc"),
        return_exceptions=True,
    )
    assert [getattr(one, "accepted", type(one)) for one in told] == [2, Malformed, 1]
    assert [row.records for row in log.read(0)] == [3]  # the sound ones stay together
    errors = intake.telemetry.registry.get_sample_value
    assert errors("telemetry_errors_total", {"reason": "malformed"}) == 1


async def test_one_whose_record_is_rejected_hears_it_by_its_own_numbers(make, log):
    intake = make()
    message = ExportLogsServiceRequest.FromString(request(records=3))
    record = message.resource_logs[0].scope_logs[0].log_records[2]
    record.attributes.add(key="user.id").value.string_value = "x" * 2000
    told = await asyncio.gather(
        intake("logs", request(records=5), protocol="grpc"),
        intake("logs", message.SerializeToString(), protocol="grpc"),
    )
    assert [(receipt.accepted, receipt.refused) for receipt in told] == [(5, 0), (2, 1)]
    assert list(told[1].rejected) == [2]
    assert told[1].rejected[2].startswith("log_records[2]: ")
    assert sum(row.records for row in log.read(0)) == 7


async def test_one_that_goes_away_takes_nobody_with_it(make, log):
    intake = make()
    tasks = [asyncio.create_task(intake("logs", request(), protocol="grpc")) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(one, "accepted", type(one)) for one in told] == [1, asyncio.CancelledError, 1]
    assert sum(row.records for row in log.read(0)) == 2
    assert intake.in_flight.used == 0


async def test_what_the_log_refuses_is_told_to_each_and_counted_for_each(make, log):
    intake = make()
    await log.close()
    told = await asyncio.gather(
        intake("logs", request(records=2), protocol="grpc"),
        intake("logs", request(records=3), protocol="rest"),
        return_exceptions=True,
    )
    assert [str(one) for one in told if isinstance(one, LogRefused)] == ["the server is stopping"] * 2
    value = intake.telemetry.registry.get_sample_value
    name = "otelcol_receiver_refused_log_records_total"
    assert value(name, {"receiver": "otlp", "transport": "grpc"}) == 2
    assert value(name, {"receiver": "rest", "transport": "http"}) == 3
    assert value("telemetry_errors_total", {"reason": "refused"}) == 2


async def test_all_that_was_sent_by_many_is_in_the_log_once_in_fewer_rows(make, log):
    intake = make()

    async def sender(name: str) -> None:
        for number in range(20):
            assert (await intake("logs", request(f"{name} {number}"), protocol="grpc")).accepted == 1

    await asyncio.gather(*(sender(f"sender {n}") for n in range(20)))
    rows = log.read(0, rows=1000)
    bodies = [
        resource.scope_logs[0].log_records[0].body.string_value
        for row in rows
        for resource in ExportLogsServiceRequest.FromString(row.payload).resource_logs
    ]
    assert sorted(bodies) == sorted(f"sender {n} {number}" for n in range(20) for number in range(20))
    for n in range(20):
        own = [body for body in bodies if body.startswith(f"sender {n} ")]
        assert own == [f"sender {n} {number}" for number in range(20)]
    assert len(rows) < 100


def test_a_hold_grows_and_ends():
    budget = InFlight(10)
    with budget.hold(4) as hold:
        hold.add(6)
        with pytest.raises(LogRefused):
            hold.add(1)
        assert budget.used == 10
    assert budget.used == 0


class WatchedBook(Book):
    """Remembers what the log held when it was to save; refuses when it is told to."""

    def __init__(self, log: SqliteLog, *, refuses: bool = False, **options: int) -> None:
        super().__init__(**options)
        self.log = log
        self.refuses = refuses
        self.saved: list[int] = []

    def save(self, number: int) -> None:
        if self.refuses:
            raise ConsentRefused("consent.db: the disk is full")
        self.saved.append(self.log.end())


def said(user: str, consent: str) -> bytes:
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add(event_name="signup")
    for key, value in (("user.id", user), ("ttf.consent", consent)):
        record.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


async def test_consent_is_saved_before_the_log_has_the_request(make, log):
    book = WatchedBook(log)
    intake = make(real_pipeline(book), book=book)
    receipt = await intake("logs", said("jane", "grant"), protocol="grpc")
    assert (receipt.accepted, book.saved, log.end()) == (1, [0], 1)
    # What is left out was taken all the same, and nothing is wrong with it.
    receipt = await intake("logs", said("jane", "deny"), protocol="grpc")
    assert (receipt.accepted, receipt.refused, receipt.rejected) == (1, 0, {})
    assert (book.saved, log.end()) == ([0, 1], 1)


async def test_when_consent_cannot_be_saved_the_sender_comes_again(make, log):
    book = WatchedBook(log, refuses=True)
    intake = make(real_pipeline(book), book=book)
    with pytest.raises(LogRefused, match="the disk is full"):
        await intake("logs", said("jane", "grant"), protocol="grpc")
    assert log.end() == 0
    await intake("logs", request(), protocol="grpc")
    assert log.end() == 1


async def test_when_there_is_no_room_for_consent_the_sender_comes_again(make, log):
    book = WatchedBook(log, limit=1)
    intake = make(real_pipeline(book), book=book)
    await intake("logs", said("jane", "deny"), protocol="grpc")
    with pytest.raises(LogRefused, match="max_subjects"):
        await intake("logs", said("bob", "deny"), protocol="grpc")
    assert list(book.exceptions.values()) == [DENIED]


async def test_consent_does_not_fill_up_what_the_log_leaves_free(tmp_path):
    log = SqliteLog.open(tmp_path / "log.db", LogConfig(min_free=1 << 60), SystemClock())
    book = WatchedBook(log)
    intake = Intake(real_pipeline(book), log, RULES, SystemClock(), Telemetry(), book=book)
    for _ in range(2):  # the log finds out with the first one
        with pytest.raises(LogRefused):
            await intake("logs", said("jane", "grant"), protocol="grpc")
    saved = list(book.saved)
    with pytest.raises(LogRefused):
        await intake("logs", said("jane", "grant"), protocol="grpc")
    assert book.saved == saved
    intake.close()
    await log.close()
