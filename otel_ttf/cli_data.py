"""`otel-ttf check-data`, `restore`, `salvage`: what a data directory holds, and what to do when it is damaged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_ttf.cli_options import Sources, Stop, existing, keys_of, load_config, on_a_directory, ways_on
from otel_ttf.commands import Given
from otel_ttf.files import LOG_FILE

if TYPE_CHECKING:
    from otel_ttf.mending import Mended


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No server runs on the directory meanwhile; what cannot be done ends the command."""
    from otel_ttf.log.lock import DirectoryLocked, lock_directory
    from otel_ttf.mending import CannotMend

    os.umask(0o077)
    try:
        with lock_directory(directory):
            yield
    except (DirectoryLocked, CannotMend) as error:
        raise Stop(f"{error}.") from None


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, where somebody looks at it: tell it (done, of how many)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(mended: Mended, given: Given) -> None:
    if mended.kept is not None:
        click.echo(f"The old file is kept as {mended.kept}; delete it when nothing is missed.")
    log = mended.log
    if log is None:
        click.echo("There is no log.db that can be read: what was in it and not followed yet is lost.")
    else:
        if mended.cursor is None:
            click.echo("The store has read nothing of this log.db.")
        cursor = mended.cursor or 0
        if cursor < log.gone:
            click.echo(
                f"Requests at positions {cursor + 1} to {log.gone} were followed after the copy was made "
                "and are no longer in log.db: what senders still have they may send again, nothing counts twice."
            )
        first = max(cursor, log.gone) + 1
        if first <= log.end:
            click.echo(f"The next start follows positions {first} to {log.end} of log.db (again).")
    click.echo(f"Start the server: {given.command('run')}")


@click.command(short_help="Put a copy of store.db in its place.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@on_a_directory
def restore(file: Path, sources: Sources, data_dir: Path) -> None:
    """Put a copy of store.db, or that of a copied data directory FILE, in the place of the one that is there.

    Stop the server first. The copy is checked before anything is changed, its keys against those that are configured,
    too, and the file that is replaced is kept under another name. What log.db still holds is followed again; nothing
    counts twice.

    \b
    Examples:
      otel-ttf restore /backup/store.db
      otel-ttf restore /backup/otel-ttf --data-dir /var/lib/otel-ttf
    """
    config = load_config(sources).config
    directory, given = existing(data_dir), sources.given(data_dir)
    from otel_ttf import mending

    with _alone(directory):
        path = config.storage.file(directory)
        keys = keys_of(config, directory)
        mended = mending.restore(file, path, directory / LOG_FILE, keys, time.time_ns(), given)
    click.echo(f"{path} is the copy now.")
    _tell(mended, given)


@click.command(short_help="Keep what is readable of a damaged store.db.")
@on_a_directory
def salvage(sources: Sources, data_dir: Path) -> None:
    """Copy all that is readable of a damaged store.db into a new one, and put that in its place.

    Stop the server first. Every page is read, also where SQLite finds no way to it. Journeys that are lost are
    made again from their transitions, figures are counted anew at the next start, counters are what the
    transitions say. The damaged file is kept under another name. A recent copy (otel-ttf restore) knows more.

    \b
    Examples:
      otel-ttf salvage
      otel-ttf salvage --config config.yaml --data-dir /var/lib/otel-ttf
    """
    config = load_config(sources).config
    directory, given = existing(data_dir), sources.given(data_dir)
    from otel_ttf import mending

    with _alone(directory), _progress("reading store.db") as progress:
        path = config.storage.file(directory)
        report = mending.salvage_store(
            path, directory / LOG_FILE, config.domain_journeys(), time.time_ns(), progress, given
        )
    found = report.found
    click.echo(f"{path} is new, with what was readable in the old one:")
    for name in ("journey", "transition", "event", "counter", "histogram"):
        click.echo(f"  {name:<11} {found.rows[name]:>10} rows")
    if report.rebuilt:
        click.echo(f"  {report.rebuilt} journeys were made again from their transitions.")
    if report.without:
        click.echo(
            f"  {report.without} journeys were left out: nobody knows any more which milestones they are of."
        )
    if found.damaged:
        whose = ", ".join(sorted(name if name != "?" else "unknown" for name in found.harmed))
        click.echo(f"  {found.damaged} pages are damaged ({whose}): what was in them is lost.")
    else:
        click.echo("  No page is damaged.")
    if report.missing:
        click.echo(f"  {report.missing} transitions are missing; counters know of them.")
    if found.damaged or report.missing:
        click.echo(f"/ready says so for a week, {given.command('check-data')} for ever.")
    _tell(report.mended, given)


@click.command("check-data", short_help="Check a data directory thoroughly.")
@on_a_directory
def check_data(sources: Sources, data_dir: Path) -> None:
    """Check a data directory thoroughly, and change nothing.

    Every page and index, every request of the log, every row of the store, how far it was followed, what points at
    what, counters against transitions, figures against journeys. A server may run meanwhile; its write-ahead logs
    grow as long as this takes, some minutes for some GB. Exit code 0: all is fine; 1: something is wrong.

    \b
    Examples:
      otel-ttf check-data
      otel-ttf check-data --config config.yaml --data-dir /var/lib/otel-ttf
    """
    config = load_config(sources).config
    path = existing(data_dir)
    from otel_ttf.check_data import Directory, checks, notes, said

    given = sources.given(data_dir)
    directory = Directory(path, config.storage.file(path), config.domain_journeys(), given)
    for needed in (directory.log, directory.store):
        if not needed.exists():
            raise Stop(f"{needed} is not there: is it the right --data-dir? See docs/operations.md.")
    wrong = 0
    for what, check in checks(directory):
        with _progress(what) as progress:
            found = said(check, progress)
        click.echo(f"{what}: {'fine' if not found else ''}".rstrip())
        for sentence in found:
            click.echo(f"  {sentence}")
        wrong += len(found)
    for lost in said(lambda _: iter(notes(directory)), lambda _, __: None):
        click.echo(f"known since it was found: {lost}")
    if wrong:
        raise Stop(
            "something is wrong, see above. log.db: restart the server, it rescues what is readable. store.db: stop "
            f"the server, then {ways_on(given)}"
        )
    click.echo("All is fine.")
