"""What the server would make of the lines of a file, and why.

A line is an OTLP/JSON request (as the Collector's file exporter writes them), or text, which is masked as the body of
a log record is. An OTLP/JSON document may take several lines, if nothing stands before it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.leaving import for_vendor
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Malformed, Signal, decode
from otel_ttf.pii.masking import Trace, Where, for_messages
from otel_ttf.pii.sealed import NONCE_BYTES, TAG_BYTES, UnknownKey, to_text
from otel_ttf.processors.base import Processor
from otel_ttf.units import size_text

MOST = 64 << 20  # bytes of a line, or of a document over several lines
_GZIP = b"\x1f\x8b"
_REQUESTS: dict[str, Signal] = {otlp_json.camel(SHAPES[signal].resources): signal for signal in SIGNALS}
# Whatever begins like this is meant to be a request.
_REQUEST = re.compile(rf'\s*\{{\s*"(?:{"|".join(_REQUESTS)})"')
# The first line of one over several lines.
_DOCUMENT = re.compile(rf'\s*\{{\s*(?:"(?:{"|".join(_REQUESTS)})"[\s:\[{{]*)?\Z')
_ABOUT_CONSENT = {"drop": "not written", "anonymise": "written without who it was"}


class Unreadable(Exception):
    """The rest of a file cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """place: what holds it; path: the keys that lead to it; rule: what found it; after: what takes its place, "" if
    it goes with its key. What it was stands in the line alone."""

    place: str
    path: str
    rule: str
    after: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a document, as it came and as it goes on: text, or JSON that was read.

    number   of its first line, from 1
    after    None: nothing goes on
    remarks  what became of it for another reason than what it holds
    error    why it cannot be read; it says nothing of what it holds
    """

    number: int
    before: object
    after: object
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str | None = None


class _Noted:
    """What the trace tells of one line."""

    def __init__(self) -> None:
        self._told: list[tuple[str, tuple[str, ...], str, str, str]] = []

    def note(self, where: Where, rule: str, before: str, after: str) -> None:
        self._told.append((where.place, tuple(where.path), rule, before, after))

    def taken(self) -> tuple[Finding, ...]:
        """The findings so far; the next ones are another line's. Keys are told as they go on."""
        told, self._told = self._told, []
        changed = [(before, after) for *_, rule, before, after in told if rule.startswith("detector ")]
        return tuple(
            Finding(place, ".".join(_masked_key(key, changed) for key in path), rule, after)
            for place, path, rule, _, after in told
        )


def _masked_key(key: str, changed: Iterable[tuple[str, str]]) -> str:
    for before, after in changed:
        if before in key:
            key = key.replace(before, after)
    return for_messages().text(key, Where())


class Mask:
    """Masks lines as a server does.

    make    makes the processors of a signal, for plain batches; it is handed the trace
    now     unix ns: the arrival
    vendor  what a vendor would get: what must not leave is left out
    """

    def __init__(self, make: Callable[[Signal, Trace], Processor], now: int, *, vendor: bool = False) -> None:
        self._make = make
        self._made: dict[Signal, Processor] = {}
        self._now = now
        self._vendor = vendor
        self._noted = _Noted()

    def lines(self, file: IO[bytes]) -> Iterator[Line]:
        """What becomes of each line, as they come. Raises Unreadable."""
        for number, text in _texts(file):
            yield self._line(number, text)

    def _line(self, number: int, text: str) -> Line:
        if not text.strip():
            return Line(number, text, text)
        document = _parsed(text) if text.lstrip()[0] == "{" else None
        signal = (
            None if document is None else next((_REQUESTS[key] for key in document if key in _REQUESTS), None)
        )
        self._noted.taken()  # of a line that could not be read
        if document is None and _REQUEST.match(text):
            return Line(number, None, None, error="expected an OTLP request in JSON, found something else")
        try:
            return self._text(number, text) if signal is None else self._request(number, signal, text)
        except Malformed as error:
            return Line(number, None, None, error=str(error))

    def _text(self, number: int, text: str) -> Line:
        request = ExportLogsServiceRequest()
        request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = text
        out, remarks = self._masked("logs", request.SerializeToString())
        bodies = [r.body for by in out.resource_logs for scope in by.scope_logs for r in scope.log_records]
        after = bodies[0].string_value if bodies else None
        return Line(number, text, after, self._noted.taken(), remarks)

    def _request(self, number: int, signal: Signal, text: str) -> Line:
        raw = otlp_json.decode(signal, text.encode("utf-8", "surrogatepass"))
        out, remarks = self._masked(signal, raw)
        before = json.loads(otlp_json.as_json(decode(signal, raw)))
        after = json.loads(otlp_json.as_json(out)) or None
        return Line(number, before, after, self._noted.taken(), remarks)

    def _masked(self, signal: Signal, raw: bytes) -> tuple[Any, tuple[str, ...]]:
        way = self._made.get(signal)
        if way is None:
            way = self._made[signal] = self._make(signal, self._noted.note)
        batch = way(Batch(signal, raw, self._now, plain=True))
        payload = batch.finish()
        remarks = [f"record {place}: refused: {why}" for place, why in sorted(batch.rejected.items())]
        remarks += [f"warning: {warning}" for warning in batch.warnings]
        for (what, label, *_), count in batch.counts.items():
            if what == "consent_dropped":
                things = "1 record" if count == 1 else f"{count} records"
                remarks.append(f"consent: denied, {things} {_ABOUT_CONSENT[label]}")
        if self._vendor:
            kept = for_vendor(signal, payload)
            if kept != payload:
                remarks.append("vendor: what must not be sold was left out")
            payload = kept
        return decode(signal, payload), tuple(remarks)


def _texts(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """(number, text) of each line, without its end; a document over several lines is one."""
    try:
        source = _unzipped(file)
        first = _read_line(source, 1)
        if first is None:
            return
        if _DOCUMENT.match(first):
            yield from _several(first, source.read(MOST + 1))
            return
        yield 1, first
        number = 2
        while (text := _read_line(source, number)) is not None:
            yield number, text
            number += 1
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Unreadable("expected gzip to its end, found something else") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {(error.strerror or 'an error').lower()}") from None


def _several(first: str, rest: bytes) -> Iterator[tuple[int, str]]:
    """A document over several lines; lines of text that begin like one."""
    whole = first + "\n" + rest.decode("utf-8", "replace")
    meant = _REQUEST.match(whole) is not None
    if len(rest) > MOST:
        raise Unreadable(f"expected a request a line, or a document of at most {size_text(MOST)}")
    try:
        json.loads(whole)
    except ValueError as error:
        if meant:
            line = getattr(error, "lineno", 1)
            raise Unreadable(
                f"line {line}: expected one OTLP request in JSON, found something else"
            ) from None
        yield from enumerate(whole.removesuffix("\n").split("\n"), 1)
    except RecursionError:
        raise Unreadable(
            "expected an OTLP request in JSON, found too many objects within each other"
        ) from None
    else:
        yield 1, whole.rstrip("\n")


def _unzipped(file: IO[bytes]) -> IO[bytes]:
    peek = getattr(file, "peek", None)
    head = peek(2)[:2] if peek is not None else b""
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if head == _GZIP else file


def _read_line(source: IO[bytes], number: int) -> str | None:
    line = source.readline(MOST + 1)
    if len(line) > MOST:
        raise Unreadable(f"line {number}: expected at most {size_text(MOST)}")
    return line.decode("utf-8", "replace").removesuffix("\n") if line else None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


class Stand:
    """Seals under a key that nobody keeps: what is encrypted looks as on a server, and nobody can open it."""

    def prepare(self, subjects: Iterable[str]) -> None:
        """There is nothing to prepare."""

    def remember(self, ids: Mapping[str, str]) -> None:
        """Nothing is kept."""

    def unknown(self, tokens: Iterable[str]) -> list[str]:
        """None: there is nothing to keep."""
        return []

    def seal(self, subject: str, path: str, text: str, *, vendors: bool = True) -> str | None:
        """As many random bytes as a ciphertext has."""
        return to_text(os.urandom(NONCE_BYTES + len(text.encode()) + TAG_BYTES), vendors=vendors)

    def open(self, subject: str, path: str, sealed: str) -> str:
        """Raises UnknownKey."""
        raise UnknownKey("nobody has the key")
