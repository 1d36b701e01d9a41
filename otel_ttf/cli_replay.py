"""`otel-ttf replay`: files of telemetry to a running server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_ttf.cli_options import Stop, entering

if TYPE_CHECKING:
    from otel_ttf.access.entry import Entry
    from otel_ttf.replay.files import Columns
    from otel_ttf.replay.places import Place

NAMED = 100  # pieces that are named on the screen, of each file


@click.command(short_help="Send files of telemetry to a running server.")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--to",
    default="http://127.0.0.1:4318",
    show_default=True,
    metavar="URL",
    help="An OTLP receiver: http://HOST:PORT, https://, grpc://HOST:PORT or grpcs://.",
)
@entering("An API key with the scope ingest; it goes to whoever --to names.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent with each request.")
@click.option("--gzip", "packed", is_flag=True, help="Compress requests, for a slow line.")
@click.option(
    "--csv",
    "mapping",
    metavar="WHAT=COLUMN,...",
    help="The files are CSV: which columns are time, user and event, and which attributes.",
)
@click.option("--event", "name", default="", metavar="NAME", help="With --csv: what all events are called.")
@click.option("--delimiter", default=",", show_default=True, help="With --csv: what stands between columns.")
@click.option(
    "--state",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where it is kept how far a file has come; by default beside the file.",
)
@click.option("--again", is_flag=True, help="From the beginning, whatever was sent before.")
@click.option(
    "--give-up-after",
    "patience",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for a server that takes nothing.",
)
def replay(
    files: tuple[Path, ...],
    to: str,
    entry: Entry,
    headers: tuple[str, ...],
    packed: bool,
    mapping: str | None,
    name: str,
    delimiter: str,
    state: Path | None,
    again: bool,
    patience: str,
) -> None:
    """Send files to a running server, as fast as it takes them.

    Files are those of the Collector's file exporter (OTLP/JSON lines, or messages with their length in front), or CSV;
    gzip and zstd are seen by themselves. Ended at whatever moment, the same command goes on where it was. An event that
    was sent before counts once. What is no request is named and left out; then the exit code is 1.

    \b
    Examples:
      otel-ttf replay telemetry-*.json.gz
      otel-ttf replay traces.binpb --to grpcs://ttf.internal:4317 --ca-file /etc/otel/ca.crt
      otel-ttf replay signups.csv --csv time=created_at,user=id,plan=plan --event signup
    """
    from otel_ttf.units import duration

    try:
        columns = _columns(mapping, name, delimiter)
        wait = duration(patience) / 1e9
        named = dict(_header(one) for one in headers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if entry.key and _in_clear(to):
        click.echo(f"warning: the API key goes to {to} in clear: use https:// or grpcs://", err=True)
    left_out = 0
    for file in files:
        left_out += _one(
            file, to, entry, named, packed=packed, columns=columns, state=state, again=again, patience=wait
        )
    if left_out:
        raise Stop(f"{left_out} pieces were left out, see above; all others were sent.")


def _in_clear(to: str) -> bool:
    """Whether others on the way can read along."""
    from urllib.parse import urlsplit

    from otel_ttf.access.hosts import loopback

    parts = urlsplit(to)
    return parts.scheme in ("http", "grpc") and not loopback(parts.hostname or "")


def _columns(mapping: str | None, name: str, delimiter: str) -> Columns | None:
    from otel_ttf.replay.files import columns

    if mapping is None:
        if name:
            raise ValueError("--event: expected only with --csv")
        return None
    if len(delimiter) != 1:
        raise ValueError("--delimiter: expected one character")
    try:
        return columns(mapping, name=name, delimiter=delimiter)
    except ValueError as error:
        raise ValueError(f"--csv: {error}") from None


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("--header: expected NAME=VALUE")
    return name.strip(), value.strip()


def _one(
    file: Path,
    to: str,
    entry: Entry,
    headers: dict[str, str],
    *,
    packed: bool,
    columns: Columns | None,
    state: Path | None,
    again: bool,
    patience: float,
) -> int:
    """Sends a file; how many of its pieces were left out, in all runs."""
    import asyncio

    from otel_ttf.access.entry import CannotEnter
    from otel_ttf.replay.places import beside
    from otel_ttf.replay.run import GivenUp, Replay
    from otel_ttf.replay.senders import made

    async def sent() -> Replay:
        try:
            sender = made(to, headers, entry, packed=packed)
        except CannotEnter as error:
            raise Stop(str(error)) from None
        except ValueError as error:
            raise click.UsageError(f"--to: {error}") from None
        try:
            with _progress(file) as (moved, told):
                run = Replay(
                    file,
                    sender,
                    to,
                    folder=state,
                    again=again,
                    columns=columns,
                    patience=patience,
                    on_progress=moved,
                    on_left_out=told,
                )
                await run.run()
            return run
        finally:
            await sender.close()

    try:
        run = asyncio.run(sent())
    except GivenUp as error:
        raise Stop(f"{file}: {error}; the same command goes on where it was.") from None
    except KeyboardInterrupt:
        raise Stop(f"{file}: ended; the same command goes on where it was.") from None
    except OSError as error:
        small = beside(file, state)
        hint = f"; {small} keeps how far it has come, --state puts it elsewhere"
        raise Stop(
            f"{error.filename or file}: {(error.strerror or 'cannot be read').lower()}{hint}"
        ) from None
    place = run.place
    parts = [f"{place.records} records sent"]
    parts += [f"{place.rejected} of them not taken"] if place.rejected else []
    parts += [f"{place.broken} pieces left out"] if place.broken else []
    parts += ["this and runs before it"] if run.resumed else []
    click.echo(f"{file}: {', '.join(parts)}")
    if run.ended is not None:
        raise Stop(f"{file}: {run.ended}; the same command goes on there once that is mended.")
    return place.broken + bool(place.rejected)


@contextmanager
def _progress(file: Path) -> Iterator[tuple[Callable[[Place], None], Callable[[str, str], None]]]:
    """A bar on a screen; nothing in a pipe. What was left out is said on standard error."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from otel_ttf.replay.files import packed as is_packed

    console = Console(stderr=True, markup=True, highlight=False)
    named = 0
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[records]} records"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as bar:
        # How much is packed into a file is not known before its end.
        total = None if is_packed(file) else file.stat().st_size
        task = bar.add_task(escape(file.name), total=total, records=0)

        def moved(place: Place) -> None:
            bar.update(task, completed=place.offset, records=place.records)

        def told(where: str, why: str) -> None:
            nonlocal named
            named += 1
            if named <= NAMED:
                click.echo(f"{file}: {where}: {why}", err=True)
            elif named == NAMED + 1:
                click.echo(f"{file}: and more, which are counted", err=True)

        yield moved, told
