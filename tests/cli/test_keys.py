"""`otel-ttf keys` by the real command line, on a data directory that a server could run on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from otel_ttf.cli import main
from otel_ttf.companions import Companions
from otel_ttf.log.sqlite_file import LogFile
from otel_ttf.pii.keys import fingerprint, key_id, new, parse
from otel_ttf.pii.pseudonym import Pseudonyms
from otel_ttf.store.sqlite import SqliteStore
from otel_ttf.vault import open_vault
from otel_ttf.vault.file import VaultFile
from otel_ttf.vault.local import new_line


def by_process(
    folder: Path, *arguments: str, given: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_ttf", "keys", arguments[0], "--data-dir", str(folder), *arguments[1:]],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )


def keys(folder: Path, *arguments: str, given: str = "", env: dict[str, str] | None = None) -> Told:
    """The same within this process, which is quicker."""
    command = ["keys", arguments[0], "--data-dir", str(folder), *arguments[1:]]
    done = CliRunner().invoke(main, command, input=given, env={"COLUMNS": "200", **(env or {})})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Told(done.exit_code, done.stdout, done.stderr)


class Told(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Folder:
    """A data directory with keys, Jane and John in its vault, and a value of Jane's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "keys").write_text(new())
        self.keys = parse((path / "keys").read_text())
        self.pseudonyms = Pseudonyms(self.keys)
        self.jane, self.john = self.pseudonyms.token("jane"), self.pseudonyms.token("john")
        with closing(open_vault(None, path)) as vault:
            vault.remember({self.jane: "jane", self.john: "john\x1b[2J"})
            self.sealed = vault.seal(self.jane, "user.email", "jane@example.com")

    def opened(self):
        return closing(open_vault(None, self.path))


def noted(path: Path) -> None:
    """As a server that used the vault leaves the directory."""
    books = path / "log.db", path / "store.db"
    LogFile(books[0]).close()
    SqliteStore(books[1]).close()
    Companions(*books).opened(path / "vault.db", lambda: VaultFile(path / "vault.db")).close()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_list_tells_ids_and_fingerprints_and_no_key(folder):
    told = keys(folder.path, "list", "--format", "json")
    assert told.returncode == 0
    answer = json.loads(told.stdout)
    (subject,) = folder.keys.subjects
    (master,) = answer["masters"]
    assert answer["event"] == {"fingerprint": fingerprint(folder.keys.event)}
    assert answer["subjects"] == [
        {"id": key_id(subject), "fingerprint": fingerprint(subject), "newest": True}
    ]
    assert (master["wraps"], master["newest"]) == (2, True)
    assert answer["data_keys"] == {"live": 2, "destroyed": 0, "user_ids": 2, "to_wrap_anew": 0}
    table = keys(folder.path, "list").stdout
    assert fingerprint(subject) in table
    assert f"{master['id']}" in table
    assert "wraps 2 data keys, newest" in table
    secrets = [
        line.split()[-1]
        for name in ("keys", "master_key")
        for line in (folder.path / name).read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(secrets) == 3
    assert not any(secret in told.stdout + table for secret in secrets)


def test_list_makes_nothing_where_nothing_was_encrypted(tmp_path):
    (tmp_path / "keys").write_text(new())
    assert "Nothing was encrypted yet." in keys(tmp_path, "list").stdout
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_destroy_asks_and_does_nothing_without_a_yes(folder):
    asked = by_process(folder.path, "destroy", "jane", given="n\n")
    assert asked.returncode == 1
    assert f"This ends for good what was encrypted for {folder.jane}." in asked.stdout
    with folder.opened() as vault:
        assert vault.reveal(folder.jane) == "jane"


@pytest.mark.parametrize("by", ["id", "token"])
def test_destroy_ends_one_user_and_says_so_the_second_time_too(folder, by):
    who = ["jane"] if by == "id" else ["--token", folder.jane]
    first = keys(folder.path, "destroy", *who, "--yes")
    second = keys(folder.path, "destroy", *who, "--yes")
    assert (first.returncode, first.stdout) == (0, f"{folder.jane}: destroyed\n")
    assert (second.returncode, second.stdout) == (0, "The key was destroyed before: nothing changed.\n")
    opened = keys(folder.path, "open", folder.jane, "user.email", folder.sealed)
    assert opened.returncode == 1
    assert "destroyed" in opened.stderr
    assert keys(folder.path, "reveal", folder.john).returncode == 0
    assert json.loads(keys(folder.path, "list", "--format", "json").stdout)["data_keys"]["destroyed"] == 1


def test_destroy_needs_no_master_key(folder):
    (folder.path / "master_key").unlink()
    assert keys(folder.path, "destroy", "jane", "--yes").returncode == 0


def test_destroy_works_beside_a_server_that_has_the_vault_open(folder):
    with folder.opened() as server:
        assert server.open(folder.jane, "user.email", folder.sealed) == "jane@example.com"
        assert by_process(folder.path, "destroy", "jane", "--yes").returncode == 0
        assert server.seal(folder.jane, "user.email", "jane@example.com") is None
        assert (folder.path / "vault.db-wal").stat().st_size == 0


def test_a_user_nothing_was_encrypted_for_is_said_to_be_so(folder):
    done = keys(folder.path, "destroy", "nobody", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        "Nothing was encrypted for this user so far, and from now on nothing will be.\n",
    )


def test_reveal_tells_ids_of_arguments_and_of_lines_and_what_a_terminal_would_obey_is_escaped(folder):
    told = by_process(folder.path, "reveal", given=f"{folder.john}\n\n{folder.jane}\n")
    assert (told.returncode, told.stdout) == (0, f"{folder.john}\tjohn\\x1b[2J\n{folder.jane}\tjane\n")
    exact = keys(folder.path, "reveal", folder.john, "--format", "json")
    assert json.loads(exact.stdout) == {"token": folder.john, "user_id": "john\x1b[2J"}


def test_what_cannot_be_revealed_does_not_hide_the_others(folder):
    stranger = folder.pseudonyms.token("stranger")
    told = keys(folder.path, "reveal", stranger, folder.jane)
    assert (told.returncode, told.stdout) == (1, f"{folder.jane}\tjane\n")
    assert f"{stranger}: there is no key of this subject here" in told.stderr
    assert "1 of 2 cannot be told" in told.stderr


def test_open_tells_the_text_by_arguments_or_lines(folder):
    told = keys(folder.path, "open", folder.jane, "user.email", folder.sealed)
    assert (told.returncode, told.stdout) == (0, "jane@example.com\n")
    with folder.opened() as vault:
        odd = vault.seal(folder.jane, "a path with blanks", "2\n lines")
    lines = f"{folder.jane} user.email {folder.sealed}\n{folder.jane} a path with blanks {odd}\n"
    assert keys(folder.path, "open", given=lines).stdout == "jane@example.com\n2\\n lines\n"


def test_open_refuses_another_path_in_one_sentence(folder):
    told = keys(folder.path, "open", folder.jane, "user.name", folder.sealed)
    assert (told.returncode, told.stdout) == (1, "")
    assert "changed, or sealed for another subject, path" in told.stderr
    assert "Traceback" not in told.stderr


def test_rotate_adds_a_master_key_wraps_all_anew_and_old_values_open(folder):
    before = (folder.path / "master_key").read_text().splitlines()
    done = by_process(folder.path, "rotate")
    assert done.returncode == 0
    assert done.stdout.startswith("2 data keys are wrapped anew with local:")
    after = (folder.path / "master_key").read_text().splitlines()
    assert (after[0], after[2:]) == (before[0], before[1:])
    assert len(after) == len(before) + 1
    assert keys(folder.path, "open", folder.jane, "user.email", folder.sealed).stdout == "jane@example.com\n"


def test_master_keys_may_come_from_the_environment(tmp_path):
    (tmp_path / "keys").write_text(new())
    setting = ("--set", "privacy.master_key={env: TTF_MASTER}")
    from otel_ttf.vault.config import MasterKeyConfig

    old, newer = new_line(), new_line()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTF_MASTER", old)
        with closing(open_vault(MasterKeyConfig(env="TTF_MASTER"), tmp_path)) as vault:
            vault.seal("u1_test_" + "a" * 32, "p", "x")
    assert keys(tmp_path, "list", *setting, env={"TTF_MASTER": old}).returncode == 0
    stays = keys(tmp_path, "rotate", *setting, env={"TTF_MASTER": old})
    assert stays.returncode == 1
    assert "put a new one" in stays.stderr
    missing = keys(tmp_path, "rotate", *setting)
    assert missing.returncode == 2
    assert "TTF_MASTER is not set" in missing.stderr
    done = keys(tmp_path, "rotate", *setting, env={"TTF_MASTER": newer + old})
    assert done.stdout.startswith("1 data keys are wrapped anew with local:")
    assert not (tmp_path / "master_key").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(
            ["destroy", "jane", "--yes"], 1, "has no vault.db", id="destroy where there is no vault"
        ),
        pytest.param(["rotate"], 1, "has no vault.db", id="rotate where there is no vault"),
        pytest.param(["reveal", "u1_x"], 1, "has no vault.db", id="reveal where there is no vault"),
        pytest.param(["destroy"], 2, "give a user id, or --token", id="destroy whom"),
        pytest.param(["destroy", "jane", "--token", "u1_x"], 2, "give a user id, or", id="destroy two ways"),
        pytest.param(["destroy", "--token", "jane"], 2, "expected u1_", id="a token that is none"),
        pytest.param(["open", "a", "b"], 2, "give SUBJECT PATH SEALED", id="open with two words"),
        pytest.param(["list", "--data-dir", "/nowhere"], 1, "is no data directory", id="no such directory"),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path, arguments, code, said):
    (tmp_path / "keys").write_text(new())
    ended = keys(tmp_path, *arguments)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "vault.db").exists()


ON_A_VAULT = {
    "list": [],
    "rotate": [],
    "destroy": ["jane", "--yes"],
    "reveal": ["u1_abcd_" + "a2" * 16],
    "open": ["u1_abcd_" + "a2" * 16, "user.email", "e1_abcdefgh"],
}


@pytest.mark.parametrize("command", ON_A_VAULT)
@pytest.mark.parametrize("happened", ["is missing, and there was one", "is not the one that was here"])
def test_a_vault_that_is_gone_or_another_is_told_by_every_command(
    folder, tmp_path_factory, command, happened
):
    noted(folder.path)
    vault = folder.path / "vault.db"
    for file in folder.path.glob("vault.db*"):
        file.unlink()
    if "is not" in happened:
        other = tmp_path_factory.mktemp("other") / "vault.db"
        VaultFile(other).close()
        vault.write_bytes(other.read_bytes())
    told = keys(folder.path, command, *ON_A_VAULT[command])
    assert told.returncode == 2, told
    assert told.stderr.startswith(f"otel-ttf: {vault} {happened}: without it nothing that was encrypted")
    assert vault.exists() is ("is not" in happened), "a new one would be taken for the old one"


def test_the_vault_that_was_here_is_opened(folder):
    noted(folder.path)
    assert keys(folder.path, "reveal", folder.jane).stdout == f"{folder.jane}\tjane\n"
