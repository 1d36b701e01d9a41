"""Where wrong keys come from, and how often."""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote

from otel_ttf.bucket import Bucket

MOST = 4096  # sources that are told apart, about 1 MB
BURST = 60.0  # seconds of the rate that may come at once


def network(source: str) -> bytes:
    """What counts as one source: an IPv4 address, the /64 of an IPv6 one; without an address all are one.

    source  an address, or gRPC's name of a peer: `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000`
    """
    if source.startswith(("ipv4:", "ipv6:")):
        source = unquote(source[5:].rpartition(":")[0]).strip("[]")
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return b""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.packed[:8]


class Sources:
    """How many refusals each source has left. One event loop.

    Whoever has a /48 has more sources than there is room for. So only those go that have been quiet for so long that
    nothing is known of them any more; while there is none, all further sources count as one.
    """

    def __init__(self, rate: float, most: int = MOST) -> None:
        """rate: refusals a second"""
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()  # who was refused last, last
        self._others = self._bucket()

    def __len__(self) -> int:
        return len(self._buckets)

    def refuse(self, source: str, now: int) -> float:
        """Notes a refusal; seconds until there may be one, 0.0: it may be. now: ns of a clock that only grows."""
        bucket = self._of(network(source), now)
        wait = bucket.wait(1, now)
        if not wait:
            bucket.take(1)
        return wait

    def _of(self, source: bytes, now: int) -> Bucket:
        bucket = self._buckets.get(source)
        if bucket is not None:
            self._buckets.move_to_end(source)
            return bucket
        if len(self._buckets) >= self._most:
            oldest = next(iter(self._buckets))
            if self._buckets[oldest].wait(math.inf, now):
                return self._others
            del self._buckets[oldest]
        bucket = self._buckets[source] = self._bucket()
        return bucket

    def _bucket(self) -> Bucket:
        return Bucket(self._rate, self._rate * BURST)
