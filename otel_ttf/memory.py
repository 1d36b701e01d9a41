"""Memory of the process, and what the C library keeps of it when nobody needs it any more."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_ARENA_MAX = -8  # of <malloc.h>


def limit_arenas() -> None:
    """glibc gives each thread an arena of its own, which keeps what it once held: a few threads share two."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


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
