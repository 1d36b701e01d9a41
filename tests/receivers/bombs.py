"""Compressed bodies that become much larger than they are."""

from __future__ import annotations

import gzip
import zlib

import zstandard

MIB = 1 << 20


def gzip_bomb(mib: int) -> bytes:
    """gzip of that many MiB of zeros, made of one flushed block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * mib + b"\x03\x00"


def zstd_bomb(mib: int) -> bytes:
    """zstd of that many MiB of zeros."""
    packer = zstandard.ZstdCompressor().compressobj(size=mib * MIB)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(mib)) + packer.flush()
