"""`otel-ttf mask`: what the server would make of a file, and why. For people at a terminal.

A file holds OTLP/JSON, whole or a request a line (as the Collector's file exporter writes it), or text: each line is
then masked as the body of a log record.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import click
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_ttf.otlp import json as otlp_json
from otel_ttf.otlp.batch import Batch
from otel_ttf.otlp.leaving import for_vendor
from otel_ttf.otlp.wire import SHAPES, SIGNALS, Malformed, Signal, decode
from otel_ttf.pii.masking import Trace, Where
from otel_ttf.processors.base import Processor

WHOLE = 64 << 20  # characters of a file that is read as one document
_REQUESTS: dict[str, Signal] = {otlp_json.camel(SHAPES[signal].resources): signal for signal in SIGNALS}
_WORDS = re.compile(r"(\W)")


@dataclass(frozen=True, slots=True)
class Finding:
    """place: what holds it, and the keys that lead to it; rule: detector or key rule."""

    place: str
    rule: str
    before: str
    after: str


@dataclass(slots=True)
class Result:
    """A line, or a document: as it was, as it is now, and what was found."""

    before: str
    after: str
    findings: list[Finding] = field(default_factory=list)


class Mask:
    """Masks texts as a server with this pipeline does.

    make    makes the pipeline of a signal, with a trace
    now     unix ns: the arrival
    vendor  what a vendor would get: what is kept from vendors is left out
    """

    def __init__(self, make: Callable[[Signal, Trace], Processor], now: int, *, vendor: bool = False) -> None:
        self._findings: list[Finding] = []
        self._ways = {signal: make(signal, self._found) for signal in SIGNALS}
        self._now = now
        self._vendor = vendor

    def _found(self, where: Where, rule: str, before: str, after: str) -> None:
        keys = ".".join(where.path)
        self._findings.append(Finding(f"{where.place} {keys}".strip(), rule, before, after))

    def file(self, file: IO[str]) -> Iterator[Result]:
        """Results in order, as the lines come. Raises Malformed: it looks like OTLP/JSON and is none."""
        first = file.readline()
        if first.strip() in ("{", "") or (first.lstrip()[:1] == "{" and _parsed(first) is None):
            whole = first + file.read(WHOLE)
            document = _parsed(whole)
            if document is not None and not file.read(1):
                yield self._line(whole.rstrip("\n"))
                return
            lines: Iterable[str] = whole.splitlines()
        else:
            lines = [first.rstrip("\n")] if first else []
        for line in lines:
            yield self._line(line)
        for line in file:
            yield self._line(line.rstrip("\n"))

    def _line(self, text: str) -> Result:
        document = _parsed(text) if text.lstrip()[:1] == "{" else None
        signal = next((_REQUESTS[key] for key in document if key in _REQUESTS), None) if document else None
        self._findings = []
        if signal is None:
            request = ExportLogsServiceRequest()
            record = request.resource_logs.add().scope_logs.add().log_records.add()
            record.body.string_value = text
            out = self._masked("logs", request.SerializeToString())
            records = [r for by in out.resource_logs for scope in by.scope_logs for r in scope.log_records]
            return Result(text, records[0].body.string_value if records else "", self._findings)
        out = self._masked(signal, otlp_json.decode(signal, text.encode()))
        before = otlp_json.as_json(decode(signal, otlp_json.decode(signal, text.encode())))
        return Result(before, otlp_json.as_json(out), self._findings)

    def _masked(self, signal: Signal, raw: bytes) -> Any:
        payload = self._ways[signal](Batch(signal, raw, self._now, plain=True)).finish()
        return decode(signal, for_vendor(signal, payload) if self._vendor else payload)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def show(result: Result, number: int, *, explain: bool) -> None:
    """Prints the masked line; to explain it, what changed in it and why."""
    if not explain:
        click.echo(result.after)
        return
    click.echo(difference(result.before, result.after))
    for finding in result.findings:
        said = (
            f"{_short(finding.before)} -> {_short(finding.after) or 'nothing'}"
            if finding.before
            else "dropped"
        )
        click.secho(f"  {number}: {finding.place}: {finding.rule}: {said}", dim=True)


def difference(before: str, after: str) -> str:
    """The text with what was taken away in red between [- and -], what was put there in green between {+ and +}."""
    if before == after:
        return after
    old, new = _WORDS.split(before), _WORDS.split(after)
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append("".join(old[a:b]))
            continue
        if gone := "".join(old[a:b]):
            parts.append(click.style(f"[-{gone}-]", fg="red"))
        if put := "".join(new[c:d]):
            parts.append(click.style(f"{{+{put}+}}", fg="green"))
    return "".join(parts)


def _short(text: str, most: int = 60) -> str:
    shown = text.encode("unicode_escape").decode()
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


__all__ = ["Finding", "Malformed", "Mask", "Result", "difference", "show"]
