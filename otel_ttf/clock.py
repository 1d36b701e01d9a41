"""Our one clock: the wall clock, held by an anchor that does not step (journeys.md, Time).

The anchor is CLOCK_BOOTTIME, which also runs while the machine sleeps; where there is none, the monotonic clock.
What the log keeps of it lets the next start go on with it, see `SystemClock.anchor`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from otel_ttf.units import MINUTE, SECOND

# A wall clock that stands further away has stepped; nearer, it is being corrected slowly and is followed.
STEP = 60 * SECOND
# A step that has held for so long is the truth.
HOLDS = 10 * MINUTE
# Boot, steady clock, our time; one before 2001 or after 2128 is no time of ours.
_ANCHOR = re.compile(r"(\S*) (\d{1,19}) ([1-4]\d{18})")


class Clock(Protocol):
    """What time it is. Unix nanoseconds."""

    @property
    def stepped(self) -> bool:
        """Whether the wall clock has stepped away and is not believed yet."""

    def now(self) -> int:
        """Our time."""

    def later(self) -> int:
        """The later of our time and the wall clock's: what an event without a time gets."""

    def anchor(self) -> str:
        """What the next start is to know of our time, see SystemClock."""


def boot_id() -> str:
    """The kernel's name for the time since it booted; "" where it gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _began(last: str | None, boot: str, steady: int, wall: int) -> int:
    """Our time at the start, unix ns. Where the wall clock's is another, it counts as stepped."""
    known = _ANCHOR.fullmatch(last or "")
    if known is None:
        return wall
    then, ours = int(known[2]), int(known[3])
    if boot and known[1] == boot and steady >= then:
        return ours + steady - then
    return max(wall, ours)  # nobody knows how long nothing ran, only that time does not go back


class SystemClock:
    """The machine's clock. Any thread may ask.

    wall     unix ns, may step
    steady   ns, never steps
    boot     as long as it is the same, so is what `steady` counts from; "": not known
    last     `anchor` of the last run. Of the same boot: our time goes on from it. Of another: it is no earlier
    on_step  told how many seconds the wall clock has stepped; of further steps only after as long as one has to hold
    """

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] | None = None,
        *,
        boot: str = "",
        last: str | None = None,
        on_step: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._on_step = on_step
        self._told: int | None = None
        self._wall = wall
        self._steady = steady or (_boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns)
        self._boot = boot
        start = self._steady()
        self._offset = _began(last, boot, start, self._wall()) - start
        self._since: int | None = None
        self._step = 0
        self._lock = threading.Lock()

    def _read(self) -> tuple[int, int, int]:
        """(our time, the wall clock's, the steady one's)."""
        step = None
        with self._lock:
            wall, steady = self._wall(), self._steady()
            away = wall - (steady + self._offset)
            if abs(away) <= STEP:
                self._offset += away
                self._since, self._step = None, 0
            elif self._since is None or abs(away - self._step) > STEP:
                self._since, self._step = steady, away
                if self._told is None or steady - self._told >= HOLDS:
                    self._told = steady
                    step = away
            elif steady - self._since >= HOLDS:
                self._offset += away
                self._since, self._step = None, 0
            ours = steady + self._offset
        if step is not None:
            self._on_step(step / SECOND)
        return ours, wall, steady

    def now(self) -> int:
        return self._read()[0]

    def later(self) -> int:
        return max(self._read()[:2])

    def anchor(self) -> str:
        ours, _, steady = self._read()
        return f"{self._boot} {steady} {ours}"

    @property
    def stepped(self) -> bool:
        self._read()
        return self._since is not None

    @property
    def step_seconds(self) -> float:
        """How far the wall clock stands from ours; 0 when they agree."""
        self._read()
        return self._step / SECOND


class ManualClock:
    """A clock that a test sets."""

    stepped = False
    step_seconds = 0.0

    def __init__(self, now: int) -> None:
        self._now = now

    def advance(self, by: int) -> None:
        """Moves on by nanoseconds."""
        self._now += by

    def now(self) -> int:
        return self._now

    def later(self) -> int:
        return self._now

    def anchor(self) -> str:
        return ""
