"""`otel-ttf api-keys`: makes, lists, replaces and ends the keys of those who send and ask."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from otel_ttf.cli_options import F, Sources, Stop, existing, load_config, on_a_directory, shaped

if TYPE_CHECKING:
    from otel_ttf.access.keys import ApiKey


@click.group("api-keys", short_help="Make, list, replace and end API keys.")
def api_keys() -> None:
    """Make, list, replace and end the keys of those who send and ask; docs/security.md has the whole of it.

    They stand by their hashes in `api-keys` of the data directory, or in auth.keys_file. A running server that asks
    for keys knows of a change within seconds; one that was started without any asks from its next start on.

    \b
    Examples:
      otel-ttf api-keys new --name checkout
      otel-ttf api-keys list
    """


def _read(unit: Literal["duration", "size"], what: str, least: int = 1) -> Any:
    def callback(_context: click.Context, _option: click.Parameter, given: str | None) -> int | None:
        if given is None:
            return None
        from otel_ttf import units

        try:
            value = int(getattr(units, unit)(given))
        except ValueError as error:
            raise click.BadParameter(f"{what}: {error}") from None
        if value < least:
            raise click.BadParameter(f"{what}: expected more than 0")
        return value

    return callback


def _expiring(command: F) -> F:
    return click.option(
        "--expires",
        metavar="DURATION",
        callback=_read("duration", "--expires"),
        help="When it ends by itself, e.g. 90d; never by default.",
    )(command)


@contextmanager
def _changing(sources: Sources, data_dir: Path) -> Iterator[list[ApiKey]]:
    """The keys, to be changed; ends the command when they cannot be."""
    from otel_ttf.access.keys import KeysUnreadable, changing

    path = _file(sources, data_dir)
    try:
        with changing(path) as keys:
            yield keys
    except KeysUnreadable as error:
        raise Stop(f"{path}: {error}.") from None
    except OSError as error:
        raise Stop(f"{path} cannot be written: {(error.strerror or '').lower()}.") from None


def _file(sources: Sources, data_dir: Path) -> Path:
    from otel_ttf.guards import keys_file

    config = load_config(sources).config
    return keys_file(config, existing(data_dir) if config.auth.keys_file is None else data_dir)


def _found(keys: list[ApiKey], id_: str) -> ApiKey:
    found = next((key for key in keys if key.id == id_), None)
    if found is None:
        raise Stop(
            f"there is no API key of this id, of which there are {len(keys)}: see otel-ttf api-keys list."
        )
    return found


def _tell(key: ApiKey, text: str) -> None:
    from otel_ttf.access.keys import shown

    end = "never ends" if key.expires is None else f"ends at {shown(key)['expires']}"
    click.echo(f"API key {key.id}, which {end}, shown this once:", err=True)
    click.echo(text)


@api_keys.command("new", short_help="Make a key and print it, once.")
@click.option("--name", default="", help="Whose it is, for lists.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["ingest", "read", "admin"]),
    multiple=True,
    help="What it is for: to send, to ask, or all there is. May be given several times; ingest by default.",
)
@_expiring
@click.option(
    "--trusted-tokens",
    is_flag=True,
    help="User ids that it sends and that are tokens already are taken as they are.",
)
@click.option(
    "--requests-per-second",
    type=click.FloatRange(0, 1e9, min_open=True),
    help="A limit of its own, in place of auth.limits.",
)
@click.option(
    "--bytes-per-second",
    metavar="SIZE",
    callback=_read("size", "--bytes-per-second"),
    help="The same for telemetry, after decompression, e.g. 1MiB.",
)
@on_a_directory
def new_key(
    name: str,
    scopes: tuple[Any, ...],
    expires: int | None,
    trusted_tokens: bool,
    requests_per_second: float | None,
    bytes_per_second: int | None,
    sources: Sources,
    data_dir: Path,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    \b
    Examples:
      otel-ttf api-keys new --name checkout
      otel-ttf api-keys new --name grafana --scope read --expires 90d
      TELEMETRY_API_KEY="$(otel-ttf api-keys new --scope ingest --scope read)"
    """
    from otel_ttf.access.keys import ApiKey, make
    from otel_ttf.units import SECOND

    now = int(time.time())
    asked = ApiKey(
        id="",
        digest=b"",
        scopes=frozenset(scopes or ("ingest",)),
        name=name,
        created=now,
        expires=None if expires is None else now + expires // SECOND,
        trusted_tokens=trusted_tokens,
        requests_per_second=requests_per_second,
        bytes_per_second=bytes_per_second,
    )
    with _changing(sources, data_dir) as keys:
        first = not keys
        key, text = make(asked)
        keys.append(key)
    if first:
        click.echo("It is the first one: restart a server that was started without keys.", err=True)
    _tell(key, text)


@api_keys.command("list", short_help="List keys, without themselves.")
@on_a_directory
@shaped
def list_keys(sources: Sources, data_dir: Path, shape: str) -> None:
    """List keys by id and name: what they are for, since when, until when. No key is shown: nobody has them.

    \b
    Examples:
      otel-ttf api-keys list
      otel-ttf api-keys list --data-dir /var/lib/otel-ttf --format json
    """
    from otel_ttf.access.keys import KeysUnreadable, parse, shown

    path = _file(sources, data_dir)
    try:
        keys = parse(path.read_text()) if path.exists() else ()
    except KeysUnreadable as error:
        raise Stop(f"{path}: {error}.") from None
    except OSError as error:
        raise Stop(f"{path} cannot be read: {(error.strerror or '').lower()}.") from None
    now = time.time()
    rows = [shown(key) | {"good": key.good(now)} for key in keys]
    if shape == "json":
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("There are no API keys.")
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "scopes", "created", "expires", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        more = [
            *([] if row["good"] else ["expired"]),
            *(["trusted tokens"] if row["trusted_tokens"] else []),
            *([f"{row['requests_per_second']:g} calls/s"] if row["requests_per_second"] else []),
            *([f"{row['bytes_per_second']} bytes/s"] if row["bytes_per_second"] else []),
        ]
        name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in row["name"])
        table.add_row(
            row["id"],
            escape(name),
            ", ".join(row["scopes"]),
            row["created"][:10],
            (row["expires"] or "never")[:10],
            ", ".join(more),
        )
    Console(highlight=False).print(table)


@api_keys.command("rotate", short_help="Make a key in the place of another.")
@click.argument("id_", metavar="ID")
@click.option(
    "--overlap",
    metavar="DURATION",
    default="7d",
    show_default=True,
    callback=_read("duration", "--overlap", 0),
    help="How long the old one is good beside it; 0: it ends now.",
)
@_expiring
@on_a_directory
def rotate_key(id_: str, overlap: int, expires: int | None, sources: Sources, data_dir: Path) -> None:
    """Make a key with the name, scopes and limits of another, which ends after a while; print the new one, once.

    It is good for as long as the other was made for, unless --expires says otherwise.

    otel_ttf_api_key_requests_total tells whether somebody still uses the old one.

    \b
    Examples:
      otel-ttf api-keys rotate abcd2345
      otel-ttf api-keys rotate abcd2345 --overlap 1d --expires 90d
    """
    from otel_ttf.access.keys import make, shown
    from otel_ttf.units import SECOND

    now = int(time.time())
    with _changing(sources, data_dir) as keys:
        old = _found(keys, id_)
        lasts = expires // SECOND if expires is not None else old.expires and old.expires - old.created
        key, text = make(replace(old, created=now, expires=lasts and now + lasts))
        end = now + overlap // SECOND
        ending = replace(old, expires=end if old.expires is None else min(old.expires, end))
        keys[keys.index(old)] = ending
        keys.append(key)
    click.echo(f"{id_} ends " + (f"at {shown(ending)['expires']}." if ending.good(now) else "now."), err=True)
    _tell(key, text)


@api_keys.command("revoke", short_help="End a key.")
@click.argument("id_", metavar="ID")
@on_a_directory
def revoke_key(id_: str, sources: Sources, data_dir: Path) -> None:
    """End a key for good; a running server refuses it within seconds.

    \b
    Examples:
      otel-ttf api-keys revoke abcd2345
    """
    with _changing(sources, data_dir) as keys:
        keys.remove(_found(keys, id_))
    click.echo(
        f"{id_} is ended." + ("" if keys else " It was the last key: nobody can send or ask with one now.")
    )
