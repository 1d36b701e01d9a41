"""By which names a server may be called.

A page of a stranger's whose name is made to mean 127.0.0.1 while it is open (DNS rebinding) is, for a browser, a page
of our own: it may ask and read. But its requests call us by the stranger's name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

MISDIRECTED = "expected localhost, an address or a configured name (hosts) in the header host"
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^\[\]:/\s]+)(?::[0-9]{0,5})?")


def loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class Hosts:
    """localhost, addresses, and these names."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._known: set[bytes] = set()  # as they come; few, since each holds one of our names

    def allow(self, host: bytes | None) -> bool:
        """Whether a request with this header may be answered. None: it has no such header, so no browser sends it."""
        if host is None or host in self._known:
            return True
        match = _HOST.fullmatch(host.decode("latin-1").lower())
        if match is None:
            return False
        name = match[1].rstrip(".")
        if _address(name):
            return True
        if name not in self._names:
            return False
        if len(self._known) < 100:
            self._known.add(host)
        return True
