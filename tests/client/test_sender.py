"""How long the sending thread waits before it tries again."""

from __future__ import annotations

import random
import time

import pytest

from otel_ttf.client.options import options
from otel_ttf.client.sender import LONGEST_PAUSE, LONGEST_RETRY_AFTER, Sender
from otel_ttf.client.tell import Tell
from otel_ttf.client.waiting import Waiting


class Clock(Waiting):
    """A queue whose bell is the only clock: nobody really waits. urgent: what each wait ends with."""

    def __init__(self, urgent: bool = False) -> None:
        super().__init__(1, 1)
        self.now = 1000.0
        self._urgent = urgent

    def wait(self, seconds: float | None) -> bool:
        assert seconds is not None
        self.now += 0.001 if self._urgent else seconds
        return self._urgent


def waited(monkeypatch: pytest.MonkeyPatch, clock: Clock, tries: int, after: float, jitter: float) -> float:
    nothing = dict.fromkeys(
        ("api_url", "api_key", "service_name", "ca_file", "client_cert", "client_key"), None
    )
    told = options(
        Tell(),
        **nothing,
        max_queue=1,
        max_queue_bytes=1,
        flush_interval=1,
        timeout=1,
        exit_timeout=1,
        environment={},
    )
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(random, "uniform", lambda low, high: low + jitter * (high - low))
    began = clock.now
    assert Sender(told, clock, Tell())._pause(tries, after)
    return clock.now - began


@pytest.mark.parametrize(
    ("tries", "after", "least", "most"),
    [
        (0, 0, 0, 0.5),
        (1, 0, 0, 1),
        (4, 0, 0, 8),
        (50, 0, 0, LONGEST_PAUSE),
        (0, 7, 7, 7.5),
        (50, 1e9, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER + LONGEST_PAUSE),
    ],
)
def test_pauses_are_of_any_length_up_to_twice_the_last_and_never_shorter_than_the_server_says(
    monkeypatch: pytest.MonkeyPatch, tries: int, after: float, least: float, most: float
) -> None:
    assert waited(monkeypatch, Clock(), tries, after, 0) == pytest.approx(least)
    assert waited(monkeypatch, Clock(), tries, after, 1) == pytest.approx(most)


@pytest.mark.parametrize(("after", "least"), [(0, 0), (7, 7)])
def test_who_flushes_ends_a_pause_but_not_what_the_server_has_asked_for(
    monkeypatch: pytest.MonkeyPatch, after: float, least: float
) -> None:
    assert waited(monkeypatch, Clock(urgent=True), 50, after, 1) == pytest.approx(least, abs=0.01)


def test_however_many_flush_while_the_server_is_away_it_is_one_mark_and_one_call() -> None:
    waiting = Waiting(1, 1)
    marks = [waiting.mark() for _ in range(1000)]
    assert len(set(map(id, marks))) == 1
    assert waiting.wait(0)
    assert not waiting.wait(0)
    assert not marks[0].wait(0)
    assert waiting.take(1, 1) == []
    assert all(mark.wait(float("inf")) for mark in marks)
    assert waiting.mark() is not marks[0]
