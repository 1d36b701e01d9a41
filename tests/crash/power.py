"""Power cuts: what a killed server has written and not synced is gone, or there in part, in any order."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("unsynced.c")
_HEAD = struct.Struct("=5Q")
_SECTOR = 512


def compiler() -> str | None:
    """The C compiler that there is."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@dataclass(frozen=True, slots=True)
class Write:
    """What was done to a file since it was synced last. before: what stood there, as far as the file went."""

    place: int
    data: bytes
    before: bytes
    size_before: int
    cut: bool


class Disk:
    """A data directory whose unsynced writes are known. environment: for the servers that write there."""

    def __init__(self, folder: Path, work: Path) -> None:
        self._folder = folder
        self._records = work / "unsynced"
        self._records.mkdir()
        library = work / "unsynced.so"
        command = [
            str(compiler()),
            "-O1",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(SOURCE),
        ]
        subprocess.run(command, check=True, timeout=60)
        self.environment = {
            "LD_PRELOAD": str(library),
            "UNSYNCED_FOLDER": str(folder.absolute()),
            "UNSYNCED_RECORDS": str(self._records),
        }

    def cut_power(self, rng: random.Random) -> int:
        """Takes away unsynced writes of a server that is dead; how many there were."""
        lost = 0
        for path in sorted(self._folder.rglob("*")):
            record = self._records / str(path.stat().st_ino)
            if path.is_file() and record.exists():
                writes = _writes(record.read_bytes())
                lost += len(writes)
                path.write_bytes(_after(path.read_bytes(), writes, rng))
                os.truncate(record, 0)
        return lost


def _writes(data: bytes) -> list[Write]:
    writes = []
    at = 0
    while at < len(data):
        place, size, old, size_before, cut = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        writes.append(
            Write(place, data[at + old : at + old + size], data[at : at + old], size_before, bool(cut))
        )
        at += old + size
    return writes


def _after(now: bytes, writes: list[Write], rng: random.Random) -> bytes:
    """What is on the disk: the file as it was synced, and those of the writes that got there, some in part."""
    content = bytearray(now)
    for write in reversed(writes):
        end = write.place + len(write.before)
        content[write.place : end] = write.before
        del content[write.size_before :]
        content.extend(bytes(write.size_before - len(content)))
    share = rng.choice((0.0, 0.0, 0.3, 0.7, 0.95))
    for write in writes:
        if rng.random() >= share:
            continue
        if write.cut:
            del content[write.place :]
            content.extend(bytes(write.place - len(content)))
            continue
        data = write.data
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data) + 1) // _SECTOR * _SECTOR]
        content.extend(bytes(max(0, write.place + len(data) - len(content))))
        content[write.place : write.place + len(data)] = data
    return bytes(content)
