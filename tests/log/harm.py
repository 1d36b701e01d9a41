"""What can happen to a file of SQLite, and which of its pages that harms."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from otel_ttf.pages import PageFile

Place = tuple[str, int]  # db or wal, and the page's offset in it
Span = tuple[int, int]
Damage = Callable[
    [random.Random, bytearray, int], list[Span]
]  # changes a file of such pages; from where to where


def flips(times: int) -> Damage:
    def damage(rng: random.Random, data: bytearray, page: int) -> list[Span]:
        changed = [rng.randrange(len(data)) for _ in range(times)]
        for at in changed:
            data[at] ^= 1 << rng.randrange(8)
        return [(at, at + 1) for at in changed]

    return damage


def pages(times: int, make: Callable[[random.Random, int], bytes]) -> Damage:
    def damage(rng: random.Random, data: bytearray, page: int) -> list[Span]:
        changed = []
        for _ in range(times):
            at = rng.randrange(max(1, len(data) // page)) * page
            end = min(at + page, len(data))
            data[at:end] = make(rng, page)[: end - at]
            changed.append((at, end))
        return changed

    return damage


def first_page(rng: random.Random, data: bytearray, page: int) -> list[Span]:
    data[:page] = rng.randbytes(page)
    return [(0, page)]


def everything(rng: random.Random, data: bytearray, page: int) -> list[Span]:
    data[:] = rng.randbytes(len(data))
    return [(0, len(data))]


def cut(rng: random.Random, data: bytearray, page: int) -> list[Span]:
    to, before = rng.randrange(len(data)), len(data)
    del data[to:]
    return [(to, before)]


def emptied(rng: random.Random, data: bytearray, page: int) -> list[Span]:
    before = len(data)
    data.clear()
    return [(0, before)]


DAMAGES = {
    "a bit": flips(1),
    "30 bits": flips(30),
    "a page of zeros": pages(1, lambda _, size: bytes(size)),
    "5 pages of garbage": pages(5, lambda rng, size: rng.randbytes(size)),
    "the first page": first_page,
    "everything": everything,
    "cut short": cut,
    "emptied": emptied,
}


class Recording(PageFile):
    """Tells which pages a row was read from."""

    def __init__(self, path: Path, *, page_size: int) -> None:
        self.places: set[Place] = set()
        super().__init__(path, page_size=page_size)

    def _in_file(self, number: int) -> bytes | None:
        self.places.add(("db", (number - 1) * self.page_size))
        return super()._in_file(number)

    def _in_wal(self, at: int) -> bytes | None:
        self.places.add(("wal", at))
        return super()._in_wal(at)


def harmed_places(file: str, spans: list[Span], size: int) -> set[Place]:
    """Pages in which something was changed; of the write-ahead log also those behind, whose checksum goes on."""
    if file == "db":
        return {(file, page * size) for a, b in spans for page in range(a // size, -(-b // size))}
    frame = size + 24
    return {
        (file, 32 + number * frame + 24)
        for a, b in spans
        for number in range(max(0, a - 32) // frame, -(-(b - 32) // frame) + 1)
    }
