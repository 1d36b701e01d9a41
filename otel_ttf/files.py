"""Files and names that are to last: written as a whole or not at all, and synced; and who may write them."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

LOG_FILE = "log.db"


def write_secret(path: Path, text: str, *, group: bool = False) -> None:
    """Puts the text in the file's place, mode 0600, synced: after a crash it is the old text or the new one.

    What root writes belongs to who had it, or has the folder: a server that could not read what was changed for it
    would go on with what it knows. group: may go on reading, where it could. Raises OSError.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        before = (path if path.exists() else path.parent).stat()
        if group and path.exists():
            os.fchmod(file.fileno(), 0o600 | before.st_mode & 0o040)
        with suppress(PermissionError):  # root may
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last, those of new files too. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def barred(path: Path, *, write: bool = True) -> str | None:
    """Why permissions keep us from reading and writing a folder, or a file and what SQLite has beside it, and what
    would let us, for operators. None: they do not. write: False: it is only to be read.
    """
    path = path.absolute()
    for above in reversed(path.parents):
        if os.path.isdir(above) and not _may(above, os.X_OK):
            return f"{_whose(above)}, which may not pass: `sudo chmod a+x {shlex.quote(str(above))}`"
    # Path's own methods raise where a folder may not be passed.
    if os.path.isdir(path):
        return None if _may(path, os.R_OK | os.X_OK | (os.W_OK if write else 0)) else _let(path)
    if not write:
        return None if not os.path.exists(path) or _may(path, os.R_OK) else _let(path)
    folder = next(above for above in path.parents if os.path.isdir(above))
    if not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        return _let(folder)
    beside = (path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal"))
    return next(
        (_let(file) for file in beside if os.path.exists(file) and not _may(file, os.R_OK | os.W_OK)), None
    )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _let(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} is on a disk that is mounted read-only: mount it writable"
    owner, quoted = path.stat().st_uid, shlex.quote(str(path))
    if owner == os.geteuid():
        return f"{_whose(path)}: `chmod u+rwX {quoted}`"
    # All that is in it only where it is ours for certain: nobody is told to give away /var/lib.
    way = "chown -R" if os.path.exists(path / LOG_FILE) else "chown"
    return f"{_whose(path)}: run it as {_user(owner)}, or `sudo {way} {_user(os.geteuid())} {quoted}`"


def _whose(path: Path) -> str:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    return f"{path} belongs to {_user(found.st_uid)}, mode {mode:04o}, and this runs as {_user(os.geteuid())}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
