"""What the C library keeps of the memory that nobody needs any more."""

from __future__ import annotations

import ctypes
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
