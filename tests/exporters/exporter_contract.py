"""What every exporter of requests has to keep. One inherits the tests and brings `destination` and `config`."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from destinations import OK, Answer, Came, Cutting, Destination
from export_world import NAME, World, logs, until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_ttf.exporters.config import ExporterConfig
from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Signal
from otel_ttf.store.tasks import Tasks
from otel_ttf.units import HOUR

LATER, BAD, DENIED = Answer("later"), Answer("bad"), Answer("denied")
FAST = {
    "retry_on_failure": {"initial_interval": "20ms", "max_interval": "100ms"},
    "sending_queue": {"batch": {"flush_timeout": "20ms"}},
    "start_at": "beginning",
}


def some(count: int, first: int = 0) -> list[str]:
    return [f"r{number}" for number in range(first, first + count)]


def bad_if(word: str) -> Any:
    """Refuses a request for good in which a record has the name."""
    return lambda came: BAD if word in came.names else OK


class ExporterContract:
    # What an implementation brings.

    def make(self) -> Destination:
        raise NotImplementedError

    def config(self, port: int, **given: Any) -> ExporterConfig:
        raise NotImplementedError

    # What it needs.

    @pytest.fixture
    def destination(self) -> Iterator[Destination]:
        made = self.make()
        made.start()
        yield made
        made.stop()

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        world = World(tmp_path)
        await world.open()
        yield world
        await world.close()

    def one(self, destination: Destination, **given: Any) -> dict[str, ExporterConfig]:
        return {NAME: self.config(destination.port, **FAST | given)}

    # The promises.

    async def test_what_is_in_the_log_arrives_once_and_byte_for_byte(
        self, world: World, destination: Destination
    ) -> None:
        traces = ExportTraceServiceRequest()
        traces.resource_spans.add().scope_spans.add().spans.add(
            name="span", trace_id=b"t" * 16, span_id=b"s" * 8
        )
        metrics = ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="metric")
        metric.gauge.data_points.add(as_int=1)
        metric.gauge.data_points.add(as_int=2)
        await world.append(traces.SerializeToString(), signal="traces")
        await world.append(metrics.SerializeToString(), signal="metrics", records=2)
        await world.send(*some(30))
        signals: dict[str, Signal] = {f"otlp/{signal}": signal for signal in SIGNALS}
        world.start({name: self.config(destination.port, **FAST) for name in signals}, signals)
        await until(lambda: len(destination.taken) >= 32)
        await world.stop()
        assert destination.counts == dict.fromkeys([*some(30), "span", "metric"], 1)
        sent = {
            signal: b"".join(
                one.request.SerializeToString() for one in destination.came if one.signal == signal
            )
            for signal in SHAPES
        }
        assert sent["traces"] == traces.SerializeToString()
        assert sent["metrics"] == metrics.SerializeToString()
        assert sent["logs"] == b"".join(logs(name) for name in some(30))
        for name, records in (("log_records", 30), ("spans", 1), ("metric_points", 2)):
            assert world.total(f"otelcol_exporter_sent_{name}_total") == records
        assert world.total("otelcol_exporter_queue_size") == 0

    async def test_requests_are_put_together(self, world: World, destination: Destination) -> None:
        await world.send(*some(100))
        world.start(self.one(destination, sending_queue={"batch": {"min_size": 40, "flush_timeout": "1s"}}))
        await until(lambda: len(destination.taken) == 100)
        assert sorted(len(one.names) for one in destination.came) == [20, 40, 40]

    async def test_a_destination_that_is_down_delays_nobody_and_gets_it_all(
        self, world: World, destination: Destination
    ) -> None:
        other = self.make()
        other.start()
        destination.stop()
        world.start({**self.one(destination), "otlp/other": self.config(other.port, **FAST)})
        await world.send(*some(50))
        await until(lambda: len(other.taken) == 50)
        exporting = world.exporting
        assert exporting is not None
        await until(exporting.notes)
        assert NAME in exporting.notes()[0]
        assert world.log.lag(world.log.position("tracker") or 0) == (0, 0.0)
        assert world.log.refusing() is None
        assert world.exporters[NAME].lag()[0] == 50
        await until(lambda: world.total("otel_ttf_exporter_up", exporter=NAME) == 0)
        destination.start()
        await until(lambda: len(destination.counts) == 50)
        await until(lambda: not exporting.notes())
        assert world.total("otel_ttf_exporter_up", exporter=NAME) == 1
        assert destination.counts == dict.fromkeys(some(50), 1)
        other.stop()

    async def test_a_slow_one_does_not_hold_up_another(self, world: World, destination: Destination) -> None:
        other = self.make()
        other.start()
        destination.judge = lambda _: Answer(slow=1)
        world.start({**self.one(destination), "otlp/other": self.config(other.port, **FAST)})
        await world.send(*some(5))
        await until(lambda: len(other.taken) == 5)
        assert destination.came == []
        await until(lambda: len(destination.taken) == 5)
        other.stop()

    async def test_what_takes_too_long_is_sent_again(self, world: World, destination: Destination) -> None:
        destination.answers.append(Answer(slow=1))
        world.start(self.one(destination, timeout="200ms"))
        await world.send("r0")
        await until(lambda: len(destination.taken) == 2)
        await until(lambda: world.exporters[NAME].position == 1)
        assert world.letters() == []

    async def test_it_waits_as_long_as_it_is_asked_to(self, world: World, destination: Destination) -> None:
        destination.answers += [Answer("later", after=1)]
        world.start(self.one(destination))
        await world.send("r0")
        await until(lambda: destination.taken)
        first, second = destination.came
        assert second.at - first.at >= 0.95
        assert world.total("otel_ttf_exporter_retries_total", exporter=NAME) == 1
        assert world.total("otelcol_exporter_send_failed_log_records_total") == 0

    async def test_one_bad_record_costs_none_of_the_others(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = bad_if("r33")
        for first in range(0, 60, 10):
            await world.append(
                logs(*some(10, first)), records=10, ids={at: bytes([first + at]) * 16 for at in range(10)}
            )
        world.start(self.one(destination))
        await until(lambda: world.letters() and world.exporters[NAME].position == 6)
        assert destination.counts == dict.fromkeys([name for name in some(60) if name != "r33"], 1)
        (letter,) = world.letters()
        assert letter.payload == logs("r33")
        assert (letter.consumer, letter.position, letter.place) == (NAME, 4, 3)
        assert letter.ids[-16:] == bytes([33]) * 16
        assert "secret" not in letter.error
        assert world.total("otelcol_exporter_send_failed_log_records_total", exporter=NAME) == 1
        assert world.total("otelcol_exporter_sent_log_records_total", exporter=NAME) == 59
        assert world.total("otel_ttf_quarantine_total", consumer=NAME, action="set_aside") == 1

    async def test_each_refused_record_is_set_aside_once_whatever_ends_first(
        self, world: World, destination: Destination
    ) -> None:
        slow = Answer("bad", slow=1.5)
        answers = {"ok1": Answer(slow=0.3), "bad2": slow, "bad3": BAD, "ok4": Answer(slow=0.1)}
        destination.judge = lambda came: answers[came.names[0]]
        world.start(self.one(destination, sending_queue={"batch": {"min_size": 1}}))
        await world.send("ok1", "bad2")
        # The cursor has been saved while the second is on its way.
        await until(lambda: world.exporters[NAME].position == 1)
        await world.send("bad3", "ok4")
        await until(lambda: world.exporters[NAME].position == 4)
        assert sorted(letter.payload for letter in world.letters()) == [logs("bad2"), logs("bad3")]

    @pytest.mark.parametrize("ordered", [False, True], ids=["in any order", "ordered"])
    async def test_who_refuses_everything_gets_it_later_and_nothing_is_set_aside(
        self, world: World, destination: Destination, ordered: bool
    ) -> None:
        configs = self.one(destination, ordered=ordered, sending_queue={"batch": {"min_size": 1}})
        world.start(configs)
        await world.send("before")
        await until(lambda: world.exporters[NAME].position == 1)
        destination.judge = lambda _: BAD
        await world.append(logs(*some(3000, 1000)), records=3000)
        for round_ in range(3):
            await world.send(*some(20, 20 * round_))
            exporter, before = world.exporters[NAME], len(destination.came)
            await until(lambda exporter=exporter: "refuses everything" in (exporter.note() or ""))  # type: ignore[misc]
            await until(lambda before=before: len(destination.came) > before + 200)  # type: ignore[misc]
            assert world.total("otel_ttf_exporter_refusing", exporter=NAME) == 1
            assert world.total("otelcol_exporter_send_failed_log_records_total") == 0
            assert (exporter.position, world.letters()) == (1, [])
            await world.stop()
            assert world.log.end() == world.log.position("tracker")
            world.start(configs)
        assert world.letters() == []
        destination.judge = lambda _: OK
        await until(lambda: world.exporters[NAME].position == world.log.end())
        expected = ["before", *some(3000, 1000), *some(60)]
        assert destination.taken == expected if ordered else destination.counts == Counter(expected)
        assert world.exporters[NAME].note() is None
        assert world.total("otel_ttf_exporter_refusing", exporter=NAME) == 0
        assert world.letters() == []

    async def test_an_hour_of_refusals_costs_a_request_now_and_then(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda _: BAD
        retry = {"initial_interval": "20ms", "max_interval": "1m"}
        await world.append(logs(*some(3000)), records=3000)
        await world.send(*some(10, 3000))
        world.start(self.one(destination, retry_on_failure=retry, sending_queue={"batch": {"min_size": 1}}))
        await until(world.exporters[NAME].note)
        came = len(destination.came)
        assert came < 100
        await asyncio.sleep(0.5)
        assert len(destination.came) <= came + 2, "what was on its way"

    @pytest.mark.parametrize("ordered", [False, True], ids=["in any order", "ordered"])
    async def test_a_row_of_bad_requests_is_set_aside_as_soon_as_another_is_taken(
        self, world: World, destination: Destination, ordered: bool
    ) -> None:
        destination.judge = lambda came: BAD if came.names[0].startswith("bad") else OK
        await world.send(*(f"bad{number}" for number in range(30)), *some(5))
        world.start(self.one(destination, ordered=ordered, sending_queue={"batch": {"min_size": 1}}))
        await until(lambda: world.exporters[NAME].position == 35)
        assert sorted(destination.taken) == some(5)
        assert destination.taken == some(5) or not ordered
        assert len(world.letters()) == 30

    async def test_a_bad_request_alone_waits_for_another_one(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = bad_if("bad")
        world.start(self.one(destination))
        await world.send("bad")
        exporter = world.exporters[NAME]
        await until(exporter.note)
        assert (exporter.position, world.letters()) == (0, [])
        await world.send("good")
        await until(lambda: exporter.position == 2)
        assert destination.taken == ["good"]
        assert [letter.payload for letter in world.letters()] == [logs("bad")]
        assert exporter.note() is None

    async def test_who_begins_to_refuse_everything_within_a_batch_gets_the_rest_later(
        self, world: World, destination: Destination
    ) -> None:
        destination.answers += [Answer("bad"), OK]
        destination.judge = lambda _: BAD
        await world.append(logs(*some(4096)), records=4096)
        world.start(self.one(destination))
        await until(world.exporters[NAME].note)
        destination.judge = lambda _: OK
        await until(lambda: world.exporters[NAME].position == 1)
        letters = world.letters()
        assert len(letters) <= 24
        assert {letter.error for letter in letters} <= {"HTTP 400", "INVALID_ARGUMENT"}
        assert max(destination.counts.values()) == 1
        assert len(destination.counts) + len(letters) == 4096

    async def test_a_request_that_is_too_large_is_halved(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda came: Answer("large") if came.size > 4000 else OK
        await world.append(logs(*some(40), body="x" * 400), records=40)
        world.start(self.one(destination))
        await until(lambda: world.exporters[NAME].position == 1)
        assert destination.counts == dict.fromkeys(some(40), 1)
        assert world.letters() == []

    async def test_batches_grow_again_where_only_one_was_found_too_large(
        self, world: World, destination: Destination
    ) -> None:
        destination.answers.append(Answer("large"))
        queue = {"batch": {"max_bytes": "64KiB", "flush_timeout": "1s"}}
        world.start(self.one(destination, sending_queue=queue))
        for number in range(250):
            await world.append(logs(f"r{number}", body="x" * 8000))
        await until(lambda: len(destination.taken) == 250)
        sizes = [one.size for one in destination.came]
        assert max(sizes[8:14]) < 50_000, "as many may have been put together before"
        assert max(sizes[14:]) > 56_000

    async def test_a_record_that_is_too_large_is_set_aside(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda came: Answer("large") if came.size > 4000 else OK
        await world.append(logs("large", body="x" * 5000))
        await world.send("small")
        world.start(self.one(destination))
        await until(lambda: world.exporters[NAME].position == 2)
        assert destination.taken == ["small"]
        assert [letter.payload for letter in world.letters()] == [logs("large", body="x" * 5000)]

    async def test_what_is_refused_in_part_is_told_and_never_sent_again(
        self, world: World, destination: Destination
    ) -> None:
        destination.answers.append(Answer("partial", rejected=3))
        await world.append(logs(*some(10)), records=10)
        world.start(self.one(destination))
        await until(lambda: world.exporters[NAME].position == 1)
        await world.stop()
        assert len(destination.came) == 1
        assert world.total("otelcol_exporter_sent_log_records_total") == 7
        assert world.total("otelcol_exporter_send_failed_log_records_total") == 3
        world.start(self.one(destination))
        (letter,) = world.letters()
        assert "3 of 10" in letter.error
        assert letter.payload == logs(*some(10))

    async def test_a_connection_that_is_cut_in_mid_answer_loses_nothing(
        self, world: World, destination: Destination
    ) -> None:
        cutting = Cutting(destination, 3)
        world.start({NAME: self.config(cutting.port, **FAST)})
        for number in range(20):
            await world.send(f"r{number}")
            await asyncio.sleep(0.02)
        await until(lambda: world.exporters[NAME].position == 20)
        assert set(destination.counts) == set(some(20))
        assert cutting.left < 3
        assert world.letters() == []
        cutting.close()

    async def test_who_refuses_us_is_asked_later_and_nothing_is_given_up(
        self, world: World, destination: Destination
    ) -> None:
        destination.answers += [DENIED] * 3
        world.start(self.one(destination))
        await world.send(*some(5))
        exporting = world.exporting
        assert exporting is not None
        await until(exporting.notes)
        await until(lambda: len(destination.taken) == 5)
        assert world.letters() == []

    async def test_a_signal_that_is_refused_holds_up_no_other(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda came: DENIED if came.signal == "metrics" else OK
        signals: dict[str, Signal] = {f"otlp/{signal}": signal for signal in ("logs", "metrics")}
        queue = {"batch": {"max_bytes": "1KiB", "flush_timeout": "20ms"}}
        given = FAST | {"sending_queue": queue}
        world.start({name: self.config(destination.port, **given) for name in signals}, signals)
        metrics = ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="m", unit="x" * 500)
        metric.gauge.data_points.add(as_int=1)
        for name in some(50):
            await world.append(metrics.SerializeToString(), signal="metrics")
            await world.send(name)
        await until(lambda: world.exporters["otlp/logs"].position == 100)
        assert destination.counts == dict.fromkeys(some(50), 1)
        assert world.exporters["otlp/metrics"].position == 0
        destination.judge = lambda _: OK
        await until(lambda: world.exporters["otlp/metrics"].position >= 99)
        assert destination.counts["m"] == 50
        assert world.letters() == []

    async def test_after_max_elapsed_time_it_is_set_aside(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda _: LATER
        retry = FAST["retry_on_failure"] | {"max_elapsed_time": "300ms"}  # type: ignore[operator]
        world.start(self.one(destination, retry_on_failure=retry))
        await world.send("r0")
        await until(lambda: world.exporters[NAME].position == 1)
        assert len(destination.came) > 1
        assert [letter.payload for letter in world.letters()] == [logs("r0")]

    async def test_a_restart_sends_nothing_twice(self, world: World, destination: Destination) -> None:
        for round_ in range(3):
            world.start(self.one(destination))
            await world.send(*some(20, 20 * round_))
            await world.stop()
            await world.send(f"between{round_}")
            await world.reopen()
        world.start(self.one(destination))
        await until(lambda: len(destination.taken) >= 63)
        await world.stop()
        assert destination.counts == dict.fromkeys([*some(60), *(f"between{n}" for n in range(3))], 1)

    async def test_what_is_not_taken_before_the_end_is_sent_after_it(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = lambda _: LATER
        world.start(self.one(destination))
        await world.send(*some(20))
        await until(lambda: destination.came)
        began = time.monotonic()
        await world.stop(3)
        assert time.monotonic() - began < 2.5, "it has waited for somebody who does not answer"
        await world.reopen()
        destination.judge = lambda _: OK
        world.start(self.one(destination))
        await until(lambda: len(destination.taken) >= 20)
        assert destination.counts == dict.fromkeys(some(20), 1)

    async def test_one_that_was_away_holds_no_rows_and_sends_nothing_twice(
        self, world: World, destination: Destination
    ) -> None:
        world.start(self.one(destination))
        await world.send(*some(10))
        await until(lambda: world.exporters[NAME].position == 10)
        await world.stop()
        world.start({})
        await world.send(*some(10, 10))
        await until(lambda: world.log._bounds.gone == 20)
        await world.stop()
        world.start(self.one(destination))
        await world.send("back")
        await until(lambda: "back" in destination.taken)
        assert destination.counts == dict.fromkeys([*some(10), "back"], 1)
        await until(world.letters)
        (letter,) = world.letters()
        assert letter.source == "positions 11 to 20, 10 records of all signals"

    async def test_a_lost_file_of_cursors_costs_no_record(
        self, world: World, destination: Destination
    ) -> None:
        world.start(self.one(destination))
        await world.send(*some(10))
        await until(lambda: world.exporters[NAME].position == 10)
        await world.reopen()
        for file in world.folder.glob("exporters.db*"):
            file.unlink()
        await world.send(*some(10, 10))
        world.start(self.one(destination))
        await until(lambda: set(destination.counts) == set(some(20)))
        assert max(destination.counts.values()) == 1, "the log was closed in between: it knows all of it"

    async def test_while_nothing_can_be_saved_little_is_sent_and_it_goes_on_by_itself(
        self, world: World, destination: Destination
    ) -> None:
        world.start(self.one(destination, sending_queue={"batch": {"max_bytes": "1KiB"}}))
        exporting = world.exporting
        assert exporting is not None
        world.book._db.execute("PRAGMA query_only=ON")
        await world.send(*some(100), body="x" * 200)
        await until(exporting.notes)
        assert "exporters.db: the file is read-only" in exporting.notes()[0]
        await until(lambda: len(destination.taken) > 10)
        await asyncio.sleep(0.3)
        assert len(destination.taken) < 30, "(2 + 2) * 1 KiB"
        assert world.log.refusing() is None
        world.book._db.execute("PRAGMA query_only=OFF")
        await until(lambda: world.exporters[NAME].position == 100)
        assert destination.counts == dict.fromkeys(some(100), 1)
        assert exporting.notes() == []

    @pytest.mark.parametrize(("start_at", "expected"), [("end", ["new"]), ("beginning", ["old", "new"])])
    async def test_it_begins_where_it_is_told_to(
        self, world: World, destination: Destination, start_at: str, expected: list[str]
    ) -> None:
        await world.send("old")
        world.start(self.one(destination, start_at=start_at))
        await world.send("new")
        await until(lambda: "new" in destination.taken)
        assert sorted(destination.taken) == sorted(expected)
        assert world.letters() == []

    async def test_ordered_means_in_the_order_of_the_log(
        self, world: World, destination: Destination
    ) -> None:
        destination.answers += [OK, LATER, LATER, Answer("large"), OK, Answer("later", after=0)] * 3
        queue = {"batch": {"min_size": 4, "flush_timeout": "10ms"}}
        world.start(self.one(destination, ordered=True, sending_queue=queue))
        await world.send(*some(100))
        await until(lambda: len(destination.taken) == 100)
        assert destination.taken == some(100)

    async def test_several_are_on_their_way_unless_they_are_to_be_ordered(
        self, world: World, destination: Destination
    ) -> None:
        under_way: list[int] = []
        most: list[int] = []

        def judge(_: Came) -> Answer:
            under_way.append(1)
            most.append(len(under_way))
            time.sleep(0.05)
            under_way.pop()
            return OK

        destination.judge = judge
        for ordered in (True, False):
            await world.stop()
            await world.send(*some(40))
            most.clear()
            queue = {"num_consumers": 4, "batch": {"min_size": 2}}
            name = f"otlp/{ordered}"
            given = FAST | {"ordered": ordered, "sending_queue": queue}
            world.start({name: self.config(destination.port, **given)})
            await until(lambda name=name: world.exporters[name].position == world.log.end())  # type: ignore[misc]
            assert (max(most) == 1) == ordered

    async def test_one_that_lies_too_far_behind_skips_and_says_what(
        self, world: World, destination: Destination
    ) -> None:
        await world.reopen(max_size="1MiB", max_lag="200KiB")
        destination.judge = lambda _: LATER
        world.start(self.one(destination, sending_queue={"batch": {"max_bytes": "1KiB"}}))
        sent = []
        for number in range(60):
            name = f"r{number}"
            try:
                await world.append(logs(name, body=os.urandom(7000).hex()))
            except LogRefused:
                await asyncio.sleep(0.05)
                continue
            sent.append(name)
        await until(lambda: world.log.gaps(NAME), 20)
        destination.judge = lambda _: OK
        await world.send("last")
        await until(lambda: "last" in destination.taken)
        await until(lambda: world.letters())
        gaps = [letter for letter in world.letters() if letter.error == "beyond log.max_lag"]
        assert gaps
        skipped = sum(int(letter.source.split(", ")[1].split()[0]) for letter in gaps)
        assert skipped > 0
        assert len(destination.counts) + skipped == len(sent) + 1
        assert world.total("otel_ttf_exporter_skipped_records_total", exporter=NAME) == skipped

    async def test_a_clock_that_jumps_changes_nothing(self, world: World, destination: Destination) -> None:
        destination.answers += [LATER, Answer("later", after=1), OK]
        world.start(self.one(destination))
        await world.send(*some(5))
        for hours in (2, -2):
            world.wall_ahead = hours * HOUR
            await world.send(f"at {hours}")
        await until(lambda: len(destination.taken) == 7)
        assert set(destination.counts.values()) == {1}
        assert world.letters() == []

    async def test_a_letter_is_sent_again_when_somebody_asks(
        self, world: World, destination: Destination
    ) -> None:
        destination.judge = bad_if("r1")
        world.start(self.one(destination))
        await world.send(*some(3))
        await until(lambda: world.letters() and world.exporters[NAME].position == 3)
        (letter,) = world.letters()
        assert letter.id is not None

        def ask(kind: Any) -> Any:
            return Tasks(world.book._db).ask(kind, {"ids": [letter.id, 7]}, 0)

        def answer(task: int) -> Any:
            return Tasks(world.book._db).answered(task)

        task = ask("retry")
        await until(lambda: answer(task))
        assert list(answer(task)["failed"]) == [str(letter.id)]
        assert answer(task)["unknown"] == [7]
        assert [one.tries for one in world.letters()] == [1]
        destination.judge = lambda _: OK
        task = ask("retry")
        await until(lambda: answer(task))
        assert answer(task)["done"] == [letter.id]
        assert world.letters() == []
        assert destination.counts == dict.fromkeys(some(3), 1)

    async def test_a_letter_goes_to_no_vendor_that_must_not(
        self, world: World, destination: Destination
    ) -> None:
        request = ExportLogsServiceRequest.FromString(logs("sold", "kept"))
        kept = request.resource_logs[0].scope_logs[0].log_records[1]
        kept.attributes.add(key="ttf.consent.do_not_sell").value.bool_value = True
        destination.judge = lambda came: OK if came.names == ["good"] else BAD
        world.start(self.one(destination))
        await world.append(request.SerializeToString(), records=2)
        await world.send("good")
        await until(lambda: len(world.letters()) == 2)
        ids = [letter.id for letter in world.letters()]
        await world.stop()
        destination.judge = lambda _: OK
        world.start(self.one(destination, vendor=True))
        Tasks(world.book._db).ask("retry", {"ids": ids}, 0)
        await until(lambda: not world.letters())
        assert destination.taken == ["good", "sold"]
