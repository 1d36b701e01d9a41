"""Pieces of a file: OTLP requests in protobuf, with the place at which each stood.

A file holds OTLP/JSON, a request a line, or messages with their length in front (4 bytes, big-endian), protobuf or
JSON, each by itself in zstd or not: what the Collector's file exporter writes. Or it is CSV. All of it may be in
gzip or zstd. No more than one piece is in memory, whatever the size of the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Malformed, Signal
from otel_ttf.receivers.rest_events import nanoseconds
from otel_ttf.units import size_text

MOST = 64 << 20  # bytes of a piece: what a server takes
_STEP = 1 << 20
_ZSTD_STEP = 512  # at most 16 MiB come out of it
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_WINDOW = 128 << 20  # of zstd at its highest levels
_REQUESTS: dict[str, Signal] = {otlp_json.camel(SHAPES[signal].resources): signal for signal in SIGNALS}
_FIRST_KEY = re.compile(rf'\s*\{{\s*"({"|".join(_REQUESTS)})"')
_ANY_KEY = re.compile(rf'"({"|".join(_REQUESTS)})"')
# Fields of fixed width that only one signal has at its place: whoever reads bytes as another finds them unset.
_TELLING: Mapping[Signal, tuple[str, ...]] = {
    "logs": ("time_unix_nano", "observed_time_unix_nano"),
    "traces": ("start_time_unix_nano", "end_time_unix_nano"),
}


class Unreadable(Exception):
    """The rest of a file cannot be read; the text says why, never what stands there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One request, or what is wrong with it.

    where  `line 7`, or `offset 123` in what was packed, for people
    end    offset of what comes behind it, in what was packed
    error  why there is no request, or None
    """

    where: str
    end: int
    signal: Signal = "logs"
    raw: bytes = b""
    records: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """How rows of CSV become events.

    event, time  columns; user: column, or None
    name         of all events, where no column has it
    attributes   attribute -> column
    """

    time: str
    event: str | None = None
    name: str = ""
    user: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","

    def needed(self) -> set[str]:
        """Columns that a file must have."""
        return {self.time, *self.attributes.values()} | {
            one for one in (self.event, self.user) if one is not None
        }


def columns(text: str, *, name: str = "", delimiter: str = ",") -> Columns:
    """`time=ts,event=action,user=uid,plan=Plan`: what comes from which column. Raises ValueError."""
    pairs: dict[str, str] = {}
    for part in text.split(","):
        what, equals, column = part.partition("=")
        if not (equals and what.strip() and column.strip()) or what.strip() in pairs:
            raise ValueError(
                "expected WHAT=COLUMN,... with each WHAT once: time, user, event, or an attribute's name"
            )
        pairs[what.strip()] = column.strip()
    time, event, user = (pairs.pop(what, None) for what in ("time", "event", "user"))
    if time is None:
        raise ValueError("expected time=COLUMN: without a time an event that comes twice counts twice")
    if (event is None) == (not name):
        raise ValueError("expected either event=COLUMN or --event NAME: what the events are called")
    return Columns(time, event, name, user, pairs, delimiter)


def pieces(
    path: Path, start: int, csv_columns: Columns | None = None, *, written: int = 0
) -> Iterator[Piece]:
    """The pieces from an offset on, at which a piece begins. Raises Unreadable, OSError.

    written  unix ns, which events that have no time get as theirs, and as many ns more as their place in the file:
             without one an event would be another at each replay. 0: they get none
    The last one is left out if it may still be written: see `Unreadable`.
    """
    with path.open("rb", buffering=_STEP) as file, closing(unpacked(file)) as source:
        try:
            at = start
            for piece in _pieces(source, start, csv_columns):
                yield _timed(piece, written + at) if written else piece
                at = piece.end
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError):
            raise Unreadable("it is damaged, or cut short, in its compressed data") from None


def packed(path: Path) -> bool:
    """Whether all of a file is in gzip or zstd. Raises OSError."""
    with path.open("rb") as file:
        return file.read(4).startswith((_GZIP, _ZSTD))


def unpacked(file: Any) -> Any:
    """What a file holds, without gzip or zstd around all of it."""
    head = file.peek(4)[:4]
    if head.startswith(_GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _STEP)
    if head == _ZSTD:
        return io.BufferedReader(_Zstd(file), _STEP)
    return file


class _Zstd(io.RawIOBase):
    """Frames of zstd, one after the other. Unlike the library's reader it says where the last one is cut short."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._made = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj
        self._frame: Any = None
        self._left = b""
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            data = self._left or self._file.read(_ZSTD_STEP)
            self._left = b""
            if not data:
                if self._frame is not None:
                    raise EOFError
                return 0
            if self._frame is None:
                self._frame = self._made()
            self._out = memoryview(self._frame.decompress(data))
            if self._frame.eof:
                self._left, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._out))
        buffer[:size], self._out = self._out[:size], self._out[size:]
        return size


def _pieces(source: Any, start: int, csv_columns: Columns | None) -> Iterator[Piece]:
    if csv_columns is not None:
        yield from _rows(source, start, csv_columns)
        return
    # The first byte of a length is no letter.
    if (source.peek(1)[:1] or b"{")[0] <= MOST >> 24:
        yield from _messages(source, start)
    else:
        yield from _lines(source, start)


def _skip(source: Any, start: int) -> int:
    """Goes to an offset; how many lines lie before it."""
    left, lines = start, 0
    while left:
        read = source.read(min(left, _STEP))
        if not read:
            raise Unreadable("it is shorter than it was")
        left -= len(read)
        lines += read.count(b"\n")
    return lines


def _lines(source: Any, start: int) -> Iterator[Piece]:
    number, end = _skip(source, start), start
    while line := source.readline(MOST + 1):
        number += 1
        where = f"line {number}"
        end += len(line)
        if len(line) > MOST and not line.endswith(b"\n"):
            while (rest := source.readline(_STEP)) and not rest.endswith(b"\n"):
                end += len(rest)
            end += len(rest)
            yield Piece(where, end, error=f"expected at most {size_text(MOST)} in a line, found more")
        elif line.strip():
            piece = _json(where, end, line)
            if piece.error is not None and not line.endswith(b"\n"):
                raise Unreadable(f"line {number} has no end: it may still be written")
            yield piece
        else:
            yield Piece(where, end)


def _messages(source: Any, start: int) -> Iterator[Piece]:
    _skip(source, start)
    end = start
    unpacking = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    while head := source.read(4):
        where = f"offset {end}"
        size = int.from_bytes(head, "big")
        if len(head) == 4 and not 0 < size <= MOST:
            # What follows cannot be told apart any more.
            raise Unreadable(
                f"offset {end}: expected a message of 1 to {MOST} bytes with its length in front, found a length of "
                f"{size}"
            )
        data = source.read(size) if len(head) == 4 else b""
        if len(head) < 4 or len(data) < size:
            raise Unreadable(f"the message at offset {end} has no end: it may still be written")
        end += 4 + size
        if data.startswith(_ZSTD):
            try:
                data = unpacking.stream_reader(data).read(MOST + 1)
            except zstandard.ZstdError:
                yield Piece(where, end, error="expected zstd, found something else")
                continue
            if len(data) > MOST:
                yield Piece(where, end, error=f"expected at most {size_text(MOST)} in a message, found more")
                continue
        yield _json(where, end, data) if data[:1] == b"{" else _protobuf(where, end, data)


def _json(where: str, end: int, text: bytes) -> Piece:
    head = text[:4096].decode("utf-8", "replace")
    found = _FIRST_KEY.match(head) or _ANY_KEY.search(text.decode("utf-8", "replace"))
    if found is None:
        keys = ", ".join(_REQUESTS)
        return Piece(
            where,
            end,
            error=f"expected an OTLP request in JSON, an object with one of {keys}; for CSV give --csv",
        )
    signal = _REQUESTS[found[1]]
    try:
        raw = otlp_json.decode(signal, text)
    except Malformed as error:
        return Piece(where, end, error=str(error))
    return Piece(where, end, signal, raw, _count(signal, raw))


def _count(signal: Signal, raw: bytes) -> int:
    request = SHAPES[signal].shallow.FromString(raw)
    return sum(len(scope.records) for resource in request.resources for scope in resource.scopes)


def _protobuf(where: str, end: int, data: bytes) -> Piece:
    for signal, names in _TELLING.items():
        shape = SHAPES[signal]
        try:
            request = shape.request.FromString(data)
        except DecodeError:
            continue
        records = [
            record
            for resource in getattr(request, shape.resources)
            for scope in getattr(resource, shape.scopes)
            for record in getattr(scope, shape.records)
        ]
        if any(getattr(record, name) for record in records for name in names):
            return Piece(where, end, signal, data, len(records))
    try:
        metrics = SHAPES["metrics"].request.FromString(data)
    except DecodeError:
        return Piece(where, end, error="expected an OTLP request in protobuf, found something else")
    named = [m for r in metrics.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name]
    if not named:
        return Piece(where, end, error="expected logs, spans or metrics with a time, found none")
    return Piece(where, end, "metrics", data, len(named))


def _timed(piece: Piece, at: int) -> Piece:
    """The piece with a time for each event. at: unix ns, of its first event that has none; the others follow."""
    if not piece.records or piece.signal == "metrics":
        return piece
    shape, changed = SHAPES[piece.signal], False
    try:
        request = shape.request.FromString(piece.raw)
    except DecodeError:  # nested deeper than protobuf reads: the server says what becomes of it
        return piece
    for number, record in enumerate(
        record
        for resource in getattr(request, shape.resources)
        for scope in getattr(resource, shape.scopes)
        for record in getattr(scope, shape.records)
    ):
        if piece.signal == "logs":
            if not (record.time_unix_nano or record.observed_time_unix_nano):
                record.observed_time_unix_nano = at + number
                changed = True
            continue
        for event in record.events:
            if not event.time_unix_nano:
                event.time_unix_nano = record.end_time_unix_nano or at + number
                changed = True
    return replace(piece, raw=request.SerializeToString()) if changed else piece


class _Tape:
    """Lines of CSV as text; how far they go."""

    def __init__(self, source: Any, end: int, line: int) -> None:
        self.end = end
        self.line = line
        self._source = source

    def __iter__(self) -> Iterator[str]:
        while data := self._source.readline(MOST + 1):
            self.end += len(data)
            self.line += 1
            if len(data) > MOST:
                raise Unreadable(f"line {self.line}: expected at most {size_text(MOST)}, found more")
            yield data.decode("utf-8", "replace")


def _rows(source: Any, start: int, wanted: Columns) -> Iterator[Piece]:
    csv.field_size_limit(MOST)
    tape = _Tape(source, 0, 0)
    reader = csv.reader(iter(tape), delimiter=wanted.delimiter, strict=True)
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
    except csv.Error:
        header = []
    if missing := sorted(wanted.needed() - set(header)):
        raise Unreadable(
            f"line 1: expected a header with the columns {', '.join(missing)}, found none of these"
        )
    places = {name: place for place, name in enumerate(header)}
    if start > tape.end:
        tape.line += _skip(source, start - tape.end)
        tape.end = start
    while True:
        first = tape.line + 1
        try:
            row = next(reader, None)
        except csv.Error:
            # After an open quote nobody knows where a row ends.
            raise Unreadable(f"line {first}: expected CSV, found a quote that does not fit") from None
        if row is None:
            return
        where = f"line {first}"
        if not row:
            yield Piece(where, tape.end)
        elif len(row) != len(header):
            yield Piece(where, tape.end, error=f"expected {len(header)} columns, found {len(row)}")
        else:
            yield _row(where, tape.end, {name: row[place] for name, place in places.items()}, wanted)


def _row(where: str, end: int, row: Mapping[str, str], wanted: Columns) -> Piece:
    name = wanted.name or row[wanted.event or ""].strip()
    if not name:
        return Piece(where, end, error="expected an event's name, found an empty one")
    try:
        at = nanoseconds(_number(row[wanted.time].strip()))
    except ValueError as error:
        return Piece(where, end, error=str(error))
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=name, time_unix_nano=at)
    user = row[wanted.user].strip() if wanted.user is not None else ""
    named = {"user.id": user} | {key: row[column] for key, column in wanted.attributes.items()}
    for key, value in named.items():
        if value:
            record.attributes.add(key=key).value.string_value = value
    return Piece(where, end, "logs", request.SerializeToString(), 1)


def _number(text: str) -> object:
    """A time as a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
