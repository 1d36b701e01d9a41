"""`otel-ttf mask`: what the server would make of files or of a pipe, and why."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from otel_ttf.cli_options import Sources, Stop, configured, keys_of, load_config

if TYPE_CHECKING:
    from otel_ttf.config import Config
    from otel_ttf.difference import Shown
    from otel_ttf.mask_file import Line, Mask
    from otel_ttf.otlp.wire import Signal
    from otel_ttf.pii.keys import Keys
    from otel_ttf.pii.masking import Trace
    from otel_ttf.processors.base import Processor

THROW_AWAY = (
    "otel-ttf: hashes and pseudonyms are made with keys of this run alone; name the server's with --data-dir or "
    "--key-file."
)


@click.command(short_help="Mask a file or a pipe as the server would.")
@click.argument("names", metavar="[FILE]...", nargs=-1)
@configured
@click.option("--explain", is_flag=True, help="Show what was changed in each line, where, and by which rule.")
@click.option(
    "--for",
    "reader",
    type=click.Choice(["vendor"]),
    help="What a vendor would get: without what must not be sold.",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Whether --explain draws in colour; auto: on a terminal.",
)
@click.option(
    "--data-dir",
    envvar="OTEL_TTF_DATA",
    show_envvar=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The server's data directory: hashes and pseudonyms are those that it makes.",
)
@click.option("--key-file", metavar="FILE", help="The same from a key file.")
def mask(
    names: tuple[str, ...],
    sources: Sources,
    explain: bool,
    reader: str | None,
    color: str,
    data_dir: Path | None,
    key_file: str | None,
) -> None:
    """Mask files, or standard input, as the server would before it writes anything down.

    Each line is text, JSON, or an OTLP/JSON request as the Collector's file exporter writes them; an OTLP/JSON
    document over several lines comes out as one. gzip is seen through. What is masked goes to standard output, line
    by line. With --explain the lines show what was changed, below each stands what was found where, by which rule,
    and what became of it (only the line itself holds what it was), and at the end how much of each.

    Consent that users have given or denied before is not known here, only what the lines say.

    \b
    Examples:
      otel-ttf mask app.log > app.masked.log
      kubectl logs shop | otel-ttf mask --explain
      otel-ttf mask telemetry.jsonl.gz --explain --color always | less -R
      otel-ttf mask requests.json --for vendor --config config.yaml --data-dir /var/lib/otel-ttf
    """
    config = load_config(sources).config
    if key_file is not None:
        config = config.model_copy(
            update={"privacy": config.privacy.model_copy(update={"key_file": key_file})}
        )
    known = data_dir is not None or config.privacy.key_file is not None
    keys = keys_of(config, data_dir or Path()) if known else _own()
    masking = _mask(config, keys, vendor=reader == "vendor")
    printer = _Printer(
        explain=explain,
        colored=color == "always"
        or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")),
        own=None if known else keys,
    )
    for name in names or ("-",):
        _file(name, masking, printer)
    printer.end()


def _own() -> Keys:
    from otel_ttf.pii.keys import Keys

    return Keys(secrets.token_bytes(32), (secrets.token_bytes(32),))


def _mask(config: Config, keys: Keys, *, vendor: bool) -> Mask:
    from otel_ttf.mask_file import Mask, Stand
    from otel_ttf.pii.consent import Book
    from otel_ttf.processors import JUDGING, pipeline
    from otel_ttf.processors.base import ProcessorRefused

    consent = config.processors.consent
    book = Book(usual=consent.usual, limit=consent.max_subjects)
    sealer = Stand() if config.processors.mask.encrypts else None

    def make(signal: Signal, trace: Trace) -> Processor:
        # What is dropped is no matter of masking.
        configs = {name: one for name, one in config.processor_configs(signal).items() if name not in JUDGING}
        return pipeline(
            configs,
            keys,
            config.subject,
            plain=True,
            sealer=sealer,
            book=book,
            time=config.time,
            trace=trace,
            derivations=derivations,
        )

    try:
        derivations = config.processors.enrich.derivations()
    except ProcessorRefused as error:
        raise Stop(f"{error}.", 2) from None
    return Mask(make, time.time_ns(), vendor=vendor)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - it is closed below
    except OSError as error:
        raise Stop(f"{name} cannot be read: {(error.strerror or 'it cannot be opened').lower()}.") from None
    with file:
        yield file


def _file(name: str, masking: Mask, printer: _Printer) -> None:
    from otel_ttf.mask_file import Unreadable

    with _opened(name) as file:
        try:
            for line in masking.lines(file):
                printer.line(name, line)
        except Unreadable as error:
            raise Stop(f"{name}: {error}.") from None


class _Printer:
    """Writes lines, and what is to be said of them.

    own  keys that nobody else has: the first hash or pseudonym made with them is remarked on
    """

    def __init__(self, *, explain: bool, colored: bool, own: Keys | None) -> None:
        from otel_ttf.pii.keys import key_id

        self._explain = explain
        self._colored = colored
        self._mark = None if own is None else f"{key_id(own.subjects[0])}_"
        self._lines = self._changed = self._unreadable = 0
        self._found: Counter[tuple[str, str]] = Counter()
        self._shown = _shown(colored=colored)

    def line(self, name: str, line: Line) -> None:
        """The next line of a file."""
        self._lines += 1
        at = f"{name}:{line.number}"
        if line.error is not None:
            self._unreadable += 1
            click.echo(f"{at}: {line.error}", err=True)
            return
        self._changed += line.before != line.after
        if self._mark is not None and any(self._mark in finding.after for finding in line.findings):
            self._mark = None
            click.echo(THROW_AWAY, err=True)
        if not self._explain:
            if line.after is not None:
                _write(_as_text(line.after))
            return
        _write(self._shown.of(line.before, line.after))
        for finding in line.findings:
            place = f"{finding.place} {finding.path}".strip()
            self._found[finding.rule, finding.place] += 1
            self._remark(f"  {at}: {place}: {finding.rule}: {finding.after or 'dropped'}")
        for remark in line.remarks:
            self._remark(f"  {at}: {remark}")

    def _remark(self, text: str) -> None:
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        _write(click.style(shown, dim=True) if self._colored else shown)

    def end(self) -> None:
        """Says what there was; ends the command if not all could be read."""
        if self._explain:
            self._table()
        if self._unreadable:
            what = "1 line" if self._unreadable == 1 else f"{self._unreadable} lines"
            raise Stop(f"{what} cannot be read and left out, see above.")

    def _table(self) -> None:
        from rich.console import Console
        from rich.table import Table

        console = Console(stderr=True, highlight=False)
        if self._found:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for column in ("rule", "place"):
                table.add_column(column, overflow="fold")
            table.add_column("found", justify="right")
            for (rule, place), count in sorted(self._found.items(), key=lambda item: (-item[1], item[0])):
                table.add_row(rule, place, str(count))
            console.print(table)
        lines = "1 line" if self._lines == 1 else f"{self._lines} lines"
        console.print(f"{self._changed} of {lines} changed, {self._found.total()} found.")


def _shown(*, colored: bool) -> Shown:
    from otel_ttf.difference import Shown

    def drawn(form: str, color: str, text: str) -> str:
        return click.style(form.format(text), fg=color) if colored else form.format(text)

    return Shown(partial(drawn, "[-{}-]", "red"), partial(drawn, "{{+{}+}}", "green"))


def _as_text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write(text: str) -> None:
    # As bytes: what a terminal cannot show, a file can hold.
    click.echo(text.encode("utf-8", "replace"))
