"""A damaged SQLite file, page by page: rows of every page that is whole, also where SQLite finds no way to it.

Reads the file and its write-ahead log, and changes neither. Source: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from otel_ttf.sqlite_disk import RowDamaged, not_utf8

Value = int | float | str | bytes | None
Row = tuple[int | None, list[Value]]  # rowid (None: a table without), columns

MAGIC = b"SQLite format 3\0"
_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_MAGIC = 0x377F0682  # the last bit tells the byte order of its checksums
_TABLE_LEAF, _TABLE_INNER, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x05, 0x0A, 0x02
_INNER = (_TABLE_INNER, _INDEX_INNER)
_LOCK_BYTE = 1 << 30
_BELOW = 5  # of the kinds in the map of parents: a page of a tree, and not its first
_LENGTHS = (0, 1, 2, 3, 4, 6, 8)
_MASK = 0xFFFFFFFF


class Damaged(Exception):
    """Bytes that are no page, cell or record."""


def is_damage(error: BaseException | None) -> bool:
    """Whether it is the file's content that SQLite complains about, not the disk or another program."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return isinstance(error, sqlite3.Error) and (
        name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
        or isinstance(error, RowDamaged)
        or not_utf8(error) is not None
    )


class Frame(NamedTuple):
    """An image of a page in the write-ahead log. at: its offset. good: committed, and its checksum is right."""

    page: int
    at: int
    good: bool


class PageFile:
    """A file to be read; closed by `close`.

    page_size, reserved  used where the header is unreadable
    wal_broken           the write-ahead log holds transactions that SQLite would leave out without a word
    count                pages, with those in the write-ahead log
    has_header           the file begins as one of SQLite does
    """

    def __init__(self, path: Path, *, page_size: int, reserved: int = 0) -> None:
        """Raises OSError."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # its write-ahead log may be there
            self._file = os.open(os.devnull, os.O_RDONLY)
        self._wal: int | None = None
        with suppress(FileNotFoundError):
            self._wal = os.open(path.with_name(path.name + "-wal"), os.O_RDONLY)
        header = os.pread(self._file, 100, 0)
        self.page_size, self.reserved = page_size, reserved
        # Behind the page size: versions of the format, then three numbers that are always these.
        self.has_header = (
            len(header) == 100
            and header.startswith(MAGIC)
            and set(header[18:20]) <= {1, 2}
            and header[21:24] == b"\x40\x20\x20"
        )
        if self.has_header:
            size = struct.unpack_from(">H", header, 16)[0]
            size = 1 << 16 if size == 1 else size
            if size >= 512 and not size & (size - 1):
                self.page_size, self.reserved = size, header[20]
        self.usable = self.page_size - self.reserved
        self.wal_broken = False
        self.frames = list(self._frames())
        self._newest = {frame.page: frame.at for frame in self.frames if frame.good}
        in_file = os.fstat(self._file).st_size // self.page_size
        self.count = max(in_file, max(self._newest, default=0))

    def close(self) -> None:
        os.close(self._file)
        if self._wal is not None:
            os.close(self._wal)

    # Pages.

    def page(self, number: int) -> bytes | None:
        """The newest image of a page; None: there is none."""
        at = self._newest.get(number)
        return self._in_wal(at) if at is not None else self._in_file(number)

    def images(self) -> Iterator[tuple[int, bytes]]:
        """Every image there is, the newest of each page first, then what was before."""
        for number in range(1, self.count + 1):
            image = self.page(number)
            if image is not None:
                yield number, image
        for frame in reversed(self.frames):
            if self._newest.get(frame.page) != frame.at:
                image = self._in_wal(frame.at)
                if image is not None:
                    yield frame.page, image
        for number in self._newest:
            image = self._in_file(number)
            if image is not None:
                yield number, image

    def _in_file(self, number: int) -> bytes | None:
        image = os.pread(self._file, self.page_size, (number - 1) * self.page_size)
        return image if len(image) == self.page_size else None

    def _in_wal(self, at: int) -> bytes | None:
        assert self._wal is not None
        image = os.pread(self._wal, self.page_size, at)
        return image if len(image) == self.page_size else None

    def _frames(self) -> Iterator[Frame]:
        """Frames in order; those beyond the last commit, or of an older write-ahead log, are not good."""
        size = os.fstat(self._wal).st_size if self._wal is not None else 0
        if self._wal is None or size == 0:
            return
        header = os.pread(self._wal, _WAL_HEADER, 0)
        whole, before = False, (0, 0)
        if len(header) == _WAL_HEADER:
            before = struct.unpack_from(">II", header, 24)
            whole = struct.unpack_from(">I", header)[0] | 1 == _WAL_MAGIC | 1
        big = bool(header[3] & 1) if whole else sys.byteorder == "big"
        sum_of = _checksum_of(big)
        whole = whole and sum_of(header[:24], (0, 0)) == before
        length = _FRAME_HEADER + self.page_size
        starts = range(_WAL_HEADER, size - length + 1, length)
        found: list[
            tuple[int, int, int, bytes, bool]
        ] = []  # page, pages after the commit or 0, offset, salts, sum
        for start in starts:
            frame = os.pread(self._wal, length, start)
            if len(frame) < length:
                break
            page, commit = struct.unpack_from(">II", frame)
            told = struct.unpack_from(">II", frame, 16)
            right = page > 0 and sum_of(frame[:8] + frame[_FRAME_HEADER:], before) == told
            before = told
            found.append((page, commit, start + _FRAME_HEADER, frame[8:16], right))
        # Behind the frames of this write-ahead log stand some of older ones, with other salts.
        salts = header[16:24] if whole else next((one[3] for one in found if one[4]), b"")
        good = [one[4] and one[3] == salts for one in found]
        first_bad = next((number for number, right in enumerate(good) if not right), len(good))
        synced = [
            number for number, one in enumerate(found) if one[1] and one[3] == salts
        ]  # or they were to be
        # One transaction at most was not synced yet, and may be there in part after a power cut. When the next
        # begins the one before is synced, and so is what stands before it.
        torn = sum(number >= first_bad for number in synced) < 2
        resetting = whole and bool(found) and _next_salt(header[16:20]) == found[0][3][:4]
        self.wal_broken = bool(found) and not resetting and (not torn or (not whole and any(header)))
        until = len(good) if self.wal_broken else first_bad
        last = max((number for number in synced if good[number] and number < until), default=-1)
        for number, (page, _, at, _, _) in enumerate(found):
            yield Frame(page, at, good[number] and number <= last)

    def user_version(self) -> int | None:
        """None: the first page does not tell."""
        first = self.page(1)
        return int.from_bytes(first[60:64]) if first is not None and first.startswith(MAGIC) else None

    # Trees.

    def roots(self, usual: Mapping[str, int]) -> dict[str, int]:
        """The first pages of these tables.

        usual  where a new file has them, and this one too unless its first page says that something else is there:
               SQLite leaves them where they are with auto_vacuum, and that page may be damaged
        """
        told = {
            row[1]: row[3]
            for number in self.tree(1)
            for _, row in self.rows(number)
            if len(row) == 5 and isinstance(row[1], str) and isinstance(row[3], int)
        }
        taken = {root: name for name, root in told.items()}
        return {
            name: root if taken.get(root, name) == name else told.get(name, root)
            for name, root in usual.items()
        }

    def tree(self, root: int, bad: Callable[[int], object] = lambda _: None) -> Iterator[int]:
        """Pages of a tree in order, as far as they are reached. bad: told of those that are no pages of one."""
        seen: set[int] = set()
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            image = self.page(number) if 0 < number <= self.count else None
            try:
                if image is None:
                    raise Damaged
                kind, cells, head = _layout(image, number, self.usable)
                children = []
                if kind in _INNER:
                    children = [int.from_bytes(image[at : at + 4]) for at in cells]
                    children.append(int.from_bytes(image[head + 8 : head + 12]))
            except Damaged:
                bad(number)
                continue
            yield number
            waiting += reversed(children)

    def parents(self) -> Mapping[int, tuple[int, int]] | None:
        """page -> (kind, parent), which files with auto_vacuum keep; None: this one does not."""
        image = self.page(1)
        if image is None or (self.has_header and image[52:56] == b"\0\0\0\0"):
            return None
        entries = self.usable // 5
        lock = _LOCK_BYTE // self.page_size + 1
        found = {}
        at = 2
        while at <= self.count:
            place = at + 1 if at == lock else at
            image = self.page(place) or bytes(self.page_size)
            for number in range(place + 1, min(place + entries, self.count) + 1):
                offset = 5 * (number - place - 1)
                found[number] = image[offset], int.from_bytes(image[offset + 1 : offset + 5])
            at += entries + 1
        return found

    def owners(self, roots: Mapping[str, int]) -> tuple[dict[int, str], set[int]]:
        """(page -> table, in the order in which trees reach them and then the rest; pages that are damaged).

        The rest are pages below one that is damaged: the map of parents tells whose they are.
        """
        found: dict[int, str] = {}
        bad: set[int] = set()
        for name, root in roots.items():
            for number in self.tree(root, bad.add):
                found.setdefault(number, name)
        parents = self.parents() or {}
        names = {root: name for name, root in roots.items()}
        for number in range(2, self.count + 1):
            if number in found or number in bad:
                continue
            above, steps = number, 0
            while parents.get(above, (0, 0))[0] == _BELOW and steps < 64:
                above, steps = parents[above][1], steps + 1
            if steps and above in names:
                found[number] = names[above]
        return found, bad

    # Rows.

    def rows(
        self, number: int, image: bytes | None = None, bad: Callable[[int], object] = lambda _: None
    ) -> Iterator[Row]:
        """Rows that stand in a page; cells that are damaged are left out. bad: told of the page, then."""
        if image is None:
            image = self.page(number)
        try:
            if image is None:
                raise Damaged
            kind, cells, _ = _layout(image, number, self.usable)
        except Damaged:
            bad(number)
            return
        if kind == _TABLE_INNER:
            return
        for at in cells:
            try:
                row = self._row(image, at, kind)
            except (Damaged, IndexError, struct.error, UnicodeDecodeError):
                bad(number)
            else:
                yield row

    def _row(self, image: bytes, at: int, kind: int) -> Row:
        rowid: int | None = None
        if kind == _INDEX_INNER:
            at += 4
        size, at = _varint(image, at)
        if kind == _TABLE_LEAF:
            rowid, at = _varint(image, at)
            rowid -= (rowid >> 63) << 64
            most = self.usable - 35
        else:
            most = (self.usable - 12) * 64 // 255 - 23
        if size > self.count * self.page_size:
            raise Damaged
        if size <= most:
            if at + size > self.usable:
                raise Damaged
            return rowid, _record(image[at : at + size])
        least = (self.usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (self.usable - 4)
        local = local if local <= most else least
        if at + local + 4 > self.usable:
            raise Damaged
        parts, left = [image[at : at + local]], size - local
        number = int.from_bytes(image[at + local : at + local + 4])
        while left > 0:
            page = self.page(number) if 0 < number <= self.count else None
            if page is None:
                raise Damaged
            part = page[4 : 4 + min(left, self.usable - 4)]
            parts.append(part)
            left -= len(part)
            number = int.from_bytes(page[:4])
        return rowid, _record(b"".join(parts))


def unseen_damage(path: Path, *, page_size: int) -> str | None:
    """Damage that SQLite does not tell of, and makes worse: the last to close a file copies its write-ahead log up to
    the first bad frame and deletes the rest. Nobody writes meanwhile. None: nothing is found. Raises OSError.
    """
    with closing(PageFile(path, page_size=page_size)) as file:
        if not path.exists() or not path.stat().st_size:
            return "it is empty, beside a write-ahead log" if file.frames else None
        if not file.has_header:
            return "it does not begin as a file of SQLite"
        return "its write-ahead log has other checksums than expected" if file.wal_broken else None


def _next_salt(salt: bytes) -> bytes:
    """What a write-ahead log that begins anew has there."""
    return ((int.from_bytes(salt) + 1) & _MASK).to_bytes(4)


def _layout(image: bytes, number: int, usable: int) -> tuple[int, list[int], int]:
    """(kind, offsets of the cells in order, offset of the page's head). Raises Damaged."""
    head = 100 if number == 1 else 0
    kind, count = image[head], int.from_bytes(image[head + 3 : head + 5])
    if kind not in (_TABLE_LEAF, _TABLE_INNER, _INDEX_LEAF, _INDEX_INNER):
        raise Damaged
    first = head + (12 if kind in _INNER else 8)
    end = first + 2 * count
    if end > usable:
        raise Damaged
    cells = list(struct.unpack_from(f">{count}H", image, first))
    return kind, [at for at in cells if end <= at < usable - 3], head


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9


def _record(data: bytes) -> list[Value]:
    """The columns of a row. Raises Damaged, IndexError, UnicodeDecodeError."""
    end, at = _varint(data, 0)
    body, values = end, []
    if end > len(data):
        raise Damaged
    while at < end:
        kind, at = _varint(data, at)
        value: Value = None
        if kind >= 12:
            length = (kind - 12) // 2
            value = data[body : body + length]
            if kind & 1:
                value = value.decode()
        elif kind in (8, 9):
            length, value = 0, kind - 8
        elif kind == 7:
            length = 8
            (value,) = struct.unpack_from(">d", data, body)
        elif kind <= 6:
            length = _LENGTHS[kind]
            value = int.from_bytes(data[body : body + length], signed=True) if kind else None
        else:
            raise Damaged
        body += length
        values.append(value)
    if body != len(data):
        raise Damaged
    return values


Sums = tuple[int, int]


def _checksum_of(big: bool) -> Callable[[bytes, Sums], Sums]:
    """The write-ahead log's checksum, (data, of what stands before) -> of both.

    It adds word after word: s0 += a + s1; s1 += b + s0. So each word counts times a number that only its
    place decides, modulo 2^32.
    """
    import numpy as np

    @lru_cache(maxsize=4)
    def factors(pairs: int) -> tuple[list[Sums], object]:
        one, two = (1, 0), (0, 1)  # what s0 and s1 of here count in the end: (in s0, in s1)
        weights = np.zeros((2 * pairs, 2), np.uint32)
        for place in range(pairs - 1, -1, -1):
            # a goes into both, through s0; b into s1 alone.
            weights[2 * place] = (one[0] + two[0]) & _MASK, (one[1] + two[1]) & _MASK
            weights[2 * place + 1] = two
            one, two = (
                ((one[0] + two[0]) & _MASK, (one[1] + two[1]) & _MASK),
                ((one[0] + 2 * two[0]) & _MASK, (one[1] + 2 * two[1]) & _MASK),
            )
        return [one, two], weights

    def sums(data: bytes, before: Sums) -> Sums:
        (one, two), weights = factors(len(data) // 8)
        words = np.frombuffer(data, ">u4" if big else "<u4").astype(np.uint32)
        added = (words[:, None] * weights).sum(axis=0, dtype=np.uint32)  # type: ignore[operator]
        return (
            (int(added[0]) + before[0] * one[0] + before[1] * two[0]) & _MASK,
            (int(added[1]) + before[0] * one[1] + before[1] * two[1]) & _MASK,
        )

    return sums
