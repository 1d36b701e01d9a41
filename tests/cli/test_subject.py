"""`otel-ttf subject` on a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otel_ttf.cli import main
from otel_ttf.pii.keys import new, parse
from otel_ttf.pii.pseudonym import Pseudonyms


@pytest.fixture
def pseudonyms(tmp_path: Path) -> Pseudonyms:
    old = new().splitlines()
    text = "\n".join([*new().splitlines(), old[-1]]) + "\n"
    (tmp_path / "keys").write_text(text)
    return Pseudonyms(parse(text))


def run(folder: Path, given: bytes, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["subject", "--data-dir", str(folder), *arguments], input=given)


def test_each_line_becomes_a_token(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    done = run(tmp_path, b"alice\n bob \n7")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [pseudonyms.token(user) for user in ("alice", "bob", "7")]


def test_lines_that_are_nobodys_stay_in_their_places(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    given = b"\n\xff\n" + b"x" * 513 + b"\n" + b"y" * 100_000 + b"\nalice\n"
    done = run(tmp_path, given)
    assert done.stdout.splitlines() == [*"----", pseudonyms.token("alice")]


def test_tokens_under_all_keys(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    done = run(tmp_path, b"alice\n", "--all")
    tokens = pseudonyms.tokens("alice")
    assert len(tokens) == 2
    assert done.stdout == "\t".join(tokens) + "\n"


def test_normalised_as_configured(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    done = run(tmp_path, b"ALICE\n", "--set", "subject.normalise=lower")
    assert done.stdout.strip() == pseudonyms.token("alice")


def test_without_keys_it_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, b"alice\n")
    assert done.exit_code != 0
    assert "key file" in done.stderr
    assert "alice" not in done.output
