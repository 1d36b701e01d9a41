"""`otel-ttf keys`: makes, lists, rotates and destroys keys, and opens what was encrypted with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otel_ttf.cli_options import Sources, Stop, existing, keys_of, load_config, on_a_directory, shaped
from otel_ttf.commands import Given
from otel_ttf.files import LOG_FILE

if TYPE_CHECKING:
    from otel_ttf.companions import Companions
    from otel_ttf.config import Config
    from otel_ttf.vault import Vault
    from otel_ttf.vault.file import VaultFile


@click.group()
def keys() -> None:
    """Make keys; list, rotate and destroy them; open what was encrypted.

    All but `new` work on a data directory, also while a server runs on it.

    \b
    Examples:
      otel-ttf keys new > keys
      otel-ttf keys list --data-dir /var/lib/otel-ttf
    """


@keys.command("new")
def new_keys() -> None:
    """Print a new key file; keep it secret and keep it: without it nobody can be found again.

    \b
    Examples:
      (umask 077; otel-ttf keys new > keys)
      otel-ttf run --set privacy.key_file=keys
    """
    from otel_ttf.pii.keys import new

    click.echo(new(), nl=False)


@contextmanager
def _sentences() -> Iterator[None]:
    """What the vault says ends the command."""
    from otel_ttf.companions import CompanionLost
    from otel_ttf.pii.sealed import VaultUnavailable
    from otel_ttf.vault.file import VaultRefused

    try:
        yield
    except VaultUnavailable as error:
        raise Stop(f"{error.reason}.") from None
    except (VaultRefused, CompanionLost) as error:
        raise Stop(f"{error}.", 2) from None


def _companions(config: Config, directory: Path, given: Given) -> Companions:
    from otel_ttf.companions import Companions

    return Companions(directory / LOG_FILE, config.storage.file(directory), given=given)


def _there(config: Config, directory: Path, given: Given) -> Path:
    from otel_ttf.vault.opening import FILE

    path = directory / FILE
    if gone := _companions(config, directory, given).missing(path):
        raise Stop(f"{gone}.", 2)
    if not path.exists():
        raise Stop(f"{directory} has no {FILE}: nothing was encrypted there. Is it the right --data-dir?")
    return path


@contextmanager
def _vault(config: Config, directory: Path, given: Given) -> Iterator[Vault]:
    """The vault with its master key."""
    from otel_ttf.vault import open_vault

    path = _there(config, directory, given)
    open_ = partial(open_vault, config.privacy.master_key, directory)
    with (
        _sentences(),
        closing(_companions(config, directory, given).opened(path, open_, note=False)) as vault,
    ):
        yield vault


@contextmanager
def _vault_file(config: Config, directory: Path, given: Given) -> Iterator[VaultFile]:
    """The vault's file; no master key is needed."""
    from otel_ttf.vault.file import VaultFile

    path = _there(config, directory, given)
    companions = _companions(config, directory, given)
    with _sentences(), closing(companions.opened(path, partial(VaultFile, path), note=False)) as file:
        yield file


@keys.command("list", short_help="List keys, by id and fingerprint.")
@on_a_directory
@shaped
def list_keys(sources: Sources, data_dir: Path, shape: str) -> None:
    """List the event key and the subject keys by id and fingerprint, master keys with how many data keys each
    wraps, and how many data keys were destroyed. No key is shown.

    \b
    Examples:
      otel-ttf keys list
      otel-ttf keys list --data-dir /var/lib/otel-ttf --format json
    """
    from otel_ttf.pii.keys import fingerprint, key_id
    from otel_ttf.vault.local import LocalMaster
    from otel_ttf.vault.opening import FILE, OWN_MASTER, open_master

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    have = keys_of(config, directory)
    told: dict[str, object] = {
        "event": {"fingerprint": fingerprint(have.event)},
        "subjects": [
            {"id": key_id(key), "fingerprint": fingerprint(key), "newest": number == 0}
            for number, key in enumerate(have.subjects)
        ],
    }
    wraps: dict[str, int] = {}
    newest = None
    if config.privacy.master_key is not None or (directory / OWN_MASTER).exists():
        with _sentences(), closing(open_master(config.privacy.master_key, directory)) as master:
            newest = master.newest()
            wraps = dict.fromkeys(master.ids(), 0) if isinstance(master, LocalMaster) else {}
    path = directory / FILE
    if path.exists() or _companions(config, directory, given).missing(path):
        with _vault_file(config, directory, given) as file:
            counts = file.counts()
        wraps |= counts.masters
        told["data_keys"] = {
            "live": counts.live,
            "destroyed": counts.destroyed,
            "user_ids": counts.ids,
            "to_wrap_anew": counts.stale,
        }
    told["masters"] = [{"id": name, "wraps": n, "newest": name == newest} for name, n in wraps.items()]
    if shape == "json":
        click.echo(json.dumps(told, indent=2))
    else:
        _print_keys(told)


def _print_keys(told: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "id", "fingerprint", ""):
        table.add_column(column, overflow="fold")
    event, subjects, masters = told["event"], told["subjects"], told["masters"]
    assert isinstance(event, dict)
    assert isinstance(subjects, list)
    assert isinstance(masters, list)
    table.add_row("event", "", event["fingerprint"], "")
    for each in subjects:
        table.add_row("subject", each["id"], each["fingerprint"], "newest" if each["newest"] else "")
    for each in masters:
        newest = ", newest" if each["newest"] else ""
        table.add_row("master", each["id"], "", f"wraps {each['wraps']} data keys{newest}")
    console = Console(highlight=False)
    console.print(table)
    data = told.get("data_keys")
    if not isinstance(data, dict):
        console.print("Nothing was encrypted yet.")
        return
    console.print(
        f"{data['live']} data keys, {data['user_ids']} of them with the user id; {data['destroyed']} destroyed."
    )
    if data["to_wrap_anew"]:
        console.print(
            f"A rotation was interrupted: {data['to_wrap_anew']} data keys to go. Call keys rotate again."
        )


@keys.command("rotate", short_help="Wrap all data keys with a new master key.")
@on_a_directory
def rotate_keys(sources: Sources, data_dir: Path) -> None:
    """Wrap all data keys anew: with a new key as first line of the master key file, or with the current version
    of the key in AWS KMS or Vault. Sealed values stay as they are and can be read all the time.

    Interrupted, also by force, it goes on where it was when it is called again.

    \b
    Examples:
      otel-ttf keys rotate
      otel-ttf keys rotate --config config.yaml --data-dir /var/lib/otel-ttf
    """
    from rich.console import Console
    from rich.progress import Progress

    from otel_ttf.vault.local import LocalMaster
    from otel_ttf.vault.rotate import rotate

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    with (
        _vault(config, directory, given) as vault,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("wrapping data keys anew", total=None)
        done = rotate(
            vault.file, vault.master, lambda done, total: progress.update(task, completed=done, total=total)
        )
        newest = vault.master.newest()
        where = vault.master.file if isinstance(vault.master, LocalMaster) else None
    if done.resumed:
        click.echo("An interrupted rotation was finished.")
    click.echo(f"{done.rewrapped} data keys are wrapped anew" + (f" with {newest}." if newest else "."))
    if where is not None:
        click.echo(
            f"Old lines of {where} are needed by copies of vault.db only: keep them as long as those, copy the new."
        )
    if done.left:
        for token in done.left:
            click.echo(token, err=True)
        raise Stop(
            f"{len(done.left)} data keys, see above, cannot be unwrapped: put the missing master key back and "
            "call keys rotate again, or give them up with keys destroy."
        )


@keys.command("destroy", short_help="End all that was encrypted for a user.")
@click.argument("user", metavar="[USER_ID]", required=False)
@click.option(
    "--token", "tokens", metavar="TOKEN", multiple=True, help="A pseudonym, u1_..., instead of an id."
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@on_a_directory
def destroy_keys(
    user: str | None,
    tokens: tuple[str, ...],
    yes: bool,
    sources: Sources,
    data_dir: Path,
) -> None:
    """Destroy the data key of a user: what was encrypted for the user can never be read again, wherever it is,
    and the pseudonym cannot be turned back into the user id. Journeys and counts stay.

    A running server knows within a second. Copies of vault.db made before still hold the key: let them expire.

    \b
    Examples:
      otel-ttf keys destroy jane@example.com
      otel-ttf keys destroy --yes --token u1_ab2c_abcdefghijklmnopqrstuvwxyz234567
    """
    from otel_ttf.pii.pseudonym import Pseudonyms, is_token, subject_text

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    if (user is None) == (not tokens):
        raise click.UsageError("give a user id, or --token with its pseudonym: otel-ttf keys destroy USER_ID")
    wrong = [token for token in tokens if not is_token(token)]
    if wrong:
        raise click.UsageError(f"{len(wrong)} of the tokens: expected u1_, 4 and 32 characters of a-z2-7")
    if user is not None:
        subject = subject_text(user, config.subject.normalise)
        if subject is None:
            raise click.UsageError("expected a user id, found an empty one")
        tokens = tuple(Pseudonyms(keys_of(config, directory)).tokens(subject))
    with _vault_file(config, directory, given) as file:
        rows = file.rows(tokens)
        live = [token for token, row in rows.items() if row.wrapped is not None]
        if live and not yes:
            click.echo(f"This ends for good what was encrypted for {', '.join(live)}.")
            click.confirm("Destroy the key?", abort=True)
        had = file.destroy(tokens)
        file.checkpoint()
    ended = [token for token, was in had.items() if was]
    for token in ended:
        click.echo(f"{token}: destroyed")
    if not ended and rows:
        click.echo("The key was destroyed before: nothing changed.")
    elif not ended:
        click.echo("Nothing was encrypted for this user so far, and from now on nothing will be.")


def _lines(given: tuple[str, ...]) -> list[str]:
    """The arguments, or the lines of standard input."""
    return list(given) or [line.strip() for line in sys.stdin if line.strip()]


def _each(items: list[str], do: Callable[[str], tuple[str, str]], shape: str, names: tuple[str, str]) -> None:
    """Prints (what, text) of each item; those that cannot be had go to standard error, and the end is 1."""
    from otel_ttf.pii.sealed import CannotOpen

    failed = 0
    for item in items:
        try:
            what, text = do(item)
        except CannotOpen as error:
            failed += 1
            click.echo(f"{_printable(item)}: {error}", err=True)
            continue
        if shape == "json":
            click.echo(json.dumps({names[0]: what, names[1]: text}))
        else:
            click.echo(f"{what}\t{_printable(text)}" if what else _printable(text))
    if failed:
        raise Stop(f"{failed} of {len(items)} cannot be told, see above.")


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@keys.command("reveal", short_help="Tell the user ids behind pseudonyms.")
@click.argument("tokens", metavar="[TOKEN]...", nargs=-1)
@on_a_directory
@shaped
def reveal_keys(tokens: tuple[str, ...], sources: Sources, data_dir: Path, shape: str) -> None:
    """Tell the user ids behind pseudonyms, one a line; without arguments, of those on standard input.

    Only ids that came while privacy.subject was `encrypted` are kept.

    \b
    Examples:
      otel-ttf keys reveal u1_ab2c_abcdefghijklmnopqrstuvwxyz234567
      otel-ttf stuck --format json | jq -r '.items[].subject' | otel-ttf keys reveal
    """
    from otel_ttf.pii.sealed import UnknownKey

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    with _vault(config, directory, given) as vault:

        def reveal(token: str) -> tuple[str, str]:
            found = vault.reveal(token)
            if found is None:
                raise UnknownKey("the user id was not kept")
            return token, found

        _each(_lines(tokens), reveal, shape, ("token", "user_id"))


@keys.command("open", short_help="Open encrypted values.")
@click.argument("parts", metavar="[SUBJECT PATH SEALED]", nargs=-1)
@on_a_directory
@shaped
def open_sealed(parts: tuple[str, ...], sources: Sources, data_dir: Path, shape: str) -> None:
    """Open an encrypted value: the user's pseudonym, the path where the value stands (user.email), and the value
    (e1_...). Without arguments, lines of these three on standard input.

    \b
    Examples:
      otel-ttf keys open u1_ab2c_abcdefghijklmnopqrstuvwxyz234567 user.email e1_abcdefghijklmnop
      otel-ttf keys open --format json < values
    """
    from otel_ttf.pii.sealed import Tampered

    config, directory, given = load_config(sources).config, existing(data_dir), sources.given(data_dir)
    if parts and len(parts) != 3:
        raise click.UsageError("give SUBJECT PATH SEALED, or lines of these on standard input")
    with _vault(config, directory, given) as vault:

        def open_line(line: str) -> tuple[str, str]:
            subject, _, rest = line.strip().partition(" ")
            path, _, sealed = rest.strip().rpartition(" ")
            if not path:
                raise Tampered("expected SUBJECT PATH SEALED")
            return "", vault.open(subject, path.strip(), sealed)

        _each(_lines((" ".join(parts),) if parts else ()), open_line, shape, ("path", "text"))
