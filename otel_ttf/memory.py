"""Memory of the process: what the C library keeps when nobody needs it any more, and when Python's collector looks."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress

# For gc.set_threshold: new objects, collections of these, collections of those.
# Requests live for milliseconds and hold no cycles: collecting often finds nothing, and costs up to 5 % of a CPU.
_RARELY = 50_000, 20, 100
# Where most new objects stay, a collection looks at each of them, and nobody is answered meanwhile: 7 ms for 50,000,
# and some 80 ms whenever that has happened 20 times. All of them come up as rarely as above.
_IN_STEPS = 1_000, 5, 20_000

_M_ARENA_MAX = -8  # of <malloc.h>


def limit_arenas() -> None:
    """glibc gives each thread an arena of its own, which keeps what it once held: a few threads share two."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def collect(*, in_steps: bool) -> None:
    """in_steps: while thousands of objects come that stay, so that no collection takes more than some 3 ms."""
    gc.set_threshold(*(_IN_STEPS if in_steps else _RARELY))


def give_back() -> None:
    """Free memory goes back to the system, which glibc does by itself only at the end of its heaps. Milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident() -> int | None:
    """Bytes that the process has in memory; None: the system does not say (only Linux does)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
