"""What commands have in common: options, the configuration, and how a command ends with one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from otel_ttf import presets
from otel_ttf.commands import Given
from otel_ttf.files import barred

if TYPE_CHECKING:
    from otel_ttf.config import Config
    from otel_ttf.config.load import Loaded
    from otel_ttf.pii.keys import Keys

FAILURE, USAGE = 1, 2
F = TypeVar("F", bound=Callable[..., Any])


class Stop(click.ClickException):
    """Ends the command with one sentence that says what is wrong and what to do."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Prints the sentence on standard error."""
        click.echo(f"otel-ttf: {self.format_message()}", err=True)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a configuration is made from: see config.load."""

    files: tuple[str, ...]
    settings: tuple[str, ...]
    preset: str | None

    def load(self) -> Loaded:
        """Reads it. Raises ConfigError."""
        from otel_ttf.config import load

        return load(self.files, self.settings, os.environ, preset=self.preset)

    def given(self, data_dir: Path) -> Given:
        """For commands that work on the same data."""
        return Given(data_dir, self.files, self.settings, self.preset)


def configured(command: F) -> F:
    """Adds --config, --set and --preset, which the command gets as `sources`."""

    @wraps(command)
    def with_sources(
        *given: object, files: tuple[str, ...], settings: tuple[str, ...], preset: str | None, **more: object
    ) -> object:
        return command(*given, sources=Sources(files, settings, preset), **more)

    preset = click.option(
        "--preset", type=click.Choice(presets.names()), help="Settings for a purpose, under all files."
    )
    files = click.option(
        "--config",
        "files",
        metavar="FILE",
        multiple=True,
        help="Configuration file; several are laid over one another. Without: the built-in defaults.",
    )
    sets = click.option(
        "--set",
        "settings",
        metavar="A.B=C",
        multiple=True,
        help="One setting, over all files; the value is YAML. May be given several times.",
    )
    return files(sets(preset(cast(F, with_sources))))


def with_data_dir(help_text: str) -> Callable[[F], F]:
    """Adds --data-dir."""
    return click.option(
        "--data-dir",
        envvar="OTEL_TTF_DATA",
        default="data",
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path, file_okay=False),
        help=help_text,
    )


def on_a_directory(command: F) -> F:
    """Adds --config, --set, --data-dir, as `run` has them."""
    return configured(with_data_dir("The server's data directory.")(command))


def entering(key_help: str) -> Callable[[F], F]:
    """Adds --api-key, --ca-file, --cert-file and --key-file, which the command gets as `entry`."""
    file = click.Path(dir_okay=False)
    options = [
        click.option(
            "--api-key",
            "key",
            envvar="TELEMETRY_API_KEY",
            show_envvar=True,
            help=f"{key_help} What stands on a command line others can see.",
        ),
        click.option(
            "--ca-file",
            "ca",
            metavar="FILE",
            type=file,
            envvar="TELEMETRY_CA_FILE",
            show_envvar=True,
            help="Who has signed the server's certificate; without: whom this machine trusts.",
        ),
        click.option(
            "--cert-file", "cert", metavar="FILE", type=file, help="Our certificate, where one is asked for."
        ),
        click.option("--key-file", "own", metavar="FILE", type=file, help="Its key."),
    ]

    def with_options(command: F) -> F:
        @wraps(command)
        def with_entry(
            *given: object, key: str | None, ca: str | None, cert: str | None, own: str | None, **more: object
        ) -> object:
            from otel_ttf.access.entry import Entry

            if (cert is None) != (own is None):
                raise click.UsageError("give --cert-file and --key-file, or neither")
            return command(*given, entry=Entry(key and key.strip(), ca, cert, own), **more)

        entered = cast(F, with_entry)
        for option in reversed(options):
            entered = option(entered)
        return entered

    return with_options


def shaped(command: F) -> F:
    """Adds --format."""
    return click.option(
        "--format",
        "shape",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For eyes, or as JSON.",
    )(command)


def existing(path: Path) -> Path:
    """A server's data directory; ends the command when there is none."""
    path = path.absolute()
    if mend := barred(path, write=False):
        raise Stop(f"the data directory cannot be read: {mend}")
    if not path.is_dir():
        raise Stop(f"{path} is no data directory: name the server's with --data-dir.")
    return path


def ways_on(given: Given) -> str:
    """What leads on from a damaged store.db, the server stopped."""
    return f"`{given.command('restore FILE')}` or `{given.command('salvage')}`"


def load_config(sources: Sources) -> Loaded:
    """The configuration; ends the command with all that is wrong with it. Warnings go to standard error."""
    from otel_ttf.config import ConfigError

    try:
        loaded = sources.load()
    except ConfigError as error:
        click.echo("\n".join(map(str, error.problems)), err=True)
        count = len(error.problems)
        things = "1 thing is" if count == 1 else f"{count} things are"
        raise Stop(f"the configuration cannot be used: {things} wrong, see above.", USAGE) from None
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded


def keys_of(config: Config, directory: Path) -> Keys:
    """The configured keys, or those of the data directory; ends the command when they cannot be read."""
    from otel_ttf.config import CannotStart
    from otel_ttf.key_files import read_keys

    try:
        return read_keys(config, directory)
    except CannotStart as error:
        raise Stop(str(error), error.exit_code) from None
