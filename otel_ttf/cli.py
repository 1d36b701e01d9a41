"""The command line: parses arguments and prints; the work is done elsewhere, imported when it is needed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from otel_ttf import __version__
from otel_ttf.cli_access import api_keys
from otel_ttf.cli_data import check_data, restore, salvage
from otel_ttf.cli_keys import keys
from otel_ttf.cli_mask import mask
from otel_ttf.cli_options import Sources, Stop, configured, entering, load_config, with_data_dir
from otel_ttf.cli_replay import replay
from otel_ttf.cli_subject import subject
from otel_ttf.cli_tracker import dead_letters, rebuild, recompute
from otel_ttf.files import barred

if TYPE_CHECKING:
    from otel_ttf.access.entry import Entry
    from otel_ttf.ask import Server

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="otel-ttf", message="%(prog)s %(version)s")
def main() -> None:
    """Time to first value, measured inside the OpenTelemetry pipeline.

    Takes OTLP logs and spans, follows every user through the milestones of a journey, and tells how long they
    take, where they get stuck, and who is stuck now.

    \b
    Examples:
      otel-ttf run --demo              start on 127.0.0.1 with made-up users
      otel-ttf ttf demo-0001           ask about one of them
      otel-ttf stuck                   who is stuck
    """


def _data_dir(path: Path) -> Path:
    """The directory, made if it isn't there; ends the command when it cannot be written."""
    path = path.absolute()  # "data" alone does not tell an operator where that was
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = (error.strerror or "it cannot be made").lower()
        mend = barred(path)
        choose = f"{mend}, or choose another" if mend else "choose another"
        raise Stop(f"the data directory {path} cannot be made: {reason}; {choose} with --data-dir.") from None
    if mend := barred(path):  # there may be data in it: nobody is sent to an empty one
        raise Stop(f"the data directory cannot be used: {mend}")
    return path


@main.command(short_help="Start the server.")
@configured
@with_data_dir("Where log, store and keys are kept; made if it isn't there.")
@click.option("--demo", is_flag=True, help="With made-up users, sent live by a process of its own.")
@click.option(
    "--accept-loss",
    "accepted",
    metavar="ID",
    multiple=True,
    help="Start without the consent.db or vault.db of this id, which is lost; a refused start names it.",
)
@click.option(
    "--accept-empty-store",
    "empty_store",
    metavar="[ID]",
    is_flag=False,
    flag_value="",
    help="Begin anew where store.db, of this id, is damaged or missing; /ready names the id. Without an id the first "
    "that is ever lost in this data directory. What is damaged is kept under another name.",
)
def run(
    sources: Sources, data_dir: Path, demo: bool, accepted: tuple[str, ...], empty_store: str | None
) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it without losing anything.

    \b
    Examples:
      otel-ttf run
      otel-ttf run --demo
      otel-ttf run --config config.yaml --data-dir /var/lib/otel-ttf
      otel-ttf run --set api.endpoint=127.0.0.1:9090
      otel-ttf run --preset sidecar
    """
    config = load_config(sources).config
    os.umask(0o077)  # what is made from here on is nobody else's to read
    directory = _data_dir(data_dir)
    from otel_ttf import service
    from otel_ttf.config import CannotStart
    from otel_ttf.demo import DemoOptions
    from otel_ttf.starting import Accepted

    try:
        code = service.main(
            config,
            directory,
            DemoOptions() if demo else None,
            accepted=Accepted(accepted, empty_store),
            given=sources.given(directory),
            source=sources.load,
        )
        # All is closed and synced. A worker may still be masking what nobody waits for: Python would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except CannotStart as error:
        raise Stop(str(error), error.exit_code) from None


@main.command(short_help="Check a configuration.")
@configured
def validate(sources: Sources) -> None:
    """Check a configuration: every error at once, as file, line, path, what was expected, what was found.

    \b
    Examples:
      otel-ttf validate --config config.yaml
      otel-ttf validate --config base.yaml --config production.yaml --set log.max_size=2GiB
    """
    load_config(sources)
    of = [*([f"preset {sources.preset}"] if sources.preset else []), *sources.files]
    click.echo(f"{', '.join(of) or 'the built-in configuration'}: valid")


@main.command("print-config", short_help="Print the configuration that results.")
@configured
@click.option("--schema", is_flag=True, help="Print the JSON schema of configuration files, for editors.")
def print_config(sources: Sources, schema: bool) -> None:
    """Print the configuration that results, defaults included.

    Secrets are redacted, and a value that comes from the environment is shown as its reference.

    \b
    Examples:
      otel-ttf print-config --config config.yaml
      otel-ttf print-config --preset sidecar
      otel-ttf print-config --schema > config.schema.json
    """
    from otel_ttf.config import show

    if schema:
        click.echo(show.schema_text(), nl=False)
        return
    click.echo(show.as_yaml(load_config(sources)), nl=False)


@main.command(short_help="Send made-up users to a server that runs.")
@click.option(
    "--users", default=200, show_default=True, type=click.IntRange(0, 9999), help="Users at the beginning."
)
@click.option(
    "--rate",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 1000),
    help="Live events a second after them; 0: stop then.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same users.")
@click.option(
    "--endpoint",
    default="127.0.0.1:4317",
    show_default=True,
    metavar="HOST:PORT",
    help="OTLP/gRPC, without TLS.",
)
@click.option(
    "--wait",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    help="Seconds to wait for the server.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="Ends when standard input closes.")
def demo(users: int, rate: float, seed: int, endpoint: str, wait: float, with_parent: bool) -> None:
    """Send made-up users through the OpenTelemetry SDK to a server that runs; Ctrl-C stops it.

    Their names are demo-0001, demo-0002, ...; most of their journeys began within the last hours.

    \b
    Examples:
      otel-ttf demo
      otel-ttf demo --users 1000 --rate 0
      otel-ttf demo --endpoint 127.0.0.1:14317 --seed 7
    """
    from otel_ttf.demo import DemoOptions, drive

    options = DemoOptions(users=users, rate=rate, seed=seed, endpoint=endpoint)
    if not drive(options, wait, with_parent=with_parent):
        raise Stop(
            f"no OTLP/gRPC server answers at {endpoint}: start one with 'otel-ttf run', or give --endpoint."
        )


def _asking(command: F) -> F:
    """Adds --url, what it takes to come in, and --format; the command gets the former as `server`."""

    @wraps(command)
    def with_server(*given: object, url: str, entry: Entry, **more: object) -> object:
        from otel_ttf.ask import Server

        return command(*given, server=Server(url, entry), **more)

    url = click.option(
        "--url",
        envvar="TELEMETRY_API_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        show_envvar=True,
        help="Where the server's API is.",
    )
    shape = click.option(
        "--format",
        "shape",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For eyes, or the API's answer as it is.",
    )
    return url(entering("An API key with the scope read, or a token.")(shape(cast(F, with_server))))


def _tell(server: Server, shape: str, question: str, path: tuple[str, ...], **query: str | None) -> None:
    """Asks the API and prints what it says, as a table (`question` names which) or as JSON."""
    from otel_ttf import ask

    try:
        answer = ask.get(server, path, query)
    except ask.ApiUnanswered as error:
        raise Stop(str(error)) from None
    if shape == "json":
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        ask.TABLES[question](answer)


@main.command(short_help="Tell how far a user is, or everybody.")
@click.argument("user", required=False)
@click.option("--summary", is_flag=True, help="Everybody's figures instead of one user's.")
@click.option("--journey", help="Name of the journey, where there are several.")
@_asking
def ttf(user: str | None, summary: bool, journey: str | None, server: Server, shape: str) -> None:
    """Tell how far a user is and how long each stage took, or the figures of everybody.

    \b
    Examples:
      otel-ttf ttf demo-0001
      otel-ttf ttf --summary
      otel-ttf ttf demo-0001 --format json
    """
    if (user is None) != summary:
        raise click.UsageError("give a user id, or --summary for everybody: otel-ttf ttf demo-0001")
    if user is None:
        _tell(server, shape, "summary", ("ttf",), journey=journey)
    else:
        _tell(server, shape, "user", ("ttf", user), journey=journey)


@main.command(short_help="List who is stuck where, longest first.")
@click.option("--journey", help="Name of the journey, where there are several.")
@click.option("--stage", help="Only those in this stage, e.g. agent.")
@click.option(
    "--over", metavar="DURATION", help="Stuck for longer than this, e.g. 30m; the stage's target by default."
)
@_asking
def stuck(journey: str | None, stage: str | None, over: str | None, server: Server, shape: str) -> None:
    """List who is stuck in which stage for how long, longest first.

    \b
    Examples:
      otel-ttf stuck
      otel-ttf stuck --stage agent --over 30m
      otel-ttf stuck --format json
    """
    _tell(server, shape, "stuck", ("stuck",), journey=journey, stage=stage, over=over)


@main.command(short_help="List what came in and what it matched.")
@_asking
def seen(server: Server, shape: str) -> None:
    """List event and span names that came in, and the milestones they matched.

    The answer to: I send events and see no journey.

    \b
    Examples:
      otel-ttf seen
      otel-ttf seen --url http://127.0.0.1:9090
    """
    _tell(server, shape, "seen", ("events", "names"))


main.add_command(api_keys)
main.add_command(keys)
main.add_command(mask)
main.add_command(check_data)
main.add_command(dead_letters)
main.add_command(rebuild)
main.add_command(recompute)
main.add_command(replay)
main.add_command(restore)
main.add_command(salvage)
main.add_command(subject)


@main.command()
def version() -> None:
    """Print the version.

    \b
    Examples:
      otel-ttf version
    """
    click.echo(f"otel-ttf {__version__}")
