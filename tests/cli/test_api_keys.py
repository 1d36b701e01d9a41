"""`otel-ttf api-keys`: what is printed, kept, and said when it cannot be done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otel_ttf.access.keys import digest, parse
from otel_ttf.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def invoke(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["api-keys", *arguments, "--data-dir", str(folder)])


def kept(folder: Path):
    return parse((folder / "api-keys").read_text())


def test_a_new_key_stands_alone_on_standard_output_and_nowhere_else(folder):
    result = invoke(folder, "new", "--name", "shop", "--scope", "ingest", "--scope", "read")
    key = result.stdout.strip()
    (only,) = kept(folder)
    assert only.digest == digest(key)
    assert (only.name, only.scopes, only.expires) == ("shop", frozenset({"ingest", "read"}), None)
    assert key not in (folder / "api-keys").read_text()
    assert "It is the first one: restart" in result.stderr
    assert "restart" not in invoke(folder, "new").stderr
    assert kept(folder)[1].scopes == frozenset({"ingest"})


def test_limits_and_an_end(folder):
    invoke(
        folder,
        *("new", "--expires", "90d", "--trusted-tokens"),
        *("--requests-per-second", "2.5", "--bytes-per-second", "1MiB"),
    )
    (only,) = kept(folder)
    assert only.expires == only.created + 90 * 86400
    assert (only.trusted_tokens, only.requests_per_second, only.bytes_per_second) == (True, 2.5, 1 << 20)
    table = invoke(folder, "list").stdout
    assert all(part in table for part in (only.id, "trusted tokens", "2.5 calls/s", "1048576 bytes/s"))


def test_a_list_shows_no_key_and_no_hash_and_obeys_no_name(folder):
    key = invoke(folder, "new", "--name", "[red]\x1b[31mjo").stdout.strip()
    for shape in ("table", "json"):
        listed = invoke(folder, "list", "--format", shape).stdout
        assert key.split("_")[2] not in listed
        assert kept(folder)[0].digest.hex() not in listed
        assert "\x1b" not in listed
    assert "[red]\\x1b[31mjo" in invoke(folder, "list").stdout
    assert json.loads(listed)[0]["good"] is True


def test_nothing_to_list(folder):
    assert invoke(folder, "list").stdout == "There are no API keys.\n"


def test_a_rotated_key_ends_after_the_overlap_and_never_later_than_it_would_have(folder):
    invoke(folder, "new", "--name", "shop", "--scope", "read", "--trusted-tokens")
    (old,) = kept(folder)
    result = invoke(folder, "rotate", old.id, "--overlap", "1d")
    before, new = kept(folder)
    assert digest(result.stdout.strip()) == new.digest
    assert (new.name, new.scopes, new.trusted_tokens, new.expires) == ("shop", old.scopes, True, None)
    assert before.digest == old.digest
    assert before.expires == new.created + 86400
    end = datetime.fromtimestamp(before.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"{old.id} ends at {end}.\nAPI key {new.id}, which never ends, shown" in result.stderr
    assert f"ends at {end}." in invoke(folder, "rotate", old.id, "--overlap", "30d").stderr
    assert kept(folder)[0].expires == before.expires
    assert "ends now" in invoke(folder, "rotate", new.id, "--overlap", "0").stderr


@pytest.mark.parametrize(("asked", "days"), [([], 90), (["--expires", "1d"], 1)])
def test_a_key_that_ends_is_replaced_by_one_that_lasts_as_long(folder, asked, days):
    invoke(folder, "new", "--expires", "90d")
    result = invoke(folder, "rotate", kept(folder)[0].id, *asked)
    new = kept(folder)[1]
    assert new.expires == new.created + days * 86400
    assert "which ends at 20" in result.stderr


def test_a_revoked_key_is_gone(folder):
    invoke(folder, "new")
    invoke(folder, "new")
    first, second = kept(folder)
    assert invoke(folder, "revoke", first.id).stdout == f"{first.id} is ended.\n"
    assert kept(folder) == (second,)
    assert "It was the last key" in invoke(folder, "revoke", second.id).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(
            ["revoke", "nobody"], 1, "there is no API key of this id, of which there are 1", id="no key"
        ),
        pytest.param(["new", "--requests-per-second", "inf"], 2, "range 0<x<=", id="a limit without one"),
        pytest.param(["new", "--requests-per-second", "nan"], 1, "expected a key as", id="no number"),
        pytest.param(["new", "--bytes-per-second", "0"], 2, "expected more than 0", id="nothing"),
        pytest.param(["new", "--expires", "0"], 2, "expected more than 0", id="a key that has ended"),
        pytest.param(["rotate", "nobody"], 1, "see otel-ttf api-keys list", id="no key to rotate"),
        pytest.param(["new", "--expires", "soon"], 2, "expected a duration such as", id="no duration"),
        pytest.param(["new", "--bytes-per-second", "much"], 2, "expected a size such as", id="no size"),
        pytest.param(["new", "--scope", "root"], 2, "'root' is not one of", id="no scope"),
        pytest.param(["new", "--requests-per-second", "0"], 2, "0", id="a rate of nothing"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(folder, arguments, code, said):
    invoke(folder, "new")
    before = (folder / "api-keys").read_bytes()
    result = invoke(folder, *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert (folder / "api-keys").read_bytes() == before


@pytest.mark.parametrize("command", [["list"], ["new"], ["revoke", "x"], ["rotate", "x"]])
def test_a_broken_file_is_named_and_left_alone(folder, command):
    (folder / "api-keys").write_text("no keys\n")
    result = invoke(folder, *command)
    assert result.exit_code == 1
    assert f"{folder}/api-keys: line 1: expected a key" in result.stderr
    assert (folder / "api-keys").read_text() == "no keys\n"


def test_without_a_data_directory_no_key_is_made(tmp_path):
    result = invoke(tmp_path / "nowhere", "new")
    assert (result.exit_code, "no data directory" in result.stderr) == (1, True)


def test_the_file_may_be_elsewhere(tmp_path):
    file = tmp_path / "secret"
    key = invoke(tmp_path / "nowhere", "new", "--set", f"auth.keys_file={file}").stdout.strip()
    assert parse(file.read_text())[0].digest == digest(key)
