"""Disks that tests break: one that is slow, stands still or fails, and a small one that gets full."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SOURCE = Path(__file__).with_name("faulty_disk.c")
MIB = 1 << 20


class CannotBreak(Exception):
    """This machine cannot do that to a disk; the message says what is missing."""


class _Control(ctypes.Structure):
    """`struct control` of faulty_disk.c."""

    _fields_ = [
        (name, ctypes.c_int32) for name in ("sync_ms", "hold", "write_error", "sync_error", "syncs", "held")
    ]


class FaultyDisk:
    """What is below a folder, for servers with this `environment`; steered while they run.

    control.sync_ms      what a sync takes
    control.hold         1: syncs do not end; control.held of them stand still now
    control.write_error  errno of whatever would change a file; control.sync_error: of a sync
    control.syncs        how many have ended
    """

    def __init__(self, below: Path, workshop: Path) -> None:
        """workshop: a folder for what is compiled. Raises CannotBreak."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise CannotBreak("there is no C compiler (cc): the disk cannot be made slow or faulty")
        library, steering = workshop / "faulty_disk.so", workshop / "faulty_disk.control"
        made = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise CannotBreak(f"{compiler} cannot compile {SOURCE.name}: {made.stderr.strip()[:300]}")
        steering.write_bytes(bytes(ctypes.sizeof(_Control)))
        with steering.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self.control = _Control.from_buffer(self._shared)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULTY_DISK": str(steering),
            "FAULTY_DISK_BELOW": str(below.resolve()),
        }


class SmallDisk:
    """A disk of its own, to be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leave: int) -> None:
        """Fills it until about so many bytes are free: down to the last page for 0."""
        with self._ballast.open("ab") as file:
            for _ in range(1000):  # others write there, too
                free = shutil.disk_usage(self.folder).free
                if free <= leave:
                    return
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free - leave)
        raise CannotBreak(f"{self.folder} cannot be filled: {free} bytes are free, {leave} were wanted")

    def make_room(self) -> None:
        """Takes away what filled it."""
        self._ballast.unlink(missing_ok=True)

    def read_only(self) -> None:
        """Nobody may write any more. Nobody may have a file open for it, either."""
        _run("mount", "-o", "remount,ro", str(self.folder))

    def writable(self) -> None:
        """As it was."""
        _run("mount", "-o", "remount,rw", str(self.folder))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A file system of so many bytes in memory. Raises CannotBreak."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise CannotBreak("only root can mount a small disk (tmpfs)")
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotBreak(f"{' '.join(command)}: {done.stderr.strip()}")
