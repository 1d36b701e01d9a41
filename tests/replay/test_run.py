"""One run over a file, against a receiver that says what a test wants."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from written import file_of, json_lines, logs, spans

from otel_ttf.otlp.wire import Signal
from otel_ttf.replay import run as running
from otel_ttf.replay.places import SUFFIX, beside, found
from otel_ttf.replay.run import GivenUp, Replay
from otel_ttf.replay.senders import Again, Refused, Taken, pause

Answer = Callable[[int, list[str]], Taken]


class Receiver:
    """Keeps which users came, request by request; `answer(number, users)` may raise."""

    def __init__(self, answer: Answer = lambda number, users: Taken()) -> None:
        self.answer = answer
        self.asked = 0
        self.taken: list[str] = []
        self.signals: list[Signal] = []

    async def send(self, signal: Signal, raw: bytes) -> Taken:
        self.asked += 1
        users = users_of(raw) if signal == "logs" else []
        answer = self.answer(self.asked, users)
        await asyncio.sleep(0)
        self.taken += users
        self.signals.append(signal)
        return answer

    async def close(self) -> None:
        pass


def users_of(raw: bytes) -> list[str]:
    request = ExportLogsServiceRequest.FromString(raw)
    return [
        attribute.value.string_value
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        for attribute in record.attributes
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "pause", lambda tries, seconds: 0.0)
    monkeypatch.setattr(running, "TOGETHER_RECORDS", 10)
    monkeypatch.setattr(running, "SAVE_SECONDS", 0.0)


USERS = [f"u{number}" for number in range(100)]
SIZE = len(json_lines([logs(user) for user in USERS]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return file_of(tmp_path, json_lines([logs(user) for user in USERS]))


def replay(file: Path, receiver: Any, **more: Any) -> Replay:
    return Replay(file, receiver, "http://there", **more)


async def test_everything_is_sent_in_few_requests(file: Path) -> None:
    receiver = Receiver()
    run = replay(file, receiver)
    await run.run()
    assert sorted(receiver.taken) == sorted(USERS)
    assert receiver.asked == 10
    assert run.place.records == 100
    assert run.place.offset == SIZE


async def test_signals_go_their_own_ways(tmp_path: Path) -> None:
    receiver = Receiver()
    await replay(file_of(tmp_path, json_lines([logs("a"), spans("x"), logs("b")])), receiver).run()
    assert sorted(receiver.signals) == ["logs", "logs", "traces"]


async def test_what_was_answered_is_not_sent_again(file: Path) -> None:
    def dies(number: int, users: list[str]) -> Taken:
        if "u42" in users:
            raise OSError("kill -9")
        return Taken()

    first = Receiver(dies)
    with pytest.raises(OSError, match="kill"):
        await replay(file, first).run()
    second = Receiver()
    run = replay(file, second)
    assert run.resumed
    await run.run()
    assert set(first.taken) | set(second.taken) == set(USERS)
    # No more than what was on its way.
    assert len(first.taken) + len(second.taken) <= 100 + 10 * running.IN_FLIGHT
    assert run.place.offset == SIZE
    assert second.taken[0] == "u40"


async def test_a_second_run_sends_only_what_was_added(file: Path) -> None:
    await replay(file, Receiver()).run()
    file_of(file.parent, json_lines([logs(user) for user in [*USERS, "late"]]))
    receiver = Receiver()
    await replay(file, receiver).run()
    assert receiver.taken == ["late"]


@pytest.mark.parametrize(
    "why", ["another file", "another receiver", "asked for", "a broken note", "an impossible place"]
)
async def test_it_begins_anew(file: Path, why: str) -> None:
    await replay(file, Receiver()).run()
    receiver = Receiver()
    if why == "another file":
        file_of(file.parent, json_lines([logs(user) for user in reversed(USERS)]))
    if why == "a broken note":
        file_of(file.parent, b'{"to": 1}', file.name + SUFFIX)
    if why == "an impossible place":
        note = json.loads(beside(file, None).read_text()) | {"offset": -7}
        beside(file, None).write_text(json.dumps(note))
    to = "http://elsewhere" if why == "another receiver" else "http://there"
    await Replay(file, receiver, to, again=why == "asked for").run()
    assert len(receiver.taken) == 100


async def test_what_has_no_time_keeps_what_it_got_at_the_first_run(tmp_path: Path) -> None:
    request = logs("ada")
    request.resource_logs[0].scope_logs[0].log_records[0].ClearField("time_unix_nano")
    request.resource_logs[0].scope_logs[0].log_records[0].ClearField("observed_time_unix_nano")
    path = file_of(tmp_path, json_lines([request]))
    os.utime(path, ns=(0, 1_700_000_000 * 10**9))
    times = []
    for again in (False, True, True):

        class Keeping(Receiver):
            async def send(self, signal: Signal, raw: bytes) -> Taken:
                (record,) = (
                    ExportLogsServiceRequest.FromString(raw).resource_logs[0].scope_logs[0].log_records
                )
                times.append(record.observed_time_unix_nano)
                return Taken()

        await replay(path, Keeping(), again=again).run()
        path.touch()
    assert times == [1_700_000_000 * 10**9] * 3


async def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(file_of(tmp_path / name, json_lines([logs(user) for user in USERS])))
    notes.mkdir()
    for file in files:
        await replay(file, Receiver(), folder=notes).run()
    assert len(list(notes.iterdir())) == 2
    for file in files:
        again = Receiver()
        await replay(file, again, folder=notes).run()
        assert again.taken == []


SAVING = """
import sys
from pathlib import Path
from otel_ttf.replay.places import begun, beside, save
file = Path(sys.argv[1])
for _ in range(300):
    save(beside(file, None), begun(file, "http://there"))
"""


def test_two_runs_of_a_file_at_once_do_each_other_no_harm(file: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", SAVING, str(file)]) for _ in range(2)]
    assert [run.wait(50) for run in runs] == [0, 0]
    assert found(beside(file, None), file, "http://there") is not None
    assert {path.name for path in file.parent.iterdir()} == {file.name, file.name + SUFFIX}


async def test_a_busy_receiver_is_asked_again(file: Path) -> None:
    def busy(number: int, users: list[str]) -> Taken:
        if number % 3:
            raise Again("it answers 503", 0.5)
        return Taken()

    receiver = Receiver(busy)
    run = replay(file, receiver)
    await run.run()
    assert sorted(receiver.taken) == sorted(USERS)
    assert run.place.broken == 0


async def test_it_gives_up_where_nothing_is_taken_and_goes_on_there(file: Path) -> None:
    def dead(number: int, users: list[str]) -> Taken:
        if number > 3:
            raise Again("it does not answer")
        return Taken()

    first = Receiver(dead)
    with pytest.raises(GivenUp, match="takes nothing: it does not answer"):
        await replay(file, first, patience=0.0).run()
    second = Receiver()
    await replay(file, second).run()
    assert set(first.taken) | set(second.taken) == set(USERS)


async def test_the_piece_that_is_to_blame_is_found_and_named(file: Path) -> None:
    def picky(number: int, users: list[str]) -> Taken:
        if "u42" in users or "u77" in users:
            raise Refused("it answers 400: no")
        return Taken()

    receiver = Receiver(picky)
    told: list[tuple[str, str]] = []
    run = replay(file, receiver, on_left_out=lambda where, why: told.append((where, why)))
    await run.run()
    assert sorted(receiver.taken) == sorted(set(USERS) - {"u42", "u77"})
    assert told == run.place.listed == [("line 43", "it answers 400: no"), ("line 78", "it answers 400: no")]
    assert (run.place.records, run.place.broken) == (98, 2)


async def test_a_receiver_that_refuses_everything_ends_it(file: Path) -> None:
    def closed(number: int, users: list[str]) -> Taken:
        raise Refused("it answers 401", fatal=True)

    run = replay(file, Receiver(closed))
    with pytest.raises(GivenUp, match="refuses everything: it answers 401"):
        await run.run()
    assert run.place.offset == 0


async def test_records_that_were_not_taken_are_counted(file: Path) -> None:
    receiver = Receiver(lambda number, users: Taken(1, "no time") if "u0" in users else Taken())
    run = replay(file, receiver)
    await run.run()
    assert (run.place.records, run.place.rejected) == (99, 1)
    assert run.place.listed == [("line 1 to line 10", "1 records were not taken: no time")]


async def test_broken_lines_are_counted_once_over_all_runs(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"nonsense\n" + json_lines([logs("ada")]) + b"more nonsense\n")
    await replay(path, Receiver()).run()
    run = replay(path, Receiver())
    await run.run()
    assert run.place.broken == 2
    assert [where for where, _ in run.place.listed] == ["line 1", "line 3"]


async def test_an_unfinished_end_is_left_for_the_next_run(tmp_path: Path) -> None:
    whole = json_lines([logs("ada"), logs("ben")])
    path = file_of(tmp_path, whole[:-10])
    run = replay(path, Receiver())
    await run.run()
    assert run.ended is not None
    file_of(tmp_path, whole)
    receiver = Receiver()
    again = replay(path, receiver)
    await again.run()
    assert (receiver.taken, again.ended) == (["ben"], None)


def test_it_waits_as_long_as_it_is_asked_to_and_no_two_alike() -> None:
    assert all(7 <= pause(0, 7.0) <= 8 for _ in range(50))
    assert all(0 <= pause(3, None) <= 4 for _ in range(50))
    assert len({pause(9, None) for _ in range(20)}) > 15
