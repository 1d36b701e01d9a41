"""Bodies of HTTP requests: read against a deadline, inflated against a limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zstandard
from starlette.types import Receive

from otel_ttf.log.base import LogRefused
from otel_ttf.otlp.wire import Malformed
from otel_ttf.receivers.arrivals import Arrivals
from otel_ttf.receivers.intake import Disconnected, Hold, Intake
from otel_ttf.units import size_text

MAX_BODY = 64 << 20
BODY_SECONDS = 30.0
ENCODINGS = "gzip, deflate, zstd"

_INLINE_INFLATED = 256 << 10  # bytes inflated in the event loop before a worker goes on
_MAX_WINDOW = 8 << 20
_MAX_MEMBERS = 1000
# One step's input: at most 4 MiB come out of it with zlib. zstd knows no limit for what comes out: 4 bytes
# may stand for 128 KiB, 512 for 16 MiB.
_ZLIB_STEP = 4 << 10
_ZSTD_STEP = 512


class Unusable(Malformed):
    """A request that is answered without looking at its records.

    status   HTTP status of the answer; str() is safe for the sender
    headers  to send with it
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def header_fields(lines: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Name -> value; what stands in several lines is one list (RFC 9110, 5.3), so that none of them is overlooked."""
    fields = dict(lines)
    if len(fields) == len(lines):
        return fields
    several: dict[bytes, list[bytes]] = {name: [] for name in fields}
    for name, value in lines:
        several[name].append(value)
    return {name: b", ".join(values) for name, values in several.items()}


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """Lower-case media type of a request without parameters; "" when its charset is another than UTF-8."""
    name, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            return ""
    return name.strip()


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, intake: Intake, *, limit: int, seconds: float
) -> bytes:
    """The whole body, inflated.

    limit    bytes, before and after inflation
    seconds  for the body to arrive
    Raises Unusable (400, 408, 413, 415), LogRefused (too much in flight), Disconnected.
    """
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower() or "identity"
    if encoding != "identity" and encoding not in _INFLATERS:
        raise Unusable(
            415, f"expected a content-encoding of {ENCODINGS} or none", {"Accept-Encoding": ENCODINGS}
        )
    with intake.in_flight.hold() as hold:
        body = await _received(headers, receive, hold, intake.arrivals, limit, seconds)
        if encoding == "identity":
            return body
        if not body:
            raise Unusable(400, f"expected {encoding} data, found an empty body")
        work = Inflation(encoding, body, limit, hold)
        if not work.until(_INLINE_INFLATED):
            await intake.offload(limit, work.until, limit)
        return b"".join(work.chunks)


def check_json(body: bytes, *, containers: int, commas: int) -> None:
    """Raises Unusable (413) when reading JSON would build more than that; marks inside strings count too.

    Each is an object of Python's: 64 MiB of `{},` would be two gigabytes.
    """
    if body.count(b"{") + body.count(b"[") > containers or body.count(b",") > commas:
        raise Unusable(413, f"expected at most {containers} objects and lists and {commas} commas")


def too_large(limit: int) -> Unusable:
    """413 for a body over the limit (bytes)."""
    return Unusable(
        413, f"expected at most {size_text(limit)}, also after decompression", {"Connection": "close"}
    )


async def _received(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    hold: Hold,
    arrivals: Arrivals,
    limit: int,
    seconds: float,
) -> bytes:
    announced = headers.get(b"content-length", b"")
    if b"expect" in headers and announced.isdigit() and int(announced) > limit:
        raise too_large(limit)  # the client asked first, so nothing is on its way
    chunks: list[bytes] = []
    size = 0
    timeout = asyncio.timeout(seconds)
    with arrivals.body(timeout) as arrival:
        try:
            async with timeout:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    chunk: bytes = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(chunk)
                    if size <= limit:
                        if more:
                            arrival.add(len(chunk))
                        hold.add(len(chunk))
                        chunks.append(chunk)
                    elif size > 2 * limit:
                        raise too_large(limit)
                    # In between the rest is thrown away as it comes: many clients read no answer before they
                    # have sent everything, and would see a broken connection in place of the 413.
                    else:
                        chunks.clear()
                    if not more:
                        break
        except TimeoutError:
            if arrival.given_up:
                raise LogRefused("the body stood still while others needed the room") from None
            raise Unusable(
                408, f"expected the whole body within {seconds:g} s", {"Connection": "close"}
            ) from None
    if size > limit:
        raise too_large(limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class Inflation:
    """Inflates a body step by step, so that a bomb ends at the limit and not in our memory.

    chunks  what was inflated so far
    """

    def __init__(self, encoding: str, body: bytes, limit: int, hold: Hold) -> None:
        self.chunks: list[bytes] = []
        self._encoding = encoding
        self._body = memoryview(body)
        self._limit = limit
        self._hold = hold
        self._size = 0
        self._next = 0
        self._members = 0
        self._stream: Any = None
        self._start()

    def until(self, size: int) -> bool:
        """Goes on until `size` bytes are inflated, or the end; whether it is the end. Raises Unusable."""
        step = _ZSTD_STEP if self._encoding == "zstd" else _ZLIB_STEP
        try:
            while self._next < len(self._body) or not self._stream.eof:
                if self._stream.eof:
                    self._start()
                part = self._body[self._next : self._next + step]
                if not part:
                    raise Unusable(400, f"expected more {self._encoding} data, found the body's end")
                self._next += len(part)
                if self._encoding == "zstd":
                    self._take(self._stream.decompress(part))
                else:
                    self._inflate(part)
                if self._stream.eof:
                    self._next -= len(self._stream.unused_data)
                if self._size > size and self._next < len(self._body):
                    return False
        except (zlib.error, zstandard.ZstdError):
            raise Unusable(400, f"expected {self._encoding} data, found something else") from None
        return True

    def _inflate(self, part: memoryview | bytes) -> None:
        # At most the rest of the limit, and one byte that shows there is more.
        while part and not self._stream.eof:
            self._take(self._stream.decompress(part, self._limit - self._size + 1))
            part = self._stream.unconsumed_tail

    def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            self.chunks.clear()
            raise too_large(self._limit)
        if chunk:
            self._hold.add(len(chunk))
            self.chunks.append(chunk)

    def _start(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise Unusable(400, f"expected at most {_MAX_MEMBERS} {self._encoding} streams in a body")
        self._stream = _INFLATERS[self._encoding](self._body[self._next :])


def _gzip(_rest: memoryview) -> object:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _deflate(rest: memoryview) -> object:
    # "deflate" is a zlib stream by RFC 9110, and a raw one by long habit; the header tells which.
    header = bytes(rest[:2])
    wrapped = len(header) == 2 and header[0] & 0x0F == 8 and int.from_bytes(header, "big") % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _zstd(rest: memoryview) -> object:
    try:
        window = zstandard.get_frame_parameters(bytes(rest[:18])).window_size
    except zstandard.ZstdError:
        window = 0  # no frame at all: decompressing says so
    if window > _MAX_WINDOW:
        raise Unusable(413, f"expected a zstd window of at most {size_text(_MAX_WINDOW)}")
    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()


_INFLATERS: dict[str, Callable[[memoryview], object]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
