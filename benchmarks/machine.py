"""On which machine a figure was measured."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path


def describe(folder: Path) -> str:
    """Processor, memory, software, and how long a synced write takes in that folder."""
    return (
        f"{os.cpu_count()} x {_processor()}, {_memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; "
        f"write of 4 KiB with fdatasync: {sync_ms(folder):.2f} ms (median)"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def sync_ms(folder: Path, times: int = 50) -> float:
    """Median milliseconds of an appending write of 4 KiB and its sync."""
    path = folder / "sync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took) * 1000
