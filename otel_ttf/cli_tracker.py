"""`otel-ttf dead-letters` and `otel-ttf recompute`: what an operator has the tracker do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click

from otel_ttf.cli_options import (
    F,
    Sources,
    Stop,
    existing,
    keys_of,
    load_config,
    on_a_directory,
    shaped,
    ways_on,
)
from otel_ttf.commands import Given

LISTED = 1000
AT_MOST = 20  # ids in a sentence
_EVENT_ID = re.compile("[0-9a-fA-F]{32}")


@contextmanager
def _sentences(given: Given) -> Iterator[None]:
    """What the store says ends the command."""
    from otel_ttf.ask_tracker import Damaged, StoreUnanswered

    try:
        yield
    except Damaged as error:
        raise Stop(f"{error}: stop the server; then {ways_on(given)}") from None
    except StoreUnanswered as error:
        raise Stop(str(error)) from None


@click.group("dead-letters", short_help="List, show, retry or drop records that were set aside.")
def dead_letters() -> None:
    """List, show, retry or drop records that were set aside.

    A record that the tracker cannot follow, while it can follow others, is set aside, masked as it is; so is one that
    an exporter's destination will never take. These commands work on the data directory, also while a server runs.

    \b
    Examples:
      otel-ttf dead-letters list --data-dir /var/lib/otel-ttf
      otel-ttf dead-letters retry --all
    """


@dead_letters.command("list", short_help="List records that were set aside.")
@on_a_directory
@shaped
def list_letters(sources: Sources, data_dir: Path, shape: str) -> None:
    """List records that were set aside, the oldest first: by which error, where in otel_ttf, and when they came.

    \b
    Examples:
      otel-ttf dead-letters list
      otel-ttf dead-letters list --data-dir /var/lib/otel-ttf --format json
    """
    from otel_ttf import ask_tracker
    from otel_ttf.ask import TABLES

    store = load_config(sources).config.storage.file(existing(data_dir))
    with _sentences(sources.given(data_dir)):
        told = ask_tracker.listed(ask_tracker.beside(store, data_dir), LISTED)
    if shape == "json":
        click.echo(ask_tracker.printable(told))
    else:
        TABLES["dead letters"](told)


@dead_letters.command("show", short_help="Show one of them with what it holds.")
@click.argument("id_", metavar="ID", type=int)
@on_a_directory
def show_letter(id_: int, sources: Sources, data_dir: Path) -> None:
    """Show one record as OTLP/JSON, masked as it was written down.

    \b
    Examples:
      otel-ttf dead-letters show 7
    """
    from otel_ttf import ask_tracker

    store = load_config(sources).config.storage.file(existing(data_dir))
    with _sentences(sources.given(data_dir)):
        told = ask_tracker.shown(ask_tracker.of(id_, store, data_dir), id_)
    if told is None:
        raise _unknown([id_], sources.given(data_dir))
    click.echo(ask_tracker.printable(told))


def _unknown(ids: Sequence[int], given: Given, rest: str = "") -> Stop:
    """rest: what became of the others that were named."""
    shown = ", ".join(map(str, ids[:AT_MOST])) + (" and more" if len(ids) > AT_MOST else "")
    what = f"no record has the id {shown}" if len(ids) == 1 else f"no records have the ids {shown}"
    return Stop(f"{what}{rest}: see {given.command('dead-letters list')}")


def _some(command: F) -> F:
    """Adds [ID]... and --all."""
    every = click.option("--all", "every", is_flag=True, help="All that are set aside now.")
    return click.argument("ids", metavar="[ID]...", nargs=-1, type=int)(every(command))


@dead_letters.command("retry", short_help="Follow or send some of them after all.")
@_some
@on_a_directory
@shaped
def retry(
    ids: tuple[int, ...],
    every: bool,
    sources: Sources,
    data_dir: Path,
    shape: str,
) -> None:
    """Take records after all, for when the defect is mended: each once, with the time at which it came.

    The tracker follows its own; an exporter sends its own to its destination again. The server does it, at its next
    start if none runs. What fails again stays set aside; then the exit code is 1.

    \b
    Examples:
      otel-ttf dead-letters retry 7 8
      otel-ttf dead-letters retry --all --data-dir /var/lib/otel-ttf
    """
    _do("retry", ids, sources, data_dir, shape, every=every)


@dead_letters.command("drop", short_help="Give some of them up for good.")
@_some
@on_a_directory
@shaped
def drop(
    ids: tuple[int, ...],
    every: bool,
    sources: Sources,
    data_dir: Path,
    shape: str,
) -> None:
    """Give records up for good: they are deleted. The server does it, at its next start if none runs.

    \b
    Examples:
      otel-ttf dead-letters drop 7
      otel-ttf dead-letters drop --all
    """
    _do("drop", ids, sources, data_dir, shape, every=every)


_SAID: dict[str, Callable[[int], str]] = {
    "retry": lambda count: f"{count} taken",
    "drop": lambda count: f"{count} dropped",
}


def _do(
    kind: Literal["retry", "drop"],
    ids: Sequence[int],
    sources: Sources,
    data_dir: Path,
    shape: str,
    *,
    every: bool,
) -> None:
    from otel_ttf import ask_tracker

    if bool(ids) == every:
        raise click.UsageError(
            f"give ids of otel-ttf dead-letters list, or --all: otel-ttf dead-letters {kind} 7"
        )
    directory, given = existing(data_dir), sources.given(data_dir)
    store = load_config(sources).config.storage.file(directory)
    with _sentences(given):
        there = ask_tracker.ids(ask_tracker.beside(store, directory))
        wanted = there if every else list(dict.fromkeys(ids))
        if unknown := sorted(set(wanted).difference(there)):
            raise _unknown(unknown, given, ", so nothing was done")
        told = together(
            ask_tracker.asked(directory, file, kind, whats)
            for file in ask_tracker.beside(store, directory)
            if (whats := _tasks([id_ for id_ in wanted if ask_tracker.of(id_, store, directory) == file]))
        )
    if shape == "json":
        click.echo(ask_tracker.printable(told))
    elif told["pending"]:
        click.echo(
            later(directory, f"{given.command('dead-letters list')} lists what is still set aside then.")
        )
    else:
        parts = [_SAID[kind](len(told["done"]))]
        if told["failed"]:
            parts.append(f"{len(told['failed'])} failed again and stay")
        click.echo(", ".join(parts) + ".")
        for id_, why in told["failed"].items():
            click.echo(f"  {id_}: {why}")
    if told["unknown"] and not every:  # somebody else was quicker
        raise _unknown(told["unknown"], given, " any more, the others were done")
    if told["failed"]:
        raise click.exceptions.Exit(1)


@click.command(short_help="Recompute a user's journeys from stored events.")
@click.argument("user", metavar="[USER_ID]", required=False)
@click.option("--token", help="A pseudonym, u1_..., as 'stuck' lists them, instead of an id.")
@click.option(
    "--without",
    metavar="EVENT_ID",
    help="Leave this event out, now and whenever it comes again: 32 hex digits, as --dry-run lists them.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change, and which event came first.")
@on_a_directory
@shaped
def recompute(
    user: str | None,
    token: str | None,
    without: str | None,
    dry_run: bool,
    sources: Sources,
    data_dir: Path,
    shape: str,
) -> None:
    """Recompute a user's journeys from stored events, without one that came with a wrong time, say.

    The server does it, at its next start if none runs. A milestone that no stored event explains is never given up:
    then nothing is changed, and the exit code is 1.

    \b
    Examples:
      otel-ttf recompute alice --dry-run
      otel-ttf recompute alice --without 0199a1b2c3d40123456789abcdef0123
      otel-ttf recompute --token u1_ab2c_abcdefghijklmnopqrstuvwxyz234567
    """
    from otel_ttf import ask_tracker
    from otel_ttf.ask import TABLES
    from otel_ttf.pii.pseudonym import Pseudonyms, is_token, subject_text

    if (user is None) == (token is None):
        raise click.UsageError("give a user id, or --token with its pseudonym: otel-ttf recompute alice")
    if token is not None and not is_token(token):
        raise click.UsageError("--token: expected u1_, 4, _ and 32 characters of a-z2-7")
    if without is not None and not _EVENT_ID.fullmatch(without):
        raise click.UsageError("--without: expected 32 hex digits, as --dry-run lists them")
    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    subjects = [token]
    if user is not None:
        subject = subject_text(user, config.subject.normalise)
        if subject is None:
            raise click.UsageError("expected a user id, found an empty one")
        subjects = [*Pseudonyms(keys_of(config, directory)).tokens(subject)]
    what = {"subjects": subjects, "without": without, "dry_run": dry_run}
    with _sentences(given):
        answers = ask_tracker.asked(directory, config.storage.file(directory), "recompute", [what])
    told: dict[str, Any] = {"pending": answers is None, "refused": None, "journeys": []}
    if answers is not None:
        told |= ask_tracker.recomputed(answers[0])
    if shape == "json":
        click.echo(ask_tracker.printable(told))
    elif answers is None:
        whose = f"--token {token}" if user is None else f"-- {shlex.quote(user)}"
        click.echo(
            later(
                directory,
                f"Then {given.command('recompute --dry-run')} {whose} shows the journey, and the server's log has a "
                "warning that begins with `what an operator asked for` if it was refused.",
            )
        )
    else:
        TABLES["recomputed"](told)
    if told["refused"]:
        raise Stop(f"{told['refused']}.")


@click.command(short_help="Compute journeys anew from stored events.")
@click.argument("journeys", metavar="[JOURNEY]...", nargs=-1)
@click.option("--no-wait", is_flag=True, help="Only begin it; the server goes on by itself.")
@on_a_directory
def rebuild(journeys: tuple[str, ...], no_wait: bool, sources: Sources, data_dir: Path) -> None:
    """Compute journeys anew from stored events, all or those named, after a definition changed.

    The server does it beside its work; figures are those of before until all of it takes over at once. No known time is
    given up, and no counter moves. Whatever ends it, the server goes on where it was.

    \b
    Examples:
      otel-ttf rebuild
      otel-ttf rebuild onboarding --data-dir /var/lib/otel-ttf
    """
    from otel_ttf import ask_tracker

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    store = config.storage.file(directory)
    with _sentences(given):
        answers = ask_tracker.asked(directory, store, "rebuild", [{"journeys": list(journeys)}])
        if answers is None:
            click.echo(later(directory, "Its log says when it has taken over."))
            return
        (told,) = answers
        if told["refused"]:
            raise Stop(f"{told['refused']}.")
        names = [*told["begun"], *told["under_way"]]
        if no_wait:
            click.echo(f"Begun: {', '.join(names)}.")
            return
        if not _watched(directory, store, names):
            raise Stop("the server has ended; the rebuild goes on where it was when it starts again.")
    click.echo(f"Computed anew: {', '.join(names)}.")


def _watched(directory: Path, store: Path, names: Sequence[str]) -> bool:
    """Waits, with a bar on a screen; False: the server ended before that."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from otel_ttf import ask_tracker
    from otel_ttf.log.lock import in_use

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks = {name: bar.add_task(name, total=1.0) for name in names}
        while True:
            running = in_use(directory)
            left = {name: done for name, done in ask_tracker.rebuilding(store).items() if name in tasks}
            for name, task in tasks.items():
                bar.update(task, completed=left.get(name, 1.0))
            if not left:
                return True
            if not running:
                return False
            time.sleep(0.5)


def _tasks(ids: Sequence[int]) -> list[dict[str, Any]]:
    from otel_ttf.ask_tracker import TOGETHER

    return [{"ids": ids[at : at + TOGETHER]} for at in range(0, len(ids), TOGETHER)]


def together(several: Iterable[Sequence[dict[str, Any]] | None]) -> dict[str, Any]:
    """Answers to several lists of tasks as one. pending: some are still to be done."""
    told: dict[str, Any] = {"pending": False, "done": [], "unknown": [], "failed": {}}
    for answers in several:
        told["pending"] |= answers is None
        for answer in answers or ():
            told["done"] += answer["done"]
            told["unknown"] += answer["unknown"]
            told["failed"] |= answer["failed"]
    return told


def later(directory: Path, outcome: str) -> str:
    """That a task is noted, when it will be done, and how to see what became of it."""
    from otel_ttf.log.lock import in_use

    if in_use(directory):
        return (
            "Noted, but not done yet: the server is busy or its tracker fails, see /ready. It will be done. "
            + outcome
        )
    return f"Noted: no server runs on {directory}; it is done when one starts. {outcome}"
