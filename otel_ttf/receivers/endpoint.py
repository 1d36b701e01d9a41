"""Where a listener listens: `host:port`, and what to say when it cannot."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Annotated

from pydantic import AfterValidator

_ENDPOINT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\[\]:/\s]*):(?P<port>[0-9]{1,5})")

_BACKLOG = 2048


class CannotListen(Exception):
    """A listener could not be opened; the message is one sentence: what, why, what to do."""


def split(endpoint: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:4317`, `[::1]:4317`, `:4317` (all interfaces). Raises ValueError."""
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:4317 or [::1]:4317")
    return match["host"].strip("[]") or "0.0.0.0", int(match["port"])  # noqa: S104 - asked for by `:port`


def _checked(endpoint: str) -> str:
    split(endpoint)
    return endpoint


Endpoint = Annotated[str, AfterValidator(_checked)]


def listen(endpoint: str, setting: str) -> list[socket.socket]:
    """Listening sockets, one for each address of the host; all on the same port, also for port 0.

    setting  name in the configuration, for the message
    Raises CannotListen.
    """
    host, port = split(endpoint)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise CannotListen(
            f"{setting}: the host of {endpoint} is not known; set an address of this machine"
        ) from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                opened.bind((address[0], port, *address[2:]))
            except OSError as error:
                # `localhost` names an IPv6 address on machines that have none.
                if error.errno == errno.EADDRNOTAVAIL and len(addresses) > 1:
                    sockets.pop().close()
                    continue
                raise
            opened.listen(_BACKLOG)
            port = opened.getsockname()[1]
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise CannotListen(_why(endpoint, setting, error)) from None
    if not sockets:
        raise CannotListen(f"{setting}: {endpoint} is no address of this machine; set another one")
    for opened in sockets:
        opened.setblocking(False)
    return sockets


def _why(endpoint: str, setting: str, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{setting}: {endpoint} is in use; stop the program that listens there or set another port"
        case errno.EACCES:
            return f"{setting}: not permitted to listen on {endpoint}; set a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{setting}: {endpoint} is no address of this machine; set another one"
        case number:
            return f"{setting}: cannot listen on {endpoint}: {os.strerror(number or 0)}"
