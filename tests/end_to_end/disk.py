"""Every byte that a server has left on the disk, compressed ones too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

FRAME = b"\x28\xb5\x2f\xfd"


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(file, bytes) of a folder; what is compressed in there, too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield path.name, data
            if path.suffix == ".db":
                wal = path.with_name(f"{path.name}-wal")
                yield from spilled(path.name, data, wal.read_bytes() if wal.exists() else b"")
            at = data.find(FRAME)
            while at >= 0:
                yield f"{path.name} at {at}", decompressed(data[at:])
                at = data.find(FRAME, at + 1)


def decompressed(data: bytes) -> bytes:
    """As far as it goes: a frame may be cut by a page's end, and four bytes may be a frame's by chance."""
    got = bytearray()
    with contextlib.suppress(zstandard.ZstdError):
        stream = zstandard.ZstdDecompressor().decompressobj()
        for byte in range(0, len(data), 64):
            got += stream.decompress(data[byte : byte + 64])
            if stream.eof:
                break
    return bytes(got)


def spilled(name: str, data: bytes, wal: bytes) -> Iterator[tuple[str, bytes]]:
    """What is compressed and does not fit into one page of a database, whether its row is still there or not.

    Source: sqlite.org/fileformat2.html, sections 1.6 and 4.1.
    """
    # What has never been checkpointed has no header yet.
    size = int.from_bytes(data[16:18], "big") or int.from_bytes(wal[8:12], "big")
    size = 65536 if size == 1 else size
    logged = [
        (int.from_bytes(wal[at : at + 4], "big"), wal[at + 24 : at + 24 + size])
        for at in range(32, len(wal) - size - 23, size + 24)
    ]
    below = {at // size + 1: data[at : at + size] for at in range(0, len(data), size)} if size else {}
    # A page may be in there several times: as it is now, and as it was first.
    for pages in (below | dict(logged), below | dict(reversed(logged))) if logged else (below,):
        yield from _in_pages(name, pages, size)


def _in_pages(name: str, pages: dict[int, bytes], size: int) -> Iterator[tuple[str, bytes]]:
    for number, page in pages.items():
        at = page.find(FRAME)
        while at >= 0:
            # Somewhere in the page the text goes on on another one, whose number stands there.
            for end in range(at + len(FRAME), size - 3):
                following = int.from_bytes(page[end : end + 4], "big")
                if following > 1 and following in pages and (whole := _whole(page[at:end], following, pages)):
                    yield f"{name} at {(number - 1) * size + at}, spilled", whole
                    break
            at = page.find(FRAME, at + 1)


def _whole(begin: bytes, following: int, pages: dict[int, bytes]) -> bytes | None:
    """The decompressed text that begins so; None: it does not go on there."""
    stream = zstandard.ZstdDecompressor().decompressobj()
    got = bytearray()
    seen: set[int] = set()
    with contextlib.suppress(zstandard.ZstdError):
        got += stream.decompress(begin)
        while not stream.eof and following in pages and following not in seen:
            seen.add(following)
            got += stream.decompress(pages[following][4:])
            following = int.from_bytes(pages[following][:4], "big")
    return bytes(got) if stream.eof else None
