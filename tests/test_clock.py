"""Our clock against wall clocks that step, drift and come back."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ttf.clock import ManualClock, SystemClock, boot_id
from otel_ttf.units import HOUR, MINUTE, SECOND

START = 1_767_268_800 * SECOND  # 2026-01-01T12:00:00Z
BOOTED = 7 * HOUR
BOOT = "one-boot"


class Machine:
    """A wall clock and a steady one, moved by hand."""

    def __init__(self) -> None:
        self.wall = START
        self.steady = BOOTED
        self.clock = SystemClock(lambda: self.wall, lambda: self.steady, boot=BOOT)

    def pass_time(self, nanoseconds: int, drift: int = 0) -> None:
        self.wall += nanoseconds + drift
        self.steady += nanoseconds

    @property
    def true(self) -> int:
        """What the wall clock would say if nobody had touched it."""
        return START + self.steady - BOOTED


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_is_the_wall_clock_while_nothing_happens(machine):
    machine.pass_time(3 * HOUR)
    assert machine.clock.now() == machine.clock.later() == machine.wall
    assert (machine.clock.stepped, machine.clock.step_seconds) == (False, 0)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 61 * SECOND, -61 * SECOND], ids=lambda s: f"{s // SECOND} s")
def test_a_step_is_not_believed_at_first(machine, step):
    machine.clock.now()
    machine.wall += step
    machine.pass_time(9 * MINUTE)
    assert machine.clock.now() == machine.true
    assert machine.clock.stepped
    assert machine.clock.step_seconds == step / SECOND


@pytest.mark.parametrize(
    ("step", "later"),
    [
        pytest.param(HOUR, HOUR, id="forward: the wall clock's"),
        pytest.param(-HOUR, 0, id="back: ours"),
    ],
)
def test_an_event_without_a_time_gets_the_later_clock(machine, step, later):
    machine.wall += step
    assert machine.clock.later() == machine.true + later


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_step_that_is_taken_back_in_time_leaves_no_trace(machine, step):
    machine.wall += step
    for _ in range(9):
        machine.pass_time(MINUTE)
        assert machine.clock.now() == machine.true
    machine.wall -= step
    machine.pass_time(HOUR)
    assert machine.clock.now() == machine.true
    assert not machine.clock.stepped


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_step_that_holds_for_ten_minutes_is_the_truth(machine, step):
    machine.wall += step
    assert machine.clock.now() == machine.true
    machine.pass_time(10 * MINUTE)
    assert machine.clock.now() == machine.wall == machine.true + step
    assert (machine.clock.stepped, machine.clock.step_seconds) == (False, 0)


def test_another_step_begins_the_wait_again(machine):
    machine.wall += HOUR
    assert machine.clock.stepped
    machine.pass_time(9 * MINUTE)
    machine.wall += HOUR
    assert machine.clock.step_seconds == 7200
    machine.pass_time(9 * MINUTE)
    assert machine.clock.now() == machine.true
    machine.pass_time(MINUTE)
    assert machine.clock.now() == machine.wall


def test_the_wait_goes_on_while_the_stepped_clock_is_corrected_slowly(machine):
    machine.wall += HOUR
    for _ in range(10):
        assert machine.clock.stepped
        machine.pass_time(MINUTE, drift=30_000_000)
    assert machine.clock.now() == machine.wall


def test_a_step_is_told_once_in_ten_minutes():
    told: list[float] = []
    wall, steady = START, BOOTED
    clock = SystemClock(lambda: wall, lambda: steady, on_step=told.append)
    for minute in range(30):
        steady += MINUTE
        wall = START + steady - BOOTED + (HOUR if minute % 2 else 0)  # there and back again, each minute
        for _ in range(3):
            clock.now()
    assert told == [3600] * 3


def test_slow_corrections_are_followed(machine):
    for _ in range(24 * 60):
        machine.pass_time(MINUTE, drift=30_000_000)  # 500 ppm, the fastest that NTP slews
        assert machine.clock.now() == machine.wall
        assert not machine.clock.stepped
    assert machine.wall - machine.true > 40 * SECOND


@pytest.mark.parametrize("jump", [60 * SECOND, -60 * SECOND], ids=["forward", "back"])
def test_a_minute_is_no_step(machine, jump):
    machine.wall += jump
    assert machine.clock.now() == machine.wall


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5 * MINUTE), st.sampled_from([0, HOUR, -HOUR, 2 * HOUR, 10 * SECOND])),
        max_size=20,
    )
)
def test_our_time_is_one_of_the_two_clocks_and_later_is_never_earlier(moves):
    machine = Machine()
    for passed, step in moves:
        before = machine.clock.now()
        was_stepped = machine.clock.stepped
        machine.pass_time(passed)
        machine.wall += step
        now = machine.clock.now()
        assert machine.clock.later() >= now
        if not machine.clock.stepped:
            assert now == machine.wall
        elif was_stepped or abs(step) > MINUTE:
            assert now == before + passed


class Restart:
    """The clock of a second run. down: for how long nothing ran. steady: what the steady clock says then."""

    def __init__(
        self, machine: Machine, boot: str, *, down: int, step: int, steady: int | None = None
    ) -> None:
        last = machine.clock.anchor()
        machine.pass_time(down)
        self.true = machine.true
        self.steady = machine.steady if steady is None else steady
        self.wall = machine.wall + step
        self.told: list[float] = []
        self.clock = SystemClock(
            lambda: self.wall, lambda: self.steady, boot=boot, last=last, on_step=self.told.append
        )

    def pass_time(self, nanoseconds: int) -> None:
        self.wall += nanoseconds
        self.steady += nanoseconds
        self.true += nanoseconds


DOWN = 3 * MINUTE


@pytest.mark.parametrize("step", [0, HOUR, -HOUR, 80 * MINUTE], ids=lambda s: f"{s // MINUTE} min")
def test_a_restart_on_the_same_boot_goes_on_with_our_time(machine, step):
    after = Restart(machine, BOOT, down=DOWN, step=step)
    assert after.clock.now() == after.true
    assert after.clock.step_seconds == step / SECOND
    assert after.told == ([step / SECOND] if step else [])


@pytest.mark.parametrize("boot", ["another-boot", ""])
@pytest.mark.parametrize(
    ("step", "ours", "away"),
    [
        pytest.param(0, 0, 0, id="right"),
        pytest.param(-HOUR, -DOWN, DOWN - HOUR, id="behind: not before what was written down"),
        pytest.param(-DOWN - MINUTE, -DOWN - MINUTE, 0, id="less than a minute before that: it is followed"),
        pytest.param(HOUR, HOUR, 0, id="ahead: nobody can tell"),
    ],
)
def test_a_restart_on_another_boot_begins_no_earlier_than_the_last_run_ended(machine, boot, step, ours, away):
    after = Restart(machine, boot, down=DOWN, step=step, steady=MINUTE)
    assert after.clock.now() == after.true + ours
    assert after.clock.step_seconds == away / SECOND
    assert after.told == ([away / SECOND] if away else [])


def test_without_a_name_for_the_boot_the_steady_clock_is_not_compared(machine):
    unnamed = SystemClock(lambda: START, lambda: 5 * HOUR).anchor()
    assert SystemClock(lambda: START + 2 * HOUR, lambda: 6 * HOUR, last=unnamed).now() == START + 2 * HOUR


def test_a_steady_clock_that_went_back_is_none_of_the_same_boot(machine):
    after = Restart(machine, BOOT, down=DOWN, step=-HOUR, steady=MINUTE)
    assert after.clock.now() == after.true - DOWN


def test_a_time_of_a_clock_that_was_ahead_goes_on_for_ten_minutes(machine):
    machine.wall += 80 * MINUTE
    assert machine.clock.stepped
    machine.pass_time(10 * MINUTE)
    assert not machine.clock.stepped
    begun = machine.wall
    after = Restart(machine, "another-boot", down=0, step=-80 * MINUTE)
    for minute in range(10):
        assert (after.clock.now(), after.clock.stepped) == (begun + minute * MINUTE, True)
        after.pass_time(MINUTE)
    assert after.clock.now() == after.wall == after.true
    assert not after.clock.stepped


def test_a_step_that_is_not_believed_yet_is_not_kept(machine):
    machine.wall += HOUR
    after = Restart(machine, BOOT, down=DOWN, step=-HOUR)
    assert after.clock.now() == after.wall == after.true
    assert not after.clock.stepped


@pytest.mark.parametrize(
    "last",
    [
        None,
        "",
        f"{BOOT} 5",
        f"{BOOT} {BOOTED} -{START}",
        f"{BOOT} {BOOTED} {START // SECOND}",
        f"{BOOT} {BOOTED} 9{START}",
        f"{BOOT} {BOOTED} 9{str(START)[1:]}",
        f"{BOOT} x {START}",
    ],
)
def test_an_anchor_that_is_none_is_not_believed(last):
    clock = SystemClock(lambda: START - HOUR, lambda: BOOTED, boot=BOOT, last=last)
    assert (clock.now(), clock.stepped) == (START - HOUR, False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names its boots")
def test_the_boot_has_one_name():
    assert boot_id() == boot_id() != ""
    assert " " not in boot_id()


def test_the_machines_clock_is_the_default():
    clock = SystemClock()
    before = time.time_ns()
    assert before <= clock.now() <= clock.later() <= time.time_ns()


def test_a_manual_clock_stands_until_it_is_moved():
    clock = ManualClock(START)
    clock.advance(5)
    assert (clock.now(), clock.later(), clock.stepped, clock.step_seconds) == (START + 5, START + 5, False, 0)
