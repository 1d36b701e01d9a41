"""How far a file has been sent, in a small file beside it, so that it goes on there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

SUFFIX = ".otel-ttf-replay"
LISTED = 1000
_HEAD = 64 << 10
_NUMBERS = ("head_size", "written", "offset", "records", "rejected", "broken")


@dataclass(slots=True)
class Place:
    """Where one file stands, for one receiver.

    to         the receiver
    head_size, head  so many of the first bytes, and their SHA-256: another file begins anew
    written    when the file was written last, unix ns, at the first run: the time of records that have none
    offset     of what has not been answered yet, in what was packed
    records    sent and taken
    rejected   records that the receiver did not take
    broken     pieces that are no request, or that it refused
    listed     the first of both: where, why
    """

    to: str
    head_size: int
    head: str
    written: int
    offset: int = 0
    records: int = 0
    rejected: int = 0
    broken: int = 0
    listed: list[tuple[str, str]] = field(default_factory=list)

    def left_out(self, where: str, why: str) -> None:
        """Notes a piece, or records of it, that did not arrive."""
        if len(self.listed) < LISTED:
            self.listed.append((where, why))

    def as_it_is(self) -> Self:
        """A copy that does not change."""
        return replace(self, listed=list(self.listed))


def beside(path: Path, folder: Path | None) -> Path:
    """The small file of a file. folder: that of the small files of many, of which some may have one name."""
    if folder is None:
        return path.with_name(path.name + SUFFIX)
    where = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return folder / f"{path.name}.{where[:8]}{SUFFIX}"


def begun(path: Path, to: str) -> Place:
    """The beginning of a file. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        written = os.fstat(file.fileno()).st_mtime_ns
    return Place(to, len(head), hashlib.sha256(head).hexdigest(), written)


def found(small: Path, path: Path, to: str) -> Place | None:
    """Where it stood; None: nowhere, or it was another file or another receiver. Raises OSError for the file itself."""
    try:
        told = json.loads(small.read_text())
        place = Place(**{**told, "listed": [(where, why) for where, why in told["listed"]]})
        if any(type(getattr(place, name)) is not int or getattr(place, name) < 0 for name in _NUMBERS):
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    with path.open("rb") as file:
        head = file.read(place.head_size)
    same = hashlib.sha256(head).hexdigest() == place.head and place.to == to
    return place if same and len(head) == place.head_size else None


def save(small: Path, place: Place) -> None:
    """Durably, and all of it or nothing. Raises OSError."""
    # Another run of the same file may write at the same moment.
    draft = small.with_name(f"{small.name}.{os.getpid()}.new")
    with draft.open("w") as file:
        json.dump(asdict(place), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(small)
