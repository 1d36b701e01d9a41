"""The times of a state as bytes: big-endian int64 per milestone, UNSET where it was not reached."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def pack_times(times: Sequence[int]) -> bytes:
    """Of State.reached."""
    return struct.pack(f">{len(times)}q", *times)


def unpack_times(packed: bytes) -> tuple[int, ...]:
    """The opposite of pack_times."""
    return struct.unpack(f">{len(packed) // 8}q", packed)
