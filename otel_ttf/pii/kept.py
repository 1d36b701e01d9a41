"""Compiled databases of Hyperscan, kept in the user's cache folder: one takes a second to make, 2 ms to read.

Hyperscan trusts what it loads, so a file is read only if it and its folder are the user's own and nobody else may
write them, and only if its digest is right. Whatever is wrong, there is nothing kept, and nothing is said: the
database is made as if this were the first start.
"""

from __future__ import annotations

import os
import platform
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

# Each is of 2 MB, and of one configuration; the one that was used least recently goes.
MOST = 8
_DIGEST = sha256().digest_size


def name_of(parts: Iterable[bytes]) -> str:
    """The name of what was made of these on this CPU."""
    # Each part is digested, so that no two lists of parts are the same text.
    digest = sha256(sha256(_cpu()).digest())
    for part in parts:
        digest.update(sha256(part).digest())
    return digest.hexdigest()


def read(name: str) -> bytes | None:
    """What was kept under this name; None: nothing that can be trusted."""
    try:
        file = os.open(_folder() / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as opened:
            told = os.fstat(file)
            if not stat.S_ISREG(told.st_mode) or not _is_ours(told):
                return None
            digest, content = opened.read(_DIGEST), opened.read()
            if digest != _digest(name, content):
                return None
            os.utime(file)  # so that it is among the last to go
            return content
    except OSError:
        return None


def write(name: str, content: bytes) -> None:
    """Keeps this under the name, if it can."""
    with suppress(OSError):
        folder = _folder()
        # A name of its own: several processes may start at the same time. Not synced: the digest tells.
        file, draft = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(_digest(name, content) + content)
            os.replace(draft, folder / name)
        except OSError:
            os.unlink(draft)
            raise
        by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in by_age[MOST:]:
            old.unlink(missing_ok=True)


def _digest(name: str, content: bytes) -> bytes:
    return sha256(name.encode() + content).digest()


def _folder() -> Path:
    """The folder, made if it isn't there. Raises OSError, also when others may change what is in it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        cache = Path(os.environ.get("HOME", "")) / ".cache"
    if not cache.is_absolute():
        raise FileNotFoundError("no home")
    folder = cache / "otel-ttf"
    for made in (cache, folder):
        if not made.exists():
            # Root may have the HOME of somebody else, who could not remove what root leaves there.
            if made.parent.stat().st_uid != os.geteuid():
                raise PermissionError(made.parent)
            made.mkdir(mode=0o700, exist_ok=True)
    told = folder.lstat()
    if not stat.S_ISDIR(told.st_mode) or not _is_ours(told):
        raise PermissionError(folder)
    return folder


def _is_ours(told: os.stat_result) -> bool:
    """Whether it belongs to this user, and nobody else may write it."""
    return told.st_uid == os.geteuid() and not told.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _cpu() -> bytes:
    """What tells CPUs apart for which other code is made."""
    kind = platform.machine().encode()
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(8192).partition(b"\n\n")[0]
    except OSError:
        return kind + platform.processor().encode()
    # Of others, such as the clock, some change from one second to the next.
    same = (b"vendor_id", b"cpu family", b"model", b"flags")
    return b"\n".join([kind, *(line for line in first.splitlines() if line.startswith(same))])
