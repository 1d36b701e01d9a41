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
