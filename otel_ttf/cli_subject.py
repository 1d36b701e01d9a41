"""`otel-ttf subject`: tokens of raw user ids, for joining with one's own user table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from otel_ttf.cli_options import Sources, existing, keys_of, load_config, on_a_directory

NONE = "-"


@click.command(short_help="Print the tokens of user ids.")
@click.option(
    "--all", "every", is_flag=True, help="The tokens under all subject keys, newest first, with tabs."
)
@on_a_directory
def subject(every: bool, sources: Sources, data_dir: Path) -> None:
    """Read user ids, one a line, and print the token of each, as `otel-ttf stuck` lists them; nothing is kept.

    A line that is nobody's id (empty, longer than 512 bytes, no UTF-8) prints -, so lines stay side by side. The keys
    are those of the data directory or of privacy.key_file; on another machine ask POST /api/v1/subjects/resolve.

    \b
    Examples:
      otel-ttf subject < ids.txt | paste - ids.txt
      psql -Atc 'select id from users' | otel-ttf subject --config config.yaml
    """
    from otel_ttf.pii.pseudonym import MAX_SUBJECT_BYTES, Pseudonyms, subject_text

    config = load_config(sources).config
    pseudonyms = Pseudonyms(keys_of(config, existing(data_dir)))
    for line in _lines(8 * MAX_SUBJECT_BYTES):
        try:
            text = None if line is None else subject_text(line.decode(), config.subject.normalise)
        except UnicodeDecodeError:
            text = None
        if text is None or len(text.encode()) > MAX_SUBJECT_BYTES:
            click.echo(NONE)
        else:
            tokens = pseudonyms.tokens(text)
            click.echo("\t".join(tokens if every else tokens[:1]))


def _lines(most: int) -> Iterator[bytes | None]:
    """Lines of standard input; None for one that is longer than `most` bytes."""
    source = sys.stdin.buffer
    while line := source.readline(most):
        if len(line) < most or line.endswith(b"\n"):
            yield line
            continue
        while (line := source.readline(most)) and not line.endswith(b"\n"):
            pass
        yield None
